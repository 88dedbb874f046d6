/*
 * tests/test_loader.c - the program cllm-loader in a run of its own: hello, filling,
 * commits, death and replacement, machines without io_uring, data that has gone bad.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "shm/slot.h"
#include "tests/loader_data.h"

#define LOADER_SLOT 1 /* one worker slot before it */
#define PATIENCE_NS (240 * CLLM_NS_PER_S)

/* The run that stands around the loader; Node Zero is the test. */
static struct {
    struct loader_data data;
    char run_id[CLLM_RUN_ID_BYTES];
    char ring_name[CLLM_REGION_NAME_BYTES], control_name[CLLM_REGION_NAME_BYTES];
    struct cllm_control control;
    struct cllm_ring ring;
    int eventfd;
    pid_t pid;
    uint32_t forbid_from, forbid_to; /* system calls, inclusive; 0 = none */
} run;

static int make_run(const char *config)
{
    char *manifest;
    struct cllm_control_plan plan = {
        .run_id = run.run_id,
        .run_dir = "/nonexistent",
        .config = config,
    };

    memset(&run, 0, sizeof run);
    loader_data_make(&run.data);
    (void)snprintf(run.run_id, sizeof run.run_id, "test-loader-%d", (int)getpid());
    cllm_region_name(run.control_name, run.run_id, "control");
    cllm_ring_name(run.ring_name, run.run_id);
    manifest = loader_data_manifest(&run.data);
    plan.manifest = manifest;
    plan.geometry = run.data.geometry;
    assert_int_equal(cllm_control_create(&run.control, &plan), 0);
    free(manifest);
    assert_int_equal(
        cllm_region_create(NULL, run.ring_name, cllm_ring_bytes(&run.data.geometry)), 0);
    cllm_control_publish(&run.control);
    assert_int_equal(cllm_ring_open(&run.ring, run.run_id, &run.data.geometry, true), 0);
    run.eventfd = eventfd(0, EFD_NONBLOCK);
    assert_true(run.eventfd >= 0);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    return make_run("[run]\ndir = x\n");
}

static int set_up_uring_only(void **state)
{
    (void)state;
    return make_run("[run]\ndir = x\n[loader]\nmethod = uring\n");
}

static int set_up_direct(void **state)
{
    (void)state;
    return make_run("[run]\ndir = x\n[loader]\ndirect = yes\nqueue_depth = 5\n");
}

static void reap(void)
{
    if (run.pid > 0)
        (void)waitpid(run.pid, NULL, 0);
    run.pid = 0;
}

/* Asserts nothing before everything is removed: a test may have failed anywhere. */
static int tear_down(void **state)
{
    (void)state;
    if (run.pid > 0)
        (void)kill(run.pid, SIGKILL);
    reap();
    (void)close(run.eventfd);
    cllm_ring_close(&run.ring);
    cllm_control_detach(&run.control);
    (void)cllm_region_unlink(run.ring_name);
    (void)cllm_region_unlink(run.control_name);
    loader_data_remove(&run.data);
    return 0;
}

/* As a container or kernel without io_uring, or with a part of it: EPERM. */
static void forbid_calls(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, run.forbid_from, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, run.forbid_to, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = CLLM_LEN(code), .filter = code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        _exit(99);
}

static void start(void)
{
    uint32_t generation = cllm_slot_renew(&run.control, LOADER_SLOT);
    char self[512], program[600], args[4][32];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    assert_true(n > 0);
    self[n] = '\0';
    *strrchr(self, '/') = '\0'; /* BUILD/tests */
    (void)snprintf(program, sizeof program, "%s/../bin/cllm-loader", self);
    assert_int_equal(access(program, X_OK), 0);
    (void)snprintf(args[0], sizeof args[0], "%d", LOADER_SLOT);
    (void)snprintf(args[1], sizeof args[1], "%u", generation);
    (void)snprintf(args[2], sizeof args[2], "%d", run.eventfd);
    (void)snprintf(args[3], sizeof args[3], "%d", (int)getpid());
    run.pid = fork();
    assert_true(run.pid >= 0);
    if (run.pid == 0) {
        if (run.forbid_from != 0)
            forbid_calls();
        if (!getenv("CLLM_TEST_VERBOSE"))
            (void)!freopen("/dev/null", "w", stderr);
        (void)execl(program, "cllm-loader", "--run", run.run_id, "--slot", args[0],
                    "--generation", args[1], "--eventfd", args[2], "--parent", args[3],
                    (char *)NULL);
        _exit(98);
    }
}

static const struct cllm_status *status(void)
{
    return &run.control.slots[LOADER_SLOT].own.status;
}

