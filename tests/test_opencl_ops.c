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
#include "tests/opencl_run.h"
#include "tests/opencl_simulated.h"

/* Elements of an array at most; in simulators, which record what was done to each element
 * of a buffer at every launch, few. */
enum { ARRAYS = 8, MAX = 520 * 1100, FEW = 4096 };

/* What an operation reads and writes: in the memory of the host or on the device. */
struct arrays {
    float *at[ARRAYS];
    uint32_t *tokens;
    double *losses;
    size_t n; /* elements of each */
};

struct shape {
    size_t rows, cols, third;
    uint32_t vocab;
};

/* Everything that is the same for all operations. */
struct rig {
    const struct cllm_ops *ops;
    struct arrays host, device;
    float *begin[ARRAYS], *got, *again; // (most)
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

static void not_if_simulated(void)
{
    if (cllm_opencl_simulated())
        skip();
}

/* What takes minutes of compiling is for those who ask for it. */
static void only_if_long(void)
{
    if (getenv("CLLM_LONG") != NULL)
        return;
    print_message("skipped: minutes of compiling: CLLM_LONG=1, make test-opencl-long\n");
    skip();
}

/* It went well, or the reason why not is shown. */
static void fine(int rc)
{
    struct cllm_err_text text;

    if (rc == 0)
        return;
    cllm_err_save(&text);
    print_message("%s %s\n", text.text, text.detail);
    fail();
}

/* ---- operations ---- */

typedef double (*operation_fn)(const struct cllm_ops *ops, const struct arrays *a,
                               const struct shape *s);

static double zero(const struct cllm_ops *ops, const struct arrays *a,
                   const struct shape *s)
{
    ops->zero(a->at[0], s->rows * s->cols);
    ops->copy(a->at[1], a->at[2], s->rows * s->cols);
    ops->put(a->at[3] + 1, rig.begin[4], s->rows * s->cols * sizeof(float));
    return 0;
}

static double add_bias(const struct cllm_ops *ops, const struct arrays *a,
                       const struct shape *s)
{
    ops->add_bias(a->at[0], a->at[1], a->at[2], s->rows, s->cols);
    ops->add_bias(a->at[3], NULL, a->at[2], s->rows, s->cols);
    ops->add_bias(a->at[4], a->at[4], a->at[2], s->rows, s->cols);
    return 0;
}

static double add_columns(const struct cllm_ops *ops, const struct arrays *a,
                          const struct shape *s)
{
    ops->add_columns(a->at[0], a->at[1], s->rows, s->cols);
    return 0;
}

/* Also in place, in either operand. */
static double mix(const struct cllm_ops *ops, const struct arrays *a,
                  const struct shape *s)
{
    size_t n = s->rows * s->cols;

    ops->mix(a->at[0], a->at[1], a->at[2], 0.75f, -1.5f, n);
    ops->mix(a->at[3], a->at[3], a->at[1], 0.1f, 0.9f, n);
    ops->mix(a->at[4], a->at[2], a->at[4], 1.0f, 3.0f, n);
    return 0;
}

static double dropout(const struct cllm_ops *ops, const struct arrays *a,
                      const struct shape *s)
{
    const struct cllm_dropout drop = {.key = UINT64_C(0x123456789abcdef),
                                      .threshold = UINT32_MAX / 3,
                                      .scale = 1.5f,
                                      .first = (uint64_t)128 << 40};

    ops->dropout(a->at[0], NULL, a->at[1], s->rows * s->cols, &drop);
    ops->dropout(a->at[2], a->at[3], a->at[1], s->rows * s->cols, &drop);
    ops->dropout(a->at[4], NULL, a->at[4], s->rows * s->cols, &drop);
    return 0;
}

static double layernorm(const struct cllm_ops *ops, const struct arrays *a,
                        const struct shape *s)
{
    ops->layernorm(a->at[0], a->at[1], a->at[2], a->at[3], a->at[4], a->at[5], 1e-5f,
                   s->rows, s->cols);
    return 0;
}

static double layernorm_backward(const struct cllm_ops *ops, const struct arrays *a,
                                 const struct shape *s)
{
    ops->layernorm_backward(a->at[0], a->at[1], a->at[2], a->at[3], a->at[4], a->at[5],
                            a->at[6], a->at[7], s->rows, s->cols);
    ops->layernorm_weights(a->at[1], a->at[2], a->at[3], a->at[4], a->at[5], a->at[6],
                           s->rows, s->cols, s->cols / 3, s->cols - s->cols / 3);
    return 0;
}

static double layernorm_alone(const struct cllm_ops *ops, const struct arrays *a,
                              const struct shape *s)
{
    ops->layernorm_backward(a->at[0], NULL, NULL, a->at[3], a->at[4], a->at[5], a->at[6],
                            a->at[7], s->rows, s->cols);
    return 0;
}

static double rmsnorm(const struct cllm_ops *ops, const struct arrays *a,
                      const struct shape *s)
{
    ops->rmsnorm(a->at[0], a->at[2], a->at[3], a->at[4], 1e-5f, s->rows, s->cols);
    return 0;
}

static double rmsnorm_backward(const struct cllm_ops *ops, const struct arrays *a,
                               const struct shape *s)
{
    ops->rmsnorm_backward(a->at[0], a->at[1], a->at[3], a->at[4], a->at[5], a->at[6],
                          s->rows, s->cols);
    ops->rmsnorm_weights(a->at[1], a->at[3], a->at[4], a->at[5], s->rows, s->cols,
                         s->cols / 3, s->cols - s->cols / 3);
    ops->rmsnorm_backward(a->at[7], NULL, a->at[3], a->at[4], a->at[5], a->at[6], s->rows,
                          s->cols);
    return 0;
}

static double gelu(const struct cllm_ops *ops, const struct arrays *a,
                   const struct shape *s)
{
    ops->gelu(a->at[0], a->at[1], s->rows * s->cols);
    ops->gelu_backward(a->at[2], a->at[3], a->at[1], s->rows * s->cols);
    return 0;
}

static double swiglu(const struct cllm_ops *ops, const struct arrays *a,
                     const struct shape *s)
{
    ops->swiglu(a->at[0], a->at[1], a->at[2], s->rows * s->cols);
    ops->swiglu_backward(a->at[3], a->at[4], a->at[5], a->at[1], a->at[2],
                         s->rows * s->cols);
    return 0;
}

static double embedding(const struct cllm_ops *ops, const struct arrays *a,
                        const struct shape *s)
{
    size_t B = s->third % 3 + 1, T = s->rows / B + 1;

    CLLM_ASSERT(s->vocab * s->cols <= a->n && B * T * s->cols <= a->n);
    ops->embedding(a->at[0], a->tokens, T + 1, a->at[1], a->at[2], s->vocab, B, T,
                   s->cols);
    ops->embedding(a->at[3], a->tokens, T + 1, a->at[1], NULL, s->vocab, B, T, s->cols);
    ops->embedding_backward(a->at[4], a->at[5], a->tokens, T + 1, a->at[6], s->vocab, B,
                            T, s->cols);
    ops->embedding_backward(a->at[7], NULL, a->tokens, T + 1, a->at[6], s->vocab, B, T,
                            s->cols);
    return 0;
}

static struct cllm_attention rope_sizes(const struct shape *s)
{
    size_t D = 2 * (s->cols % 35 + 1), KV = s->third % 3 + 1, H = KV * (s->third % 2 + 1);

