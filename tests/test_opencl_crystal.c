/*
 * tests/test_opencl_crystal.c - similarities of token ids on a device, attention with the
 * learned bias and targets smoothed by them, against the reference in C: sizes 1 to 70 in
 * each dimension and larger odd ones, NaN and infinities, the same bits on repetition,
 * nothing written beside results. Either style of kernels.
 *
 * Skipped, with the reason, where there is no OpenCL. In a simulator, which takes its
 * time, dimensions have three sizes (tests/opencl_simulated.h); $CLLM_OPENCL_ONLY is a
 * pattern of the tests that are wanted, $CLLM_OPENCL_STYLE names the one style.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/crystal.h"
#include "compute/opencl/table.h"
#include "tests/numbers.h"
#include "tests/opencl_run.h"
#include "tests/opencl_simulated.h"

/* Elements of an array at most; in simulators, which record what was done to each element
 * of a buffer at every launch, few. */
enum { ARRAYS = 12, MAX = 1 << 19, FEW = 10240, VOCAB = 1 << 20 };

/* One side: addresses of its arrays, room() elements apart. */
struct side {
    const struct cllm_ops *ops;
    float *at[ARRAYS];
};

static struct side host, device;
static float *begin_values[ARRAYS], *got, *again; // (room)
static struct cllm_opencl_run directory;

static size_t room(void)
{
    return cllm_opencl_simulated() ? FEW : MAX;
}

/* Through 1 to 70. */
static size_t size_step(void)
{
    return cllm_opencl_simulated() ? 32 : 1;
}

/* ---- both sides ---- */

/* Both begin with the same values in their arrays, @n elements of each. */
static void begin_case(size_t n, uint64_t seed)
{
    assert_true(n <= room());
    for (size_t i = 0; i < ARRAYS; i++)
        for (size_t j = 0; j < n; j++)
            begin_values[i][j] =
                2.0f * cllm_random_f32(seed + i, CLLM_RANDOM_TEST, j) - 1.0f;
}

static void begin_side(const struct side *side, size_t n)
{
    for (size_t i = 0; i < ARRAYS; i++)
        side->ops->put(side->at[i], begin_values[i], n * sizeof(float));
}

static void get(float *to, size_t array, size_t n)
{
    assert_int_equal(cllm_opencl_get(to, device.at[array], n * sizeof *to), 0);
}

static bool near(float want, float is, double allowed)
{
    if (isnan(want) || isnan(is) || isinf(want) || isinf(is))
        return memcmp(&want, &is, sizeof is) == 0 || (isnan(want) && isnan(is));
    return fabs((double)want - (double)is) <= allowed;
}

/* An array of both sides; errors by its greatest element. */
static void compare(const char *name, size_t size, size_t array, size_t n)
{
    const float *want = host.at[array];
    double most = 0;

    get(got, array, n);
    for (size_t i = 0; i < n; i++)
        if (isfinite(want[i]))
            most = fmax(most, fabs((double)want[i]));
    for (size_t i = 0; i < n; i++) {
        if (near(want[i], got[i], 4e-6 * most))
            continue;
        print_message("%s, size %zu, array %zu, element %zu: wanted %.9g, got %.9g\n",
                      name, size, array, i, (double)want[i], (double)got[i]);
        fail();
    }
}

/* Is @array what it was in got? */
static void same_again(size_t array, size_t n)
{
    get(again, array, n);
    assert_memory_equal(again, got, n * sizeof *got);
}

/* ---- pairs ---- */

/* Ids whose numbers (one more) make Euclid's algorithm short, long and even. */
static void fill_ids(uint32_t *ids, size_t n, uint64_t seed)
{
    static const uint32_t numbers[] = {1,       1048576, 1048575, 1048573, 524288, 524287,
                                       832040,  514229,  317811,  720720,  360360, 2,
                                       1047552, 1046529, 1018081, 3,       4,      6};

    for (size_t i = 0; i < n; i++) {
        uint64_t bits = cllm_random_u64(seed, CLLM_RANDOM_TEST, i);

        ids[i] = bits % 3 == 0 ? numbers[(bits >> 8) % CLLM_LEN(numbers)] - 1
                               : (uint32_t)(bits >> 40) % (VOCAB >> (bits >> 8) % 20);
    }
}

/* Similarities of T tokens into array 1, in blocks, as a model does it; points: array 0.
 */
