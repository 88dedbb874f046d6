/*
 * Products of bf16 on a device: the kernels of any device with their operands rounded,
 * and those for tensor cores, whose instructions are emulated here (ptx_emulated.cl), so
 * that everything is tested but the instructions themselves.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "compute/opencl/program.h"
#include "compute/opencl/table.h"
#include "compute/opencl/variant.h"
#include "compute/product.h"
#include "tests/numbers.h"
#include "tests/opencl_run.h"
#include "tests/opencl_simulated.h"

/* Elements of an operand; in simulators, which record what was done to each element of a
 * buffer at every launch, few. */
enum { MOST = 300 * 300, FEW = 4096, GAP = 5 };

static struct cllm_opencl_run run;

/* Operands and results, as the host has them and on the device. */
static struct {
    const struct cllm_ops *ops;
    float *a, *b, *c, *again; // (most)
    float *begin;             // (most), what C holds before
    void *on[3];              /* a, b, c */
    size_t most;              /* elements of each */
    uint64_t version;
} rig;

static int begin(void **state)
{
    (void)state;
    cllm_opencl_run_begin(&run, NULL);
    cllm_opencl_run_keep_none();
    rig.most = cllm_opencl_simulated() ? FEW : MOST;
    rig.a = numbers_new(rig.most, 1, 1.0f);
    rig.b = numbers_new(rig.most, 2, 1.0f);
    rig.begin = numbers_new(rig.most, 3, 1.0f);
    rig.c = numbers_zero(rig.most);
    rig.again = numbers_zero(rig.most);
    return 0;
}

static int end(void **state)
{
    (void)state;
    free(rig.a);
    free(rig.b);
    free(rig.c);
    free(rig.again);
    free(rig.begin);
    cllm_opencl_run_end(&run);
    return 0;
}

