/*
 * compute/crystal.h - how alike two token ids are as numbers.
 *
 * With a = x + 1 and b = y + 1 the similarity of the ids x and y is
 *
 *     C = 0.7 gcd(a,b) / max(a,b) + 0.3 / (1 + d)
 *
 * where d is the distance of a and b on a square spiral (a diagram of Ulam's kind). C is
 * 1 for equal ids and less for all others. Ids mean something only if somebody gave them
 * a meaning: cllm-prep can number a vocabulary along the spiral by frequency.
 *
 * Whole numbers throughout, the last division and root apart, which are rounded
 * correctly: the same bits everywhere.
 */
#ifndef CLLM_COMPUTE_CRYSTAL_H
#define CLLM_COMPUTE_CRYSTAL_H

#include "base/base.h"

/* Shares of the two terms. */
#define CLLM_CRYSTAL_GCD    0.7f
#define CLLM_CRYSTAL_SPIRAL 0.3f

/* The greatest r with r^2 <= n. */
static inline uint32_t cllm_isqrt(uint32_t n)
{
    uint32_t r = 0;

    for (uint32_t bit = 1u << 15; bit > 0; bit /= 2)
        if ((uint64_t)(r + bit) * (r + bit) <= n)
            r += bit;
    return r;
}

/* Euclid's; gcd(n,0) = n. */
static inline uint32_t cllm_gcd(uint32_t a, uint32_t b)
{
    while (b != 0) {
        uint32_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

struct cllm_spiral {
    int32_t x, y;
};

/*
 * Where n lies: 0 in the middle, then ring r = 1, 2, ... with the 8 r numbers from
 * (2r - 1)^2 on, two r on each side: up the right, left along the top, down the left,
 * right along the bottom. A bijection from the whole numbers to the plane's; below 2^30
 * neither coordinate exceeds 2^14.
 */
static inline struct cllm_spiral cllm_spiral_place(uint32_t n)
{
    int32_t r = (int32_t)((cllm_isqrt(n) + 1) / 2);
    int32_t o = (int32_t)(n - (uint32_t)((2 * r - 1) * (2 * r - 1)));

    if (n == 0)
        return (struct cllm_spiral){0, 0};
    if (o < 2 * r)
        return (struct cllm_spiral){r, o - r};
    if (o < 4 * r)
        return (struct cllm_spiral){r - (o - 2 * r), r};
    if (o < 6 * r)
        return (struct cllm_spiral){-r, r - (o - 4 * r)};
    return (struct cllm_spiral){o - 6 * r - r, -r};
}

/* The similarity of ids @x and @y below 2^20: in (0,1], 1 for x = y alone, symmetric. */
static inline double cllm_crystal(uint32_t x, uint32_t y)
{
    struct cllm_spiral p = cllm_spiral_place(x + 1), q = cllm_spiral_place(y + 1);
    double dx = p.x - q.x, dy = p.y - q.y;

    return 0.7 * cllm_gcd(x + 1, y + 1) / (double)cllm_max_u64(x + 1, y + 1) +
           0.3 / (1 + __builtin_sqrt(dx * dx + dy * dy));
}

/* Targets smoothed towards what is similar; made once by cllm_smoothing_init(). */
struct cllm_smoothing {
    float epsilon; /* share of the target's mass that goes to C; 0: none */
    float *x, *y;  // (V) places of all ids
};

/* Fill @smoothing->x and y, which the caller has provided, for @V ids. */
static inline void cllm_smoothing_init(const struct cllm_smoothing *smoothing, size_t V)
{
    for (size_t i = 0; i < V; i++) {
        struct cllm_spiral at = cllm_spiral_place((uint32_t)i + 1);

        smoothing->x[i] = (float)at.x;
        smoothing->y[i] = (float)at.y;
    }
}

#endif /* CLLM_COMPUTE_CRYSTAL_H */
