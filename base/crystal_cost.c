/*
 * base/crystal_cost.c - the similarity and its logarithm, with libm: not for workers.
 */
#include <math.h>

#include "base/crystal.h"

double cllm_crystal_similarity(uint32_t x, uint32_t y)
{
    uint64_t a = (uint64_t)x + 1, b = (uint64_t)y + 1;
    struct cllm_crystal_place p = cllm_crystal_place(a), q = cllm_crystal_place(b);
    double dx = (double)(p.x - q.x), dy = (double)(p.y - q.y);

    return 0.7 * ((double)cllm_crystal_gcd(a, b) / (double)cllm_max_u64(a, b)) +
           0.3 / (1 + sqrt(dx * dx + dy * dy));
}

double cllm_crystal_cost(uint32_t x, uint32_t y)
{
    return x == y ? 0 : -log(fmax(cllm_crystal_similarity(x, y), 1e-10));
}
