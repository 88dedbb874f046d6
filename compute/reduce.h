/*
 * compute/reduce.h - the one order in which rows are summed.
 *
 * Element i goes to partial sum i mod 16; then the 16 are added as a tree of halves. The
 * order is part of every run's bits: it suits vectors of 4, 8 and 16, so that no
 * instruction set has to change it, and it is more exact than a sum from left to right.
 * Maxima do not depend on the order, except that a NaN may be passed over: who takes a
 * maximum must meet the NaN again in a sum.
 *
 * Loops over lanes are not to be unrolled: compilers that unroll 16 rounds before they
 * look for vectors find some of them, or none.
 */
#ifndef CLLM_COMPUTE_REDUCE_H
#define CLLM_COMPUTE_REDUCE_H

#include "base/base.h"

#define CLLM_LANES 16

static inline float cllm_reduce_lanes(const float lane[CLLM_LANES])
{
    float eight[8], four[4];

    for (size_t j = 0; j < 8; j++)
        eight[j] = lane[j] + lane[j + 8];
    for (size_t j = 0; j < 4; j++)
        four[j] = eight[j] + eight[j + 4];
    return (four[0] + four[2]) + (four[1] + four[3]);
}

static inline float cllm_reduce_sum(const float *x, size_t n)
{
    float lane[CLLM_LANES] = {0};
    size_t i = 0;

    for (; i + CLLM_LANES <= n; i += CLLM_LANES)
#pragma GCC unroll 1
        for (size_t j = 0; j < CLLM_LANES; j++)
            lane[j] += x[i + j];
    for (size_t j = 0; i + j < n; j++)
        lane[j] += x[i + j];
    return cllm_reduce_lanes(lane);
}

static inline float cllm_reduce_dot(const float *x, const float *y, size_t n)
{
    float lane[CLLM_LANES] = {0};
    size_t i = 0;

    for (; i + CLLM_LANES <= n; i += CLLM_LANES)
#pragma GCC unroll 1
        for (size_t j = 0; j < CLLM_LANES; j++)
            lane[j] += x[i + j] * y[i + j];
    for (size_t j = 0; i + j < n; j++)
        lane[j] += x[i + j] * y[i + j];
    return cllm_reduce_lanes(lane);
}

static inline float cllm_greater(float x, float y)
{
    return x > y ? x : y;
}

/* The greatest of @n >= 1. The last lanes overlap those before them. */
static inline float cllm_reduce_max(const float *x, size_t n)
{
    float lane[CLLM_LANES], eight[8], four[4], max = x[0];

    if (n < CLLM_LANES) {
        for (size_t i = 1; i < n; i++)
            max = cllm_greater(x[i], max);
        return max;
    }
#pragma GCC unroll 1
    for (size_t j = 0; j < CLLM_LANES; j++)
        lane[j] = cllm_greater(x[n - CLLM_LANES + j], x[j]);
    for (size_t i = CLLM_LANES; i + CLLM_LANES < n; i += CLLM_LANES)
#pragma GCC unroll 1
        for (size_t j = 0; j < CLLM_LANES; j++)
            lane[j] = cllm_greater(x[i + j], lane[j]);
#pragma GCC unroll 1
    for (size_t j = 0; j < 8; j++)
        eight[j] = cllm_greater(lane[j], lane[j + 8]);
#pragma GCC unroll 1
    for (size_t j = 0; j < 4; j++)
        four[j] = cllm_greater(eight[j], eight[j + 4]);
    return cllm_greater(cllm_greater(four[0], four[1]), cllm_greater(four[2], four[3]));
}

#endif /* CLLM_COMPUTE_REDUCE_H */
