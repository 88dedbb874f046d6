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
static inline float fma_f32(float x, float y, float z)
{
    double product = (double)x * (double)y, sum = product + (double)z;
    double part = sum - product;
    double rest = (product - (sum - part)) + ((double)z - part);
    uint64_t bits;

    memcpy(&bits, &sum, sizeof bits);
    if (rest != 0 && (bits & 1) == 0 && __builtin_isfinite(sum))
        bits += (rest > 0) == (sum > 0) ? 1 : UINT64_MAX;
    memcpy(&sum, &bits, sizeof bits);
    return (float)sum;
}

/* One element's run of k. */
static float sum_run(const float *a, size_t a_step, const float *b, size_t b_step,
                     size_t depth, bool bf16)
{
    float sum = 0.0f;

    for (size_t p = 0; p < depth; p++) {
        float x = a[p * a_step], y = b[p * b_step];

        sum = bf16 ? fma_f32(round_bf16(x), round_bf16(y), sum) : fma_f32(x, y, sum);
    }
    return sum;
}

static void multiply(float *c, const float *a, const float *b,
                     const struct cllm_matmul *shape, bool bf16)
{
    const struct strides ld = strides_of(shape);
    size_t a_row = shape->trans_a ? 1 : ld.a, a_step = shape->trans_a ? ld.a : 1;
    size_t b_col = shape->trans_b ? ld.b : 1, b_step = shape->trans_b ? 1 : ld.b;

    for (size_t i = 0; i < shape->m; i++) {
        for (size_t j = 0; j < shape->n; j++) {
            float *to = c + i * ld.c + j;

            for (size_t p = 0; p < shape->k; p += DEPTH) {
                float sum = sum_run(a + i * a_row + p * a_step, a_step,
                                    b + j * b_col + p * b_step, b_step,
                                    cllm_min_u64(DEPTH, shape->k - p), bf16);

                *to = shape->accumulate || p > 0 ? *to + sum : sum;
            }
        }
    }
}

void CLLM_KERNEL(matmul)(float *c, const float *a, const float *b,
                         const struct cllm_matmul *shape)
{
    multiply(c, a, b, shape, false);
}

void CLLM_KERNEL(matmul_bf16)(float *c, const float *a, const float *b,
                              const struct cllm_matmul *shape)
{
    multiply(c, a, b, shape, true);
}

#endif
