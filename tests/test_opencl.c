/*
 * compute/opencl/opencl.c and memory.c: addresses, validity, transfers.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "compute/opencl/memory.h"
#include "tests/opencl_run.h"

#define PIECE (CLLM_CL_PIECE / sizeof(float)) /* elements */

static const char kernels[] =
    "__kernel void twice(__global float *out, ulong out_at, __global const float *x,\n"
    "                    ulong x_at, uint n)\n"
    "{\n"
    "    size_t i = get_global_id(0);\n"
    "    if (i < n)\n"
    "        out[out_at + i] = 2.0f * x[x_at + i];\n"
    "}\n"
    "__kernel void add(__global float *x, ulong x_at, float y)\n"
    "{\n"
    "    x[x_at + get_global_id(0)] += y;\n"
    "}\n"
    "__kernel void spin(__global float *x, ulong x_at, uint n)\n"
    "{\n"
    "    float y = x[x_at];\n"
    "    for (uint i = 0; i < n; i++)\n"
    "        y = y * 0.5f + 1.0f;\n"
    "    x[x_at] = y;\n"
    "}\n"
    "__kernel void has(__global float *out, ulong out_at, __global const float *x,\n"
    "                  ulong x_at)\n"
    "{\n"
    "    out[out_at] = x_at == ~0ul ? -1.0f : x[x_at];\n"
    "}\n";

static struct cllm_cl_kernel twice_kernel = {.sources = "test.cl", .name = "twice"};
static struct cllm_cl_kernel add_kernel = {.sources = "test.cl", .name = "add"};
static struct cllm_cl_kernel spin_kernel = {.sources = "test.cl", .name = "spin"};
static struct cllm_cl_kernel has_kernel = {.sources = "test.cl", .name = "has"};

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
    cllm_opencl_close();
    cllm_opencl_run_end(&run);
    return 0;
}

static int close_device(void **state)
{
    (void)state;
    cllm_opencl_close();
    return 0;
}

/* ---- operations ---- */

static void twice(float *out, const float *x, size_t n)
{
    struct cllm_cl_launch launch;

    cllm_cl_begin(&launch, &twice_kernel);
    cllm_cl_out(&launch, out, n * sizeof *out);
    cllm_cl_in(&launch, x, n * sizeof *x);
    cllm_cl_u32(&launch, (uint32_t)n);
    cllm_cl_run(&launch, 1, (size_t[]){cllm_align_up(n, 64)}, (size_t[]){64});
}

static void add(float *x, size_t n, float y)
{
    struct cllm_cl_launch launch;

    cllm_cl_begin(&launch, &add_kernel);
    cllm_cl_inout(&launch, x, n * sizeof *x);
    cllm_cl_f32(&launch, y);
    cllm_cl_run(&launch, 1, (size_t[]){n}, NULL);
}

static void spin(float *x, uint32_t n)
{
    struct cllm_cl_launch launch;

    cllm_cl_begin(&launch, &spin_kernel);
    cllm_cl_inout(&launch, x, sizeof *x);
    cllm_cl_u32(&launch, n);
    cllm_cl_run(&launch, 1, (size_t[]){1}, (size_t[]){1});
}

static float *reserve(size_t n, const size_t *cuts, size_t n_cuts)
{
    void *address;

    assert_int_equal(cllm_opencl_reserve(&address, n * sizeof(float), cuts, n_cuts), 0);
    return address;
}

static float *numbers(size_t n)
{
    float *x = malloc(n * sizeof *x);

    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(i % 8191) + 0.25f;
    return x;
}

static struct cllm_opencl_counters counters(void)
{
    struct cllm_opencl_counters now;

    cllm_opencl_count(&now);
    return now;
}

/* ---- tests ---- */

