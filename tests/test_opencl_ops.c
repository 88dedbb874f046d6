/*
 * tests/test_opencl_ops.c - every operation of a device's table against the reference in
 * C: sizes 1 to 70 in each dimension and a few large odd ones, NaN and infinities, the
 * same bits on repetition, nothing written beside results. Either style of kernels.
 *
 * Skipped, with the reason, where there is no OpenCL. In a simulator, which takes its
 * time, sizes are few and tiny (tests/opencl_simulated.h); $CLLM_OPENCL_ONLY names the
 * one operation that is wanted, $CLLM_OPENCL_STYLE the one style.
 *
 * A driver compiles every kernel anew for each style, size of work-groups, and range
 * beyond 65535, half a second each, so that without $CLLM_LONG there are few of these.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "compute/opencl/table.h"
#include "tests/numbers.h"
#include "tests/opencl_operations.h"
#include "tests/opencl_run.h"
#include "tests/opencl_simulated.h"

/* Elements of an array at most; in simulators, which record what was done to each element
 * of a buffer at every launch, few. */
enum { MAX = 520 * 1100, FEW = 4096 };

struct rig {
    const struct cllm_ops *ops;
    struct operation_arrays host, device;
    float *begin[OPERATION_ARRAYS], *got, *again; // (most)
    uint32_t *tokens;
    uint8_t *region; /* of the device */
    size_t most;     /* elements of each array */
};

static struct rig rig;

static bool wanted(const char *name)
{
    const char *only = getenv("CLLM_OPENCL_ONLY");

    return only == NULL || strcmp(only, name) == 0;
}

/* ---- running ---- */

enum flavour { PLAIN, SPECIAL };

static void fill(float *x, size_t n, uint64_t seed, enum flavour flavour)
{
    static const float specials[] = {
        __builtin_inff(), -__builtin_inff(), -0.0f, 1e-30f, 103.0f, -87.5f};

    for (size_t i = 0; i < n; i++) {
        uint64_t bits = cllm_random_u64(seed, CLLM_RANDOM_TEST, i);

        x[i] = (float)((double)(bits >> 40) * 0x1p-23 - 1.0);
        if (flavour == SPECIAL && bits % 53 == 0)
            x[i] = specials[(bits >> 8) % CLLM_LEN(specials)];
        if (flavour == SPECIAL && bits % 211 == 0)
            x[i] = __builtin_nanf("");
    }
}

/* Both sides begin with the same values; what is behind results is there too. */
static void begin_case(size_t n, uint64_t seed, enum flavour flavour, uint32_t vocab)
{
    CLLM_ASSERT(n <= rig.most);
    rig.host.n = rig.device.n = n;
    for (size_t i = 0; i < OPERATION_ARRAYS; i++)
        fill(rig.begin[i], n, seed + i, flavour);
    for (size_t i = 0; i < n; i++)
        rig.tokens[i] = (uint32_t)(cllm_random_u64(seed, CLLM_RANDOM_TEST, i) % vocab);
}

static double run(const struct operation *operation, const struct cllm_ops *ops,
                  const struct operation_arrays *a, const struct operation_shape *s)
{
    double result;

    for (size_t i = 0; i < OPERATION_ARRAYS; i++)
        ops->put(a->at[i], rig.begin[i], a->n * sizeof(float));
    ops->put(a->tokens, rig.tokens, a->n * sizeof(uint32_t));
    result = operation->run(ops, a, s);
    ops->zero((float *)(void *)a->losses, 1); /* begins what is kept for a product */
    return result;
}

static void get(float *to, size_t array)
{
    assert_int_equal(cllm_opencl_get(to, rig.device.at[array], rig.device.n * sizeof *to),
                     0);
}

static bool same_kind(float want, float got)
{
    return isnan(want) ? isnan(got) : isinf(want) ? want == got : isfinite(got);
}

/* The greatest finite magnitude of an array: what errors of its sums are measured by. */
static double magnitude(const float *x, size_t n)
{
    double most = 0;

    for (size_t i = 0; i < n; i++)
        if (isfinite(x[i]))
            most = fmax(most, fabs((double)x[i]));
    return most;
}

