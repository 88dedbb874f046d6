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

/* One element's run of k. */
static float sum_run(const float *a, size_t a_step, const float *b, size_t b_step,
                     size_t depth)
{
    float sum = 0.0f;

    for (size_t p = 0; p < depth; p++)
        sum = fma_f32(a[p * a_step], b[p * b_step], sum);
    return sum;
}

static float sum_run_bf16(const float *a, size_t a_step, const float *b, size_t b_step,
                          size_t depth)
{
    float sum = 0.0f;

    for (size_t i = 0; i < cllm_align_up(depth, 2); i++) {
        size_t p = i ^ 1;
        float x = p < depth ? cllm_f32_from_bits(round_bf16(a[p * a_step])) : 0.0f;
        float y = p < depth ? cllm_f32_from_bits(round_bf16(b[p * b_step])) : 0.0f;

        sum = fma_normal(x, y, sum);
    }
    return sum;
}

/* One element's tile of k, whose operands end after @depth. */
static float sum_tile(const float *a, size_t a_step, const float *b, size_t b_step,
                      size_t depth)
{
    float sum[2] = {0};

    for (size_t p = 0; p < TILE_DEPTH; p++) {
        float x = p < depth ? cllm_f32_from_bits(round_bf16(a[p * a_step])) : 0.0f;
        float y = p < depth ? cllm_f32_from_bits(round_bf16(b[p * b_step])) : 0.0f;

        sum[p % 2] = fma_normal(x, y, sum[p % 2]);
    }
    return normal(sum[0] + sum[1]);
}

static inline float add(float c, float sum, bool bf16)
{
    return bf16 ? normal(normal(c) + sum) : c + sum;
}

/* How a product sums. */
struct form {
    size_t run; /* elements of k that are summed before they are added to C */
    float (*sum)(const float *a, size_t a_step, const float *b, size_t b_step,
                 size_t depth);
    bool bf16;      /* no denormals */
    bool from_zero; /* the first run, too, is added, to 0 */
};

/* What element (@i,@j) of C begins as. */
static float begin(const struct start *start, size_t ldc, size_t i, size_t j, bool bf16)
{
    if (!is_start(start))
        return 0.0f;
    return bf16 && start->add != NULL && start->bias != NULL
               ? add(start->add[i * ldc + j], normal(start->bias[j]), true)
               : start_value(start, ldc, i, j);
}

static void multiply(float *c, const float *a, const float *b,
                     const struct cllm_matmul *shape, const struct form *form)
{
    const struct strides ld = strides_of(shape);
    const struct start start = start_of(c, shape);
    bool onto = form->from_zero || is_start(&start);
    size_t a_row = shape->trans_a ? 1 : ld.a, a_step = shape->trans_a ? ld.a : 1;
    size_t b_col = shape->trans_b ? ld.b : 1, b_step = shape->trans_b ? 1 : ld.b;

    for (size_t i = 0; i < shape->m; i++) {
        for (size_t j = 0; j < shape->n; j++) {
            float *to = c + i * ld.c + j;

            *to = begin(&start, ld.c, i, j, form->bf16);
            for (size_t p = 0; p < shape->k; p += form->run) {
                float sum = form->sum(a + i * a_row + p * a_step, a_step,
                                      b + j * b_col + p * b_step, b_step,
                                      cllm_min_u64(form->run, shape->k - p));

                *to = onto || p > 0 ? add(*to, sum, form->bf16) : sum;
            }
        }
    }
}

void CLLM_KERNEL(matmul)(float *c, const float *a, const float *b,
                         const struct cllm_matmul *shape)
{
    const struct form form = {.run = DEPTH, .sum = sum_run};

    multiply(c, a, b, shape, &form);
}

void CLLM_KERNEL(matmul_bf16)(float *c, const float *a, const float *b,
                              const struct cllm_matmul *shape)
{
    const struct form form = {.run = DEPTH, .sum = sum_run_bf16, .bf16 = true};

    multiply(c, a, b, shape, &form);
}

void CLLM_KERNEL(matmul_tiles)(float *c, const float *a, const float *b,
                               const struct cllm_matmul *shape)
{
    const struct form form = {
        .run = TILE_DEPTH, .sum = sum_tile, .bf16 = true, .from_zero = true};

    multiply(c, a, b, shape, &form);
}

#endif
