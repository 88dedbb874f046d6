/*
 * tests/ops_bits.c - see tests/ops_bits.h.
 */
#include "tests/ops_bits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/numbers.h"

enum { MAX = 70 * 400, ARRAYS = 8 };

/* What an operation reads, and what it writes with either table. */
struct arrays {
    float *in[ARRAYS], *want[ARRAYS], *got[ARRAYS]; // (MAX)
    uint32_t *tokens;                               // (MAX)
    float *scratch;                                 // (MAX), nobody's result
};

enum flavour { PLAIN, WIDE, SPECIAL, FLAVOURS };

static const float specials[] = {0.0f,
                                 -0.0f,
                                 0x1p-149f,
                                 -0x1.8p-130f,
                                 __builtin_inff(),
                                 -__builtin_inff(),
                                 0x1.fffffep127f,
                                 -87.5f,
                                 1e-30f,
                                 103.0f};

static void fill(float *x, uint64_t seed, enum flavour flavour)
{
    for (size_t i = 0; i < MAX; i++) {
        uint64_t bits = cllm_random_u64(seed, CLLM_RANDOM_TEST, i);

        x[i] = (float)((double)(bits >> 40) * 0x1p-23 - 1.0);
        if (flavour == WIDE)
            x[i] *= 40.0f;
        if (flavour == SPECIAL && bits % 11 == 0)
            x[i] = specials[(bits >> 8) % CLLM_LEN(specials)];
        if (flavour == SPECIAL && bits % 997 == 0)
            x[i] = __builtin_nanf("");
    }
}

static void arrays_new(struct arrays *a)
{
    for (size_t i = 0; i < ARRAYS; i++) {
        a->in[i] = numbers_zero(MAX);
        a->want[i] = numbers_zero(MAX);
        a->got[i] = numbers_zero(MAX);
    }
    a->tokens = calloc(MAX, sizeof *a->tokens);
    assert_non_null(a->tokens);
    a->scratch = numbers_zero(MAX);
}

static void arrays_free(struct arrays *a)
{
    for (size_t i = 0; i < ARRAYS; i++) {
        free(a->in[i]);
        free(a->want[i]);
        free(a->got[i]);
    }
    free(a->tokens);
    free(a->scratch);
}

/* Every array begins as its input; what an operation adds to is there. */
static void begin(struct arrays *a, uint64_t seed, enum flavour flavour, uint32_t vocab)
{
    for (size_t i = 0; i < ARRAYS; i++) {
        fill(a->in[i], seed + i, flavour);
        memcpy(a->want[i], a->in[i], MAX * sizeof(float));
        memcpy(a->got[i], a->in[i], MAX * sizeof(float));
    }
    for (size_t i = 0; i < MAX; i++)
        a->tokens[i] = (uint32_t)(cllm_random_u64(seed, CLLM_RANDOM_TEST, i) % vocab);
}

/* The same bits; a NaN is a NaN, whatever its payload. */
static bool same(const float *x, const float *y)
{
    for (size_t i = 0; i < MAX; i++)
        if (memcmp(x + i, y + i, sizeof *x) != 0 && !(x[i] != x[i] && y[i] != y[i]))
            return false;
    return true;
}

static bool same_number(double x, double y)
{
    return memcmp(&x, &y, sizeof x) == 0 || (x != x && y != y);
}

struct shape {
    size_t rows, cols;
};

typedef double (*kernel_fn)(const struct cllm_ops *ops, struct arrays *a, float **out,
                            const struct shape *s);

static double add_bias(const struct cllm_ops *ops, struct arrays *a, float **out,
                       const struct shape *s)
{
    ops->add_bias(out[0], a->in[1], a->in[2], s->rows, s->cols);
    ops->add_bias(out[1], NULL, a->in[2], s->rows, s->cols);
    return 0;
}

static double add_columns(const struct cllm_ops *ops, struct arrays *a, float **out,
                          const struct shape *s)
{
    ops->add_columns(out[0], a->in[1], s->rows, s->cols);
    return 0;
}

