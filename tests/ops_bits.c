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
#if defined(__x86_64__)
#    include <cpuid.h>
#    include <immintrin.h>
#endif

#include <cmocka.h>

#include "tests/numbers.h"

enum { MAX = 70 * 400, ARRAYS = 8 };

/* What an operation reads, and what it writes with either table. */
struct arrays {
    float *in[ARRAYS], *want[ARRAYS], *got[ARRAYS]; // (MAX)
    uint64_t *drawn;                                // (MAX), for tokens
    uint32_t *tokens;                               // (MAX)
    uint32_t vocab;                                 /* each is below this */
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
    a->drawn = calloc(MAX, sizeof *a->drawn);
    a->tokens = calloc(MAX, sizeof *a->tokens);
    assert_true(a->drawn && a->tokens);
    a->scratch = numbers_zero(MAX);
}

static void arrays_free(struct arrays *a)
{
    for (size_t i = 0; i < ARRAYS; i++) {
        free(a->in[i]);
        free(a->want[i]);
        free(a->got[i]);
    }
    free(a->drawn);
    free(a->tokens);
    free(a->scratch);
}

/* What all operations read: drawn once, for that takes longer than most of them. */
static void draw(struct arrays *a, uint64_t seed, enum flavour flavour)
{
    for (size_t i = 0; i < ARRAYS; i++)
        fill(a->in[i], seed + i, flavour);
    for (size_t i = 0; i < MAX; i++)
        a->drawn[i] = cllm_random_u64(seed, CLLM_RANDOM_TEST, i);
}

/* Every array begins as its input; what an operation adds to is there. */
static void begin(struct arrays *a, uint32_t vocab)
{
    for (size_t i = 0; i < ARRAYS; i++) {
        memcpy(a->want[i], a->in[i], MAX * sizeof(float));
        memcpy(a->got[i], a->in[i], MAX * sizeof(float));
    }
    for (size_t i = 0; i < MAX; i++)
        a->tokens[i] = (uint32_t)(a->drawn[i] % vocab);
    a->vocab = vocab;
}

