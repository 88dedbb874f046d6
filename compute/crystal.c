/*
 * compute/crystal.c - the similarity of base/crystal.h for all pairs of a sequence, for
 * attention's learned bias.
 *
 * Ids are below 2^20, so that quotients of two of them, cut to whole numbers, and
 * remainders are exact in f32: Euclid's algorithm runs in the lanes of vectors, until the
 * slowest pair of 32 is done.
 */
#include "compute/kernels.h"

#include <string.h>

#include "base/crystal.h"
#include "compute/elementary.h"
#include "compute/reduce.h"

/* Of the two terms of the similarity. */
#define GCD_SHARE    0.7f
#define SPIRAL_SHARE 0.3f

/* 16 would be unrolled before they could become vectors. */
enum {
    LANES = 2 * CLLM_LANES,
    ROUNDS = 4 /* of Euclid's, until the end is looked for */
};

void CLLM_KERNEL(crystal_points)(float *points, size_t stride, const uint32_t *tokens,
                                 size_t first, size_t n)
{
    for (size_t i = first; i < first + n; i++) {
        struct cllm_crystal_place at = cllm_crystal_place((uint64_t)tokens[i] + 1);

        points[i] = (float)(tokens[i] + 1);
        points[stride + i] = (float)at.x;
        points[2 * stride + i] = (float)at.y;
    }
}

/* One round of Euclid's algorithm: a and b become b and a mod b, until b is 0. Returns
 * whether any is not. */
static bool divide(float *restrict a, float *restrict b)
{
    int32_t left = 0;

    for (size_t j = 0; j < LANES; j++) {
        float x = a[j], y = b[j], divisor = y > 1.0f ? y : 1.0f;
        float rest = x - (float)(int32_t)(x / divisor) * divisor;

        a[j] = y > 0.0f ? y : x;
        b[j] = rest;
        left |= (int32_t)rest;
    }
    return left != 0;
}

/* Similarities of one token, of the number a at (x, y), to LANES of them. */
static void similar_many(float *restrict out, float a, float x, float y,
                         const float *restrict number, const float *restrict to_x,
                         const float *restrict to_y)
{
    float gcd[LANES], rest[LANES];

    for (size_t j = 0; j < LANES; j++) {
        gcd[j] = a > number[j] ? a : number[j];
        rest[j] = a > number[j] ? number[j] : a;
    }
    while (divide(gcd, rest))
        ;
    for (size_t j = 0; j < LANES; j++) {
        float most = a > number[j] ? a : number[j];
        float dx = to_x[j] - x, dy = to_y[j] - y;
        float d = cllm_sqrtf(dx * dx + dy * dy);

        out[j] = GCD_SHARE * (gcd[j] / most) + SPIRAL_SHARE / (1.0f + d);
    }
}

/* The same to fewer: the lanes behind them compute something harmless. */
static void similar_rest(float *out, float a, float x, float y, const float *points,
                         size_t stride, size_t n)
{
    float number[LANES], to_x[LANES] = {0}, to_y[LANES] = {0}, all[LANES];

    for (size_t j = 0; j < LANES; j++)
        number[j] = j < n ? points[j] : 1;
    memcpy(to_x, points + stride, n * sizeof *to_x);
    memcpy(to_y, points + 2 * stride, n * sizeof *to_y);
    similar_many(all, a, x, y, number, to_x, to_y);
    memcpy(out, all, n * sizeof *out);
}

void CLLM_KERNEL(crystal_pairs)(float *similar, size_t ld, const float *points,
                                size_t stride, size_t first, size_t rows)
{
    for (size_t r = 0; r < rows; r++) {
        size_t at = first + r, seen = at + 1, j = 0;
        float a = points[at], x = points[stride + at], y = points[2 * stride + at];
        float *row = similar + r * ld; // (seen)

        for (; j + LANES <= seen; j += LANES)
            similar_many(row + j, a, x, y, points + j, points + stride + j,
                         points + 2 * stride + j);
        if (j < seen)
            similar_rest(row + j, a, x, y, points + j, stride, seen - j);
    }
}
