/*
 * compute/opencl/program.c, cache.c and launch.c: programs compiled once, and failures.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "compute/opencl/cache.h"
#include "compute/opencl/program.h"
#include "tests/opencl_run.h"

#define KERNELS(body)                                        \
    "__kernel void set(__global float *out, ulong out_at)\n" \
    "{\n"                                                    \
    "    out[out_at + get_global_id(0)] = " body ";\n"       \
    "}\n"                                                    \
    "__kernel void with_local(__local float *x, uint n)\n"   \
    "{\n"                                                    \
    "    x[get_local_id(0)] = n;\n"                          \
    "}\n"

static struct cllm_cl_kernel set_kernel = {.sources = "test.cl", .name = "set"};
static struct cllm_cl_kernel option_kernel = {
    .sources = "test.cl", .name = "set", .options = "-DVALUE=7.0f"};

static struct cllm_opencl_run run;

static int begin(void **state)
{
    (void)state;
    cllm_opencl_run_begin(&run, KERNELS("1.0f"));
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

static float value_of(struct cllm_cl_kernel *kernel)
{
    struct cllm_cl_launch launch;
    void *address;
    float value = -1;

    assert_int_equal(cllm_opencl_reserve(&address, 64, NULL, 0), 0);
    cllm_cl_begin(&launch, kernel);
    cllm_cl_out(&launch, address, 64);
    cllm_cl_run(&launch, 1, (size_t[]){16}, (size_t[]){4});
    assert_int_equal(cllm_opencl_get(&value, address, sizeof value), 0);
    cllm_opencl_forget(address);
    return value;
}

/* Open again, run @kernel; how many programs were compiled and how many loaded. */
static void expect(struct cllm_cl_kernel *kernel, float value, uint64_t builds,
                   uint64_t loads)
{
    struct cllm_opencl_counters counters;

    cllm_opencl_close();
    cllm_opencl_run_open(0);
    assert_true(value_of(kernel) == value);
    assert_true(value_of(kernel) == value);
    cllm_opencl_count(&counters);
    assert_int_equal(counters.builds, builds);
    assert_int_equal(counters.loads, loads);
}

/* ---- the cache ---- */

/* The one file of the cache that ends in .bin. */
static void find_binary(char path[600])
{
    char directory[512];
    struct dirent *entry;
    uint32_t n = 0;
    DIR *dir;

    (void)snprintf(directory, sizeof directory, "%s/cache/opencl", run.directory);
    dir = opendir(directory);
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        if (strchr(entry->d_name, '.') == NULL || entry->d_name[0] == '.')
            continue;
        assert_string_equal(strchr(entry->d_name, '.'), ".bin"); /* no temporary ones */
        (void)snprintf(path, 600, "%s/%.40s", directory, entry->d_name);
        n++;
    }
    assert_int_equal(closedir(dir), 0);
    assert_int_equal(n, 1);
}

static void flip(const char *path, off_t at)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    unsigned char byte;

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    assert_int_equal(close(fd), 0);
}

static void a_program_is_compiled_once(void **state)
{
    char path[600];

    (void)state;
    expect(&set_kernel, 1, 1, 0);
    expect(&set_kernel, 1, 0, 1);
    find_binary(path);
}

static void a_damaged_binary_is_compiled_again(void **state)
{
    static const off_t places[] = {0, 9, 17, 25, 32, 1000};
    char path[600];

    (void)state;
    cllm_opencl_run_open(0);
    (void)value_of(&set_kernel);
    find_binary(path);
    for (size_t i = 0; i < CLLM_LEN(places); i++) {
        flip(path, places[i]);
        expect(&set_kernel, 1, 1, 0);
        expect(&set_kernel, 1, 0, 1);
    }
    assert_int_equal(truncate(path, 2000), 0);
    expect(&set_kernel, 1, 1, 0);
    assert_int_equal(truncate(path, 0), 0);
    expect(&set_kernel, 1, 1, 0);
    expect(&set_kernel, 1, 0, 1);
}

