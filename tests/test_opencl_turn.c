/*
 * tests/test_opencl_turn.c - compute/opencl/turn.c and what takes turns: of processes
 * that start together with an empty cache one compiles, whoever is killed meanwhile.
 *
 * Devices are opened in children alone: none outlives a fork.
 */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "compute/opencl/cache.h"
#include "compute/opencl/turn.h"
#include "tests/opencl_run.h"

#define PATIENCE (240 * CLLM_NS_PER_S)

enum { PROCESSES = 3, KEY = 77, NO_DEVICE = 200, FAILED };

/* Two kernels in one program, for a compiler to do. */
static const char kernels[] =
    "__kernel void set(__global float *out, ulong out_at)\n"
    "{\n"
    "    out[out_at + get_global_id(0)] = 3.0f;\n"
    "}\n"
    "__kernel void sums(__global float *out, ulong out_at, uint n)\n"
    "{\n"
    "    float16 sum = (float16)(0.0f);\n"
    "    for (uint i = 0; i < n; i++)\n"
    "        sum += vload16(i, out + out_at);\n"
    "    vstore16(sum, get_global_id(0), out + out_at);\n"
    "}\n";

static struct cllm_opencl_run run;

static int begin(void **state)
{
    (void)state;
    cllm_opencl_run_begin(&run, kernels);
    return 0;
}

static int end(void **state)
{
    (void)state;
    cllm_opencl_run_end(&run);
    return 0;
}

static int empty_cache(void **state)
{
    char command[600];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf '%s/cache'", run.directory);
    return system(command);
}

/* ---- processes ---- */

typedef int (*child_fn)(int gate);

/* A child that runs @fn, whose result is its exit code. */
static pid_t start(child_fn fn, int gate)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(fn(gate));
    return pid;
}

static int code_of(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Until the parent closes its end. */
static void wait_at(int gate)
{
    char byte;

    if (gate >= 0)
        (void)!read(gate, &byte, 1);
}

/* @fn in PROCESSES children that begin at once; their codes. */
static void all_at_once(child_fn fn, int *codes)
{
    pid_t pids[PROCESSES];
    int gate[2];

    assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
    for (size_t i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            (void)close(gate[1]);
            _exit(fn(gate[0]));
        }
    }
    assert_int_equal(close(gate[0]), 0);
    assert_int_equal(close(gate[1]), 0);
    for (size_t i = 0; i < PROCESSES; i++)
        codes[i] = code_of(pids[i]);
}

/* Files of the cache whose names end in @end. */
static size_t count_files(const char *ending)
{
    char directory[512];
    struct dirent *entry;
    size_t n = 0;
    DIR *dir;

    (void)snprintf(directory, sizeof directory, "%s/cache/opencl", run.directory);
    dir = opendir(directory);
    if (dir == NULL)
        return 0;
    while ((entry = readdir(dir)) != NULL) {
        const char *dot = strrchr(entry->d_name, '.');

        n += dot != NULL && strcmp(dot, ending) == 0;
    }
    assert_int_equal(closedir(dir), 0);
    return n;
}

/* Until the child @pid has made such a file, or has ended. */
static void wait_for_file(pid_t pid, const char *ending)
{
    const struct timespec pause = cllm_timespec(CLLM_NS_PER_MS);
    uint64_t until = cllm_now_ns() + PATIENCE;
    siginfo_t ended = {.si_pid = 0};

    while (count_files(ending) == 0 && ended.si_pid == 0) {
        assert_true(cllm_now_ns() < until);
        assert_int_equal(waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOHANG | WNOWAIT),
                         0);
        (void)nanosleep(&pause, NULL);
    }
}

static void nap(void)
{
    const struct timespec pause = cllm_timespec(100 * CLLM_NS_PER_MS);

    (void)nanosleep(&pause, NULL);
}

/* ---- turns ---- */