static void compare(const struct operation *operation, const struct operation_shape *s,
                    size_t array)
{
    const float *want = rig.host.at[array];
    double most = magnitude(want, rig.host.n);

    for (size_t i = 0; i < rig.host.n; i++) {
        double difference = fabs((double)want[i] - (double)rig.got[i]);

        if (memcmp(want + i, rig.got + i, sizeof *want) == 0)
            continue;
        if (!operation->exact && same_kind(want[i], rig.got[i]) &&
            !(difference > 4e-6 * most))
            continue;
        print_message("%s (%zu,%zu,%zu), array %zu, element %zu: wanted %.9g, got %.9g\n",
                      operation->name, s->rows, s->cols, s->third, array, i,
                      (double)want[i], (double)rig.got[i]);
        fail();
    }
}

static void check(const struct operation *operation, const struct operation_shape *s,
                  size_t n, uint64_t seed, enum flavour flavour)
{
    double want, got, again;

    if (!wanted(operation->name))
        return;
    begin_case(n, seed, flavour, s->vocab);
    want = run(operation, cllm_ops_reference(), &rig.host, s);
    got = run(operation, rig.ops, &rig.device, s);
    for (size_t i = 0; i < OPERATION_ARRAYS; i++) {
        get(rig.got, i);
        compare(operation, s, i);
    }
    if (isnan(want))
        assert_true(isnan(got));
    else
        assert_true(want == got || fabs(want - got) < 1e-6 * fabs(want) + 1e-6);
    cllm_opencl_run_fine(cllm_opencl_error());
    if (cllm_opencl_simulated())
        return;
    /* Repeated, for the last array that is written by all that write several. */
    get(rig.got, 0);
    again = run(operation, rig.ops, &rig.device, s);
    get(rig.again, 0);
    if (memcmp(rig.got, rig.again, n * sizeof(float)) != 0) {
        print_message("%s (%zu,%zu,%zu): other bits the second time\n", operation->name,
                      s->rows, s->cols, s->third);
        fail();
    }
    assert_true((isnan(got) && isnan(again)) || got == again);
    cllm_opencl_run_fine(cllm_opencl_error());
}

/* ---- sizes ---- */

static void check_small(const struct operation *operation, struct operation_shape s,
                        uint64_t seed, enum flavour flavour)
{
    s.vocab = (uint32_t)(operation->of_columns ? s.cols : s.third);
    check(operation, &s, operation_elements(operation, &s), seed, flavour);
}

/* Alone, a vector and a rest, more than a group of items has, more rows than columns. */
static const struct operation_shape tiny[] = {{1, 1, 1, 0},  {2, 3, 2, 0},
                                              {3, 18, 5, 0}, {2, 130, 1, 0},
                                              {18, 2, 3, 0}, {9, 35, 4, 0}};

static void check_operation(const struct operation *operation)
{
    for (size_t i = 0; cllm_opencl_simulated() && i < CLLM_LEN(tiny); i++)
        check_small(operation, tiny[i], i, PLAIN);
    for (size_t i = 1; !cllm_opencl_simulated() && i <= 70; i++) {
        const struct operation_shape s = {i, cllm_opencl_run_other(i),
                                          cllm_opencl_run_other(i + 31), 0};

        check_small(operation, s, i, PLAIN);
        check_small(operation, s, i + 1000, SPECIAL);
    }
    if (wanted(operation->name))
        cllm_opencl_simulated_done(operation->name);
}

static void every_operation_agrees_on_sizes_1_to_70(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_OPERATIONS; i++)
        check_operation(&operations[i]);
}

static void check_large(const struct operation_shape *shapes, size_t count)
{
    for (size_t i = 0; i < N_OPERATIONS; i++)
        for (size_t j = 0; j < count; j++) {
            struct operation_shape s = shapes[j];

            if (operations[i].of_ids)
                s.vocab = (uint32_t)cllm_min_u64(257, s.rows + 2);
            check(&operations[i], &s, operation_elements(&operations[i], &s), j, PLAIN);
        }
}