static bool said_hello(void)
{
    char how[64];
    uint64_t numerics;

    return cllm_slot_hello(&run.control, LOADER_SLOT, &numerics, how);
}

static bool filled_now(void)
{
    uint64_t end = cllm_min_u64(cllm_load_relaxed(&run.control.state->committed) + 2, 9);

    return said_hello() && cllm_load_acquire(&status()->filled) == end * 6 &&
           cllm_load_acquire(&status()->eval_ready) == 1;
}

static bool failed_now(void)
{
    return said_hello() && cllm_load_acquire(&status()->failed) == 1;
}

/* Until @done, sleeping on the eventfd as Node Zero does. */
static void wait_until(bool (*done)(void))
{
    uint64_t deadline = cllm_now_ns() + PATIENCE_NS;

    while (!done()) {
        struct pollfd wait = {.fd = run.eventfd, .events = POLLIN};
        uint64_t rings;

        assert_true(cllm_now_ns() < deadline);
        if (waitpid(run.pid, NULL, WNOHANG) != 0) {
            run.pid = 0;
            fail_msg("the loader has died");
        }
        if (poll(&wait, 1, 20) == 1)
            assert_int_equal(read(run.eventfd, &rings, sizeof rings), sizeof rings);
    }
}

static void commit(uint64_t step)
{
    cllm_store_release(&run.control.state->committed, step);
    cllm_slot_ring(&run.control, LOADER_SLOT);
}

static void check_ring(void)
{
    uint64_t committed = cllm_load_relaxed(&run.control.state->committed);

    for (uint64_t e = 0; e < 3; e++)
        loader_data_check_batch(&run.data, &run.ring, CLLM_BATCH_EVAL | e);
    for (uint64_t batch = committed * 6; batch < cllm_min_u64(committed + 2, 9) * 6;
         batch++)
        loader_data_check_batch(&run.data, &run.ring, batch);
}

/* Tell it to leave; it must do so with exit code 0. */
static void leave(void)
{
    const struct cllm_assignment work = {.kind = CLLM_WORK_EXIT};
    int wait_status;

    (void)cllm_slot_post(&run.control, LOADER_SLOT, &work);
    assert_int_equal(waitpid(run.pid, &wait_status, 0), run.pid);
    run.pid = 0;
    assert_true(WIFEXITED(wait_status));
    assert_int_equal(WEXITSTATUS(wait_status), 0);
}

static void check_method(const char *expected)
{
    uint64_t numerics;
    char how[64];

    assert_true(cllm_slot_hello(&run.control, LOADER_SLOT, &numerics, how));
    print_message("           %s\n", how);
    assert_non_null(strstr(how, expected));
    assert_int_equal(numerics, 0);
}

static void it_says_hello_fills_the_ring_and_follows_the_commits(void **state)
{
    (void)state;
    start();
    for (uint64_t committed = 0; committed <= 9; committed++) {
        commit(committed);
        wait_until(filled_now);
        check_ring();
    }
    check_method(", ");
    assert_int_equal(status()->reads, 9 * 30 + 15);
    assert_true(status()->busy_ns > 0);
    leave();
}

static void what_the_kernel_forbids_is_done_without_and_said(void **state)
{
    static const struct {
        uint32_t from, to;
        const char *how;
    } row[] = {
        {SYS_io_uring_setup, SYS_io_uring_register,
         "pread, buffered (io_uring: Operation not permitted)"},
        {SYS_io_uring_enter, SYS_io_uring_enter,
         "pread, buffered (io_uring: Operation not permitted)"},
        {SYS_io_uring_register, SYS_io_uring_register,
         "io_uring, buffered, 32 deep, plain reads"},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(row); i++) {
        memset(run.ring.slot, 0, 15 * sizeof *run.ring.slot);
        run.forbid_from = row[i].from;
        run.forbid_to = row[i].to;
        start();
        wait_until(filled_now);
        check_method(row[i].how);
        assert_int_equal(status()->reads, 12 * 5 + 15);
        check_ring();
        leave();
    }
}

static void without_io_uring_and_with_nothing_else_allowed_it_gives_up(void **state)
{
    (void)state;
    run.forbid_from = SYS_io_uring_setup;
    run.forbid_to = SYS_io_uring_register;
    start();
    wait_until(failed_now);
    assert_string_equal(status()->last_words,
                        "io_uring is not to be had: Operation not permitted");
    assert_int_equal(status()->error, -EPERM);
    leave();
}

static void kill_at_random_moments(void)
{
    uint32_t seed = (uint32_t)getpid();

    for (uint64_t i = 0; i < 24; i++) {
        struct timespec pause;

        seed = seed * 1664525 + 1013904223;
        pause = cllm_timespec(seed >> 16 << 7); /* up to 8 ms; it needs about 3 */
        start();
        (void)nanosleep(&pause, NULL);
        assert_int_equal(kill(run.pid, SIGKILL), 0);
        reap();
        if (i % 8 == 7) { /* the rest of this window, by a loader that lives */
            start();
            wait_until(filled_now);
            check_ring();
            leave();
            commit(i / 8 + 1);
        }
    }
}

