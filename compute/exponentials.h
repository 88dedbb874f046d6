/*
 * compute/exponentials.h - what a softmax is made of: exponentials of a row and, in the
 * same pass, their sum, in the order of compute/reduce.h.
 */
#ifndef CLLM_COMPUTE_EXPONENTIALS_H
#define CLLM_COMPUTE_EXPONENTIALS_H

#include "compute/elementary.h"
#include "compute/reduce.h"

/* Of 16 elements the first @count become e^(scale x - top) and join their lanes, the
 * others, whatever they were, become 0. */
static inline __attribute__((always_inline)) void cllm_exponentials_of_lanes(
    float *restrict x, float *restrict lane, float scale, float top, int32_t count)
{
#pragma GCC unroll 1
    for (int32_t j = 0; j < CLLM_LANES; j++) {
        float power = cllm_expf_below(x[j] * scale - top);

        power = j < count ? power : 0.0f;
        x[j] = power;
        lane[j] += power;
    }
}

/* As many lanes as @n elements fill; how many those are. */
static inline size_t cllm_exponentials_whole(float *x, float *lane, float scale,
                                             float top, size_t n)
{
    size_t i = 0;

    for (; i + CLLM_LANES <= n; i += CLLM_LANES)
        cllm_exponentials_of_lanes(x + i, lane, scale, top, CLLM_LANES);
    return i;
}

/* x[i] = e^(scale x[i] - top) for @n elements; returns their sum. Behind them the lanes
 * are filled up with zeros: there is room. */
static inline float cllm_exponentials_padded(float *x, float scale, float top, size_t n)
{
    float lane[CLLM_LANES] = {0};
    size_t i = cllm_exponentials_whole(x, lane, scale, top, n);

    if (i < n)
        cllm_exponentials_of_lanes(x + i, lane, scale, top, (int32_t)(n - i));
    return cllm_reduce_lanes(lane);
}

/* Likewise, with nothing written behind them. */
static inline float cllm_exponentials(float *x, float scale, float top, size_t n)
{
    float lane[CLLM_LANES] = {0}, rest[CLLM_LANES] = {0};
    size_t i = cllm_exponentials_whole(x, lane, scale, top, n);

    if (i < n) {
        for (size_t j = 0; i + j < n; j++)
            rest[j] = x[i + j];
        cllm_exponentials_of_lanes(rest, lane, scale, top, (int32_t)(n - i));
        for (size_t j = 0; i + j < n; j++)
            x[i + j] = rest[j];
    }
    return cllm_reduce_lanes(lane);
}

#endif /* CLLM_COMPUTE_EXPONENTIALS_H */