    return (struct cllm_attention){.B = 2, .T = s->rows, .C = H * D, .H = H, .KV = KV};
}

static double rope(const struct cllm_ops *ops, const struct arrays *a,
                   const struct shape *s)
{
    const struct cllm_attention sizes = rope_sizes(s);

    ops->rope(a->at[0], a->at[1], &sizes, 0, 2 * s->rows, false);
    ops->rope(a->at[2], a->at[1], &sizes, s->rows / 2, s->rows, true);
    return 0;
}

/* Targets of the rows, then their losses summed. */
static double cross_entropy(const struct cllm_ops *ops, const struct arrays *a,
                            const struct shape *s)
{
    uint32_t *targets = (uint32_t *)(void *)a->at[7];

    ops->next_tokens(targets, a->tokens, 1, s->rows);
    ops->cross_entropy(a->losses, a->at[0], targets, s->rows, s->cols, true);
    return ops->sum_losses(a->losses, s->rows, s->rows);
}

static double cross_entropy_alone(const struct cllm_ops *ops, const struct arrays *a,
                                  const struct shape *s)
{
    uint32_t *targets = (uint32_t *)(void *)a->at[7];
    double loss;

    ops->next_tokens(targets, a->tokens, s->rows, 1);
    ops->cross_entropy(a->losses, a->at[0], targets, s->rows, s->cols, false);
    loss = ops->sum_losses(a->losses, s->rows, s->rows);
    ops->zero(a->at[0], s->rows * s->cols); /* scratch: any value is right */
    return loss;
}

/* All four transpositions, gaps between rows, added to and not, and with what may become
 * the start of a product: a bias, a bias and a stream, a copy. */
static double matmul(const struct cllm_ops *ops, const struct arrays *a,
                     const struct shape *s)
{
    size_t m = s->rows, n = s->cols, k = s->third, gap = (m + n + k) % 4;

    for (int form = 0; form < 4; form++) {
        bool ta = (form & 1) != 0, tb = (form & 2) != 0;
        const struct cllm_matmul plain = {
            .m = m, .n = n, .k = k, .trans_a = ta, .trans_b = tb};
        struct cllm_matmul apart = plain, added = plain;

        apart.lda = (ta ? m : k) + gap;
        apart.ldb = (tb ? k : n) + gap;
        apart.ldc = n + gap;
        apart.accumulate = form % 2 == 0;
        added.accumulate = true;
        ops->matmul(a->at[form % 2], a->at[4] + 1, a->at[5] + 3, &apart);
        ops->matmul(a->at[6], a->at[4], a->at[5], &plain);
        if (form == 0)
            ops->add_bias(a->at[2], NULL, a->at[7], m, n);
        if (form == 1)
            ops->add_bias(a->at[2], a->at[6], a->at[7], m, n);
        if (form == 2)
            ops->copy(a->at[2], a->at[7], m * n);
        ops->matmul(a->at[2], a->at[4], a->at[5], &added);
    }
    return 0;
}

static struct cllm_attention heads(const struct shape *s)
{
    static const size_t groups[][2] = {{1, 1}, {2, 2}, {2, 1}, {6, 2}, {3, 0}};
    const size_t *of = groups[s->rows % CLLM_LEN(groups)];

