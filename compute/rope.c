/*
 * compute/rope.c - rotated positions: pairs of elements of queries and keys turned by an
 * angle that grows with the position.
 */
#include "compute/kernels.h"

/* One half of a head against the other. */
static void turn(float *restrict low, float *restrict high, const float *restrict cosine,
                 const float *restrict sine, float direction, size_t half)
{
    for (size_t i = 0; i < half; i++) {
        float a = low[i], b = high[i], s = direction * sine[i];

        low[i] = a * cosine[i] - b * s;
        high[i] = b * cosine[i] + a * s;
    }
}

void CLLM_KERNEL(rope)(float *qkv, const float *table, const struct cllm_attention *sizes,
                       size_t first, size_t rows, bool inverse)
{
    size_t D = sizes->C / sizes->H, row = cllm_attention_row(sizes), half = D / 2;
    size_t turned = sizes->C + sizes->C / cllm_attention_group(sizes);
    float direction = inverse ? -1.0f : 1.0f;

    for (size_t r = first; r < first + rows; r++) {
        const float *cosine = table + r % sizes->T * D, *sine = cosine + half;
        float *at = qkv + r * row, *end = at + turned;

        for (; at < end; at += D)
            turn(at, at + half, cosine, sine, direction, half);
    }
}