static void another_text_or_option_is_another_program(void **state)
{
    (void)state;
    cllm_opencl_run_write(&run, KERNELS("VALUE"));
    expect(&option_kernel, 7, 1, 0);
    option_kernel.options = "-DVALUE=8.0f";
    expect(&option_kernel, 8, 1, 0);
    option_kernel.options = "-DVALUE=7.0f";
    expect(&option_kernel, 7, 0, 1);
    cllm_opencl_run_write(&run, KERNELS("2 * VALUE"));
    expect(&option_kernel, 14, 1, 0);
    cllm_opencl_run_write(&run, KERNELS("1.0f"));
}

static void a_binary_is_of_its_device_and_driver(void **state)
{
    struct cllm_opencl_device device = {.platform_name = "P",
                                        .platform_version = "1",
                                        .name = "D",
                                        .version = "2",
                                        .driver = "3"};
    uint64_t keys[8];
    char *texts[] = {device.platform_name, device.platform_version, device.name,
                     device.version, device.driver};

    (void)state;
    keys[0] = cllm_cl_program_key(&device, "text", "options");
    for (size_t i = 0; i < CLLM_LEN(texts); i++) {
        char was = texts[i][0];

        texts[i][0] = 'x';
        keys[i + 1] = cllm_cl_program_key(&device, "text", "options");
        texts[i][0] = was;
    }
    keys[6] = cllm_cl_program_key(&device, "texts", "options");
    keys[7] = cllm_cl_program_key(&device, "text", "-options");
    for (size_t i = 0; i < CLLM_LEN(keys); i++)
        for (size_t j = 0; j < i; j++)
            assert_true(keys[i] != keys[j]);
    assert_true(cllm_cl_program_key(&device, "text", "options") == keys[0]);
}

static void without_a_place_for_files_all_is_compiled(void **state)
{
    char *cache = strdup(getenv("CLLM_CACHE_DIR"));
    unsigned char byte = 1;
    size_t bytes;

    (void)state;
    assert_non_null(cache);
    assert_int_equal(setenv("CLLM_CACHE_DIR", "/proc/no/such", 1), 0);
    assert_null(cllm_cl_cache_load(1, &bytes));
    cllm_cl_cache_store(1, &byte, 1);
    expect(&set_kernel, 1, 1, 0);
    assert_int_equal(setenv("CLLM_CACHE_DIR", cache, 1), 0);
    free(cache);
}

static void files_are_found_by_their_key(void **state)
{
    unsigned char binary[1000], *got;
    size_t bytes = 0;

    (void)state;
    memset(binary, 3, sizeof binary);
    cllm_cl_cache_store(77, binary, sizeof binary);
    assert_null(cllm_cl_cache_load(78, &bytes));
    got = cllm_cl_cache_load(77, &bytes);
    assert_non_null(got);
    assert_int_equal(bytes, sizeof binary);
    assert_memory_equal(got, binary, sizeof binary);
    free(got);
}

/* ---- failures ---- */

static void a_text_that_does_not_compile_shows_the_log(void **state)
{
    static struct cllm_cl_kernel bad = {.sources = "test.cl", .name = "set"};
    struct cllm_err_text why;

    (void)state;
    cllm_opencl_run_open(0);
    cllm_opencl_run_write(&run, KERNELS("no_such_thing"));
    assert_int_equal(cllm_cl_prepare(&bad, NULL), -EIO);
    cllm_err_save(&why);
    assert_non_null(strstr(why.text, "compile the kernels test.cl"));
    assert_non_null(strstr(why.detail, "no_such_thing"));
    assert_int_equal(cllm_opencl_error(), 0); /* to try is no failure */
    cllm_opencl_run_write(&run, KERNELS("1.0f"));
    assert_int_equal(cllm_cl_prepare(&bad, NULL), 0);
}

