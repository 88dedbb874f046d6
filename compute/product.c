/*
 * compute/product.c - matrix products by their definition (compute/product.h), where the
 * compiler has no FMA instructions to use: the reference.
 */
#include "compute/product.h"

#include <string.h>

#if !defined(__FMA__)

/*
 * x y + z with one rounding. The product of two f32 is exact in double; the sum is
 * rounded to odd (Boldo, Melquiond: "Emulation of FMA and correctly rounded sums", 2008),
 * so that rounding it again to f32 is as rounding once.
 */
static inline double fma_odd(float x, float y, float z)
{
    double product = (double)x * (double)y, sum = product + (double)z;
    double part = sum - product;
    double rest = (product - (sum - part)) + ((double)z - part);
    uint64_t bits;

    memcpy(&bits, &sum, sizeof bits);
    if (rest != 0 && (bits & 1) == 0 && __builtin_isfinite(sum))
        bits += (rest > 0) == (sum > 0) ? 1 : UINT64_MAX;
    memcpy(&sum, &bits, sizeof bits);
    return sum;
}

static inline float fma_f32(float x, float y, float z)
{
    return (float)fma_odd(x, y, z);
}

/* Likewise, but 0 where f32's 24 bits would not make it normal, had it any exponent. */
static inline float fma_normal(float x, float y, float z)
{
    double sum = fma_odd(x, y, z);

    return __builtin_fabs(sum) < 0x1p-126 - 0x1p-151
               ? __builtin_copysignf(0.0f, (float)sum)
               : (float)sum;
}

static inline float normal(float x)
{
    return __builtin_fabsf(x) < 0x1p-126f ? __builtin_copysignf(0.0f, x) : x;
}

/* A row of A, or a column of B. */
struct vector {
    const float *x;
    size_t step;
};

static inline float element_of(const struct vector *v, size_t p)
{
    return v->x[p * v->step];
}

static inline float as_bf16(float x)
{
    return cllm_f32_from_bits(round_bf16(x));
}

static inline float add_normal(float c, float sum)
{
    return normal(normal(c) + sum);
}

/* @c, and one element's run of k, which is @depth long; the first run, if there is
 * nothing that it is added to, is @alone. */
static float add_run(float c, bool alone, const struct vector *a, const struct vector *b,
                     size_t depth)
{
    float sum = 0.0f;

    for (size_t p = 0; p < depth; p++)
        sum = fma_f32(element_of(a, p), element_of(b, p), sum);
    return alone ? sum : c + sum;
}

static float add_run_bf16(float c, bool alone, const struct vector *a,
                          const struct vector *b, size_t depth)
{
    float sum = 0.0f;

    for (size_t i = 0; i < cllm_align_up(depth, 2); i++) {
        size_t p = i ^ 1;
        float x = p < depth ? as_bf16(element_of(a, p)) : 0.0f;
        float y = p < depth ? as_bf16(element_of(b, p)) : 0.0f;

        sum = fma_normal(x, y, sum);
    }
    return alone ? sum : add_normal(c, sum);
}

/* A tile of k of an operand: its pieces of bf16. */
struct tile {
    float piece[PIECES][TILE_DEPTH];
};

/* @pieces of it, of what begins at @p and ends at @depth; then zeros. */
static void split(struct tile *tile, const struct vector *v, size_t p, size_t depth,
                  size_t pieces)
{
    for (size_t q = 0; q < TILE_DEPTH; q++) {
        float x = p + q < depth ? element_of(v, p + q) : 0.0f;

        for (size_t i = 0; i < pieces; i++) {
            tile->piece[i][q] = as_bf16(x);
            x = normal(normal(x) - tile->piece[i][q]);
        }
    }
}

static float sum_tile(const float *x, const float *y)
{
    float sum[2] = {0};

    for (size_t p = 0; p < TILE_DEPTH; p++)
        sum[p % 2] = fma_normal(x[p], y[p], sum[p % 2]);
    return normal(sum[0] + sum[1]);
}

