/*
 * tests/test_shm_clean.c - cllm-shm clean removes what nobody computes, and only that.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "tests/shm_run.h"
#include "tools/shm_clean.h"

static void clean_refuses_a_live_run(void **state)
{
    struct cllm_shm_runs runs;
    int before;

    (void)state;
    shm_run_make(shm_run_id, true);
    before = shm_run_n_left();
    assert_int_equal(cllm_shm_runs_scan(&runs), 0);
    assert_int_equal(cllm_shm_clean_run(cllm_shm_runs_find(&runs, shm_run_id), false),
                     CLLM_EREFUSED);
    assert_non_null(strstr(cllm_err_text(), "it is live"));
    assert_int_equal(shm_run_n_left(), before);
    cllm_shm_runs_fini(&runs);
}

static void clean_removes_a_dead_run_and_not_its_namesake(void **state)
{
    char other[48];
    struct cllm_shm_runs runs;

    (void)state;
    (void)snprintf(other, sizeof other, "%s-two", shm_run_id);
    shm_run_make_dead(shm_run_id, true, true);
    shm_run_make(other, true);
    assert_int_equal(shm_run_n_left(), 20);
    assert_int_equal(cllm_shm_runs_scan(&runs), 0);
    assert_int_equal(cllm_shm_clean_run(cllm_shm_runs_find(&runs, shm_run_id), true), 0);
    assert_int_equal(shm_run_n_left(), 20); /* dry run */
    assert_int_equal(cllm_shm_clean_run(cllm_shm_runs_find(&runs, shm_run_id), false), 0);
    assert_int_equal(shm_run_n_left(), 10);
    cllm_shm_runs_fini(&runs);
}

static void clean_waits_until_a_fresh_heartbeat_is_old(void **state)
{
    uint64_t before = cllm_now_ns();
    struct cllm_shm_runs runs;

    (void)state;
    shm_run_make_dead(shm_run_id, true, false);
    assert_int_equal(cllm_shm_runs_scan(&runs), 0);
    assert_int_equal(cllm_shm_clean_run(cllm_shm_runs_find(&runs, shm_run_id), false), 0);
    assert_true(cllm_now_ns() - before > 2 * CLLM_NS_PER_S);
    assert_int_equal(shm_run_n_left(), 0);
    cllm_shm_runs_fini(&runs);
}