static void what_goes_up_comes_down_doubled(void **state)
{
    static const size_t sizes[] = {1, 3, 17, 65, 1000, PIECE, PIECE + 1, 9 * PIECE + 7};

    (void)state;
    cllm_opencl_run_open(0);
    for (size_t k = 0; k < CLLM_LEN(sizes); k++) {
        size_t n = sizes[k];
        float *x = numbers(n), *got = calloc(n, sizeof *got), *w = reserve(n, NULL, 0);
        float *out = reserve(n, NULL, 0);

        assert_int_equal(cllm_opencl_put(w, x, n * sizeof *x, 1), 0);
        twice(out, w, n);
        assert_int_equal(cllm_opencl_get(got, out, n * sizeof *got), 0);
        for (size_t i = 0; i < n; i++)
            assert_true(got[i] == 2 * x[i]);
        cllm_opencl_forget(w);
        cllm_opencl_forget(out);
        free(x);
        free(got);
    }
    assert_int_equal(cllm_opencl_wait(), 0);
}

static void an_address_in_the_middle_is_found(void **state)
{
    float got[7], *x, *y;

    (void)state;
    cllm_opencl_run_open(0);
    x = reserve(1000, NULL, 0);
    y = reserve(1000, NULL, 0);
    add(x, 1000, 1.0f); /* from zero, as what is reserved begins */
    add(x + 13, 7, 2.0f);
    twice(y + 991, x + 12, 9);
    assert_int_equal(cllm_opencl_get(got, y + 990, 7 * sizeof *got), 0);
    assert_true(got[0] == 0 && got[1] == 2 && got[2] == 6 && got[6] == 6);
    assert_int_equal(cllm_opencl_get(got, y + 998, 2 * sizeof *got), 0);
    assert_true(got[0] == 6 && got[1] == 2);
}

static void a_version_goes_up_once(void **state)
{
    size_t n = 3 * PIECE + 5;
    float *x = numbers(n), *got = malloc(n * sizeof *got), *w, *out;
    struct cllm_opencl_counters was, is;

    (void)state;
    cllm_opencl_run_open(0);
    w = reserve(n, NULL, 0);
    out = reserve(n, NULL, 0);
    was = counters();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(cllm_opencl_put(w, x, n * sizeof *x, 7), 0);
        twice(out, w, n);
    }
    assert_int_equal(cllm_opencl_wait(), 0);
    is = counters();
    assert_int_equal(is.up_bytes - was.up_bytes, n * sizeof *x);
    assert_int_equal(is.ups - was.ups, 4);
    assert_int_equal(is.down_bytes, was.down_bytes);

    x[n - 1] = 5.5f;
    assert_int_equal(cllm_opencl_put(w, x, n * sizeof *x, 8), 0);
    twice(out, w, n);
    assert_int_equal(cllm_opencl_get(got, out, n * sizeof *got), 0);
    assert_true(got[n - 1] == 11.0f);
    assert_int_equal(counters().up_bytes - is.up_bytes, n * sizeof *x);
    free(got);
    free(x);
}

static void only_the_pieces_that_are_needed_go_up(void **state)
{
    size_t n = 4 * PIECE;
    float *x = numbers(n), *w, *out;
    uint64_t was;

    (void)state;
    cllm_opencl_run_open(0);
    w = reserve(n, NULL, 0);
    out = reserve(64, NULL, 0);
    assert_int_equal(cllm_opencl_put(w, x, n * sizeof *x, 1), 0);
    was = counters().ups;
    twice(out, w + 2 * PIECE + 5, 10);
    assert_int_equal(counters().ups - was, 1);
    twice(out, w + PIECE - 5, 10);
    assert_int_equal(counters().ups - was, 3);
    twice(out, w + 3 * PIECE - 5, 5);
    assert_int_equal(counters().ups - was, 3);
    assert_int_equal(cllm_opencl_wait(), 0);
    free(x);
}