/* The first tile, too, is added, to 0. */
static float add_tile(float c, bool alone, const struct vector *a, const struct vector *b,
                      size_t depth)
{
    struct tile x, y;

    (void)alone;
    split(&x, a, 0, depth, 1);
    split(&y, b, 0, depth, 1);
    return add_normal(c, sum_tile(x.piece[0], y.piece[0]));
}

static float add_run_split(float c, bool alone, const struct vector *a,
                           const struct vector *b, size_t depth)
{
    struct tile x, y;
    float sum = 0.0f;

    for (size_t p = 0; p < depth; p += TILE_DEPTH) {
        split(&x, a, p, depth, PIECES);
        split(&y, b, p, depth, PIECES);
        for (size_t i = 0; i < SPLIT_PAIRS; i++)
            sum = add_normal(
                sum, sum_tile(x.piece[split_pairs[i].a], y.piece[split_pairs[i].b]));
    }
    return alone ? sum : add_normal(c, sum);
}

/* How a product sums. */
struct form {
    size_t run; /* elements of k that are summed before they are added to C */
    float (*add)(float c, bool alone, const struct vector *a, const struct vector *b,
                 size_t depth);
    bool bf16; /* no denormals */
};

/* What element (@i,@j) of C begins as. */
static float begin(const struct start *start, size_t ldc, size_t i, size_t j, bool bf16)
{
    if (!is_start(start))
        return 0.0f;
    return bf16 && start->add != NULL && start->bias != NULL
               ? add_normal(start->add[i * ldc + j], normal(start->bias[j]))
               : start_value(start, ldc, i, j);
}

static void multiply(float *c, const float *a, const float *b,
                     const struct cllm_matmul *shape, const struct form *form)
{
    const struct strides ld = strides_of(shape);
    const struct start start = start_of(c, shape);
    size_t a_row = shape->trans_a ? 1 : ld.a, a_step = shape->trans_a ? ld.a : 1;
    size_t b_col = shape->trans_b ? ld.b : 1, b_step = shape->trans_b ? 1 : ld.b;

    for (size_t i = 0; i < shape->m; i++) {
        for (size_t j = 0; j < shape->n; j++) {
            float *to = c + i * ld.c + j;

            *to = begin(&start, ld.c, i, j, form->bf16);
            for (size_t p = 0; p < shape->k; p += form->run) {
                const struct vector row = {a + i * a_row + p * a_step, a_step};
                const struct vector col = {b + j * b_col + p * b_step, b_step};

                *to = form->add(*to, p == 0 && !is_start(&start), &row, &col,
                                cllm_min_u64(form->run, shape->k - p));
            }
        }
    }
}

void CLLM_KERNEL(matmul)(float *c, const float *a, const float *b,
                         const struct cllm_matmul *shape)
{
    const struct form form = {.run = DEPTH, .add = add_run};

    multiply(c, a, b, shape, &form);
}

void CLLM_KERNEL(matmul_bf16)(float *c, const float *a, const float *b,
                              const struct cllm_matmul *shape)
{
    const struct form form = {.run = PAIR_DEPTH, .add = add_run_bf16, .bf16 = true};

    multiply(c, a, b, shape, &form);
}

void CLLM_KERNEL(matmul_tiles)(float *c, const float *a, const float *b,
                               const struct cllm_matmul *shape)
{
    const struct form form = {.run = TILE_DEPTH, .add = add_tile, .bf16 = true};

    multiply(c, a, b, shape, &form);
}

void CLLM_KERNEL(matmul_split)(float *c, const float *a, const float *b,
                               const struct cllm_matmul *shape)
{
    const struct form form = {.run = SPLIT_DEPTH, .add = add_run_split, .bf16 = true};

    multiply(c, a, b, shape, &form);
}

#endif
