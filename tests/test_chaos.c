/*
 * tests/test_chaos.c - the chaos driver's schedule is its seed's, and its checks can
 * fail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/crash/chaos_check.h"
#include "tests/crash/chaos_plan.h"

/* ---- schedule ---- */

static void a_seed_gives_the_same_shots_again(void **state)
{
    const struct chaos_plan plan = {.seed = 7, .mode = CHAOS_KILL, .gap_us = 1000};
    const struct chaos_plan other = {.seed = 8, .mode = CHAOS_KILL, .gap_us = 1000};
    uint32_t different = 0;

    (void)state;
    for (uint64_t i = 0; i < 200; i++) {
        struct chaos_shot a = chaos_plan_shot(&plan, i), b = chaos_plan_shot(&plan, i);
        struct chaos_shot c = chaos_plan_shot(&other, i);

        assert_int_equal(a.role, b.role);
        assert_int_equal(a.phase, b.phase);
        assert_int_equal(a.delay_us, b.delay_us);
        assert_int_equal(a.pick, b.pick);
        different += a.pick != c.pick;
    }
    assert_true(different > 190);
}

static void half_of_the_shots_aim_and_all_roles_come(void **state)
{
    const struct chaos_plan plan = {.seed = 3, .mode = CHAOS_KILL, .gap_us = 1000};
    uint32_t role[CHAOS_ROLES] = {0}, phase[CHAOS_PHASES + 1] = {0};

    (void)state;
    for (uint64_t i = 0; i < 10000; i++) {
        struct chaos_shot shot = chaos_plan_shot(&plan, i);

        assert_int_equal(shot.signal, SIGKILL);
        assert_true(shot.gap_us <= 2000);
        role[shot.role]++;
        phase[shot.phase]++;
    }
    assert_in_range(phase[CHAOS_PHASES], 4800, 5200);
    assert_in_range(role[CHAOS_WORKER], 6800, 7200);
    assert_in_range(role[CHAOS_TREE], 60, 140);
    for (int p = 0; p < CHAOS_ENDING; p++)
        assert_true(phase[p] > 400);
}

static void a_focus_takes_most_of_the_aimed_shots(void **state)
{
    struct chaos_plan plan = {.seed = 3, .mode = CHAOS_KILL};
    uint32_t n = 0;

    (void)state;
    assert_false(chaos_plan_set_focus(&plan, "saver"));
    assert_false(chaos_plan_set_focus(&plan, "saver:lunch"));
    assert_true(chaos_plan_set_focus(&plan, "saver:fold"));
    for (uint64_t i = 0; i < 1000; i++) {
        struct chaos_shot shot = chaos_plan_shot(&plan, i);

        n += shot.role == CHAOS_SAVER && shot.phase == CHAOS_FOLD;
    }
    assert_in_range(n, 380, 500);
}

static void stops_last_from_milliseconds_to_seconds(void **state)
{
    const struct chaos_plan plan = {.seed = 3, .mode = CHAOS_STOP};
    uint32_t brief = 0, lasting = 0;

    (void)state;
    for (uint64_t i = 0; i < 1000; i++) {
        struct chaos_shot shot = chaos_plan_shot(&plan, i);

        assert_int_equal(shot.signal, SIGSTOP);
        assert_in_range(shot.stop_us, 9999, 5000000);
        brief += shot.stop_us < 100000;
        lasting += shot.stop_us > 2000000;
    }
    assert_true(brief > 250);
    assert_true(lasting > 80);
}

/* ---- checks ---- */

struct fixture {
    struct chaos_kind kind;
    struct chaos_run run;
};

