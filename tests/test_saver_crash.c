/*
 * tests/test_saver_crash.c - cllm-saver on a full disk, under a limit, and killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "shm/slot.h"
#include "tests/saver_run.h"

#define KILLS 10

/* ---- the disk ---- */

static void a_file_too_large_leaves_older_checkpoints_as_they_are(void **state)
{
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;
    struct saver_run_digest before, after;

    saver_run_start(run, 0);
    saver_run_commit(run, 1, 0);
    saver_run_assert_saved(run, 1);
    saver_run_digest(run, 1, &before);
    assert_int_equal(saver_run_leave(run), 0);

    saver_run_start(run, 400000); /* the weights fit, the moments do not */
    saver_run_commit(run, 2, 0);
    saver_run_assert_refused(run, 2, -EFBIG, CLLM_REPORT_FAILED, "cannot save step 2");
    assert_int_equal(saver_run_count(run), 2);
    saver_run_digest(run, 1, &after);
    saver_run_assert_same(&before, &after);
    assert_int_equal(saver_run_leave(run), 0);
}

static void fill_disk(const struct saver_run *run)
{
    static const uint8_t zeros[4096];
    char path[CLLM_FILE_PATH_BYTES];
    int fd;

    saver_run_path(run, path, "filler");
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    while (write(fd, zeros, sizeof zeros) > 0)
        continue;
    assert_int_equal(errno, ENOSPC);
    (void)close(fd); /* its bytes are of no interest */
}

/* Room for one checkpoint and a part of the next; then for both. */
static void a_full_disk_is_survived_and_the_next_save_succeeds(void **state)
{
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;
    struct saver_run_digest golden, found;
    char path[CLLM_FILE_PATH_BYTES];

    saver_fixture_golden(fixture, &saver_run_small, 2, 0, &golden);
    saver_run_path(run, path, "");
    path[strlen(path) - 1] = '\0';
    assert_int_equal(mkdir(path, 0700), 0);
    if (mount("cllm-test", path, "tmpfs", 0, "size=4m,mode=0700") != 0)
        skip(); /* only root may */
    (void)snprintf(fixture->mounted, sizeof fixture->mounted, "%s", path);

    saver_run_start(run, 0);
    saver_run_commit(run, 1, 0);
    saver_run_assert_saved(run, 1);
    saver_run_commit(run, 2, 0);
    fill_disk(run);
    saver_run_assert_refused(run, 2, -ENOSPC, CLLM_REPORT_FAILED, "No space left");
    assert_true(saver_run_has(run, "step-0000000001"));
    assert_false(saver_run_has(run, "step-0000000002"));
    assert_false(saver_run_has(run, "step-0000000002.tmp"));

    saver_run_path(run, path, "filler");
    assert_int_equal(unlink(path), 0);
    saver_run_assert_saved(run, 2);
    saver_run_digest(run, 2, &found);
    saver_run_assert_same(&golden, &found);
}

static void a_directory_that_cannot_be_written_is_a_failed_save(void **state)
{
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;
    char path[CLLM_FILE_PATH_BYTES];

    saver_run_commit(run, 1, 0);
    saver_run_start(run, 0);
    saver_run_path(run, path, "");
    path[strlen(path) - 1] = '\0';
    assert_int_equal(cllm_file_remove_tree(path), 0);
    assert_int_equal(symlink("/proc", path), 0); /* not even root can make files there */
    saver_run_assert_refused(run, 1, -ENOENT, CLLM_REPORT_FAILED, "cannot save step 1");
    assert_int_equal(unlink(path), 0);
    saver_run_assert_saved(run, 1);
}

/* ---- death ---- */

/* Once over a damaged checkpoint, once over none. */
static void a_killed_saver_is_made_good_by_the_next(void **state)
{
    const struct cllm_assignment work = {.kind = CLLM_WORK_SAVE, .step = 3, .version = 1};
    struct saver_fixture *fixture = *state;
    struct saver_run_digest golden, found;
    char path[CLLM_FILE_PATH_BYTES];
    struct saver_run *run;
    uint64_t begin_ns, save_ns;

    saver_fixture_golden(fixture, &saver_run_large, 3, 3, &golden);
    run = &fixture->other;
    saver_run_flip_file(run, "step-0000000003/run.json", 30);
    saver_run_start(run, 0);
    begin_ns = cllm_now_ns();
    saver_run_assert_saved(run, 3);
    save_ns = cllm_now_ns() - begin_ns;

    for (uint64_t i = 0; i < KILLS; i++) {
        struct timespec pause = cllm_timespec(save_ns * (2 * i + 1) / (2 * KILLS));

        if (i % 2 == 0) {
            saver_run_flip_file(run, "step-0000000003/optimizer.safetensors", 5000);
        } else {
            saver_run_path(run, path, "step-0000000003");
            assert_int_equal(cllm_file_remove_tree(path), 0);
        }
        saver_run_post(run, &work);
        (void)nanosleep(&pause, NULL);
        saver_run_kill(run);
        saver_run_start(run, 0);
        assert_false(saver_run_has(run, "step-0000000003.tmp"));
        saver_run_assert_saved(run, 3);
        saver_run_digest(run, 3, &found);
        saver_run_assert_same(&golden, &found);
        assert_int_equal(saver_run_count(run), 3);
    }
}

static void what_a_dead_saver_left_goes_and_nothing_else(void **state)
{
    static const char *const made[] = {"step-0000000009.tmp", "step-0000000009.tmp/a",
                                       "notes.tmp", "step-mine"};
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;
    char path[CLLM_FILE_PATH_BYTES];

    for (size_t i = 0; i < CLLM_LEN(made); i++) {
        saver_run_path(run, path, made[i]);
        assert_int_equal(cllm_file_mkdirs(path), 0);
    }
    saver_run_start(run, 0);
    assert_false(saver_run_has(run, "step-0000000009.tmp"));
    assert_true(saver_run_has(run, "notes.tmp"));
    assert_true(saver_run_has(run, "step-mine"));
}

static void a_saver_whose_node_zero_took_another_leaves(void **state)
{
    struct saver_fixture *fixture = *state;
    struct saver_run *run = &fixture->run;
    int status = 0;

    saver_run_start(run, 0);
    (void)cllm_slot_renew(&run->control, run->slot);
    status = saver_run_reap(run);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 75);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            a_file_too_large_leaves_older_checkpoints_as_they_are, saver_fixture_set_up,
            saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(
            a_full_disk_is_survived_and_the_next_save_succeeds, saver_fixture_set_up,
            saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(
            a_directory_that_cannot_be_written_is_a_failed_save, saver_fixture_set_up,
            saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_killed_saver_is_made_good_by_the_next,
                                        saver_fixture_set_up, saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(what_a_dead_saver_left_goes_and_nothing_else,
                                        saver_fixture_set_up, saver_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_saver_whose_node_zero_took_another_leaves,
                                        saver_fixture_set_up, saver_fixture_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