static void killed_and_replaced_it_leaves_the_same_ring(void **state)
{
    (void)state;
    kill_at_random_moments();
    start();
    wait_until(filled_now);
    check_ring();
    leave();
}

static void a_replacement_reads_nothing_that_is_there(void **state)
{
    (void)state;
    start();
    wait_until(filled_now);
    leave();
    start();
    wait_until(filled_now);
    assert_int_equal(status()->reads, 0);
    check_ring();
    leave();
}

static void a_shard_that_is_gone_is_named_in_the_last_words(void **state)
{
    (void)state;
    assert_int_equal(unlink(run.data.train_path[1]), 0);
    start();
    wait_until(failed_now);
    assert_non_null(strstr(status()->last_words, run.data.train_path[1]));
    assert_non_null(strstr(status()->last_words, "No such file"));
    leave();
}

static void a_shard_that_was_truncated_is_named_in_the_last_words(void **state)
{
    (void)state;
    assert_int_equal(truncate(run.data.train_path[0], 9000), 0);
    start();
    wait_until(failed_now);
    assert_non_null(strstr(status()->last_words, run.data.train_path[0]));
    assert_int_equal(status()->error, CLLM_EDATA);
    leave();
}

static void a_token_beyond_the_vocabulary_ends_in_the_last_words(void **state)
{
    (void)state;
    loader_data_poke(run.data.train_path[0], 0, UINT16_MAX);
    for (uint32_t i = 1; i < 400; i++)
        loader_data_poke(run.data.train_path[0], i * 10, UINT16_MAX);
    start();
    wait_until(failed_now);
    assert_non_null(strstr(status()->last_words, run.data.train_path[0]));
    assert_non_null(strstr(status()->last_words, "is 65535, expected less than 65521"));
    assert_int_equal(status()->error, CLLM_EDATA);
    leave();
}

static void it_dies_with_its_parent(void **state)
{
    int ready[2], wait_status;
    pid_t node_zero;
    pid_t loader = 0;
    uint64_t deadline = cllm_now_ns() + PATIENCE_NS;
    const struct timespec a_while = cllm_timespec(CLLM_NS_PER_MS);

    (void)state;
    assert_int_equal(pipe(ready), 0);
    /* The loader becomes this process's child when its own parent is gone. */
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    node_zero = fork();
    assert_true(node_zero >= 0);
    if (node_zero == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* not to stay when the test fails */
        start();
        if (write(ready[1], &run.pid, sizeof run.pid) < 0)
            _exit(1);
        (void)pause();
        _exit(0);
    }
    assert_int_equal(read(ready[0], &loader, sizeof loader), sizeof loader);
    while (!filled_now() && cllm_now_ns() < deadline)
        (void)nanosleep(&a_while, NULL);
    assert_true(filled_now());
    assert_int_equal(kill(node_zero, SIGKILL), 0);
    assert_int_equal(waitpid(node_zero, NULL, 0), node_zero);
    assert_int_equal(waitpid(loader, &wait_status, 0), loader);
    assert_true(WIFSIGNALED(wait_status));
    assert_int_equal(WTERMSIG(wait_status), SIGKILL);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
    (void)close(ready[0]);
    (void)close(ready[1]);
}

int main(void)
{
#define IN_RUN(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        IN_RUN(it_says_hello_fills_the_ring_and_follows_the_commits),
        cmocka_unit_test_setup_teardown(
            it_says_hello_fills_the_ring_and_follows_the_commits, set_up_direct,
            tear_down),
        IN_RUN(what_the_kernel_forbids_is_done_without_and_said),
        cmocka_unit_test_setup_teardown(
            without_io_uring_and_with_nothing_else_allowed_it_gives_up, set_up_uring_only,
            tear_down),
        IN_RUN(killed_and_replaced_it_leaves_the_same_ring),
        cmocka_unit_test_setup_teardown(killed_and_replaced_it_leaves_the_same_ring,
                                        set_up_direct, tear_down),
        IN_RUN(a_replacement_reads_nothing_that_is_there),
        IN_RUN(a_shard_that_is_gone_is_named_in_the_last_words),
        IN_RUN(a_shard_that_was_truncated_is_named_in_the_last_words),
        IN_RUN(a_token_beyond_the_vocabulary_ends_in_the_last_words),
        IN_RUN(it_dies_with_its_parent),
    };

    cllm_log_init("test", CLLM_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