static void open_device(const char *tensor, enum cllm_opencl_style style)
{
    assert_int_equal(setenv("CLLM_OPENCL_TENSOR", tensor, 1), 0);
    cllm_opencl_run_open_for(true);
    assert_int_equal(cllm_opencl_ops(&rig.ops, style, 0), 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(
            cllm_opencl_reserve(&rig.on[i], rig.most * sizeof(float), NULL, 0), 0);
}

static int close_device(void **state)
{
    (void)state;
    cllm_opencl_close();
    return 0;
}

/* ---- a product ---- */

static void put_all(void)
{
    const float *from[] = {rig.a, rig.b};

    for (size_t i = 0; i < 2; i++)
        assert_int_equal(
            cllm_opencl_put(rig.on[i], from[i], rig.most * sizeof(float), ++rig.version),
            0);
}

static void multiply(const struct cllm_matmul *s, float *out)
{
    rig.ops->put(rig.on[2], rig.begin, rig.most * sizeof(float));
    rig.ops->matmul(rig.on[2], rig.on[0], rig.on[1], s);
    assert_int_equal(cllm_opencl_get(out, rig.on[2], rig.most * sizeof(float)), 0);
}

static float rounded(float x)
{
    return cllm_f32_from_bits(round_bf16(x));
}

/* Every element within rounding of sums, and nothing written beside them. */
static void check(const struct cllm_matmul *s, const float *c)
{
    const struct strides ld = strides_of(s);

    for (size_t i = 0; i < rig.most; i++) {
        size_t row = i / ld.c, column = i % ld.c;
        double sum, size;

        if (row >= s->m || column >= s->n) {
            if (memcmp(&c[i], &rig.begin[i], sizeof *c) != 0)
                fail_msg("%zu x %zu x %zu: element %zu was written", s->m, s->n, s->k, i);
            continue;
        }
        sum = s->accumulate ? (double)rig.begin[i] : 0;
        size = fabs(sum);
        for (size_t p = 0; p < s->k; p++) {
            float x = rig.a[s->trans_a ? p * ld.a + row : row * ld.a + p];
            float y = rig.b[s->trans_b ? column * ld.b + p : p * ld.b + column];

            sum += (double)rounded(x) * (double)rounded(y);
            size += fabs((double)rounded(x) * (double)rounded(y));
        }
        if (!(fabs((double)c[i] - sum) <= 1e-6 * size))
            fail_msg("%zu x %zu x %zu, form %d%d: (%zu,%zu) is %.9g, not %.9g", s->m,
                     s->n, s->k, s->trans_a, s->trans_b, row, column, (double)c[i], sum);
    }
}

static const size_t sizes[][3] = {
    {1, 1, 1},      {2, 3, 5},    {7, 17, 33},   {16, 8, 16},
    {31, 64, 32},   {64, 65, 70}, {65, 63, 129}, {128, 128, 64},
    {139, 147, 95}, {1, 200, 40}, {200, 1, 40},  {40, 130, 1},
};

static struct cllm_matmul form_of(const size_t size[3], size_t i)
{
    struct cllm_matmul s = {.m = size[0],
                            .n = size[1],
                            .k = size[2],
                            .trans_a = i % 2 != 0,
                            .trans_b = i / 2 % 2 != 0,
                            .accumulate = i / 4 % 2 != 0};

    if (i % 3 == 0) {
        s.lda = (s.trans_a ? s.m : s.k) + GAP;
        s.ldb = (s.trans_b ? s.k : s.n) + GAP;
        s.ldc = s.n + GAP;
    }
    return s;
}

/* By the rule's variant, or by each, which give the same bits. */
static void try_one(const struct cllm_matmul *s, bool each)
{
    bool first = true;

    for (size_t v = 0; v < cllm_opencl_variants(); v++) {
        if (each ? cllm_opencl_variant_prepare(v) != 0 : v != cllm_opencl_variant_rule(s))
            continue;
        cllm_opencl_variant_fix(v);
        multiply(s, first ? rig.c : rig.again);
        if (first)
            check(s, rig.c);
        else if (memcmp(rig.c, rig.again, rig.most * sizeof *rig.c) != 0)
            fail_msg("%zu x %zu x %zu: %s has bits of its own", s->m, s->n, s->k,
                     cllm_opencl_variant_name(v));
        first = false;
    }
    cllm_opencl_variant_fix(CLLM_OPENCL_VARIANT_ANY);
}

/* All forms of all sizes. */
static void try_all(bool each)
{
    put_all();
    for (size_t i = 0; i < CLLM_LEN(sizes) * 8; i++) {
        const struct cllm_matmul s = form_of(sizes[i / 8], i);

        try_one(&s, each);
    }
}

static void kernels_for_processors_multiply_rounded_operands(void **state)
{
    (void)state;
    cllm_opencl_run_not_simulated(); /* test_opencl_products.c has these */
    open_device("off", CLLM_OPENCL_STYLE_ITEMS);
    assert_string_equal(rig.ops->name, "opencl, bf16");
    try_all(false);
}

static void kernels_for_groups_multiply_rounded_operands(void **state)
{
    (void)state;
    cllm_opencl_run_not_simulated(); /* likewise */
    open_device("off", CLLM_OPENCL_STYLE_GROUPS);
    assert_string_equal(rig.ops->name, "opencl, bf16");
    try_all(false);
}

static void kernels_for_tensor_cores_multiply_rounded_operands(void **state)
{
    (void)state;
    cllm_opencl_run_not_simulated();
    open_device("emulated", CLLM_OPENCL_STYLE_GROUPS);
    assert_string_equal(rig.ops->name, "opencl, bf16 on emulated cores");
    try_all(true);
}

/* A form of each size, all of them in turn; without $CLLM_LONG every tenth. */
static void tensor_cores_multiply_sizes_1_to_70(void **state)
{
    const size_t step = getenv("CLLM_LONG") != NULL ? 1 : 10;

    (void)state;
    cllm_opencl_run_not_simulated();
    open_device("emulated", CLLM_OPENCL_STYLE_GROUPS);
    put_all();
    for (size_t i = 1; i <= 70; i += step) {
        const struct cllm_matmul s = form_of(
            (const size_t[]){i, cllm_opencl_run_other(i), cllm_opencl_run_other(i + 31)},
            i / step);

        try_one(&s, true);
    }
}

/* Operands stored either way; k so long that a stage of 32 is used again. */
static void tensor_cores_are_clean_in_a_simulator(void **state)
{
    const char *only = getenv("CLLM_OPENCL_ONLY");

    (void)state;
    if (!cllm_opencl_simulated())
        skip();
    open_device("untested", CLLM_OPENCL_STYLE_GROUPS);
    put_all();
    cllm_opencl_simulated_done("building");
    for (size_t v = 0; v < cllm_opencl_variants(); v++) {
        const char *name = cllm_opencl_variant_name(v);
        const size_t k = v == 0 ? 130 : 98; /* the first has four stages */
        const struct cllm_matmul s = form_of((const size_t[]){9, 18, k}, 3 * v);

        if (only != NULL && strcmp(only, name) != 0)
            continue;
        assert_int_equal(cllm_opencl_variant_prepare(v), 0);
        cllm_opencl_variant_fix(v);
        multiply(&s, rig.c);
        check(&s, rig.c);
        cllm_opencl_simulated_done(name);
    }
    cllm_opencl_variant_fix(CLLM_OPENCL_VARIANT_ANY);
}

/* A device that cannot: the kernels of every other one. */
static void without_tensor_cores_others_compute(void **state)
{
    (void)state;
    cllm_opencl_run_not_simulated();
    open_device("", CLLM_OPENCL_STYLE_AUTO);
    if (strstr(rig.ops->name, "tensor") != NULL) {
        assert_true(cllm_opencl_device()->nvidia_major >= 8);
        skip();
    }
    assert_string_equal(rig.ops->name, "opencl, bf16");
}

/* ---- what does not work is not used ---- */

/* The kernels as they are in the program, but @from, somewhere in @name, is @to. */
static void write_kernels(const char *name, const char *from, const char *to)
{
    char path[512];

    for (const struct cllm_cl_source *source = cllm_cl_sources; source->name; source++) {
        const char *text = (const char *)source->text, *at = NULL;
        FILE *file;

        (void)snprintf(path, sizeof path, "%s/kernels/%s", run.directory, source->name);
        file = fopen(path, "we");
        assert_non_null(file);
        if (strcmp(source->name, name) == 0) {
            at = memmem(text, source->bytes, from, strlen(from));
            assert_non_null(at);
            assert_int_equal(fwrite(text, 1, (size_t)(at - text), file), at - text);
            assert_true(fputs(to, file) >= 0);
            at += strlen(from);
        } else {
            at = text;
        }
        assert_int_equal(fwrite(at, 1, source->bytes - (size_t)(at - text), file),
                         source->bytes - (size_t)(at - text));
        assert_int_equal(fclose(file), 0);
    }
    (void)snprintf(path, sizeof path, "%s/kernels", run.directory);
    assert_int_equal(setenv("CLLM_OPENCL_KERNELS", path, 1), 0);
}

/* With that change the device computes as if it had no tensor cores, and right. */
static void expect_others(const char *name, const char *from, const char *to)
{
    const struct cllm_matmul s = {.m = 40, .n = 50, .k = 60};

    cllm_opencl_run_not_simulated();
    write_kernels(name, from, to);
    open_device("emulated", CLLM_OPENCL_STYLE_AUTO);
    assert_string_equal(rig.ops->name, "opencl, bf16");
    put_all();
    multiply(&s, rig.c);
    check(&s, rig.c);
}

static int forget_kernels(void **state)
{
    assert_int_equal(unsetenv("CLLM_OPENCL_KERNELS"), 0);
    return close_device(state);
}

static void kernels_that_do_not_compile_are_left(void **state)
{
    (void)state;
    expect_others("ptx_emulated.cl", "static uint4 load_matrices", "no such type");
}

/* Words of an operand in another order than this takes them for. */
static void kernels_that_multiply_wrong_are_left(void **state)
{
    (void)state;
    expect_others("ptx_emulated.cl", "lower + 2 * upper", "upper + 2 * lower");
}

/* A wait that is missing: copies come too late. Half a minute of compiling. */
static void kernels_that_do_not_wait_are_left(void **state)
{
    (void)state;
    if (getenv("CLLM_LONG") == NULL) {
        print_message("skipped: it takes long to compile: CLLM_LONG=1\n");
        skip();
    }
    expect_others("ptx_emulated.cl", "machine->done + PENDING <",
                  "machine->done + PENDING + 1 <");
}

/* A launch that the driver refuses: the device is opened again, and one line says so. */
static void kernels_that_do_not_run_are_left(void **state)
{
    const struct cllm_matmul s = {.m = 40, .n = 50, .k = 60};
    char text[4096], path[512];
    const char *said;
    ssize_t n;
    int fd;

    (void)state;
    (void)snprintf(path, sizeof path, "%s/log", run.directory);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    cllm_log_set_file(fd);
    assert_int_equal(setenv("CLLM_FAULTS", "device_launch:errno=EIO:17", 1), 0);
    assert_int_equal(cllm_fault_arm_environment(CLLM_FAULT_WORKER), 1);
    open_device("emulated", CLLM_OPENCL_STYLE_AUTO);
    assert_int_equal(cllm_fault_arm(NULL, ""), 0);
    assert_int_equal(unsetenv("CLLM_FAULTS"), 0);
    cllm_log_set_file(-1);
    n = pread(fd, text, sizeof text - 1, 0);
    assert_int_equal(close(fd), 0);
    assert_true(n > 0);
    text[n] = '\0';
    said = strstr(text, "without tensor cores: cannot launch kernel");
    assert_non_null(said);
    assert_null(strstr(said + 30, "tensor cores"));
    assert_string_equal(rig.ops->name, "opencl, bf16");
    put_all();
    multiply(&s, rig.c);
    check(&s, rig.c);
}

static void a_bias_and_a_stream_begin_the_sums(void **state)
{
    struct cllm_matmul s = {.m = 33, .n = 70, .k = 20};
    const struct cllm_matmul plain = {.m = 33, .n = 70, .k = 20};

    (void)state;
    cllm_opencl_run_not_simulated();
    open_device("emulated", CLLM_OPENCL_STYLE_GROUPS);
    put_all();
    multiply(&plain, rig.again);
    rig.ops->put(rig.on[2], rig.begin, rig.most * sizeof(float));
    /* b's first rows are both, so that the host knows them */
    s.add = rig.on[1];
    s.bias = (float *)rig.on[1] + 4096;
    rig.ops->matmul(rig.on[2], rig.on[0], rig.on[1], &s);
    assert_int_equal(cllm_opencl_get(rig.c, rig.on[2], rig.most * sizeof(float)), 0);
    for (size_t i = 0; i < s.m * s.n; i++) {
        float want = rig.again[i] + (rig.b[i] + rig.b[4096 + i % s.n]);

        assert_memory_equal(&rig.c[i], &want, sizeof want);
    }
}

/* Products with 1: what is left is the rounding, which is the processor's. */
static void rounding_is_the_processors(const char *tensor, enum cllm_opencl_style style)
{
    static const uint32_t bits[] = {
        0x00000000, 0x80000000, 0x3f800000, 0x3f808000, 0x3f808001, 0x3f818000,
        0x3f817fff, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x007fffff,
        0x00800000, 0x807fffff, 0x00000001, 0x7fc00000, 0x7f800001, 0xffc12345,
    };
    struct cllm_matmul s = {.m = 250, .n = 1, .k = 1};

    open_device(tensor, style);
    for (size_t i = 0; i < s.m; i++) {
        uint32_t x = i < CLLM_LEN(bits)
                         ? bits[i]
                         : (uint32_t)cllm_random_u64(7, CLLM_RANDOM_TEST, i);

        rig.a[i] = cllm_f32_from_bits(x);
    }
    rig.b[0] = 1.0f;
    put_all();
    multiply(&s, rig.c);
    for (size_t i = 0; i < s.m; i++) {
        float want = rounded(rig.a[i]) * 1.0f + 0.0f;

        if (isnan(want) ? !isnan(rig.c[i]) : memcmp(&want, &rig.c[i], sizeof want) != 0)
            fail_msg("%08x becomes %08x, not %08x", cllm_f32_bits(rig.a[i]),
                     cllm_f32_bits(rig.c[i]), cllm_f32_bits(want));
    }
}

static void operands_are_rounded_as_on_the_processor(void **state)
{
    (void)state;
    cllm_opencl_run_not_simulated();
    rounding_is_the_processors("off", CLLM_OPENCL_STYLE_ITEMS);
    cllm_opencl_close();
    rounding_is_the_processors("off", CLLM_OPENCL_STYLE_GROUPS);
    cllm_opencl_close();
    rounding_is_the_processors("emulated", CLLM_OPENCL_STYLE_GROUPS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(kernels_for_processors_multiply_rounded_operands,
                                  close_device),
        cmocka_unit_test_teardown(kernels_for_groups_multiply_rounded_operands,
                                  close_device),
        cmocka_unit_test_teardown(kernels_for_tensor_cores_multiply_rounded_operands,
                                  close_device),
        cmocka_unit_test_teardown(tensor_cores_multiply_sizes_1_to_70, close_device),
        cmocka_unit_test_teardown(tensor_cores_are_clean_in_a_simulator, close_device),
        cmocka_unit_test_teardown(without_tensor_cores_others_compute, close_device),
        cmocka_unit_test_teardown(kernels_that_do_not_compile_are_left, forget_kernels),
        cmocka_unit_test_teardown(kernels_that_multiply_wrong_are_left, forget_kernels),
        cmocka_unit_test_teardown(kernels_that_do_not_wait_are_left, forget_kernels),
        cmocka_unit_test_teardown(kernels_that_do_not_run_are_left, close_device),
        cmocka_unit_test_teardown(a_bias_and_a_stream_begin_the_sums, close_device),
        cmocka_unit_test_teardown(operands_are_rounded_as_on_the_processor, close_device),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
