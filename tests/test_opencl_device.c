/*
 * compute/opencl/api.c, device.c, pool.c: finding a device, or the reason why there is
 * none; classes of buffers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "compute/opencl/pool.h"
#include "tests/opencl_run.h"

static struct cllm_opencl_run run;

static int begin(void **state)
{
    (void)state;
    cllm_opencl_run_begin(&run, NULL);
    return 0;
}

static int end(void **state)
{
    (void)state;
    cllm_opencl_run_end(&run);
    return 0;
}

/* ---- without ---- */

/* In a process of its own: the library looks for drivers once. 0: refused as it should.
 */
static int refused(const char *variable, const char *value, const char *text)
{
    const struct cllm_opencl_options options = {0};
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        struct cllm_opencl_device device;
        uint32_t n = 7;

        (void)setenv(variable, value, 1);
        if (cllm_opencl_open(&options) == 0 || strstr(cllm_err_text(), text) == NULL)
            _exit(1);
        if (cllm_opencl_list(&device, 1, &n) == 0 || n != 0)
            _exit(2);
        cllm_opencl_close(); /* nothing is open */
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void without_the_library_there_is_a_reason(void **state)
{
    (void)state;
    assert_int_equal(refused("CLLM_OPENCL_LIBRARY", "libcllm-there-is-none.so",
                             "cannot load the OpenCL library"),
                     0);
    assert_int_equal(
        refused("CLLM_OPENCL_LIBRARY", "libm.so.6", "cannot use the OpenCL library"), 0);
}

static void without_a_driver_there_is_a_reason(void **state)
{
    char path[512];

    (void)state;
    if (cllm_cl_load() != 0) {
        print_message("skipped: %s\n", cllm_err_text());
        skip();
    }
    (void)snprintf(path, sizeof path, "%s/kernels/", run.directory); /* has none */
    assert_int_equal(refused("OCL_ICD_VENDORS", path, "cannot find an OpenCL device"), 0);
}

/* ---- choosing ---- */

static const struct cllm_opencl_device devices[] = {
    {.platform = 0, .device = 0, .platform_name = "PoCL", .name = "pthread EPYC"},
    {.platform = 1,
     .device = 0,
     .platform_name = "NVIDIA CUDA",
     .name = "H200",
     .kind = CLLM_OPENCL_GPU},
    {.platform = 1,
     .device = 1,
     .platform_name = "NVIDIA CUDA",
     .name = "H200 NVL",
     .kind = CLLM_OPENCL_GPU},
};

static void a_device_is_chosen_by_number_or_part_of_a_name(void **state)
{
    static const struct {
        const char *text;
        uint32_t device;
    } cases[] = {
        {NULL, 1},    {"", 1},      {":", 1},    {"0", 0},           {"0:0", 0},
        {"1", 1},     {"1:1", 2},   {"pocl", 0}, {"nvidia:1", 2},    {"nvidia:nvl", 2},
        {":epyc", 0}, {":nvl", 2},  {":1", 2},   {"NVIDIA:h200", 1}, {"2", 3},
        {"1:2", 3},   {"intel", 3}, {"0:1", 3},  {"pocl:h200", 3},   {":4", 3},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++)
        assert_int_equal(cllm_cl_device_choose(devices, CLLM_LEN(devices), cases[i].text),
                         cases[i].device);
    assert_int_equal(cllm_cl_device_choose(devices, 1, ""), 0); /* no GPU: the first */
}

static void an_unknown_device_is_named(void **state)
{
    const struct cllm_opencl_options options = {.device = "abacus:0"};

    (void)state;
    cllm_opencl_run_open(0);
    cllm_opencl_close();
    assert_int_equal(cllm_opencl_open(&options), -19); /* ENODEV */
    assert_non_null(strstr(cllm_err_text(), "abacus:0"));
}

/* ---- buffers ---- */

#define MIB ((size_t)1 << 20)

static void classes_of_buffers(void **state)
{
    static const struct {
        size_t bytes, class;
    } cases[] = {
        {1, 256},
        {256, 256},
        {257, 512},
        {1000, 1024},
        {MIB - 1, MIB},
        {MIB, MIB},
        {MIB + 1, MIB + MIB / 4},
        {MIB + MIB / 4, MIB + MIB / 4},
        {MIB + MIB / 4 + 1, MIB + MIB / 2},
        {2 * MIB - 1, 2 * MIB},
        {2 * MIB, 2 * MIB},
        {2 * MIB + 1, 2 * MIB + MIB / 2},
        {7 * MIB + 1, 8 * MIB},
        {90 * MIB, 96 * MIB},
        {97 * MIB, 112 * MIB}, /* above @most: see below */
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++)
        assert_int_equal(cllm_cl_pool_class(cases[i].bytes, (size_t)1 << 40),
                         cases[i].class);
    /* Never above the largest buffer, when the array fits into it. */
    assert_int_equal(cllm_cl_pool_class(97 * MIB, 100 * MIB), 100 * MIB);
    assert_int_equal(cllm_cl_pool_class(100, 100), 100);
    for (size_t bytes = 1; bytes < 64 * MIB; bytes += 4999) {
        size_t class = cllm_cl_pool_class(bytes, (size_t)1 << 40);

        assert_true(class >= bytes);
        assert_int_equal(cllm_cl_pool_class(class, (size_t)1 << 40), class);
        if (bytes > MIB)
            assert_true(class - bytes <= bytes / 4);
    }
}

static void what_is_given_back_is_found_again(void **state)
{
    struct cllm_cl_device device;
    struct cllm_cl_pool pool;
    cl_mem a, b, c;

    (void)state;
    if (cllm_cl_device_open(&device, NULL, false) != 0) {
        print_message("skipped: %s\n", cllm_err_text());
        skip();
    }
    cllm_cl_pool_init(&pool, &device);
    assert_int_equal(cllm_cl_pool_acquire(&pool, 1000, &a), 0);
    assert_int_equal(cllm_cl_pool_acquire(&pool, 600, &b), 0);
    assert_ptr_not_equal(a, b);
    cllm_cl_pool_release(&pool, 1000, a);
    assert_int_equal(cllm_cl_pool_acquire(&pool, 500, &c), 0); /* another class */
    assert_ptr_not_equal(c, a);
    cllm_cl_pool_release(&pool, 500, c);
    assert_int_equal(cllm_cl_pool_acquire(&pool, 1024, &c), 0);
    assert_ptr_equal(c, a);
    assert_int_equal(pool.acquires, 4);
    assert_int_equal(pool.hits, 1);
    assert_int_equal(pool.creates, 3);
    assert_int_equal(pool.bytes, 1024 + 1024 + 512);
    cllm_cl_pool_release(&pool, 1024, c);
    cllm_cl_pool_release(&pool, 600, b);
    cllm_cl_pool_fini(&pool);
    cllm_cl_device_close(&device);
}

static void a_buffer_that_cannot_be_had_is_an_error_with_sizes(void **state)
{
    struct cllm_cl_device device;
    struct cllm_cl_pool pool;
    struct cllm_err_text why;
    cl_mem mem;

    (void)state;
    if (cllm_cl_device_open(&device, NULL, false) != 0) {
        print_message("skipped: %s\n", cllm_err_text());
        skip();
    }
    device.info.most_bytes = UINT64_MAX / 4; /* it has less */
    cllm_cl_pool_init(&pool, &device);
    assert_int_equal(cllm_cl_pool_acquire(&pool, (size_t)1 << 46, &mem), -12);
    cllm_err_save(&why);
    assert_non_null(strstr(why.text, "cannot get 64.0 TiB of the device's memory"));
    assert_non_null(strstr(why.detail, "CL_"));
    assert_non_null(strstr(why.hint, "holds 0 B"));
    assert_null(mem);
    assert_int_equal(pool.creates, 0);
    cllm_cl_pool_fini(&pool);
    cllm_cl_device_close(&device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First: they fork, and no driver may be loaded then. */
        cmocka_unit_test(without_the_library_there_is_a_reason),
        cmocka_unit_test(without_a_driver_there_is_a_reason),
        cmocka_unit_test(a_device_is_chosen_by_number_or_part_of_a_name),
        cmocka_unit_test(classes_of_buffers),
        cmocka_unit_test(an_unknown_device_is_named),
        cmocka_unit_test(what_is_given_back_is_found_again),
        cmocka_unit_test(a_buffer_that_cannot_be_had_is_an_error_with_sizes),
    };

    return cmocka_run_group_tests_name("opencl_device", tests, begin, end);
}