static void the_first_failure_stays(void **state)
{
    static struct cllm_cl_kernel none = {.sources = "test.cl", .name = "none"};
    static struct cllm_cl_kernel missing = {.sources = "other.cl", .name = "none"};
    struct cllm_opencl_counters was, is;
    struct cllm_cl_launch launch;
    void *address;
    float got;

    (void)state;
    cllm_opencl_run_open(0);
    assert_true(value_of(&set_kernel) == 1);
    assert_int_equal(cllm_opencl_reserve(&address, 64, NULL, 0), 0);
    cllm_opencl_count(&was);
    assert_int_equal(cllm_opencl_error(), 0);
    cllm_cl_begin(&launch, &none);
    cllm_cl_out(&launch, address, 64);
    cllm_cl_run(&launch, 1, (size_t[]){16}, NULL);
    assert_int_equal(cllm_opencl_error(), -EIO);
    assert_non_null(strstr(cllm_err_text(), "kernel none"));

    cllm_cl_begin(&launch, &missing); /* another failure */
    cllm_cl_run(&launch, 1, (size_t[]){16}, NULL);
    cllm_cl_begin(&launch, &set_kernel); /* would be right */
    cllm_cl_out(&launch, address, 64);
    cllm_cl_run(&launch, 1, (size_t[]){16}, NULL);
    cllm_cl_zero(address, 64);
    cllm_opencl_mark(NULL);
    cllm_opencl_count(&is);
    assert_int_equal(is.launches, was.launches);
    assert_int_equal(cllm_opencl_get(&got, address, sizeof got), -EIO);
    assert_non_null(strstr(cllm_err_text(), "kernel none"));
    assert_int_equal(cllm_opencl_wait(), -EIO);
    cllm_opencl_close();
    cllm_opencl_run_open(0); /* and ends with the device */
    assert_int_equal(cllm_opencl_error(), 0);
    assert_true(value_of(&set_kernel) == 1);
}

static void launches_that_a_driver_refuses_are_failures(void **state)
{
    static struct cllm_cl_kernel local = {.sources = "test.cl", .name = "with_local"};
    struct cllm_cl_launch launch;

    (void)state;
    cllm_opencl_run_open(0);
    cllm_cl_begin(&launch, &local);
    cllm_cl_local(&launch, 64);
    cllm_cl_u32(&launch, 3);
    cllm_cl_run(&launch, 1, (size_t[]){16}, (size_t[]){16});
    assert_int_equal(cllm_opencl_wait(), 0);

    cllm_cl_begin(&launch, &local);
    cllm_cl_local(&launch, 1 << 20);
    cllm_cl_u32(&launch, 3);
    cllm_cl_run(&launch, 1, (size_t[]){1 << 24}, (size_t[]){1 << 24});
    assert_true(cllm_opencl_error() < 0);
    assert_non_null(strstr(cllm_err_text(), "with_local"));
    cllm_opencl_close();

    cllm_opencl_run_open(0);
    cllm_cl_begin(&launch, &set_kernel);
    cllm_cl_u32(&launch, 3); /* for an array */
    assert_true(cllm_opencl_error() < 0);
    assert_non_null(strstr(cllm_err_text(), "argument 0 of kernel set"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_program_is_compiled_once, close_device),
        cmocka_unit_test_teardown(a_damaged_binary_is_compiled_again, close_device),
        cmocka_unit_test_teardown(another_text_or_option_is_another_program,
                                  close_device),
        cmocka_unit_test(a_binary_is_of_its_device_and_driver),
        cmocka_unit_test_teardown(without_a_place_for_files_all_is_compiled,
                                  close_device),
        cmocka_unit_test(files_are_found_by_their_key),
        cmocka_unit_test_teardown(a_text_that_does_not_compile_shows_the_log,
                                  close_device),
        cmocka_unit_test_teardown(the_first_failure_stays, close_device),
        cmocka_unit_test_teardown(launches_that_a_driver_refuses_are_failures,
                                  close_device),
    };

    return cmocka_run_group_tests_name("opencl_program", tests, begin, end);
}
