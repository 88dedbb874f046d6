/*
 * compute/opencl/tuning.c and variant.c: what was measured is kept in a file that is
 * taken whole or not at all, and decides which variant computes a shape, but no bits. And
 * which shapes are measured for a model with adapters.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/hash.h"
#include "compute/opencl/table.h"
#include "compute/opencl/tuning.h"
#include "compute/opencl/variant.h"
#include "tests/numbers.h"
#include "tests/opencl_run.h"
#include "tools/bench_shapes.h"

enum { BYTES = 64 * 1024, KEY = 0x1234 };

static struct cllm_opencl_run run;
static struct cllm_cl_tuned got[CLLM_CL_TUNED];

static const struct cllm_cl_tuned three[] = {
    {.m = 1, .n = 2, .k = 3, .form = 0, .variant = "24x64"},
    {.m = 1024, .n = 50257, .k = 768, .form = 2, .variant = "128x128-16"},
    {.m = UINT32_MAX, .n = 1, .k = 4096, .form = 3, .variant = "a-name-of-23-letters---"},
};

/* A cache of the test's own, for its files, with what is compiled already. */
static int begin(void **state)
{
    char outer[512] = "", path[1024], command[2048];

    (void)state;
    if (getenv("CLLM_CACHE_DIR") != NULL)
        (void)snprintf(outer, sizeof outer, "%s", getenv("CLLM_CACHE_DIR"));
    cllm_opencl_run_begin(&run, NULL);
    (void)snprintf(path, sizeof path, "%s/cache", run.directory);
    assert_int_equal(setenv("CLLM_CACHE_DIR", path, 1), 0);
    if (outer[0] == '\0')
        return 0;
    (void)snprintf(path, sizeof path, "%s/pocl", outer);
    assert_int_equal(setenv("POCL_CACHE_DIR", path, 0), 0);
    (void)snprintf(command, sizeof command,
                   "mkdir -p '%s/pocl' '%s/cache/opencl' && "
                   "{ cp '%s'/opencl/*.bin '%s/cache/opencl/' 2>/dev/null || true; }",
                   outer, run.directory, outer, run.directory);
    assert_int_equal(system(command), 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    cllm_opencl_run_end(&run);
    return 0;
}

/* ---- the file ---- */

static void write_bytes(uint64_t key, const char *text, size_t bytes)
{
    char path[CLLM_CL_CACHE_FILE];
    FILE *file;

    assert_true(cllm_cl_tuning_path(path, key));
    file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static size_t read_bytes(uint64_t key, char *text)
{
    char path[CLLM_CL_CACHE_FILE];
    FILE *file;
    size_t n;

    assert_true(cllm_cl_tuning_path(path, key));
    file = fopen(path, "re");
    assert_non_null(file);
    n = fread(text, 1, BYTES, file);
    assert_int_equal(fclose(file), 0);
    return n;
}

static enum cllm_cl_tuning load(uint64_t key, size_t *n)
{
    *n = 77;
    return cllm_cl_tuning_load(key, got, n);
}

/* The file of KEY is none that anything is taken from. */
static void expect_bad(const char *what, size_t where)
{
    size_t n;

    if (load(KEY, &n) != CLLM_CL_TUNING_BAD || n != 0)
        fail_msg("%s, at %zu: it was trusted", what, where);
}

static void what_was_stored_is_loaded(void **state)
{
    size_t n;

    (void)state;
    assert_int_equal(load(KEY + 1, &n), CLLM_CL_TUNING_NONE);
    assert_int_equal(n, 0);
    assert_int_equal(cllm_cl_tuning_store(KEY, three, CLLM_LEN(three)), 0);
    assert_int_equal(load(KEY, &n), CLLM_CL_TUNING_GOOD);
    assert_int_equal(n, CLLM_LEN(three));
    assert_memory_equal(got, three, sizeof three);
    assert_int_equal(cllm_cl_tuning_store(KEY, three + 1, 1), 0);
    assert_int_equal(load(KEY, &n), CLLM_CL_TUNING_GOOD);
    assert_int_equal(n, 1);
    assert_memory_equal(got, three + 1, sizeof *three);
    assert_int_equal(cllm_cl_tuning_store(KEY, three, 0), 0);
    assert_int_equal(load(KEY, &n), CLLM_CL_TUNING_GOOD);
    assert_int_equal(n, 0);
}

static void as_many_as_there_may_be_are_kept(void **state)
{
    static struct cllm_cl_tuned many[CLLM_CL_TUNED];
    size_t n;

    (void)state;
    for (uint32_t i = 0; i < CLLM_CL_TUNED; i++) {
        many[i] = three[2];
        many[i].m -= i;
    }
    assert_int_equal(cllm_cl_tuning_store(KEY, many, CLLM_CL_TUNED), 0);
    assert_int_equal(load(KEY, &n), CLLM_CL_TUNING_GOOD);
    assert_int_equal(n, CLLM_CL_TUNED);
    assert_memory_equal(got, many, sizeof many);
}

static void a_file_with_a_byte_that_is_wrong_or_missing_is_not_trusted(void **state)
{
    static char text[BYTES], other[BYTES];
    size_t bytes;

    (void)state;
    assert_int_equal(cllm_cl_tuning_store(KEY, three, CLLM_LEN(three)), 0);
    bytes = read_bytes(KEY, text);
    for (size_t i = 0; i < bytes; i++) {
        for (unsigned change = 1; change < 256; change *= 2) {
            memcpy(other, text, bytes);
            other[i] = (char)(other[i] ^ (int)change);
            write_bytes(KEY, other, bytes);
            expect_bad("a bit", i);
        }
        write_bytes(KEY, text, i);
        expect_bad("cut off", i);
    }
    memcpy(other, text, bytes);
    other[bytes] = '\n';
    write_bytes(KEY, other, bytes + 1);
    expect_bad("a line more", bytes);
    other[bytes] = '\0';
    write_bytes(KEY, other, bytes + 1);
    expect_bad("a NUL more", bytes);
}

static void a_file_of_another_device_is_not_trusted(void **state)
{
    static char text[BYTES];

    (void)state;
    assert_int_equal(cllm_cl_tuning_store(KEY + 2, three, CLLM_LEN(three)), 0);
    write_bytes(KEY, text, read_bytes(KEY + 2, text));
    expect_bad("another key", 0);
}

/* As a program that means harm, or has a bug, would write it: the hash is right. */
static void lines_that_mean_nothing_are_not_trusted(void **state)
{
    static const char *const lines[] = {
        "0 1 1 0 24x64\n",
        "1 0 1 0 24x64\n",
        "1 1 0 0 24x64\n",
        "1 1 1 4 24x64\n",
        "-1 1 1 0 24x64\n",
        "4294967296 1 1 0 24x64\n",
        "99999999999999999999 1 1 0 24x64\n",
        "1 1 1 24x64\n",
        "1 1 1 0 \n",
        "1 1 1 0 24x64 \n",
        "1  1 1 0 24x64\n",
        "1 1 1 0 ../x\n",
        "1 1 1 0 a-name-of-more-letters-x\n",
        "1 1 1 0 A\n",
        "\n",
        "key 0000000000001234\n",
    };
    char text[512];

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(lines); i++) {
        size_t n = (size_t)snprintf(text, sizeof text, "cllm-tuning 1\nkey %016x\n%s",
                                    KEY, lines[i]);

        n += (size_t)snprintf(text + n, sizeof text - n, "end %016" PRIx64 "\n",
                              cllm_hash(text, n, 2));
        write_bytes(KEY, text, n);
        expect_bad(lines[i], i);
    }
}

static void more_lines_than_there_may_be_are_not_trusted(void **state)
{
    static char text[BYTES];
    size_t n = (size_t)snprintf(text, sizeof text, "cllm-tuning 1\nkey %016x\n", KEY);

    (void)state;
    for (size_t i = 0; i <= CLLM_CL_TUNED; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "1 1 %zu 0 x\n", i + 1);
    n += (size_t)snprintf(text + n, sizeof text - n, "end %016" PRIx64 "\n",
                          cllm_hash(text, n, 2));
    write_bytes(KEY, text, n);
    expect_bad("too many", 0);
    memset(text, '1', sizeof text);
    write_bytes(KEY, text, sizeof text);
    expect_bad("too long", 0);
}

static void what_is_no_file_is_not_trusted_and_holds_nobody_up(void **state)
{
    char path[CLLM_CL_CACHE_FILE];

    (void)state;
    assert_true(cllm_cl_tuning_path(path, KEY));
    (void)unlink(path); /* there may be none */
    assert_int_equal(mkdir(path, 0700), 0);
    expect_bad("a directory", 0);
    assert_int_equal(cllm_cl_tuning_store(KEY, three, 1), -EISDIR);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_bad("a pipe", 0);
    assert_int_equal(unlink(path), 0);
}

static void without_a_directory_nothing_is_kept_and_it_is_said(void **state)
{
    char kept[512];
    size_t n;

    (void)state;
    (void)snprintf(kept, sizeof kept, "%s", getenv("CLLM_CACHE_DIR"));
    assert_int_equal(setenv("CLLM_CACHE_DIR", "/dev/null/none", 1), 0);
    assert_int_equal(load(KEY, &n), CLLM_CL_TUNING_NONE);
    assert_int_equal(cllm_cl_tuning_store(KEY, three, 1), -ENOENT);
    assert_non_null(strstr(cllm_err_text(), "cannot keep"));
    assert_int_equal(setenv("CLLM_CACHE_DIR", kept, 1), 0);
}

/* ---- on a device ---- */

/* A shape in two variants' reach, and its operands. */
static const struct cllm_matmul shape = {.m = 50, .n = 70, .k = 30};

static const struct cllm_ops *open_device(void)
{
    const struct cllm_ops *ops;

    cllm_opencl_run_open(0);
    assert_int_equal(cllm_opencl_ops(&ops, CLLM_OPENCL_STYLE_AUTO, 0), 0);
    return ops;
}

static void close_device(void)
{
    cllm_opencl_close();
}

/* Another than the rule's, which the device can build. */
static size_t another_variant(void)
{
    size_t rule = cllm_opencl_variant_rule(&shape), v = 0;

    while (v == rule || cllm_opencl_variant_prepare(v) != 0)
        v++;
    return v;
}

static void multiply(const struct cllm_ops *ops, float *out)
{
    const size_t n[] = {shape.m * shape.n, shape.m * shape.k, shape.k * shape.n};
    float *values = numbers_new(n[1] + n[2], 9, 1.0f);
    void *c, *a, *b;

    assert_int_equal(cllm_opencl_reserve(&c, n[0] * sizeof(float), NULL, 0), 0);
    assert_int_equal(cllm_opencl_reserve(&a, n[1] * sizeof(float), NULL, 0), 0);
    assert_int_equal(cllm_opencl_reserve(&b, n[2] * sizeof(float), NULL, 0), 0);
    assert_int_equal(cllm_opencl_put(a, values, n[1] * sizeof(float), 1), 0);
    assert_int_equal(cllm_opencl_put(b, values + n[1], n[2] * sizeof(float), 1), 0);
    ops->matmul(c, a, b, &shape);
    assert_int_equal(cllm_opencl_get(out, c, n[0] * sizeof(float)), 0);
    cllm_opencl_forget(c);
    cllm_opencl_forget(a);
    cllm_opencl_forget(b);
    free(values);
}

static void what_was_measured_is_used_when_the_device_is_opened_again(void **state)
{
    struct cllm_opencl_choice choice = {.shape = shape};
    struct cllm_matmul transposed = shape;
    static float before[50 * 70], after[50 * 70];
    char path[CLLM_CL_CACHE_FILE];
    const struct cllm_ops *ops = open_device();

    (void)state;
    transposed.trans_b = true;
    assert_int_equal(cllm_opencl_tuned(), 0);
    assert_null(strstr(ops->name, "tuned"));
    assert_int_equal(cllm_opencl_variant_choose(&shape),
                     cllm_opencl_variant_rule(&shape));
    multiply(ops, before);
    choice.variant = another_variant();
    assert_int_equal(cllm_opencl_tune(&choice, 1, path), 0);
    assert_int_equal(access(path, R_OK), 0);
    close_device();

    ops = open_device();
    assert_int_equal(cllm_opencl_tuned(), 1);
    assert_non_null(strstr(ops->name, "tuned"));
    assert_int_equal(cllm_opencl_variant_choose(&shape), choice.variant);
    assert_int_equal(cllm_opencl_variant_choose(&transposed),
                     cllm_opencl_variant_rule(&transposed));
    multiply(ops, after);
    assert_memory_equal(before, after, sizeof before);
    close_device();
}

static void a_damaged_file_leaves_the_rule(void **state)
{
    struct cllm_opencl_choice choice = {.shape = shape};
    char path[CLLM_CL_CACHE_FILE];
    FILE *file;

    (void)state;
    (void)open_device();
    choice.variant = another_variant();
    assert_int_equal(cllm_opencl_tune(&choice, 1, path), 0);
    close_device();
    file = fopen(path, "ae");
    assert_non_null(file);
    assert_true(fputs("1 1 1 0 24x64\n", file) >= 0);
    assert_int_equal(fclose(file), 0);
    (void)open_device();
    assert_int_equal(cllm_opencl_tuned(), 0);
    assert_int_equal(cllm_opencl_variant_choose(&shape),
                     cllm_opencl_variant_rule(&shape));
    assert_int_equal(cllm_opencl_error(), 0);
    close_device();
}

static void a_variant_that_nobody_knows_leaves_the_rule(void **state)
{
    struct cllm_cl_tuned entries[] = {three[0], three[0]};
    struct cllm_opencl_choice choice = {.shape = shape};
    char path[CLLM_CL_CACHE_FILE];
    uint64_t key;

    (void)state;
    (void)open_device();
    choice.variant = another_variant();
    assert_int_equal(cllm_opencl_tune(&choice, 1, path), 0);
    (void)snprintf(entries[0].variant, sizeof entries[0].variant, "%s",
                   cllm_opencl_variant_name(choice.variant));
    (void)snprintf(entries[1].variant, sizeof entries[1].variant, "7x7");
    close_device();
    key = strtoull(strrchr(path, '/') + 1, NULL, 16);
    assert_int_equal(cllm_cl_tuning_store(key, entries, 1), 0);
    (void)open_device();
    assert_int_equal(cllm_opencl_tuned(), 1);
    close_device();
    assert_int_equal(cllm_cl_tuning_store(key, entries, 2), 0);
    (void)open_device();
    assert_int_equal(cllm_opencl_tuned(), 0);
    close_device();
}

static void what_is_fixed_comes_before_everything(void **state)
{
    size_t other;

    (void)state;
    (void)open_device();
    other = another_variant();
    cllm_opencl_variant_fix(other);
    assert_int_equal(cllm_opencl_variant_choose(&shape), other);
    cllm_opencl_variant_fix(CLLM_OPENCL_VARIANT_ANY);
    assert_int_equal(cllm_opencl_variant_choose(&shape),
                     cllm_opencl_variant_rule(&shape));
    close_device();
}

/* ---- which shapes are measured ---- */

/* Calls of products one side of whose operands is @side, in a micro-batch of a small
 * model with adapters of @rank. */
static size_t thin_products(const struct cllm_ops *ops, const char *rank, size_t side)
{
    static const char *const settings[] = {
        "model.vocab=29", "model.context=8",     "model.layers=2",   "model.heads=2",
        "model.width=20", "train.micro_batch=2", "lora.targets=all", "train.batch=24"};
    struct cllm_bench_shapes shapes;
    struct cllm_config config;
    size_t calls = 0;

    cllm_config_init(&config);
    for (size_t i = 0; i < CLLM_LEN(settings); i++)
        assert_int_equal(cllm_config_set(&config, settings[i]), 0);
    assert_int_equal(cllm_config_set(&config, rank), 0);
    assert_int_equal(cllm_bench_shapes_find(&shapes, &config, ops), 0);
    cllm_config_fini(&config);
    assert_int_equal(shapes.left_out, 0);
    for (size_t i = 0; i < shapes.n; i++) {
        const struct cllm_matmul *s = &shapes.shape[i];

        calls += s->m == side || s->n == side || s->k == side ? shapes.calls[i] : 0;
    }
    return calls;
}

/* Of each of 4 matrices of each of 2 blocks: 2 products forward, 4 backward, of which 2
 * for the weights; and what is computed again on the way back. */
static void products_of_adapters_are_measured_too(void **state)
{
    const struct cllm_ops *ops = open_device();

    (void)state;
    assert_int_equal(thin_products(ops, "lora.rank=0", 3), 0);
    assert_in_range(thin_products(ops, "lora.rank=3", 3), 2 * 4 * 6, 2 * 4 * 8);
    close_device();
}

static int close_if_open(void **state)
{
    (void)state;
    cllm_opencl_close();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_stored_is_loaded),
        cmocka_unit_test(as_many_as_there_may_be_are_kept),
        cmocka_unit_test(a_file_with_a_byte_that_is_wrong_or_missing_is_not_trusted),
        cmocka_unit_test(a_file_of_another_device_is_not_trusted),
        cmocka_unit_test(lines_that_mean_nothing_are_not_trusted),
        cmocka_unit_test(more_lines_than_there_may_be_are_not_trusted),
        cmocka_unit_test(what_is_no_file_is_not_trusted_and_holds_nobody_up),
        cmocka_unit_test(without_a_directory_nothing_is_kept_and_it_is_said),
        cmocka_unit_test_teardown(
            what_was_measured_is_used_when_the_device_is_opened_again, close_if_open),
        cmocka_unit_test_teardown(a_damaged_file_leaves_the_rule, close_if_open),
        cmocka_unit_test_teardown(a_variant_that_nobody_knows_leaves_the_rule,
                                  close_if_open),
        cmocka_unit_test_teardown(what_is_fixed_comes_before_everything, close_if_open),
        cmocka_unit_test_teardown(products_of_adapters_are_measured_too, close_if_open),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
