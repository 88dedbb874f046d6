/*
 * tests/test_control.c - the control object: made, published, attached, refused.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/err.h"
#include "shm/control.h"
#include "tests/control_temp.h"

static struct cllm_control made;

static int setup(void **state)
{
    (void)state;
    control_temp_make(&made);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    control_temp_remove(&made);
    return 0;
}

static void a_reader_sees_what_the_creator_wrote(void **state)
{
    struct cllm_control seen;

    (void)state;
    assert_int_equal(cllm_control_attach(&seen, control_temp_id(), CLLM_NONE),
                     CLLM_ATTACH_OK);
    assert_string_equal(seen.header->run_dir, "/nowhere");
    assert_string_equal(seen.config, "[run]\ndir = nowhere\n");
    assert_string_equal(seen.manifest, "[train]\n[valid]\n");
    assert_int_equal(seen.header->geometry.lanes, 24);
    assert_int_equal(seen.slots[3].command.role, CLLM_ROLE_LOADER);
    assert_int_equal(seen.slots[4].command.role, CLLM_ROLE_SAVER);
    cllm_control_detach(&seen);
}

static void an_unknown_run_is_said_to_be_none(void **state)
{
    struct cllm_control seen;

    (void)state;
    assert_int_equal(cllm_control_attach(&seen, "no-such-run", CLLM_NONE),
                     CLLM_ATTACH_NONE);
}

static void an_unpublished_object_is_not_yet_a_run(void **state)
{
    struct cllm_control seen;

    (void)state;
    cllm_store_relaxed(&made.header->ready, 0);
    assert_int_equal(cllm_control_attach(&seen, control_temp_id(), CLLM_NONE),
                     CLLM_ATTACH_NOT_YET);
    assert_null(seen.region.base);
}

static void a_run_is_made_once(void **state)
{
    const struct cllm_control_plan plan = {.run_id = control_temp_id(),
                                           .run_dir = "/nowhere",
                                           .config = "",
                                           .manifest = "",
                                           .geometry = control_temp_geometry()};
    struct cllm_control again;

    (void)state;
    assert_int_equal(cllm_control_create(&again, &plan), -EEXIST);
}

/* Every single byte of the header, changed, must be noticed: it decides where pointers
 * go. */
static void no_damaged_header_is_accepted(void **state)
{
    struct cllm_control seen;
    uint8_t *bytes = made.region.base;

    (void)state;
    for (size_t i = 0; i < offsetof(struct cllm_header, ready) + 8; i++) {
        enum cllm_attach result;

        bytes[i] ^= 0x40;
        result = cllm_control_attach(&seen, control_temp_id(), CLLM_NONE);
        bytes[i] ^= 0x40;
        if (result == CLLM_ATTACH_OK)
            fail_msg("byte %zu of the header changed and nobody noticed", i);
    }
    assert_int_equal(cllm_control_attach(&seen, control_temp_id(), CLLM_NONE),
                     CLLM_ATTACH_OK);
    cllm_control_detach(&seen);
}

