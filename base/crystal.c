/*
 * base/crystal.c - whole numbers alone: roots, divisors, the spiral.
 */
#include "base/crystal.h"

uint64_t cllm_crystal_isqrt(uint64_t n)
{
    uint64_t root = 0;

    for (uint64_t bit = UINT64_C(1) << 31; bit > 0; bit >>= 1)
        if ((root + bit) * (root + bit) <= n)
            root += bit;
    return root;
}

uint64_t cllm_crystal_gcd(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

struct cllm_crystal_place cllm_crystal_place(uint64_t n)
{
    int64_t r, o;

    CLLM_ASSERT(n < UINT64_C(1) << 62);
    if (n == 0)
        return (struct cllm_crystal_place){0, 0};
    r = (int64_t)(cllm_crystal_isqrt(n) + 1) / 2; /* of the square ring that n is on */
    o = (int64_t)n - (2 * r - 1) * (2 * r - 1);   /* along it, from 0 to 8 r - 1 */
    if (o < 2 * r)
        return (struct cllm_crystal_place){r, o - r};
    if (o < 4 * r)
        return (struct cllm_crystal_place){r - (o - 2 * r), r};
    if (o < 6 * r)
        return (struct cllm_crystal_place){-r, r - (o - 4 * r)};
    return (struct cllm_crystal_place){o - 6 * r - r, -r};
}