static void pair(const struct side *side, const uint32_t *ids, size_t T)
{
    size_t stride = cllm_align_up(T, 16), some = T / 3;
    uint32_t *tokens = (uint32_t *)(void *)side->at[2];

    side->ops->put(tokens, ids, T * sizeof *tokens);
    if (some > 0)
        side->ops->crystal_points(side->at[0], stride, tokens, 0, some);
    side->ops->crystal_points(side->at[0], stride, tokens, some, T - some);
    for (size_t first = 0; first < T; first += CLLM_ATTENTION_BLOCK) {
        size_t rows = cllm_min_u64(CLLM_ATTENTION_BLOCK, T - first);

        side->ops->crystal_pairs(side->at[1] + cllm_attention_pairs_before(first),
                                 first + rows, side->at[0], stride, first, rows);
    }
}

static void check_pairs(size_t T)
{
    size_t points = 3 * cllm_align_up(T, 16), pairs = cllm_attention_pairs(T) + 64;
    uint32_t *ids = calloc(T, sizeof *ids);

    assert_non_null(ids);
    fill_ids(ids, T, T);
    begin_case(cllm_max_u64(points, pairs), T);
    for (int i = 0; i < 2; i++) {
        const struct side *side = i == 0 ? &host : &device;

        begin_side(side, cllm_max_u64(points, pairs));
        pair(side, ids, T);
    }
    get(got, 0, points);
    assert_memory_equal(got, host.at[0], points * sizeof *got);
    compare("pairs", T, 1, pairs);
    free(ids);
}

static void pairs_agree_on_sizes_1_to_70_and_beyond(void **state)
{
    (void)state;
    for (size_t T = 1; T <= 70; T += size_step())
        check_pairs(T);
    cllm_opencl_simulated_done("pairs");
    if (cllm_opencl_simulated())
        return;
    check_pairs(128);
    check_pairs(129);
    check_pairs(517);
}

/* ---- targets ---- */

/* Arrays 2 and 3 have the places of V ids; array 1 is c. */
static struct cllm_smoothing smoothing_of(const struct side *side, size_t V,
                                          float epsilon)
{
    for (size_t i = 0; i < V; i++) {
        struct cllm_crystal_place at = cllm_crystal_place(i + 1);

        begin_values[2][i] = (float)at.x;
        begin_values[3][i] = (float)at.y;
    }
    side->ops->put(side->at[2], begin_values[2], V * sizeof(float));
    side->ops->put(side->at[3], begin_values[3], V * sizeof(float));
    return (struct cllm_smoothing){
        .epsilon = epsilon, .x = side->at[2], .y = side->at[3]};
}

static void check_row(size_t V, uint32_t target)
{
    begin_case(V + 64, V);
    for (int i = 0; i < 2; i++) {
        const struct side *side = i == 0 ? &host : &device;
        struct cllm_smoothing smoothing;

        begin_side(side, V + 64);
        smoothing = smoothing_of(side, V, 1);
        side->ops->similarities(side->at[1], target, V, &smoothing);
    }
    compare("similarities", V, 1, V + 64);
}

static void rows_of_similarities_agree(void **state)
{
    static const uint32_t targets[] = {0, 1, 719, 1030, 1023};
    static const uint32_t far[] = {50256, 49151, 49727, 32767, 45359};

    (void)state;
    for (size_t V = 2; V <= 70; V += size_step())
        for (uint32_t target = 0; target < V; target += 1 + (uint32_t)V / 5)
            check_row(V, target);
    cllm_opencl_simulated_done("rows of similarities");
    for (size_t i = 0; !cllm_opencl_simulated() && i < CLLM_LEN(targets); i++) {
        check_row(1031, targets[i]);
        check_row(50257, far[i]);
    }
}

/* What a row may hold beside numbers. */
enum flavour { PLAIN, SPECIAL };

static void spoil(float *x, size_t n, uint64_t seed)
{
    static const float specials[] = {
        __builtin_inff(), -__builtin_inff(), -0.0f, 1e-30f, 103.0f, -87.5f, NAN};

    for (size_t i = 0; i < n; i++) {
        uint64_t bits = cllm_random_u64(seed, CLLM_RANDOM_TEST, i);

        if (bits % 97 == 0)
            x[i] = specials[(bits >> 8) % CLLM_LEN(specials)];
    }
}

