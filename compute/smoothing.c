/*
 * compute/smoothing.c - cross-entropy against targets smoothed by similarity.
 *
 * With e = epsilon the target y's distribution is q(j) = (1 - e) [j = y] + e c(j), where
 * c(j) = C(y,j) / sum_k C(y,k) (base/crystal.h). The loss is
 *
 *     -sum_j q(j) log p(j) = -log p(y) + e (z(y) - sum_j c(j) z(j)),   z the logits
 *
 * and its gradient p - q. Its least value is the entropy of q, not 0.
 */
#include "compute/kernels.h"

#include "base/crystal.h"
#include "compute/elementary.h"
#include "compute/reduce.h"

/* Of the two terms of the similarity. */
#define GCD_SHARE    0.7f
#define SPIRAL_SHARE 0.3f

static void mark_multiples(float *gcd, uint32_t d, size_t V)
{
    for (size_t b = d; b <= V; b += d)
        gcd[b - 1] = (float)(int32_t)d;
}

/* gcd(a,b) for b = 1 .. V: the divisors of a, the least first, mark their multiples. */
static void fill_gcd(float *gcd, uint32_t a, size_t V)
{
    const uint32_t root = (uint32_t)cllm_crystal_isqrt(a);

    for (uint32_t d = 1; d <= root; d++)
        if (a % d == 0)
            mark_multiples(gcd, d, V);
    for (uint32_t d = root; d > 0; d--)
        if (a % d == 0)
            mark_multiples(gcd, a / d, V);
}

void CLLM_KERNEL(similarities)(float *c, uint32_t target, size_t V,
                               const struct cllm_smoothing *smoothing)
{
    const float a = (float)(target + 1);
    const float x = smoothing->x[target], y = smoothing->y[target];
    float inverse;

    fill_gcd(c, target + 1, V);
    for (size_t j = 0; j < V; j++) {
        float b = (float)(int32_t)(j + 1);
        float dx = smoothing->x[j] - x, dy = smoothing->y[j] - y;
        float d = cllm_sqrtf(dx * dx + dy * dy);

        c[j] = GCD_SHARE * (c[j] / (a > b ? a : b)) + SPIRAL_SHARE / (1.0f + d);
    }
    inverse = 1.0f / cllm_reduce_sum(c, V);
    for (size_t j = 0; j < V; j++)
        c[j] *= inverse;
}

void CLLM_KERNEL(smooth_cross_entropy)(double *losses, float *logits,
                                       const uint32_t *targets, size_t rows, size_t V,
                                       bool backward,
                                       const struct cllm_smoothing *smoothing, float *c)
{
    const float epsilon = smoothing->epsilon;

    for (size_t r = 0; r < rows; r++) {
        float *row = logits + r * V; // (V)
        float target, mean;

        CLLM_KERNEL(similarities)(c, targets[r], V, smoothing);
        target = row[targets[r]];
        mean = cllm_reduce_dot(c, row, V);
        CLLM_KERNEL(cross_entropy)(losses + r, row, targets + r, 1, V, backward);
        losses[r] += (double)epsilon * ((double)target - (double)mean);
        if (!backward)
            continue;
        for (size_t j = 0; j < V; j++)
            row[j] -= epsilon * c[j];
        row[targets[r]] += epsilon;
    }
}