/* How long a run is cleaned that a guardian has just let go of. */
static uint64_t clean_when_it_is_let_go_of(void)
{
    struct cllm_shm_runs runs;
    struct cllm_shm_view view;
    uint64_t before, took;
    char path[96];
    int fd;

    assert_int_equal(mkdir(shm_run_dir, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/run.lock", shm_run_dir);
    fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    shm_run_make_dead(shm_run_id, true, false);
    shm_run_take(&runs, &view);
    assert_int_equal(view.life, CLLM_SHM_TAKEOVER); /* not dead: it is looked after */
    assert_string_equal(cllm_shm_life_name(view.life), "taking over");
    shm_run_drop(&runs, &view);
    assert_int_equal(cllm_shm_runs_scan(&runs), 0);
    assert_int_equal(cllm_shm_clean_run(cllm_shm_runs_find(&runs, shm_run_dir), false),
                     CLLM_EREFUSED);
    assert_non_null(strstr(cllm_err_text(), "a coordinator holds"));
    (void)close(fd);
    before = cllm_now_ns();
    assert_int_equal(cllm_shm_clean_run(cllm_shm_runs_find(&runs, shm_run_dir), false),
                     0);
    took = cllm_now_ns() - before;
    assert_int_equal(shm_run_n_left(), 0);
    cllm_shm_runs_fini(&runs);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(shm_run_dir), 0);
    return took;
}

/* Then the lock is proof enough, and nobody waits, unless the machine is too busy for us.
 */
static void clean_refuses_while_a_guardian_holds_the_run(void **state)
{
    uint64_t took = UINT64_MAX;

    (void)state;
    for (int i = 0; i < 10 && took >= 2 * CLLM_NS_PER_S; i++)
        took = clean_when_it_is_let_go_of();
    assert_true(took < 2 * CLLM_NS_PER_S);
}

static void clean_refuses_while_somebody_can_write(void **state)
{
    struct cllm_region region = {0};
    char name[CLLM_REGION_NAME_BYTES];
    struct cllm_shm_runs runs;
    siginfo_t info;
    int ready[2];
    char byte;
    pid_t pid;

    (void)state;
    shm_run_make_dead(shm_run_id, true, true);
    assert_int_equal(pipe(ready), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) { /* a worker that outlived Node Zero */
        cllm_params_name(name, shm_run_id, 1);
        if (cllm_region_open(&region, name, 1, CLLM_REGION_READ_WRITE) != 0 ||
            write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            (void)pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(cllm_shm_runs_scan(&runs), 0);
    assert_int_equal(cllm_shm_clean_run(cllm_shm_runs_find(&runs, shm_run_id), false),
                     CLLM_EREFUSED);
    assert_non_null(strstr(cllm_err_text(), "still has it mapped"));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED), 0);
    assert_int_equal(cllm_shm_clean_run(cllm_shm_runs_find(&runs, shm_run_id), false), 0);
    assert_int_equal(shm_run_n_left(), 0);
    cllm_shm_runs_fini(&runs);
    (void)close(ready[0]);
    (void)close(ready[1]);
}

static void half_made_runs_are_told_apart_by_their_maker(void **state)
{
    struct cllm_shm_runs runs;
    struct cllm_shm_view view;

    (void)state;
    shm_run_make(shm_run_id, false); /* this process lives: still being made */
    shm_run_take(&runs, &view);
    assert_int_equal(view.life, CLLM_SHM_STARTING);
    assert_int_equal(cllm_shm_clean_run(view.run, false), CLLM_EREFUSED);
    shm_run_drop(&runs, &view);
    assert_int_equal(shm_run_teardown(NULL), 0);

    shm_run_make_dead(shm_run_id, false, false);
    shm_run_take(&runs, &view);
    assert_int_equal(view.life, CLLM_SHM_HALF_MADE);
    assert_non_null(strstr(view.reason, "nothing was trained"));
    assert_int_equal(cllm_shm_clean_run(view.run, false), 0);
    shm_run_drop(&runs, &view);
    assert_int_equal(shm_run_n_left(), 0);
}

/* Without a control object only the id says whose they are. */
static void leftovers_of_a_directory_go_under_its_lock(void **state)
{
    char name[CLLM_REGION_NAME_BYTES], id[CLLM_RUN_ID_BYTES], path[96];
    struct cllm_shm_runs runs;
    int fd;

    (void)state;
    assert_int_equal(mkdir(shm_run_dir, 0700), 0);
    cllm_run_id_of(id, shm_run_dir);
    cllm_fold_name(name, id, 0);
    assert_int_equal(cllm_region_create(NULL, name, CLLM_PAGE), 0);
    assert_int_equal(cllm_shm_runs_scan(&runs), 0);
    const struct cllm_shm_run *run = cllm_shm_runs_find(&runs, shm_run_dir);
    assert_non_null(run);
    assert_string_equal(run->directory, shm_run_dir);
    assert_int_equal(cllm_shm_clean_run(run, false), CLLM_EREFUSED); /* too young */
    (void)snprintf(path, sizeof path, "%s/run.lock", shm_run_dir);
    fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    assert_int_equal(cllm_shm_clean_run(run, false), CLLM_EREFUSED); /* it may begin */
    assert_non_null(strstr(cllm_err_text(), "a coordinator holds"));
    (void)close(fd);
    assert_int_equal(cllm_shm_clean_run(run, false), 0); /* nobody can begin there */
    cllm_shm_runs_fini(&runs);
    assert_int_equal(cllm_region_unlink(name), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(shm_run_dir), 0);
}

static void young_leftovers_stay_and_old_ones_could_go(void **state)
{
    char name[CLLM_REGION_NAME_BYTES], why[160];
    struct cllm_shm_runs runs;
    struct cllm_shm_view view;

    (void)state;
    cllm_fold_name(name, shm_run_id, 0);
    assert_int_equal(cllm_region_create(NULL, name, CLLM_PAGE), 0);
    shm_run_take(&runs, &view);
    assert_int_equal(view.life, CLLM_SHM_LEFTOVER);
    assert_false(cllm_shm_clean_allowed(&view, false, why, sizeof why));
    assert_non_null(strstr(why, "younger than 60 s"));
    view.taken_unix_ns += (int64_t)(61 * CLLM_NS_PER_S);
    assert_true(cllm_shm_clean_allowed(&view, false, why, sizeof why));
    shm_run_drop(&runs, &view);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, shm_run_setup, shm_run_teardown)
    const struct CMUnitTest tests[] = {
        TEST(clean_refuses_a_live_run),
        TEST(clean_removes_a_dead_run_and_not_its_namesake),
        TEST(clean_waits_until_a_fresh_heartbeat_is_old),
        TEST(clean_refuses_while_a_guardian_holds_the_run),
        TEST(clean_refuses_while_somebody_can_write),
        TEST(half_made_runs_are_told_apart_by_their_maker),
        TEST(leftovers_of_a_directory_go_under_its_lock),
        TEST(young_leftovers_stay_and_old_ones_could_go),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