static void a_mirror_moves_only_when_it_is_newer(void **state)
{
    float *x = numbers(100), y[100];
    struct cllm_opencl_counters was;

    (void)state;
    cllm_opencl_run_open(0);
    assert_int_equal(cllm_opencl_mirror(x, 100 * sizeof *x), 0);
    assert_int_equal(cllm_opencl_mirror(y, sizeof y), 0);
    was = counters();
    twice(y, x, 100);
    twice(y, x, 100); /* reading is no writing */
    assert_int_equal(counters().ups - was.ups, 1);
    assert_int_equal(cllm_opencl_fetch(y), 0);
    assert_int_equal(cllm_opencl_fetch(y), 0);
    assert_int_equal(cllm_opencl_fetch(x), 0);
    assert_int_equal(counters().downs - was.downs, 1);
    assert_true(y[99] == 2 * 99.25f);

    x[99] = 1;
    cllm_opencl_wrote(x);
    add(x, 100, 1.0f); /* up, then the device's is newer */
    twice(y, x, 100);
    assert_int_equal(counters().ups - was.ups, 2);
    assert_int_equal(cllm_opencl_fetch(x), 0);
    assert_int_equal(cllm_opencl_fetch(y), 0);
    assert_int_equal(counters().downs - was.downs, 3);
    assert_true(x[99] == 2 && x[0] == 1.25f && y[99] == 4);
    twice(y, x, 100); /* both are as new */
    assert_int_equal(counters().ups - was.ups, 2);
    cllm_opencl_forget(x);
    cllm_opencl_forget(y);
    free(x);
}

static void what_a_kernel_overwrites_in_part_goes_up_first(void **state)
{
    float x[100], *big = numbers(2 * PIECE);

    (void)state;
    cllm_opencl_run_open(0);
    memset(x, 0, sizeof x);
    x[0] = 3;
    assert_int_equal(cllm_opencl_mirror(x, sizeof x), 0);
    twice(x + 50, x, 50);
    assert_int_equal(cllm_opencl_fetch(x), 0);
    assert_true(x[0] == 3 && x[50] == 6 && x[99] == 0);

    /* One whole piece and the beginning of another: the whole one stays here. */
    assert_int_equal(cllm_opencl_mirror(big, 2 * PIECE * sizeof *big), 0);
    cllm_cl_zero(big, (PIECE + 1) * sizeof *big);
    assert_int_equal(counters().up_bytes, sizeof x + PIECE * sizeof *big);
    assert_int_equal(cllm_opencl_fetch(big), 0);
    assert_true(big[0] == 0 && big[PIECE] == 0);
    assert_true(big[PIECE + 1] == (float)((PIECE + 1) % 8191) + 0.25f);
    cllm_opencl_forget(big);
    cllm_opencl_forget(x);
    free(big);
}

/* Values in use are never overwritten by newer ones that go up meanwhile. */
static void newer_values_wait_for_kernels_that_read_the_older(void **state)
{
    enum { ROUNDS = 40, N = 256 };
    float tokens[N], out[ROUNDS], *sum;

    (void)state;
    cllm_opencl_run_open(0);
    sum = reserve(ROUNDS * N, NULL, 0);
    assert_int_equal(cllm_opencl_mirror(tokens, sizeof tokens), 0);
    for (int i = 0; i < ROUNDS; i++) {
        for (int k = 0; k < N; k++)
            tokens[k] = (float)(i + k);
        cllm_opencl_wrote(tokens);
        spin(sum + i * N, 100000);
        twice(sum + i * N, tokens, N);
    }
    for (int i = 0; i < ROUNDS; i++) {
        assert_int_equal(cllm_opencl_get(&out[i], sum + i * N + 7, sizeof *out), 0);
        assert_true(out[i] == (float)(2 * (i + 7)));
    }
    cllm_opencl_forget(tokens);
}

static void large_values_wait_as_well(void **state)
{
    size_t n = 2 * PIECE;
    float *x = numbers(n), *y = numbers(n), *w, *out, got;

    (void)state;
    cllm_opencl_run_open(0);
    for (size_t i = 0; i < n; i++)
        y[i] = -1;
    w = reserve(n, NULL, 0);
    out = reserve(n, NULL, 0);
    for (uint64_t i = 0; i < 6; i++) {
        assert_int_equal(cllm_opencl_put(w, i % 2 ? y : x, n * sizeof *x, i + 1), 0);
        spin(out, 300000);
        twice(out, w, n);
        assert_int_equal(cllm_opencl_put(w, i % 2 ? x : y, n * sizeof *x, 100), 0);
        twice(out, w, 1); /* sends the other values' first piece */
        assert_int_equal(cllm_opencl_get(&got, out + 1, sizeof got), 0);
        assert_true(got == (i % 2 ? -2.0f : 2.5f));
    }
    free(x);
    free(y);
}