static void write_file(const struct fixture *f, const char *name, const char *text)
{
    char path[512];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/%s", f->run.dir, name);
    file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void make_dir(const struct fixture *f, const char *name)
{
    char path[512];

    (void)snprintf(path, sizeof path, "%s/%s", f->run.dir, name);
    assert_int_equal(mkdir(path, 0777), 0);
}

/* Three steps of two sequences of five tokens. */
static const char journal[] = "{\"step\":1,\"root\":\"a\",\"tokens\":10}\n"
                              "{\"step\":2,\"root\":\"b\",\"tokens\":20}\n"
                              "{\"step\":3,\"root\":\"c\",\"tokens\":30}\n";

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const char *tmp = getenv("TMPDIR");
    char path[512];

    assert_non_null(f);
    f->kind = (struct chaos_kind){.steps = 3, .sequences = 2, .context = 5};
    f->run = (struct chaos_run){.kind = &f->kind, .nano = {.pidfd = -1}};
    (void)snprintf(f->run.dir, sizeof f->run.dir, "%s/test-chaos.XXXXXX",
                   tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(f->run.dir));
    (void)snprintf(f->run.nano.run_id, sizeof f->run.nano.run_id, "test-chaos-%d",
                   (int)getpid());
    make_dir(f, "checkpoints");
    make_dir(f, "checkpoints/step-0000000003");
    (void)snprintf(path, sizeof path, "%s/checkpoints/last", f->run.dir);
    assert_int_equal(symlink("step-0000000003", path), 0);
    write_file(f, "checkpoints/last/model.safetensors", "weights");
    write_file(f, "checkpoints/last/run.json",
               "{\n  \"data_cursor\": 6,\n  \"step\": 3\n}\n");
    write_file(f, "journal.jsonl", journal);
    assert_int_equal(nano_bits(f->run.dir, f->kind.golden), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(cllm_file_remove_tree(f->run.dir), 0);
    free(f);
    return 0;
}

static void a_sound_run_passes(void **state)
{
    const struct fixture *f = *state;
    char text[512];

    assert_true(chaos_check(&f->run, 0, text, sizeof text));
    assert_string_equal(text, "");
}

/* The check fails, and its text says @what. */
static void assert_found(const struct fixture *f, uint32_t faults, const char *what)
{
    char text[1024];

    assert_false(chaos_check(&f->run, faults, text, sizeof text));
    if (!strstr(text, what))
        fail_msg("\"%s\" is not in: %s", what, text);
}

static void another_byte_in_the_checkpoint_is_found(void **state)
{
    const struct fixture *f = *state;

    write_file(f, "checkpoints/last/model.safetensors", "weighty");
    assert_found(f, 0, "other bits");
}

static void a_file_too_many_in_the_checkpoint_is_found(void **state)
{
    const struct fixture *f = *state;

    write_file(f, "checkpoints/last/more", "");
    assert_found(f, 0, "other bits");
}

static void a_step_twice_in_the_journal_is_found(void **state)
{
    struct fixture *f = *state;
    char text[sizeof journal * 2];

    (void)snprintf(text, sizeof text, "%s%s", journal, strchr(journal, '\n') + 1);
    write_file(f, "journal.jsonl", text);
    /* Also when the golden run had the same fault. */
    assert_int_equal(nano_bits(f->run.dir, f->kind.golden), 0);
    assert_found(f, 0, "journal line 4");
}

static void a_torn_journal_is_found(void **state)
{
    struct fixture *f = *state;
    char text[sizeof journal];

    (void)snprintf(text, sizeof text, "%.*s", (int)sizeof journal - 5, journal);
    write_file(f, "journal.jsonl", text);
    assert_int_equal(nano_bits(f->run.dir, f->kind.golden), 0);
    assert_found(f, 0, "2 whole lines of 3");
}

static void a_wrong_number_of_tokens_is_found(void **state)
{
    struct fixture *f = *state;

    f->kind.context = 6;
    assert_found(f, 0, "journal line 1");
}

static void a_checkpoint_at_another_place_in_the_data_is_found(void **state)
{
    struct fixture *f = *state;

    write_file(f, "checkpoints/last/run.json",
               "{\n  \"data_cursor\": 4,\n  \"step\": 3\n}\n");
    assert_int_equal(nano_bits(f->run.dir, f->kind.golden), 0);
    assert_found(f, 0, "cursor 4");
}

static void a_temporary_directory_is_found(void **state)
{
    const struct fixture *f = *state;

    make_dir(f, "checkpoints/step-0000000002.tmp");
    assert_found(f, 0, "step-0000000002.tmp is left");
}

static void an_object_in_shared_memory_is_found(void **state)
{
    const struct fixture *f = *state;
    char name[CLLM_REGION_NAME_BYTES];

    cllm_region_name(name, f->run.nano.run_id, "ring");
    assert_int_equal(cllm_region_create(NULL, name, CLLM_PAGE), 0);
    assert_found(f, 0, "ring is left");
    assert_int_equal(cllm_region_unlink(name), 0);
}

static void a_crash_that_nobody_caused_is_found(void **state)
{
    const struct fixture *f = *state;
    char text[512];

    make_dir(f, "crash");
    write_file(f, "crash/1.txt", "SIGSEGV");
    assert_found(f, 0, "1 crash records, 0 faults");
    assert_true(chaos_check(&f->run, 1, text, sizeof text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_gives_the_same_shots_again),
        cmocka_unit_test(half_of_the_shots_aim_and_all_roles_come),
        cmocka_unit_test(a_focus_takes_most_of_the_aimed_shots),
        cmocka_unit_test(stops_last_from_milliseconds_to_seconds),
        cmocka_unit_test_setup_teardown(a_sound_run_passes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_byte_in_the_checkpoint_is_found, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_file_too_many_in_the_checkpoint_is_found,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_step_twice_in_the_journal_is_found, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_torn_journal_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_wrong_number_of_tokens_is_found, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            a_checkpoint_at_another_place_in_the_data_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_temporary_directory_is_found, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_object_in_shared_memory_is_found, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_crash_that_nobody_caused_is_found, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
