/*
 * base/crystal.h - the crystalline similarity of two token ids: common divisors, and how
 * near they lie on a square spiral.
 *
 *     a = x + 1, b = y + 1
 *     C(x,y) = 0.7 gcd(a,b) / max(a,b) + 0.3 / (1 + distance of the places of a and b)
 *
 * C is 1 for equal ids and less for all others. -ln C of a token and its successor is a
 * function of the data alone: a constant that no weight can change, and no loss.
 *
 * The spiral is a bijection of the numbers 0, 1, 2 ... onto the points of the plane with
 * whole coordinates, though not everywhere to a neighbour. All of it is whole numbers but
 * for one root and one logarithm.
 */
#ifndef CLLM_BASE_CRYSTAL_H
#define CLLM_BASE_CRYSTAL_H

#include "base/base.h"

struct cllm_crystal_place {
    int64_t x, y;
};

/* The greatest r with r * r <= @n. */
uint64_t cllm_crystal_isqrt(uint64_t n);

/* The greatest common divisor; gcd(a, 0) = a. */
uint64_t cllm_crystal_gcd(uint64_t a, uint64_t b);

/* Where @n < 2^62 lies; 0 is the origin. */
struct cllm_crystal_place cllm_crystal_place(uint64_t n);

/* ---- base/crystal_cost.c ---- */

/* C of two ids, in (0, 1]. */
double cllm_crystal_similarity(uint32_t x, uint32_t y);

/* -ln(max(C, 1e-10)) in nats; 0 for equal ids. */
double cllm_crystal_cost(uint32_t x, uint32_t y);

#endif /* CLLM_BASE_CRYSTAL_H */