static void every_operation_agrees_on_large_odd_sizes(void **state)
{
    static const struct operation_shape shapes[] = {
        {127, 391, 2, 391}, {391, 127, 1, 127}, {3, 16411, 5, 16411}};

    (void)state;
    cllm_opencl_run_not_simulated();
    check_large(shapes, CLLM_LEN(shapes));
}

static void every_operation_agrees_on_the_sizes_of_models(void **state)
{
    static const struct operation_shape shapes[] = {
        {257, 1031, 2, 1031}, {1031, 257, 1, 257}, {3, 50257, 5, 50257}};

    (void)state;
    cllm_opencl_run_only_if_long();
    check_large(shapes, CLLM_LEN(shapes));
}

/* Of the largest matrix of a product, with the gaps. */
static size_t elements(const struct operation_shape *s)
{
    size_t m = s->rows + 4, n = s->cols + 4, k = s->third + 4;

    return cllm_max_u64(m * n, cllm_max_u64(m * k, n * k));
}

static void products_agree_on_sizes_1_to_70(void **state)
{
    (void)state;
    cllm_opencl_run_not_simulated(); /* test_opencl_products.c has its own sizes */
    for (size_t i = 1; i <= 70; i++) {
        const size_t sizes[] = {i, cllm_opencl_run_other(i),
                                cllm_opencl_run_other(i + 31)};

        for (size_t j = 0; j < 3; j++) {
            const struct operation_shape s = {sizes[j], sizes[(j + 1) % 3],
                                              sizes[(j + 2) % 3], 13};

            check(&operation_product, &s, elements(&s), i, j == 0 ? SPECIAL : PLAIN);
        }
    }
}

static void products_agree_on_large_odd_sizes(void **state)
{
    static const struct operation_shape shapes[] = {
        {129, 259, 519, 13}, {1, 1031, 515, 13}, {1031, 3, 257, 13}, {129, 127, 259, 13}};

    (void)state;
    cllm_opencl_run_not_simulated();
    for (size_t j = 0; j < CLLM_LEN(shapes); j++)
        check(&operation_product, &shapes[j], elements(&shapes[j]), j, PLAIN);
}

static void check_attention(size_t T, size_t D)
{
    for (size_t i = 0; i < N_OPERATION_ATTENTIONS; i++)
        check(&operation_attentions[i], &(struct operation_shape){T, D, 0, 13},
              cllm_min_u64(MAX, 2 * (T + 1) * 10 * D), T, PLAIN);
}

static void check_heads(size_t D, size_t step)
{
    for (size_t T = 1; T <= 70; T += step)
        check_attention(T, D);
}

/* Kernels for each size of a head take seconds to compile: an odd one. */
static void attention_agrees_on_sizes_1_to_70(void **state)
{
    static const size_t few[] = {1, 17, 65}; /* behind a tile, behind a group of rows */

    (void)state;
    for (size_t i = 0; cllm_opencl_simulated() && i < CLLM_LEN(few); i++)
        check_attention(few[i], 3);
    if (!cllm_opencl_simulated())
        check_heads(17, 1);
    cllm_opencl_simulated_done("attention");
}

static void attention_agrees_on_large_odd_sizes(void **state)
{
    (void)state;
    cllm_opencl_run_not_simulated();
    check_attention(325, 17);
}

static void attention_agrees_for_every_size_of_a_head(void **state)
{
    (void)state;
    cllm_opencl_run_only_if_long();
    for (size_t D = 1; D <= 70; D++)
        check_heads(D, 13);
    check_attention(325, 64);
    check_attention(65, 256);
}

