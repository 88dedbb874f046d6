/*
 * tests/test_shm_view.c - what cllm-shm shows: of a live run, a dead one and a hung one,
 * and of control objects that are damaged in every way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/random.h"
#include "shm/ring.h"
#include "tests/shm_run.h"
#include "tools/shm_clean.h"
#include "tools/shm_json.h"
#include "tools/shm_ring.h"
#include "tools/shm_text.h"

static char *show_text(const struct cllm_shm_view *view)
{
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);

    assert_non_null(out);
    cllm_shm_text_show(out, view);
    (void)fclose(out);
    return text;
}

static void must_say(const char *text, const char *const *facts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strstr(text, facts[i]))
            fail_msg("\"%s\" is not in:\n%s", facts[i], text);
}
static void a_live_run_is_shown_whole(void **state)
{
    const char *const facts[] = {
        ": live, running",
        shm_run_dir,
        "step 120 of 1000",
        "12 %",
        "41.2k tokens/s",
        "ETA 3m04s",
        "loss       2.1034",
        "validation 2.2500 at step 100",
        "checkpoint of step 100",
        "workers for data 12.0 ms",
        "time       lanes 96.0 %, fold 0.5 %, update 1.0 %, validation 0.5 %",
        "waits for data 1.0 %, for work 1.0 %",
        "% of a processor",
        "F F F D D a1 a0 R R R . .",
        "3 of 12 lanes are in the fold",
        "lane 5 of step 121",
        "fold chunks 0-2, lanes 3-4",
        "98 %",
        "killed by SIGKILL in lane 5 of step 119",
        "dead, will be started again",
        "filled to step 122",
        "waits; step 100 is on disk",
        "newest, agrees with the chunks",
        "lane0..3 4 x ",
        "params0..1 2 x ",
        "worker 2 was killed by SIGKILL",
    };
    struct cllm_shm_runs runs;
    struct cllm_shm_view view;
    char *text;

    (void)state;
    shm_run_make(shm_run_id, true);
    shm_run_take(&runs, &view);
    assert_int_equal(view.life, CLLM_SHM_LIVE);
    assert_int_equal(view.newest_record, SHM_RUN_STEP & 1);
    assert_true(view.record_valid[0] && view.record_valid[1]);
    assert_int_equal(view.n_events, CLLM_N_EVENTS);
    assert_string_equal(view.event[0].text, "worker 2 was killed by SIGKILL");
    assert_int_equal(view.lanes_in[CLLM_LANE_FOLDED], 3);
    assert_true(view.wait_data_share > 0 && view.wait_data_share < 1e-4);
    assert_true(view.node_zero_share >= 0);
    assert_int_equal(view.slot[0].time.wait_data, CLLM_NS_PER_S);
    assert_int_equal(view.slot[0].time.wait_schedule, CLLM_NS_PER_S);
    assert_true(cllm_shm_time_all(&view.slot[0].time) / 1e9 > 99.99);
    text = show_text(&view);
    must_say(text, facts, CLLM_LEN(facts));
    assert_null(strstr(text, "DEAD"));
    free(text);
    shm_run_drop(&runs, &view);
}

static void a_dead_run_says_so_and_how_to_go_on(void **state)
{
    static const char *const facts[] = {
        ": dead",
        "This run is DEAD: Node Zero",
        "3m02s ago",
        "step 120 is committed",
        "dead (was running)",
        "cllm-coord CONFIG --resume", /* no run directory */
        "worker gone ",
        "cllm-shm clean t",
        "step 100 is on disk",
        "was doing",
        "lane 5 of step 121",
    };
    struct cllm_shm_runs runs;
    struct cllm_shm_view view;
    char *text;

    (void)state;
    shm_run_make_dead(shm_run_id, true, true);
    shm_run_take(&runs, &view);
    assert_int_equal(view.life, CLLM_SHM_DEAD);
    text = show_text(&view);
    must_say(text, facts, CLLM_LEN(facts));
    free(text);
    shm_run_drop(&runs, &view);
}