/* Makes what is not there: slowly. 1: it made it. */
static int make_it(int gate)
{
    struct cllm_cl_turn turn;
    unsigned char *binary = NULL;
    size_t bytes;
    int made = 0;

    wait_at(gate);
    (void)cllm_cl_turn_begin(&turn, KEY, PATIENCE);
    binary = cllm_cl_cache_load(KEY, &bytes);
    if (binary == NULL) {
        nap();
        cllm_cl_cache_store(KEY, (const unsigned char *)"made", 4);
        made = 1;
    }
    free(binary);
    cllm_cl_turn_end(&turn);
    return made;
}

static void one_of_several_makes_what_all_want(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        int codes[PROCESSES], made = 0;

        assert_int_equal(empty_cache(NULL), 0);
        all_at_once(make_it, codes);
        for (size_t i = 0; i < PROCESSES; i++) {
            assert_in_range(codes[i], 0, 1);
            made += codes[i];
        }
        assert_int_equal(made, 1);
        assert_int_equal(count_files(".bin"), 1);
        assert_int_equal(count_files(".turn"), 0);
    }
}

/* Says at the gate that it has the turn, and keeps it. */
static int hold(int gate)
{
    struct cllm_cl_turn turn;

    if (!cllm_cl_turn_begin(&turn, KEY, PATIENCE) || write(gate, "", 1) != 1)
        return FAILED;
    (void)pause();
    return FAILED;
}

/* A child that has the turn. */
static pid_t start_holder(void)
{
    int gate[2];
    char byte;
    pid_t pid;

    assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
    pid = start(hold, gate[1]);
    assert_int_equal(close(gate[1]), 0);
    assert_int_equal(read(gate[0], &byte, 1), 1);
    assert_int_equal(close(gate[0]), 0);
    return pid;
}

static void the_end_of_a_process_ends_its_turn(void **state)
{
    struct cllm_cl_turn turn;
    uint64_t began;
    pid_t pid;

    (void)state;
    pid = start_holder();
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(code_of(pid), -SIGKILL);
    assert_int_equal(count_files(".turn"), 1); /* is no obstacle */
    began = cllm_now_ns();
    assert_true(cllm_cl_turn_begin(&turn, KEY, PATIENCE));
    assert_true(cllm_now_ns() - began < PATIENCE / 2);
    cllm_cl_turn_end(&turn);
    cllm_cl_turn_end(&turn); /* none: nothing */
    assert_int_equal(count_files(".turn"), 0);
}

static void patience_has_an_end(void **state)
{
    struct cllm_cl_turn turn;
    pid_t pid;

    (void)state;
    pid = start_holder();
    assert_false(cllm_cl_turn_begin(&turn, KEY, 100 * CLLM_NS_PER_MS));
    cllm_cl_turn_end(&turn);
    assert_int_equal(count_files(".turn"), 1); /* it is another's */
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(code_of(pid), -SIGKILL);
}

static void without_a_directory_there_are_no_turns(void **state)
{
    char *cache = strdup(getenv("CLLM_CACHE_DIR"));
    struct cllm_cl_turn turn;

    (void)state;
    assert_non_null(cache);
    assert_int_equal(setenv("CLLM_CACHE_DIR", "/proc/no/such", 1), 0);
    assert_false(cllm_cl_turn_begin(&turn, KEY, PATIENCE));
    cllm_cl_turn_end(&turn);
    assert_int_equal(setenv("CLLM_CACHE_DIR", cache, 1), 0);
    free(cache);
}

/* A directory of that name: nothing that can be locked for writing. */
static void what_cannot_be_locked_is_no_obstacle(void **state)
{
    struct cllm_cl_turn turn;
    char path[512];

    (void)state;
    assert_true(cllm_cl_turn_begin(&turn, KEY, PATIENCE)); /* makes the directory */
    cllm_cl_turn_end(&turn);
    (void)snprintf(path, sizeof path, "%s/cache/opencl/%016x.turn", run.directory, KEY);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_false(cllm_cl_turn_begin(&turn, KEY, PATIENCE));
    cllm_cl_turn_end(&turn);
}

/* ---- compilations ---- */