/* Run @attack in a child; did it die of SIGSEGV? */
static bool dies_of_segv(void (*attack)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        (void)signal(SIGSEGV, SIG_DFL); /* cmocka catches it in its own process */
        attack();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

static void write_lanes_as_worker(void)
{
    struct cllm_control child;

    if (cllm_control_attach(&child, control_temp_id(), 1) == CLLM_ATTACH_OK)
        child.lane[0].state = CLLM_LANE_DONE;
}

static void write_foreign_page_as_worker(void)
{
    struct cllm_control child;

    if (cllm_control_attach(&child, control_temp_id(), 1) == CLLM_ATTACH_OK)
        child.slots[2].own.status.pid = 7;
}

static void write_params_as_reader(void)
{
    char name[CLLM_REGION_NAME_BYTES];
    struct cllm_region region;

    cllm_params_name(name, control_temp_id(), 0);
    if (cllm_region_open(&region, name, 1, CLLM_REGION_READ) == 0)
        region.base[0] = 1;
}

static void write_guarded_params_unasked(void)
{
    char name[CLLM_REGION_NAME_BYTES];
    struct cllm_region region;

    cllm_params_name(name, control_temp_id(), 0);
    if (cllm_region_open(&region, name, 1, CLLM_REGION_GUARDED) == 0) {
        cllm_region_allow(&region, CLLM_PAGE, CLLM_PAGE, true);
        region.base[CLLM_PAGE] = 1; /* allowed */
        region.base[0] = 1;         /* not */
    }
}

static void nobody_writes_what_is_not_his(void **state)
{
    (void)state;
    assert_true(dies_of_segv(write_lanes_as_worker));
    assert_true(dies_of_segv(write_foreign_page_as_worker));
    assert_true(dies_of_segv(write_params_as_reader));
    assert_true(dies_of_segv(write_guarded_params_unasked));
}

static void a_child_writes_its_own_page(void **state)
{
    struct cllm_control child;

    (void)state;
    assert_int_equal(cllm_control_attach(&child, control_temp_id(), 1), CLLM_ATTACH_OK);
    child.own->status.pid = 4711;
    assert_int_equal(made.slots[1].own.status.pid, 4711);
    cllm_control_detach(&child);
    assert_int_equal(cllm_control_attach(&child, control_temp_id(), 5),
                     CLLM_ATTACH_ERROR);
}

static void objects_are_private_to_their_user(void **state)
{
    char path[CLLM_REGION_NAME_BYTES + 16], name[CLLM_REGION_NAME_BYTES];
    struct cllm_region region;
    struct stat st;

    (void)state;
    cllm_params_name(name, control_temp_id(), 1);
    (void)snprintf(path, sizeof path, "/dev/shm%s", name);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal((uint64_t)st.st_blocks * 512, st.st_size); /* no holes */
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(cllm_region_open(&region, name, 1, CLLM_REGION_READ), -EPERM);
    assert_int_equal(chmod(path, 0600), 0);
}

static void the_newest_valid_record_counts(void **state)
{
    struct cllm_step_record record = {.step = 4}, found;

    (void)state;
    assert_false(cllm_control_newest_record(&made, &found));
    record.sum = cllm_step_record_sum(&record);
    made.record[0] = record;
    assert_true(cllm_control_newest_record(&made, &found));
    assert_int_equal(found.step, 4);
    record.step = 5;
    record.sum = cllm_step_record_sum(&record);
    made.record[1] = record;
    assert_true(cllm_control_newest_record(&made, &found));
    assert_int_equal(found.step, 5);
    for (size_t i = 0; i < sizeof record; i++) { /* torn anywhere: the older one stands */
        ((uint8_t *)&made.record[1])[i] ^= 1;
        assert_true(cllm_control_newest_record(&made, &found));
        assert_int_equal(found.step, 4);
        ((uint8_t *)&made.record[1])[i] ^= 1;
    }
    made.record[0] = record; /* a record in the other's place is none */
    assert_true(cllm_control_newest_record(&made, &found));
    made.record[1].sum = 0;
    assert_false(cllm_control_newest_record(&made, &found));
}

static void events_keep_the_newest_lines(void **state)
{
    uint64_t newest = 0;
    char text[32];

    (void)state;
    for (int i = 1; i <= 100; i++) {
        (void)snprintf(text, sizeof text, "event %d", i);
        cllm_control_event(&made, text);
    }
    for (uint32_t i = 0; i < CLLM_N_EVENTS; i++) {
        uint64_t seq = cllm_load_relaxed(&made.event[i].seq);

        (void)snprintf(text, sizeof text, "event %d", (int)seq);
        assert_string_equal(made.event[i].text, text);
        newest = seq > newest ? seq : newest;
    }
    assert_int_equal(newest, 100);
}

static void a_process_is_known_by_pid_and_start(void **state)
{
    (void)state;
    assert_true(cllm_control_alive(&made));
    made.state->node_zero_pid = (uint32_t)getpid();
    made.state->node_zero_start_ticks = cllm_process_start_ticks((uint64_t)getpid()) + 1;
    assert_false(cllm_control_alive(&made));
    assert_int_equal(cllm_process_start_ticks(UINT32_MAX), 0);
}

static void too_large_an_object_says_what_is_free(void **state)
{
    char name[CLLM_REGION_NAME_BYTES];

    (void)state;
    cllm_region_name(name, control_temp_id(), "huge");
    assert_int_equal(cllm_region_create(NULL, name, UINT64_C(1) << 46), -ENOSPC);
    assert_non_null(strstr(cllm_err_text(), "67108864.0 MiB"));
    assert_int_equal(
        cllm_region_open(&(struct cllm_region){0}, name, 1, CLLM_REGION_READ), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_reader_sees_what_the_creator_wrote, setup,
                                        teardown),
        cmocka_unit_test(an_unknown_run_is_said_to_be_none),
        cmocka_unit_test_setup_teardown(an_unpublished_object_is_not_yet_a_run, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_run_is_made_once, setup, teardown),
        cmocka_unit_test_setup_teardown(no_damaged_header_is_accepted, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_writes_what_is_not_his, setup, teardown),
        cmocka_unit_test_setup_teardown(a_child_writes_its_own_page, setup, teardown),
        cmocka_unit_test_setup_teardown(objects_are_private_to_their_user, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_newest_valid_record_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(events_keep_the_newest_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(a_process_is_known_by_pid_and_start, setup,
                                        teardown),
        cmocka_unit_test(too_large_an_object_says_what_is_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