static void a_zombie_node_zero_counts_as_dead(void **state)
{
    struct cllm_shm_runs runs;
    struct cllm_shm_view view;
    siginfo_t info;
    pid_t pid = fork();

    (void)state;
    assert_true(pid >= 0);
    if (pid == 0) {
        shm_run_make(shm_run_id, true);
        _exit(0);
    }
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    shm_run_take(&runs, &view);
    assert_int_equal(view.life, CLLM_SHM_DEAD);
    shm_run_drop(&runs, &view);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void an_old_heartbeat_of_a_live_node_zero_is_a_hang(void **state)
{
    static const char *const facts[] = {"This run HANGS", "heartbeat is 9.0s old"};
    struct cllm_control control;
    struct cllm_shm_runs runs;
    struct cllm_shm_view view;
    char *text;

    (void)state;
    shm_run_make(shm_run_id, true);
    assert_int_equal(cllm_control_adopt(&control, shm_run_id), CLLM_ATTACH_OK);
    cllm_store_relaxed(&control.state->heartbeat_ns, cllm_now_ns() - 9 * CLLM_NS_PER_S);
    cllm_control_detach(&control);
    shm_run_take(&runs, &view);
    assert_int_equal(view.life, CLLM_SHM_HUNG);
    text = show_text(&view);
    must_say(text, facts, CLLM_LEN(facts));
    free(text);
    shm_run_drop(&runs, &view);
}

static void a_torn_record_leaves_the_other_one(void **state)
{
    struct cllm_control control;
    struct cllm_shm_runs runs;
    struct cllm_shm_view view;

    (void)state;
    shm_run_make(shm_run_id, true);
    assert_int_equal(cllm_control_adopt(&control, shm_run_id), CLLM_ATTACH_OK);
    control.record[SHM_RUN_STEP & 1].loss = 1.0;
    cllm_control_detach(&control);
    shm_run_take(&runs, &view);
    assert_false(view.record_valid[SHM_RUN_STEP & 1]);
    assert_int_equal(view.newest_record, (SHM_RUN_STEP - 1) & 1);
    assert_true(view.root_agrees);
    shm_run_drop(&runs, &view);
}

static void a_root_that_the_chunks_do_not_give_is_noticed(void **state)
{
    struct cllm_control control;
    struct cllm_shm_runs runs;
    struct cllm_shm_view view;
    char *text;

    (void)state;
    shm_run_make(shm_run_id, true);
    assert_int_equal(cllm_control_adopt(&control, shm_run_id), CLLM_ATTACH_OK);
    control.chunk[1].sum[SHM_RUN_STEP & 1]++;
    cllm_control_detach(&control);
    shm_run_take(&runs, &view);
    assert_false(view.root_agrees);
    text = show_text(&view);
    assert_non_null(strstr(text, "OTHERWISE"));
    free(text);
    shm_run_drop(&runs, &view);
}

static void json_parses_and_has_its_keys(void **state)
{
    struct cllm_shm_runs runs;
    struct cllm_shm_view view;
    struct cllm_shm_ring ring;
    json_t *built[4], *parsed, *progress, *slots, *time;
    const char *life;
    double loss;

    (void)state;
    shm_run_make(shm_run_id, true);
    shm_run_take(&runs, &view);
    assert_int_equal(cllm_shm_ring_take(&ring, &view), 0);
    built[0] = cllm_shm_json_show(&view);
    built[1] = cllm_shm_json_list(&view, 1);
    built[2] = cllm_shm_json_lanes(&view, true);
    built[3] = cllm_shm_json_ring(&view, &ring);
    for (int i = 0; i < 4; i++) {
        size_t bytes;
        char *text = cllm_json_dump(built[i], &bytes);

        assert_non_null(text);
        assert_int_equal(cllm_json_parse(text, bytes, "test", &parsed), 0);
        if (i == 0) {
            assert_int_equal(cllm_json_get_text(parsed, "", "life", &life), 0);
            assert_string_equal(life, "live");
            assert_int_equal(cllm_json_get_object(parsed, "", "progress", &progress), 0);
            assert_int_equal(cllm_json_get_f64(progress, "", "loss", &loss), 0);
            assert_true(fabs(loss - 2.1034) < 1e-12);
            assert_int_equal(cllm_json_get_array(parsed, "", "slots", &slots), 0);
            assert_int_equal(json_array_size(slots), 5);
            time = json_object_get(json_array_get(slots, 0), "time");
            assert_int_equal(json_integer_value(json_object_get(time, "lane_ns")),
                             96 * CLLM_NS_PER_S);
            time = json_object_get(progress, "time");
            assert_int_equal(
                json_integer_value(json_object_get(time, "wait_schedule_ns")),
                3 * CLLM_NS_PER_S);
        }
        json_decref(parsed);
        json_decref(built[i]);
        free(text);
    }
    cllm_shm_ring_fini(&ring);
    shm_run_drop(&runs, &view);
}

static void the_ring_is_verified_batch_by_batch(void **state)
{
    struct cllm_geometry geometry = shm_run_geometry();
    struct cllm_shm_runs runs;
    struct cllm_shm_view view;
    struct cllm_shm_ring ring;
    struct cllm_ring writer;

    (void)state;
    shm_run_make(shm_run_id, true);
    assert_int_equal(cllm_ring_open(&writer, shm_run_id, &geometry, true), 0);
    writer.tokens[5 * writer.batch_tokens + 3] ^= 1;             /* a flipped bit */
    cllm_store_relaxed(&writer.slot[7].ready, UINT64_C(999999)); /* a wild store */
    cllm_ring_close(&writer);
    shm_run_take(&runs, &view);
    assert_int_equal(cllm_shm_ring_take(&ring, &view), 0);
    assert_int_equal(ring.n_rows, 36);
    assert_int_equal(ring.row[0].state, CLLM_SHM_BATCH_OK);
    assert_int_equal(ring.row[0].step, SHM_RUN_STEP + 1);
    assert_int_equal(ring.row[4].lane, 4);
    assert_int_equal(ring.row[5].state, CLLM_SHM_BATCH_BAD);
    assert_int_equal(ring.row[7].state, CLLM_SHM_BATCH_BAD);
    assert_int_equal(ring.row[12].state, CLLM_SHM_BATCH_EMPTY);
    assert_int_equal(ring.row[24 + 3].state, CLLM_SHM_BATCH_OK);
    assert_true(ring.row[24 + 3].validation);
    assert_int_equal(ring.in_state[CLLM_SHM_BATCH_OK], 11);
    cllm_shm_ring_fini(&ring);
    shm_run_drop(&runs, &view);
}

static void a_run_is_found_by_prefix_and_by_directory(void **state)
{
    char other[48], prefix[32];
    const struct cllm_shm_run *run;
    struct cllm_shm_runs runs;

    (void)state;
    (void)snprintf(other, sizeof other, "%s-two", shm_run_id);
    (void)snprintf(prefix, sizeof prefix, "t%d-d", (int)getpid());
    shm_run_make(shm_run_id, true);
    assert_int_equal(cllm_shm_runs_scan(&runs), 0);
    run = cllm_shm_runs_find(&runs, prefix);
    assert_non_null(run);
    assert_string_equal(run->id, shm_run_id);
    assert_int_equal(run->n_objects, 10);
    assert_null(cllm_shm_runs_find(&runs, "/tmp"));
    assert_null(cllm_shm_runs_find(&runs, "no-such-run"));
    assert_null(cllm_shm_runs_find(&runs, ""));
    cllm_shm_runs_fini(&runs);

    shm_run_make(other, true);
    assert_int_equal(cllm_shm_runs_scan(&runs), 0);
    assert_null(cllm_shm_runs_find(&runs, prefix)); /* two fit */
    run = cllm_shm_runs_find(&runs, shm_run_id); /* exact: not its namesake's objects */
    assert_non_null(run);
    assert_int_equal(run->n_objects, 10);
    cllm_shm_runs_fini(&runs);
}
static void another_builds_layout_is_named(void **state)
{
    struct cllm_control control;
    struct cllm_shm_runs runs;
    struct cllm_shm_view view;

    (void)state;
    shm_run_make(shm_run_id, true);
    assert_int_equal(cllm_control_adopt(&control, shm_run_id), CLLM_ATTACH_OK);
    control.header->layout_hash ^= 1;
    cllm_control_detach(&control);
    shm_run_take(&runs, &view);
    assert_int_equal(view.life, CLLM_SHM_BAD);
    assert_non_null(strstr(view.reason, "another build"));
    assert_int_equal(cllm_shm_clean_run(view.run, false),
                     CLLM_EREFUSED); /* it is young */
    shm_run_drop(&runs, &view);
}

/* Take, print and encode whatever the bytes say; only not crashing counts. */
static void exercise(void)
{
    struct cllm_shm_ring ring = {0};
    struct cllm_shm_runs runs;
    struct cllm_shm_view view;
    char *text = NULL;
    size_t bytes;
    FILE *out;

    shm_run_take(&runs, &view);
    out = open_memstream(&text, &bytes);
    assert_non_null(out);
    cllm_shm_text_list(out, &view, 1);
    cllm_shm_text_show(out, &view);
    json_decref(cllm_shm_json_show(&view));
    if (view.has_control) {
        cllm_shm_text_lanes(out, &view, true);
        json_decref(cllm_shm_json_lanes(&view, true));
        if (cllm_shm_ring_take(&ring, &view) == 0) {
            cllm_shm_text_ring(out, &view, &ring);
            json_decref(cllm_shm_json_ring(&view, &ring));
            cllm_shm_ring_fini(&ring);
        }
    }
    (void)fclose(out);
    for (size_t i = 0; i < bytes; i++)
        assert_true((unsigned char)text[i] >= 0x20 || text[i] == '\n');
    free(text);
    shm_run_drop(&runs, &view);
}

/* The header's own hash, so that nonsense behind it is reached. */
static void seal_header(struct cllm_header *header)
{
    header->sum = cllm_hash(header, offsetof(struct cllm_header, sum), CLLM_LAYOUT_MAGIC);
}

static void garbage_never_crashes_the_tool(void **state)
{
    struct cllm_region region = {0}, ring = {0};
    char name[CLLM_REGION_NAME_BYTES];
    uint8_t *clean;
    uint64_t draw = 0;

    (void)state;
    shm_run_make_dead(shm_run_id, true, true);
    cllm_region_name(name, shm_run_id, "control");
    assert_int_equal(cllm_region_open(&region, name, 1, CLLM_REGION_READ_WRITE), 0);
    cllm_ring_name(name, shm_run_id);
    assert_int_equal(cllm_region_open(&ring, name, 1, CLLM_REGION_READ_WRITE), 0);
    clean = malloc(region.bytes);
    assert_non_null(clean);
    memcpy(clean, region.base, region.bytes);

    for (int round = 0; round < 600; round++) {
        struct cllm_header *header = (struct cllm_header *)(void *)region.base;
        int n_flips = 1 << (round % 12);
        /* a third each: the header, the geometry under a valid hash, everything */
        size_t from = round % 3 == 1 ? offsetof(struct cllm_header, geometry) : 0;
        size_t span = round % 3 == 0   ? sizeof *header
                      : round % 3 == 1 ? sizeof(struct cllm_geometry)
                                       : region.bytes;

        memcpy(region.base, clean, region.bytes);
        for (int i = 0; i < n_flips; i++, draw++)
            region.base[from + cllm_random_u64(99, CLLM_RANDOM_TEST, 2 * draw) % span] ^=
                (uint8_t)(1u << (cllm_random_u64(99, CLLM_RANDOM_TEST, 2 * draw + 1) %
                                 8));
        if (round % 3 != 0) {
            if (round % 3 == 2)
                memcpy(region.base, clean, CLLM_PAGE);
            seal_header(header);
        }
        ring.base[cllm_random_u64(98, CLLM_RANDOM_TEST, draw) % ring.bytes] ^= 0x5a;
        exercise();
    }
    memset(region.base, 0xff, region.bytes);
    exercise();
    memset(region.base + CLLM_PAGE, 0xff, region.bytes - CLLM_PAGE);
    memcpy(region.base, clean, CLLM_PAGE);
    memset(ring.base, 0xff, ring.bytes);
    exercise();
    free(clean);
    cllm_region_close(&region);
    cllm_region_close(&ring);
}

static void short_and_empty_control_objects_are_told(void **state)
{
    char path[256], name[CLLM_REGION_NAME_BYTES];
    struct cllm_shm_runs runs;
    struct cllm_shm_view view;
    int fd;

    (void)state;
    cllm_region_name(name, shm_run_id, "control");
    (void)snprintf(path, sizeof path, "/dev/shm%s", name);
    fd = open(path, O_CREAT | O_EXCL | O_RDWR, 0600);
    assert_true(fd >= 0);
    shm_run_take(&runs, &view); /* empty, young: somebody may be making it */
    assert_int_equal(view.life, CLLM_SHM_STARTING);
    shm_run_drop(&runs, &view);
    assert_int_equal(ftruncate(fd, 100), 0);
    exercise();
    assert_int_equal(fchmod(fd, 0666), 0);
    shm_run_take(&runs, &view);
    assert_int_equal(view.life, CLLM_SHM_BAD); /* anybody may write it: not trusted */
    shm_run_drop(&runs, &view);
    (void)close(fd);
}

static void texts_from_shared_memory_cannot_drive_the_terminal(void **state)
{
    static const struct {
        const char *from, *want;
    } rows[] = {
        {"plain", "plain"},
        {"\x1b[31mred\x07", "?[31mred?"},
        {"caf\xc3\xa9", "caf\xc3\xa9"},
        {"\xc3", "?"},
        {"\xc2\x9b"
         "31m",
         "?31m"},
        {"\xed\xa0\x80", "???"},
        {"\xf5\x80\x80\x80", "????"},
        {"\xc0\xaf", "??"},
    };
    char out[64];

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(rows); i++) {
        cllm_shm_clean_text(out, sizeof out, rows[i].from, strlen(rows[i].from));
        assert_string_equal(out, rows[i].want);
    }
    cllm_shm_clean_text(out, 4, "ab\xc3\xa9xyz", 7); /* never half a letter */
    assert_string_equal(out, "ab");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, shm_run_setup, shm_run_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_live_run_is_shown_whole),
        TEST(a_dead_run_says_so_and_how_to_go_on),
        TEST(a_zombie_node_zero_counts_as_dead),
        TEST(an_old_heartbeat_of_a_live_node_zero_is_a_hang),
        TEST(a_torn_record_leaves_the_other_one),
        TEST(a_root_that_the_chunks_do_not_give_is_noticed),
        TEST(json_parses_and_has_its_keys),
        TEST(the_ring_is_verified_batch_by_batch),
        TEST(a_run_is_found_by_prefix_and_by_directory),
        TEST(another_builds_layout_is_named),
        TEST(garbage_never_crashes_the_tool),
        TEST(short_and_empty_control_objects_are_told),
        TEST(texts_from_shared_memory_cannot_drive_the_terminal),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