/* Builds a program when the gate opens; 16 for each compilation, 1 for each binary that
 * it took from the cache. */
static int build(int gate)
{
    static struct cllm_cl_kernel kernel = {.sources = "test.cl", .name = "set"};
    const struct cllm_opencl_options options = {0};
    struct cllm_opencl_counters n;

    if (cllm_opencl_open(&options) != 0)
        return NO_DEVICE;
    wait_at(gate);
    if (cllm_cl_prepare(&kernel, NULL) != 0)
        return FAILED;
    cllm_opencl_count(&n);
    cllm_opencl_close();
    return (int)(16 * n.builds + n.loads);
}

static void skip_without_device(int code)
{
    if (code != NO_DEVICE)
        return;
    print_message("skipped: there is no OpenCL device\n");
    skip();
}

static void of_three_processes_one_compiles(void **state)
{
    int codes[PROCESSES], sum = 0;

    (void)state;
    all_at_once(build, codes);
    for (size_t i = 0; i < PROCESSES; i++) {
        skip_without_device(codes[i]);
        sum += codes[i];
    }
    assert_int_equal(sum, 16 + (PROCESSES - 1));
    assert_int_equal(count_files(".bin"), 1);
    assert_int_equal(count_files(".turn"), 0);
}

static void a_compiler_that_is_killed_leaves_nothing_broken(void **state)
{
    pid_t pid;
    int code;

    (void)state;
    code = code_of(start(build, -1)); /* the driver's own first time */
    skip_without_device(code);
    for (uint64_t ms = 0; ms < 40; ms += 8) {
        const struct timespec pause = cllm_timespec(ms * CLLM_NS_PER_MS);

        assert_int_equal(empty_cache(NULL), 0);
        pid = start(build, -1);
        wait_for_file(pid, ".turn");
        (void)nanosleep(&pause, NULL);
        assert_int_equal(kill(pid, SIGKILL), 0);
        code = code_of(pid);
        assert_true(code == -SIGKILL || code == 16);
        code = code_of(start(build, -1));
        assert_true(code == 16 || code == 1); /* it may have been done already */
        assert_int_equal(code_of(start(build, -1)), 1);
    }
}

/* Launches for the first time, as a worker does. 1: before everybody else. */
static int launch(int gate)
{
    const struct cllm_opencl_options options = {0};
    const uint64_t what = 5;
    bool first;

    if (cllm_opencl_open(&options) != 0)
        return NO_DEVICE;
    wait_at(gate);
    first = cllm_opencl_first_begin(&what, sizeof what);
    if (first)
        nap();
    cllm_opencl_first_end(true);
    cllm_opencl_close();
    return first;
}

static void of_three_processes_one_launches_first(void **state)
{
    int codes[PROCESSES], sum = 0;

    (void)state;
    all_at_once(launch, codes);
    for (size_t i = 0; i < PROCESSES; i++) {
        skip_without_device(codes[i]);
        sum += codes[i];
    }
    assert_int_equal(sum, 1);
    assert_int_equal(count_files(".bin"), 1); /* the record */
    assert_int_equal(count_files(".turn"), 0);
    assert_int_equal(code_of(start(launch, -1)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_of_several_makes_what_all_want, empty_cache),
        cmocka_unit_test_setup(the_end_of_a_process_ends_its_turn, empty_cache),
        cmocka_unit_test_setup(patience_has_an_end, empty_cache),
        cmocka_unit_test_setup(without_a_directory_there_are_no_turns, empty_cache),
        cmocka_unit_test_setup(what_cannot_be_locked_is_no_obstacle, empty_cache),
        cmocka_unit_test_setup(of_three_processes_one_compiles, empty_cache),
        cmocka_unit_test_setup(a_compiler_that_is_killed_leaves_nothing_broken,
                               empty_cache),
        cmocka_unit_test_setup(of_three_processes_one_launches_first, empty_cache),
    };

    return cmocka_run_group_tests_name("opencl_turn", tests, begin, end);
}