/* Losses of rows (rows,V) in array 0, and with @backward their gradient. */
static double lose(const struct side *side, const uint32_t *ids, size_t rows, size_t V,
                   float epsilon, bool backward)
{
    uint32_t *targets = (uint32_t *)(void *)side->at[4];
    double *losses = (double *)(void *)side->at[5];
    struct cllm_smoothing smoothing;

    begin_side(side, rows * V + 64);
    side->ops->put(targets, ids, rows * sizeof *ids);
    smoothing = smoothing_of(side, V, epsilon);
    side->ops->smooth_cross_entropy(losses, side->at[0], targets, rows, V, backward,
                                    &smoothing, side->at[1]);
    return side->ops->sum_losses(losses, rows, rows);
}

static void check_losses(size_t rows, size_t V, float epsilon, enum flavour flavour)
{
    size_t n = rows * V + 64;
    uint32_t *ids = calloc(rows, sizeof *ids);
    double want, is, alone;

    assert_non_null(ids);
    for (size_t i = 0; i < rows; i++)
        ids[i] = (uint32_t)(cllm_random_u64(V, CLLM_RANDOM_TEST, i) % V);
    begin_case(n, V);
    for (size_t i = 0; i < n; i++)
        begin_values[0][i] *= 5.0f;
    if (flavour == SPECIAL)
        spoil(begin_values[0], rows * V, V);
    want = lose(&host, ids, rows, V, epsilon, true);
    is = lose(&device, ids, rows, V, epsilon, true);
    compare("smooth_cross_entropy", V, 0, n);
    if (!isfinite(want))
        assert_true(!isfinite(is));
    else
        assert_true(fabs(want - is) < 1e-6 * fabs(want) + 1e-6);
    alone = lose(&device, ids, rows, V, epsilon, true);
    same_again(0, n);
    assert_memory_equal(&is, &alone, sizeof is);
    alone = lose(&device, ids, rows, V, epsilon, false);
    assert_memory_equal(&is, &alone, sizeof is);
    cllm_opencl_run_fine(cllm_opencl_error());
    free(ids);
}

static void smoothed_losses_agree_on_sizes_1_to_70_and_beyond(void **state)
{
    static const float epsilons[] = {0.03f, 0.3f, 1.0f};
    /* A vector and a rest; more ids than a group has items. */
    static const size_t few[][2] = {{1, 2}, {3, 34}, {2, 130}};

    (void)state;
    for (size_t i = 0; cllm_opencl_simulated() && i < CLLM_LEN(few); i++)
        check_losses(few[i][0], few[i][1], epsilons[i], SPECIAL);
    cllm_opencl_simulated_done("smoothed losses");
    if (cllm_opencl_simulated())
        return;
    for (size_t i = 1; i <= 70; i++) {
        check_losses(i, cllm_opencl_run_other(i) + 1, epsilons[i % 3], PLAIN);
        check_losses(cllm_opencl_run_other(i), i + 1, epsilons[i % 2], SPECIAL);
    }
    check_losses(391, 127, 0.1f, PLAIN);
    check_losses(127, 1031, 0.1f, PLAIN);
    check_losses(5, 50257, 0.1f, PLAIN);
}

/* ---- attention ---- */

static struct cllm_attention heads(const struct side *side, size_t T, size_t D)
{
    static const size_t groups[][2] = {{1, 1}, {2, 2}, {2, 1}, {6, 2}, {3, 0}};
    const size_t *of = groups[T % CLLM_LEN(groups)];

    return (struct cllm_attention){.B = 1 + T % 2,
                                   .T = T,
                                   .C = of[0] * D,
                                   .H = of[0],
                                   .KV = of[1],
                                   .beta = side->at[9],
                                   .similar = side->at[8],
                                   .dbeta = side->at[10],
                                   .by_query = side->at[11]};
}

static void attend(const struct side *side, const struct cllm_attention *sizes)
{
    float *const *at = side->at;

    side->ops->attention(side->ops, at[0], at[1], at[2], at[7], sizes);
    side->ops->attention_backward(side->ops, at[3], at[4], at[2], at[0], at[1], at[7],
                                  sizes);
}

/* What is not similar: nothing may come of what pairs do not have. */
static void spoil_pairs(size_t B, size_t T)
{
    for (size_t b = 0; b < B; b++)
        for (size_t t = 0; t < T; t++) {
            size_t first = t / CLLM_ATTENTION_BLOCK * CLLM_ATTENTION_BLOCK;
            size_t keys = cllm_min_u64(first + CLLM_ATTENTION_BLOCK, T);
            float *row = begin_values[8] + b * cllm_attention_pairs(T) +
                         cllm_attention_pairs_before(first) + (t - first) * keys;

            for (size_t j = t + 1; j < keys; j++)
                row[j] = NAN;
        }
}