static void more_than_one_buffer_can_be_had(void **state)
{
    size_t cuts[] = {40 * 4, 100 * 4, 150 * 4, 200 * 4, 260 * 4};
    float x[300], got[300], *w;

    (void)state;
    cllm_opencl_run_open(512); /* 128 elements */
    for (int i = 0; i < 300; i++)
        x[i] = (float)i;
    w = reserve(300, cuts, CLLM_LEN(cuts)); /* 100 + 100 + 100 */
    assert_int_equal(cllm_opencl_put(w, x, sizeof x, 1), 0);
    assert_int_equal(cllm_opencl_get(got, w, sizeof got), 0);
    assert_memory_equal(got, x, sizeof x);
    assert_int_equal(counters().creates, 3);
    assert_int_equal(cllm_opencl_get(got, w + 199, 2 * sizeof *got), 0);
    assert_true(got[0] == 199 && got[1] == 200);
    cllm_opencl_forget(w);
    w = reserve(300, cuts, CLLM_LEN(cuts));
    for (int i = 0; i < 3; i++)
        add(w + 100 * i, 100, 5.0f);
    cllm_cl_zero(w + 50, 200 * sizeof *w);
    assert_int_equal(cllm_opencl_get(got, w, sizeof got), 0);
    for (int i = 0; i < 300; i++)
        assert_true(got[i] == (i < 50 || i >= 250 ? 5.0f : 0.0f));
    cllm_opencl_forget(w);
    assert_int_equal(cllm_opencl_reserve(&(void *){NULL}, 300 * 4, cuts, 1), -12);
    assert_non_null(strstr(cllm_err_text(), "no buffer"));
}

static void nothing_is_made_after_the_first_round(void **state)
{
    float tokens[300], loss[2], *x;
    uint64_t creates = 0;

    (void)state;
    memset(tokens, 0, sizeof tokens);
    cllm_opencl_run_open(0);
    x = reserve(100000, NULL, 0);
    assert_int_equal(cllm_opencl_mirror(tokens, sizeof tokens), 0);
    assert_int_equal(cllm_opencl_mirror(loss, sizeof loss), 0);
    for (int i = 0; i < 10; i++) {
        cllm_opencl_wrote(tokens);
        twice(x, tokens, 300);
        twice(loss, x, 2);
        assert_int_equal(cllm_opencl_fetch(loss), 0);
        if (i == 2)
            creates = counters().creates;
    }
    assert_int_equal(counters().creates, creates);
    cllm_opencl_forget(tokens);
    cllm_opencl_forget(loss);
    cllm_opencl_forget(x);
    x = reserve(100000, NULL, 0); /* found in the pool, and zero again */
    twice(x, x + 50000, 10);
    assert_int_equal(cllm_opencl_get(loss, x, sizeof loss), 0);
    assert_true(loss[0] == 0 && loss[1] == 0);
    assert_int_equal(counters().creates, creates);
    assert_true(counters().hits > 0);
}

static void what_is_written_is_in_the_order_of_launches(void **state)
{
    float *x, *y, got[3];
    size_t n = PIECE + 100;
    float *big = numbers(n);

    (void)state;
    cllm_opencl_run_open(0);
    x = reserve(n, NULL, 0);
    y = reserve(300, NULL, 0);
    for (int i = 0; i < 100; i++) { /* more than there are slots */
        float value[2] = {(float)i, 1};

        cllm_cl_write(x + 3, value, sizeof value);
        value[0] = -1;
        twice(y + 3 * i, x + 2, 3);
    }
    for (int i = 0; i < 100; i++) {
        assert_int_equal(cllm_opencl_get(got, y + 3 * i, sizeof got), 0);
        assert_true(got[0] == 0 && got[1] == (float)(2 * i) && got[2] == 2);
    }
    cllm_cl_write(x, big, n * sizeof *big);
    assert_int_equal(cllm_opencl_get(got, x + PIECE, sizeof got), 0);
    assert_memory_equal(got, big + PIECE, sizeof got);
    assert_int_equal(counters().up_bytes, 100 * 8 + n * sizeof *big);
    free(big);
}