static double layernorm(const struct cllm_ops *ops, struct arrays *a, float **out,
                        const struct shape *s)
{
    ops->layernorm(out[0], out[1], out[2], a->in[3], a->in[4], a->in[5], s->rows,
                   s->cols);
    ops->layernorm_backward(out[3], out[4], out[5], a->in[6], a->in[3], out[1], out[2],
                            a->in[7], s->rows, s->cols);
    ops->layernorm_backward(out[6], NULL, NULL, a->in[6], a->in[3], out[1], out[2],
                            a->in[7], s->rows, s->cols);
    ops->layernorm_weights(out[4], out[5], a->in[6], a->in[3], out[1], out[2], s->rows,
                           s->cols, s->cols / 3, s->cols - s->cols / 3);
    return 0;
}

static double rmsnorm(const struct cllm_ops *ops, struct arrays *a, float **out,
                      const struct shape *s)
{
    ops->rmsnorm(out[0], out[2], a->in[3], a->in[4], 1e-5f, s->rows, s->cols);
    ops->rmsnorm_backward(out[3], out[4], a->in[6], a->in[3], out[2], a->in[7], s->rows,
                          s->cols);
    ops->rmsnorm_backward(out[6], NULL, a->in[6], a->in[3], out[2], a->in[7], s->rows,
                          s->cols);
    ops->rmsnorm_weights(out[4], a->in[6], a->in[3], out[2], s->rows, s->cols,
                         s->cols / 3, s->cols - s->cols / 3);
    return 0;
}

static double swiglu(const struct cllm_ops *ops, struct arrays *a, float **out,
                     const struct shape *s)
{
    ops->swiglu(out[0], a->in[1], a->in[2], s->rows * s->cols);
    ops->swiglu_backward(out[2], out[3], out[4], a->in[1], a->in[2], s->rows * s->cols);
    return 0;
}

static double dropout(const struct cllm_ops *ops, struct arrays *a, float **out,
                      const struct shape *s)
{
    const struct cllm_dropout drop = {.key = 77,
                                      .threshold = UINT32_MAX / 3,
                                      .scale = 1.5f,
                                      .first = (uint64_t)128 << 40};

    ops->dropout(out[0], NULL, a->in[1], s->rows * s->cols, &drop);
    ops->dropout(out[2], a->in[3], a->in[1], s->rows * s->cols, &drop);
    ops->dropout(out[4], NULL, out[4], s->rows * s->cols, &drop);
    return 0;
}

static double gelu(const struct cllm_ops *ops, struct arrays *a, float **out,
                   const struct shape *s)
{
    ops->gelu(out[0], a->in[1], s->rows * s->cols);
    ops->gelu_backward(out[2], out[3], a->in[1], s->rows * s->cols);
    return 0;
}

static double embedding(const struct cllm_ops *ops, struct arrays *a, float **out,
                        const struct shape *s)
{
    ops->embedding(out[0], a->tokens, s->rows + 1, a->in[1], a->in[2], 1, s->rows,
                   s->cols);
    ops->embedding_backward(out[3], out[4], a->tokens, s->rows + 1, a->in[5], 1, s->rows,
                            s->cols);
    return 0;
}

static double embedding_alone(const struct cllm_ops *ops, struct arrays *a, float **out,
                              const struct shape *s)
{
    ops->embedding(out[0], a->tokens, s->rows + 1, a->in[1], NULL, 1, s->rows, s->cols);
    ops->embedding_backward(out[3], NULL, a->tokens, s->rows + 1, a->in[5], 1, s->rows,
                            s->cols);
    return 0;
}

static double embedding_of_three(const struct cllm_ops *ops, struct arrays *a,
                                 float **out, const struct shape *s)
{
    size_t T = s->rows / 3 + 1;

    ops->embedding(out[0], a->tokens, T + 2, a->in[1], a->in[2], 3, T, s->cols);
    ops->embedding_backward(out[3], out[4], a->tokens, T + 2, a->in[5], 3, T, s->cols);
    return 0;
}