/* The heads that @part's first and count name, with its dropout. */
static void check_attention(size_t T, size_t D, const struct cllm_attention *part)
{
    struct cllm_attention sizes = heads(&host, T, D);
    size_t n = cllm_max_u64(sizes.B * T * cllm_attention_row(&sizes),
                            sizes.B * cllm_attention_pairs(T)) +
               64;

    begin_case(n, T);
    spoil_pairs(sizes.B, T);
    for (size_t i = 0; i < sizes.H; i++)
        begin_values[9][i] *= 3.0f;
    for (int i = 0; i < (cllm_opencl_simulated() ? 2 : 3); i++) {
        const struct side *side = i == 0 ? &host : &device;

        sizes = heads(side, T, D);
        sizes.first = part->first;
        sizes.count = part->count;
        sizes.dropout = part->dropout;
        begin_side(side, n);
        attend(side, &sizes);
        for (size_t array = 0; i == 1 && array < 4; array++)
            compare("attention", T, array, n);
        if (i == 1)
            compare("attention", T, 10, n);
        if (i == 2)
            same_again(10, n);
    }
    cllm_opencl_run_fine(cllm_opencl_error());
}

static const struct cllm_attention all = {0};
static const struct cllm_attention dropped = {
    .dropout = {
        .key = UINT64_C(0xfedcba987654321), .threshold = UINT32_MAX / 3, .scale = 1.5f}};

/* Kernels for each size of a head take seconds to compile: an odd one. */
static void biased_attention_agrees_on_sizes_1_to_70_and_beyond(void **state)
{
    static const struct cllm_attention some = {.first = 2, .count = 2};
    static const size_t few[] = {1, 17, 65}; /* behind a tile, behind a group of rows */
    const size_t D = 17;

    (void)state;
    for (size_t i = 0; cllm_opencl_simulated() && i < CLLM_LEN(few); i++) {
        check_attention(few[i], 3, &all);
        check_attention(few[i], 3, &dropped);
    }
    cllm_opencl_simulated_done("biased attention");
    if (cllm_opencl_simulated())
        return;
    for (size_t T = 1; T <= 70; T++) {
        check_attention(T, D, &all);
        check_attention(T, D, &dropped);
    }
    check_attention(129, D, &all);
    check_attention(195, D, &all);
    check_attention(195, D, &dropped);
    check_attention(129, D, &some); /* 3 heads: one of either sequence */
    check_attention(67, D, &some);  /* 2 heads that share a key: those of the second */
}

static void biased_attention_agrees_for_every_size_of_a_head(void **state)
{
    (void)state;
    cllm_opencl_run_only_if_long();
    for (size_t D = 1; D <= 70; D++)
        for (size_t T = 1; T <= 70; T += 13)
            check_attention(T, D, &all);
    check_attention(65, 256, &all);
}

/* ---- before and after ---- */

static int begin(enum cllm_opencl_style style)
{
    const size_t apart = room() * sizeof(float);
    void *address = NULL;

    cllm_opencl_run_open(0);
    host.ops = cllm_ops_reference();
    cllm_opencl_run_fine(cllm_opencl_ops(&device.ops, style, 0));
    cllm_opencl_run_fine(cllm_opencl_reserve(&address, ARRAYS * apart, NULL, 0));
    for (size_t i = 0; i < ARRAYS; i++) {
        begin_values[i] = numbers_zero(room());
        host.at[i] = numbers_zero(room());
        device.at[i] = (float *)(void *)((uint8_t *)address + i * apart);
    }
    got = numbers_zero(room());
    again = numbers_zero(room());
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
    for (size_t i = 0; i < ARRAYS; i++) {
        free(begin_values[i]);
        free(host.at[i]);
    }
    free(got);
    free(again);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_agree_on_sizes_1_to_70_and_beyond),
        cmocka_unit_test(rows_of_similarities_agree),
        cmocka_unit_test(smoothed_losses_agree_on_sizes_1_to_70_and_beyond),
        cmocka_unit_test(biased_attention_agrees_on_sizes_1_to_70_and_beyond),
        cmocka_unit_test(biased_attention_agrees_for_every_size_of_a_head),
    };
    int failed = 0;

    if (getenv("CLLM_OPENCL_ONLY") != NULL)
        cmocka_set_test_filter(getenv("CLLM_OPENCL_ONLY"));
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