/* The same bits; a NaN is a NaN, whatever its payload. */
static bool same(const float *x, const float *y)
{
    if (memcmp(x, y, MAX * sizeof *x) == 0)
        return true;
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

static double add_columns(const struct cllm_ops *ops, struct arrays *a, float **out,
                          const struct shape *s)
{
    ops->add_columns(out[0], a->in[1], s->rows, s->cols);
    return 0;
}

static double layernorm(const struct cllm_ops *ops, struct arrays *a, float **out,
                        const struct shape *s)
{
    ops->layernorm(out[0], out[1], out[2], a->in[3], a->in[4], a->in[5], 1e-5f, s->rows,
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
    ops->embedding(out[0], a->tokens, s->rows + 1, a->in[1], a->in[2], a->vocab, 1,
                   s->rows, s->cols);
    ops->embedding_backward(out[3], out[4], a->tokens, s->rows + 1, a->in[5], a->vocab, 1,
                            s->rows, s->cols);
    return 0;
}

static double embedding_alone(const struct cllm_ops *ops, struct arrays *a, float **out,
                              const struct shape *s)
{
    ops->embedding(out[0], a->tokens, s->rows + 1, a->in[1], NULL, a->vocab, 1, s->rows,
                   s->cols);
    ops->embedding_backward(out[3], NULL, a->tokens, s->rows + 1, a->in[5], a->vocab, 1,
                            s->rows, s->cols);
    return 0;
}

static double embedding_of_three(const struct cllm_ops *ops, struct arrays *a,
                                 float **out, const struct shape *s)
{
    size_t T = s->rows / 3 + 1;

    ops->embedding(out[0], a->tokens, T + 2, a->in[1], a->in[2], a->vocab, 3, T, s->cols);
    ops->embedding_backward(out[3], out[4], a->tokens, T + 2, a->in[5], a->vocab, 3, T,
                            s->cols);
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
    return numbers_loss(ops, out[0], a->tokens, s->rows, s->cols, true);
}

/* Of nonnegative numbers, as losses are: a sum of infinities of both signs is a NaN of
 * either sign. */
static double sums_of_losses(const struct cllm_ops *ops, struct arrays *a, float **out,
                             const struct shape *s)
{
    double losses[200];

    for (size_t i = 0; i < s->rows; i++)
        losses[i] = fabs((double)a->in[1][i]);
    out[0][0] = (float)ops->sum_losses(losses, s->rows, s->rows / 3 + 1);
    return ops->sum_losses(losses, s->rows, s->rows);
}

static double movements(const struct cllm_ops *ops, struct arrays *a, float **out,
                        const struct shape *s)
{
    uint32_t *targets = (uint32_t *)(void *)out[3];

    ops->put(out[0], a->in[1], s->rows * s->cols * sizeof *out[0]);
    ops->zero(out[2], s->rows * s->cols);
    ops->next_tokens(targets, a->tokens, s->cols, s->rows);
    for (size_t i = 0; i < s->rows * s->cols; i++) /* so that all bits are compared */
        out[3][i] = (float)targets[i];
    return 0;
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

/* To an array, a bias, both; to C itself and a bias. */
static double matmul_added(const struct cllm_ops *ops, struct arrays *a, float **out,
                           const struct shape *s)
{
    for (uint32_t i = 0; i < 8; i++) {
        const float *const add[] = {a->in[3], NULL, a->in[3], out[i]};
        const float *const bias[] = {NULL, a->in[4], a->in[4], a->in[4]};
        const struct cllm_matmul product = {.m = s->rows,
                                            .n = s->cols,
                                            .k = 1 + (s->rows + s->cols) / 3,
                                            .trans_b = i >= 4,
                                            .add = add[i % 4],
                                            .bias = bias[i % 4]};

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

/* Similarities of tokens at all sizes of ids, for one sequence behind the other. */
static void compare(const struct cllm_ops *ops, const struct arrays *a, float *points,
                    float *similar, const struct cllm_attention *sizes)
{
    size_t T = sizes->T, stride = cllm_align_up(T, 16);
    uint32_t ids[OPS_BITS_CONTEXT];

    for (size_t b = 0; b < sizes->B; b++) {
        for (size_t t = 0; t < T; t++)
            ids[t] = (a->tokens[b * T + t] + 1) * 2654435761u >> (12 + t % 20);
        ops->crystal_points(points, stride, ids, 0, T);
        for (size_t first = 0; first < T; first += CLLM_ATTENTION_BLOCK) {
            size_t rows = cllm_min_u64(CLLM_ATTENTION_BLOCK, T - first);

            ops->crystal_pairs(similar + b * cllm_attention_pairs(T) +
                                   cllm_attention_pairs_before(first),
                               first + rows, points, stride, first, rows);
        }
    }
}

static double attention_with_bias(const struct cllm_ops *ops, struct arrays *a,
                                  float **out, const struct shape *s)
{
    const struct cllm_attention sizes = {.B = 2,
                                         .T = s->rows,
                                         .C = s->cols / 16 * 4 + 4,
                                         .H = 4,
                                         .KV = 2,
                                         .beta = a->in[6],
                                         .similar = out[6],
                                         .dbeta = out[7]};

    compare(ops, a, out[5], out[6], &sizes);
    ops->attention(ops, out[0], out[1], a->in[2], a->scratch, &sizes);
    ops->attention_backward(ops, out[4], a->in[5], a->in[2], out[0], out[1], a->scratch,
                            &sizes);
    return 0;
}

/* Without a learned bias, then with one. */
static double attention_dropped(const struct cllm_ops *ops, struct arrays *a, float **out,
                                const struct shape *s)
{
    struct cllm_attention sizes = {
        .B = 2,
        .T = s->rows,
        .C = s->cols / 16 * 4 + 4,
        .H = 4,
        .KV = 2,
        .dropout = {.key = 78, .threshold = UINT32_MAX / 5, .scale = 1.25f}};

    ops->attention(ops, out[0], out[1], a->in[2], a->scratch, &sizes);
    ops->attention_backward(ops, out[4], a->in[5], a->in[2], out[0], out[1], a->scratch,
                            &sizes);
    sizes.beta = a->in[6];
    sizes.similar = out[6];
    sizes.dbeta = out[7];
    compare(ops, a, out[5], out[6], &sizes);
    ops->attention(ops, out[2], out[3], a->in[2], a->scratch, &sizes);
    ops->attention_backward(ops, out[5], a->in[5], a->in[2], out[2], out[3], a->scratch,
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
} kernels[] = {{"add_columns", add_columns, false, false},
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
               {"sums of losses", sums_of_losses, false, false},
               {"movements", movements, false, false},
               {"matmul", matmul, false, true},
               {"matmul added to a start", matmul_added, false, true},
               {"attention", attention, false, true},
               {"attention with a bias", attention_with_bias, false, true},
               {"attention with dropout", attention_dropped, false, true},
               {"attention of two", attention_of_two, false, true},
               {"adamw", adamw, false, false},
               {"lion", lion, false, false},
               {"sgd", sgd, false, false},
               {"mix", mix, false, false},
               {"vectors", vectors, false, false}};

static const struct shape shapes[] = {{1, 1},  {1, 3},   {2, 15},  {3, 16},  {5, 17},
                                      {7, 31}, {33, 33}, {64, 64}, {65, 65}, {70, 200}};

/* gcc clears them where functions end when it optimises for speed; sanitizers' builds do
 * not. */
#if defined(__x86_64__) && defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)

/*
 * Whether upper halves of vector registers are in use: then every SSE instruction that
 * follows waits for them. A CPU that does not tell, or says so of unused ones too, says
 * no.
 */
static __attribute__((target("xsave,avx"))) bool upper_halves_are_used(void)
{
    enum { STATES = 0xd, TELLS = 1 << 2, AVX = 1 << 2, ZMM_UPPER = 1 << 6 };
    uint32_t eax, ebx, ecx, edx;
    uint64_t used;

    if (__get_cpuid_count(STATES, 1, &eax, &ebx, &ecx, &edx) == 0 || (eax & TELLS) == 0)
        return false;
    used = (uint64_t)_xgetbv(1) & (uint64_t)(AVX | ZMM_UPPER);
    if (used == 0)
        return false;
    _mm256_zeroupper();
    return ((uint64_t)_xgetbv(1) & used) == 0;
}

#else

static bool upper_halves_are_used(void)
{
    return false;
}

#endif

static void check(const struct kernel *kernel, const struct cllm_ops *reference,
                  const struct cllm_ops *ops, struct arrays *a, const struct shape *s)
{
    double want, got;

    begin(a, kernel->tokens_below_cols ? (uint32_t)s->cols : 70);
    want = kernel->run(reference, a, a->want, s);
    got = kernel->run(ops, a, a->got, s);
    if (upper_halves_are_used())
        fail_msg("%s, %s: upper halves of vector registers are left in use", ops->name,
                 kernel->name);
    if (!same_number(want, got))
        fail_msg("%s, %s: another number at %zu x %zu", ops->name, kernel->name, s->rows,
                 s->cols);
    for (size_t k = 0; k < ARRAYS; k++)
        if (!same(a->want[k], a->got[k]))
            fail_msg("%s, %s: other bits in array %zu at %zu x %zu", ops->name,
                     kernel->name, k, s->rows, s->cols);
}

void ops_bits_check(const struct cllm_ops *reference, const struct cllm_ops *ops,
                    bool products_alone)
{
    struct arrays a;

    arrays_new(&a);
    for (uint32_t flavour = 0; flavour < FLAVOURS; flavour++) {
        for (size_t i = 0; i < CLLM_LEN(shapes); i++) {
            draw(&a, i, (enum flavour)flavour);
            for (size_t k = 0; k < CLLM_LEN(kernels); k++)
                if (kernels[k].products || !products_alone)
                    check(&kernels[k], reference, ops, &a, &shapes[i]);
        }
    }
    arrays_free(&a);
}