    return (struct cllm_attention){.B = 1 + s->rows % 2,
                                   .T = s->rows,
                                   .C = of[0] * s->cols,
                                   .H = of[0],
                                   .KV = of[1]};
}

static void attend(const struct cllm_ops *ops, const struct arrays *a,
                   const struct cllm_attention *sizes)
{
    static float scratch[2 * 64 * 1200];

    ops->attention(ops, a->at[0], a->at[1], a->at[2], scratch, sizes);
    ops->attention_backward(ops, a->at[3], a->at[4], a->at[2], a->at[0], a->at[1],
                            scratch, sizes);
}

static double attention(const struct cllm_ops *ops, const struct arrays *a,
                        const struct shape *s)
{
    const struct cllm_attention sizes = heads(s);

    attend(ops, a, &sizes);
    return 0;
}

static double attention_dropout(const struct cllm_ops *ops, const struct arrays *a,
                                const struct shape *s)
{
    struct cllm_attention sizes = heads(s);

    sizes.dropout = (struct cllm_dropout){
        .key = UINT64_C(0xfedcba987654321), .threshold = UINT32_MAX / 3, .scale = 1.5f};
    attend(ops, a, &sizes);
    return 0;
}

static const struct operation {
    const char *name;
    operation_fn run;
    bool exact; /* moves values: their bits */
} operations[] = {
    {"zero", zero, true},
    {"add_bias", add_bias, true},
    {"add_columns", add_columns, false},
    {"mix", mix, false},
    {"dropout", dropout, false},
    {"layernorm", layernorm, false},
    {"layernorm_backward", layernorm_backward, false},
    {"layernorm_alone", layernorm_alone, false},
    {"rmsnorm", rmsnorm, false},
    {"rmsnorm_backward", rmsnorm_backward, false},
    {"gelu", gelu, false},
    {"swiglu", swiglu, false},
    {"embedding", embedding, false},
    {"rope", rope, false},
    {"cross_entropy", cross_entropy, false},
    {"cross_entropy_alone", cross_entropy_alone, false},
};

static const struct operation products = {"matmul", matmul, false};
static const struct operation attentions[] = {
    {"attention", attention, false},
    {"attention_dropout", attention_dropout, false},
};

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
    for (size_t i = 0; i < ARRAYS; i++)
        fill(rig.begin[i], n, seed + i, flavour);
    for (size_t i = 0; i < n; i++)
        rig.tokens[i] = (uint32_t)(cllm_random_u64(seed, CLLM_RANDOM_TEST, i) % vocab);
}