static double softmax(const struct cllm_ops *ops, struct arrays *a, float **out,
                      const struct shape *s)
{
    (void)a;
    return (double)ops->softmax(out[0], s->rows * s->cols, 0.3f);
}

static double cross_entropy(const struct cllm_ops *ops, struct arrays *a, float **out,
                            const struct shape *s)
{
    return ops->cross_entropy(out[0], a->tokens, s->rows, s->cols, true);
}

static double matmul(const struct cllm_ops *ops, struct arrays *a, float **out,
                     const struct shape *s)
{
    for (uint32_t i = 0; i < 8; i++) {
        const struct cllm_matmul product = {.m = s->rows,
                                            .n = s->cols,
                                            .k = 1 + (s->rows + s->cols) / 3,
                                            .trans_a = i & 1,
                                            .trans_b = i & 2,
                                            .accumulate = i & 4};

        ops->matmul(out[i], a->in[1], a->in[2], &product);
    }
    return 0;
}

static double attention(const struct cllm_ops *ops, struct arrays *a, float **out,
                        const struct shape *s)
{
    const struct cllm_attention sizes = {
        .B = 1, .T = s->rows, .C = s->cols / 4 * 2 + 2, .H = 2};

    ops->attention(ops, out[0], out[1], a->in[2], a->scratch, &sizes);
    ops->attention_backward(ops, out[4], a->in[5], a->in[2], out[0], out[1], a->scratch,
                            &sizes);
    return 0;
}

static double attention_of_two(const struct cllm_ops *ops, struct arrays *a, float **out,
                               const struct shape *s)
{
    const struct cllm_attention sizes = {
        .B = 2, .T = s->rows / 2 + 1, .C = s->cols / 6 * 3 + 3, .H = 3};

    ops->attention(ops, out[0], out[1], a->in[2], a->scratch, &sizes);
    ops->attention_backward(ops, out[4], a->in[5], a->in[2], out[0], out[1], a->scratch,
                            &sizes);
    return 0;
}

static double attention_of_groups(const struct cllm_ops *ops, struct arrays *a,
                                  float **out, const struct shape *s)
{
    const struct cllm_attention sizes = {
        .B = 2, .T = s->rows / 2 + 1, .C = s->cols / 8 * 4 + 4, .H = 4, .KV = 2};

    ops->attention(ops, out[0], out[1], a->in[2], a->scratch, &sizes);
    ops->attention_backward(ops, out[4], a->in[5], a->in[2], out[0], out[1], a->scratch,
                            &sizes);
    return 0;
}

static double rope(const struct cllm_ops *ops, struct arrays *a, float **out,
                   const struct shape *s)
{
    const struct cllm_attention sizes = {
        .B = 2, .T = s->rows / 2 + 1, .C = s->cols / 16 * 8 + 8, .H = 4, .KV = 2};
    size_t rows = sizes.B * sizes.T;

    ops->rope(out[0], a->in[1], &sizes, 0, rows, false);
    ops->rope(out[2], a->in[1], &sizes, 0, rows, true);
    return 0;
}

static double adamw(const struct cllm_ops *ops, struct arrays *a, float **out,
                    const struct shape *s)
{
    ops->adamw(out[0], out[1], out[2], a->in[3], a->in[4], a->in[5], a->in[6],
               s->rows * s->cols, &numbers_adamw);
    return 0;
}

static double lion(const struct cllm_ops *ops, struct arrays *a, float **out,
                   const struct shape *s)
{
    ops->lion(out[0], out[1], a->in[3], a->in[4], a->in[6], s->rows * s->cols,
              &numbers_lion);
    return 0;
}

static double sgd(const struct cllm_ops *ops, struct arrays *a, float **out,
                  const struct shape *s)
{
    struct cllm_sgd_terms plain = numbers_sgd;

    plain.nesterov = false;
    ops->sgd(out[0], out[1], a->in[3], a->in[4], a->in[6], s->rows * s->cols,
             &numbers_sgd);
    ops->sgd(out[2], out[3], a->in[3], a->in[4], a->in[6], s->rows * s->cols, &plain);
    return 0;
}