/* A NaN in a query stays in its row; none is lost. */
static void a_NaN_in_a_query_stays_in_its_row(void **state)
{
    const struct operation_shape s = {37, 17, 0, 13};
    const struct cllm_attention sizes = operation_heads(&s);
    size_t row = cllm_attention_row(&sizes);
    float scratch[1];

    (void)state;
    cllm_opencl_run_not_simulated(); /* it compiles for another size of heads */
    begin_case(70 * 110, 3, PLAIN, 13);
    rig.begin[2][20 * row] = NAN; /* the first query's head of position 20 */
    for (size_t i = 0; i < OPERATION_ARRAYS; i++)
        rig.ops->put(rig.device.at[i], rig.begin[i], rig.device.n * sizeof(float));
    rig.ops->attention(rig.ops, rig.device.at[0], rig.device.at[1], rig.device.at[2],
                       scratch, &sizes);
    get(rig.got, 0);
    for (size_t t = 0; t < s.rows; t++)
        for (size_t c = 0; c < sizes.C; c++)
            assert_true(isnan(rig.got[t * sizes.C + c]) == (t == 20 && c < 17));
}

/* ---- before and after ---- */

static struct cllm_opencl_run directory;

static int begin(enum cllm_opencl_style style)
{
    const size_t most = cllm_opencl_simulated() ? FEW : MAX;
    const size_t apart = (most + 16) * sizeof(float);
    void *address = NULL;

    rig.most = most;
    cllm_opencl_run_open(0);
    cllm_opencl_run_fine(cllm_opencl_ops(&rig.ops, style, 0));
    cllm_opencl_run_fine(
        cllm_opencl_reserve(&address, (OPERATION_ARRAYS + 3) * apart, NULL, 0));
    rig.region = address;
    for (size_t i = 0; i < OPERATION_ARRAYS; i++) {
        rig.begin[i] = numbers_zero(most);
        rig.host.at[i] = numbers_zero(most);
        rig.device.at[i] = (float *)(void *)(rig.region + i * apart);
    }
    rig.got = numbers_zero(most);
    rig.again = numbers_zero(most);
    rig.tokens = calloc(most, sizeof *rig.tokens);
    rig.host.tokens = calloc(most, sizeof *rig.tokens);
    rig.host.losses = calloc(most, sizeof *rig.host.losses);
    rig.device.tokens = (uint32_t *)(void *)(rig.region + OPERATION_ARRAYS * apart);
    rig.device.losses = (double *)(void *)(rig.region + (OPERATION_ARRAYS + 1) * apart);
    rig.host.from = rig.device.from = rig.begin[4];
    cllm_opencl_simulated_done("building");
    return 0;
}

static int begin_items(void **state)
{
    (void)state;
    return begin(CLLM_OPENCL_STYLE_ITEMS);
}

static int begin_groups(void **state)
{
    (void)state;
    return begin(CLLM_OPENCL_STYLE_GROUPS);
}

static int end(void **state)
{
    (void)state;
    cllm_opencl_close();
    for (size_t i = 0; i < OPERATION_ARRAYS; i++) {
        free(rig.begin[i]);
        free(rig.host.at[i]);
    }
    free(rig.got);
    free(rig.again);
    free(rig.tokens);
    free(rig.host.tokens);
    free(rig.host.losses);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_agrees_on_sizes_1_to_70),
        cmocka_unit_test(every_operation_agrees_on_large_odd_sizes),
        cmocka_unit_test(every_operation_agrees_on_the_sizes_of_models),
        cmocka_unit_test(products_agree_on_sizes_1_to_70),
        cmocka_unit_test(products_agree_on_large_odd_sizes),
        cmocka_unit_test(attention_agrees_on_sizes_1_to_70),
        cmocka_unit_test(attention_agrees_on_large_odd_sizes),
        cmocka_unit_test(attention_agrees_for_every_size_of_a_head),
        cmocka_unit_test(a_NaN_in_a_query_stays_in_its_row),
    };
    int failed = 0;

    /* One directory for both: a driver looks for its cache but once. */
    cllm_opencl_run_begin(&directory, NULL);
    cllm_opencl_run_keep_none();
    if (cllm_opencl_run_wants("items"))
        failed += cmocka_run_group_tests_name("an item alone", tests, begin_items, end);
    if (cllm_opencl_run_wants("groups"))
        failed +=
            cmocka_run_group_tests_name("groups of items", tests, begin_groups, end);
    cllm_opencl_run_end(&directory);
    return failed;
}