static double run(const struct operation *operation, const struct cllm_ops *ops,
                  const struct arrays *a, const struct shape *s)
{
    double result;

    for (size_t i = 0; i < ARRAYS; i++)
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

static void compare(const struct operation *operation, const struct shape *s,
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

static void check(const struct operation *operation, const struct shape *s, size_t n,
                  uint64_t seed, enum flavour flavour)
{
    double want, got, again;

    if (!wanted(operation->name))
        return;
    begin_case(n, seed, flavour, s->vocab);
    want = run(operation, cllm_ops_reference(), &rig.host, s);
    got = run(operation, rig.ops, &rig.device, s);
    for (size_t i = 0; i < ARRAYS; i++) {
        get(rig.got, i);
        compare(operation, s, i);
    }
    if (isnan(want))
        assert_true(isnan(got));
    else
        assert_true(want == got || fabs(want - got) < 1e-6 * fabs(want) + 1e-6);
    fine(cllm_opencl_error());
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
    fine(cllm_opencl_error());
}

/* ---- sizes ---- */

/* Another size for each: 37 is prime to 70. */
static size_t other(size_t i)
{
    return i * 37 % 70 + 1;
}

/* Of each array, with some to spare. */
static size_t elements_of(const struct operation *operation, const struct shape *s)
{
    const struct cllm_attention sizes = rope_sizes(s);
    size_t rows = s->rows;

    if (operation->run == rope)
        return 2 * s->rows * cllm_attention_row(&sizes) + 16;
    if (operation->run == embedding)
        rows = cllm_max_u64(rows, s->vocab);
    return (rows + 4) * (s->cols + 4);
}

static void check_small(const struct operation *operation, struct shape s, uint64_t seed,
                        enum flavour flavour)
{
    s.vocab = operation->run == cross_entropy || operation->run == cross_entropy_alone
                  ? (uint32_t)s.cols
                  : (uint32_t)s.third;
    check(operation, &s, elements_of(operation, &s), seed, flavour);
}

/* Alone, a vector and a rest, more than a group of items has, more rows than columns. */
static const struct shape tiny[] = {{1, 1, 1, 0},   {2, 3, 2, 0},  {3, 18, 5, 0},
                                    {2, 130, 1, 0}, {18, 2, 3, 0}, {9, 35, 4, 0}};

static void check_operation(const struct operation *operation)
{
    for (size_t i = 0; cllm_opencl_simulated() && i < CLLM_LEN(tiny); i++)
        check_small(operation, tiny[i], i, PLAIN);
    for (size_t i = 1; !cllm_opencl_simulated() && i <= 70; i++) {
        const struct shape s = {i, other(i), other(i + 31), 0};

        check_small(operation, s, i, PLAIN);
        check_small(operation, s, i + 1000, SPECIAL);
    }
    if (wanted(operation->name))
        cllm_opencl_simulated_done(operation->name);
}

static void every_operation_agrees_on_sizes_1_to_70(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(operations); i++)
        check_operation(&operations[i]);
}

static void check_large(const struct shape *shapes, size_t count)
{
    for (size_t i = 0; i < CLLM_LEN(operations); i++)
        for (size_t j = 0; j < count; j++) {
            struct shape s = shapes[j];

            if (operations[i].run == embedding)
                s.vocab = (uint32_t)cllm_min_u64(257, s.rows + 2);
            check(&operations[i], &s, elements_of(&operations[i], &s), j, PLAIN);
        }
}

static void every_operation_agrees_on_large_odd_sizes(void **state)
{
    static const struct shape shapes[] = {
        {127, 391, 2, 391}, {391, 127, 1, 127}, {3, 16411, 5, 16411}};

    (void)state;
    not_if_simulated();
    check_large(shapes, CLLM_LEN(shapes));
}

static void every_operation_agrees_on_the_sizes_of_models(void **state)
{
    static const struct shape shapes[] = {
        {257, 1031, 2, 1031}, {1031, 257, 1, 257}, {3, 50257, 5, 50257}};

    (void)state;
    only_if_long();
    check_large(shapes, CLLM_LEN(shapes));
}

/* Of the largest matrix of a product, with the gaps. */
static size_t elements(const struct shape *s)
{
    size_t m = s->rows + 4, n = s->cols + 4, k = s->third + 4;

    return cllm_max_u64(m * n, cllm_max_u64(m * k, n * k));
}

static void products_agree_on_sizes_1_to_70(void **state)
{
    (void)state;
    not_if_simulated(); /* test_opencl_products.c has its own sizes */
    for (size_t i = 1; i <= 70; i++) {
        const size_t sizes[] = {i, other(i), other(i + 31)};

        for (size_t j = 0; j < 3; j++) {
            const struct shape s = {sizes[j], sizes[(j + 1) % 3], sizes[(j + 2) % 3], 13};

            check(&products, &s, elements(&s), i, j == 0 ? SPECIAL : PLAIN);
        }
    }
}

static void products_agree_on_large_odd_sizes(void **state)
{
    static const struct shape shapes[] = {
        {129, 259, 519, 13}, {1, 1031, 515, 13}, {1031, 3, 257, 13}, {129, 127, 259, 13}};

    (void)state;
    not_if_simulated();
    for (size_t j = 0; j < CLLM_LEN(shapes); j++)
        check(&products, &shapes[j], elements(&shapes[j]), j, PLAIN);
}

static void check_attention(size_t T, size_t D)
{
    for (size_t i = 0; i < CLLM_LEN(attentions); i++)
        check(&attentions[i], &(struct shape){T, D, 0, 13},
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
    not_if_simulated();
    check_attention(325, 17);
}

static void attention_agrees_for_every_size_of_a_head(void **state)
{
    (void)state;
    only_if_long();
    for (size_t D = 1; D <= 70; D++)
        check_heads(D, 13);
    check_attention(325, 64);
    check_attention(65, 256);
}

/* A NaN in a query stays in its row; none is lost. */
static void a_NaN_in_a_query_stays_in_its_row(void **state)
{
    const struct shape s = {37, 17, 0, 13};
    const struct cllm_attention sizes = heads(&s);
    size_t row = cllm_attention_row(&sizes);
    float scratch[1];

    (void)state;
    not_if_simulated(); /* it compiles for another size of heads */
    begin_case(70 * 110, 3, PLAIN, 13);
    rig.begin[2][20 * row] = NAN; /* the first query's head of position 20 */
    for (size_t i = 0; i < ARRAYS; i++)
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
    fine(cllm_opencl_ops(&rig.ops, style, 0));
    fine(cllm_opencl_reserve(&address, (ARRAYS + 3) * apart, NULL, 0));
    rig.region = address;
    for (size_t i = 0; i < ARRAYS; i++) {
        rig.begin[i] = numbers_zero(most);
        rig.host.at[i] = numbers_zero(most);
        rig.device.at[i] = (float *)(void *)(rig.region + i * apart);
    }
    rig.got = numbers_zero(most);
    rig.again = numbers_zero(most);
    rig.tokens = calloc(most, sizeof *rig.tokens);
    rig.host.tokens = calloc(most, sizeof *rig.tokens);
    rig.host.losses = calloc(most, sizeof *rig.host.losses);
    rig.device.tokens = (uint32_t *)(void *)(rig.region + ARRAYS * apart);
    rig.device.losses = (double *)(void *)(rig.region + (ARRAYS + 1) * apart);
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