static double mix(const struct cllm_ops *ops, struct arrays *a, float **out,
                  const struct shape *s)
{
    size_t n = s->rows * s->cols;

    ops->mix(out[0], a->in[3], a->in[4], 0.9f, -0.3f, n);
    ops->mix(out[1], out[1], a->in[4], 3.4445f, 1.0f, n);
    ops->mix(out[2], a->in[3], out[2], -4.775f, 2.0315f, n);
    ops->mix(out[3], out[3], out[3], 0.3f, 0.0f, n);
    return 0;
}

static double vectors(const struct cllm_ops *ops, struct arrays *a, float **out,
                      const struct shape *s)
{
    const float *lanes[] = {a->in[1], a->in[2], a->in[3], a->in[4], a->in[5]};
    size_t n = s->rows * s->cols;

    ops->fold(out[0], a->in[6], lanes, 5, n);
    ops->fold(out[7], NULL, lanes, 3, n);
    ops->stream(out[5], a->in[4], n);
    out[6][0] = ops->is_finite(a->in[1], n);
    return ops->sumsq(a->in[1], n);
}

static const struct kernel {
    const char *name;
    kernel_fn run;
    bool tokens_below_cols, products;
} kernels[] = {{"add_bias", add_bias, false, false},
               {"add_columns", add_columns, false, false},
               {"layernorm", layernorm, false, false},
               {"rmsnorm", rmsnorm, false, false},
               {"dropout", dropout, false, false},
               {"gelu", gelu, false, false},
               {"swiglu", swiglu, false, false},
               {"embedding of tokens alone", embedding_alone, false, false},
               {"rope", rope, false, false},
               {"attention of groups", attention_of_groups, false, true},
               {"embedding", embedding, false, false},
               {"embedding of three", embedding_of_three, false, false},
               {"softmax", softmax, false, false},
               {"cross_entropy", cross_entropy, true, false},
               {"matmul", matmul, false, true},
               {"attention", attention, false, true},
               {"attention of two", attention_of_two, false, true},
               {"adamw", adamw, false, false},
               {"lion", lion, false, false},
               {"sgd", sgd, false, false},
               {"mix", mix, false, false},
               {"vectors", vectors, false, false}};

static const struct shape shapes[] = {{1, 1},  {1, 3},   {2, 15},  {3, 16},  {5, 17},
                                      {7, 31}, {33, 33}, {64, 64}, {65, 65}, {70, 200}};

static void check(const struct kernel *kernel, const struct cllm_ops *reference,
                  const struct cllm_ops *ops)
{
    struct arrays a;

    arrays_new(&a);
    for (uint32_t flavour = 0; flavour < FLAVOURS; flavour++) {
        for (size_t i = 0; i < CLLM_LEN(shapes); i++) {
            const struct shape *s = &shapes[i];
            double want, got;

            begin(&a, i, (enum flavour)flavour,
                  kernel->tokens_below_cols ? (uint32_t)s->cols : 70);
            want = kernel->run(reference, &a, a.want, s);
            got = kernel->run(ops, &a, a.got, s);
            if (!same_number(want, got))
                fail_msg("%s, %s: another number at %zu x %zu", ops->name, kernel->name,
                         s->rows, s->cols);
            for (size_t k = 0; k < ARRAYS; k++)
                if (!same(a.want[k], a.got[k]))
                    fail_msg("%s, %s: other bits in array %zu at %zu x %zu", ops->name,
                             kernel->name, k, s->rows, s->cols);
        }
    }
    arrays_free(&a);
}

void ops_bits_check(const struct cllm_ops *reference, const struct cllm_ops *ops,
                    bool products_alone)
{
    for (size_t i = 0; i < CLLM_LEN(kernels); i++)
        if (kernels[i].products || !products_alone)
            check(&kernels[i], reference, ops);
}