static void null_is_an_array_that_is_not_there(void **state)
{
    struct cllm_cl_launch launch;
    float got, *out, *x;

    (void)state;
    cllm_opencl_run_open(0);
    out = reserve(4, NULL, 0);
    x = reserve(4, NULL, 0);
    add(x, 4, 3.0f);
    for (int i = 0; i < 2; i++) {
        cllm_cl_begin(&launch, &has_kernel);
        cllm_cl_out(&launch, out, sizeof *out);
        cllm_cl_in(&launch, i ? x : NULL, sizeof *x);
        cllm_cl_run(&launch, 1, (size_t[]){1}, NULL);
        assert_int_equal(cllm_opencl_get(&got, out, sizeof got), 0);
        assert_true(got == (i ? 3.0f : -1.0f));
    }
}

static void progress(void *ctx)
{
    ++*(uint32_t *)ctx;
}

static void marks_are_seen_as_the_device_gets_on(void **state)
{
    uint32_t seen = 0;
    float *x;

    (void)state;
    cllm_opencl_run_open(0);
    x = reserve(4, NULL, 0);
    cllm_opencl_on_progress(progress, &seen);
    for (int i = 0; i < 200; i++) { /* more than fit */
        spin(x, 10000);
        cllm_opencl_mark(NULL);
    }
    assert_in_range(seen, 100, 200);
    assert_int_equal(cllm_opencl_wait(), 0);
    assert_int_equal(seen, 200);
    assert_int_equal(counters().launches, 200);
    assert_true(counters().kernel_ns > 0);
}

/* ---- what must not be done ---- */

static float *shared_x; /* of 100 elements */

static void read_reserved(void)
{
    _exit(shared_x[0] > 0);
}

static void past_the_end(void)
{
    add(shared_x + 90, 11, 1);
}

static void elsewhere(void)
{
    float y = 0;

    add(&y, 1, 1);
}

static void write_to_weights(void)
{
    static const float w[100];

    if (cllm_opencl_put(shared_x, w, sizeof w, 1) != 0)
        _exit(1);
    add(shared_x, 1, 1);
}

/* What @fn comes to, in a process that opens a device of its own: drivers do not survive
 * a fork. */
static void how_it_ends(void (*fn)(void), int by)
{
    const struct cllm_opencl_options options = {0};
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        (void)close(STDERR_FILENO);
        (void)signal(SIGSEGV, SIG_DFL); /* cmocka has handlers */
        (void)signal(SIGABRT, SIG_DFL);
        if (cllm_opencl_open(&options) != 0)
            _exit(2);
        shared_x = reserve(100, NULL, 0);
        fn();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
        skip();
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), by);
}

static void wrong_addresses_end_the_process(void **state)
{
    (void)state;
    how_it_ends(read_reserved, SIGSEGV);
    how_it_ends(past_the_end, SIGABRT);
    how_it_ends(elsewhere, SIGABRT);
    how_it_ends(write_to_weights, SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First: nothing may be open where a process forks. */
        cmocka_unit_test(wrong_addresses_end_the_process),
        cmocka_unit_test_teardown(what_goes_up_comes_down_doubled, close_device),
        cmocka_unit_test_teardown(an_address_in_the_middle_is_found, close_device),
        cmocka_unit_test_teardown(a_version_goes_up_once, close_device),
        cmocka_unit_test_teardown(only_the_pieces_that_are_needed_go_up, close_device),
        cmocka_unit_test_teardown(a_mirror_moves_only_when_it_is_newer, close_device),
        cmocka_unit_test_teardown(what_a_kernel_overwrites_in_part_goes_up_first,
                                  close_device),
        cmocka_unit_test_teardown(newer_values_wait_for_kernels_that_read_the_older,
                                  close_device),
        cmocka_unit_test_teardown(large_values_wait_as_well, close_device),
        cmocka_unit_test_teardown(more_than_one_buffer_can_be_had, close_device),
        cmocka_unit_test_teardown(nothing_is_made_after_the_first_round, close_device),
        cmocka_unit_test_teardown(what_is_written_is_in_the_order_of_launches,
                                  close_device),
        cmocka_unit_test_teardown(null_is_an_array_that_is_not_there, close_device),
        cmocka_unit_test_teardown(marks_are_seen_as_the_device_gets_on, close_device),
    };

    return cmocka_run_group_tests_name("opencl", tests, begin, end);
}
