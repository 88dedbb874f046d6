/*
 * compute/product.h - what a matrix product is, for the files that compute it.
 *
 * Every element is the same sum everywhere: k is cut into runs of DEPTH; a run is summed
 * in order, from zero, with one rounding for each multiply-add; runs are added in order,
 * the first to what the product is added to: C, or an array, or a bias, or first of all
 * the sum of these two.
 * compute/product.c writes that down in plain C. With FMA instructions compute/blocked.c
 * computes many elements at once, and compute/rows.c does where A has few rows: the same
 * bits.
 *
 * With bf16 precision it is the sum that VDPBF16PS gives (Intel: "Intel 64 and IA-32
 * Architectures Software Developer's Manual", volume 2C), whether the CPU has it or not:
 * A and B are rounded to bf16; runs have PAIR_DEPTH of k, which goes in pairs, the second
 * of each pair first, a pair cut off by the end of k has a zero; products of two bf16
 * numbers are exact in f32; and what is too small for a normal number is zero: operands,
 * what the product is added to, and every sum.
 *
 * With bf16-amx precision it is the sum that TDPBF16PS gives (the same manual), whether
 * the CPU has it or not: A and B are rounded to bf16; k goes in tiles of TILE_DEPTH, the
 * last filled up with zeros; of a tile the first elements of all pairs are summed in
 * order, from zero, and so are the second ones; the two sums are added, and what comes
 * out is added to what was there, or to zero. Small numbers are zero as above.
 * compute/tiles.c has the instruction, compute/tiles_fma.c does the same without it.
 *
 * With f32-amx precision operands are split: x is rounded to bf16, what that left is
 * rounded, and so is what that left, which makes PIECES bf16 numbers whose sum is x,
 * unless some are too small for normal numbers. k is cut into runs of SPLIT_DEPTH; a run
 * is summed from zero: for each tile of k six sums of a tile, as above, in the order of
 * split_pairs; of nine products of pieces the three smallest are left out, together at
 * most 2^-23 of the product. Runs are added as those of f32 are. An operand that has no
 * bf16 near it, being infinite or above 3.39e38, makes NaN.
 */
#ifndef CLLM_COMPUTE_PRODUCT_H
#define CLLM_COMPUTE_PRODUCT_H

#include "compute/elementary.h"
#include "compute/kernels.h"

/* Parts of the bits. */
enum { DEPTH = 256, PAIR_DEPTH = 512, TILE_DEPTH = 32, PIECES = 3, SPLIT_DEPTH = 512 };

enum { DENORMALS_ARE_ZERO = 1 << 6, FLUSH_TO_ZERO = 1 << 15 }; /* in MXCSR */

/* Which pieces of A and of B are multiplied with each other, in order; 0 is the largest.
 */
enum { SPLIT_PAIRS = 6 };
static const struct split_pair {
    uint8_t a, b;
} split_pairs[SPLIT_PAIRS] = {{0, 2}, {0, 1}, {1, 1}, {1, 0}, {2, 0}, {0, 0}};

/* Leading dimensions as given, or those of an array without gaps. */
struct strides {
    size_t a, b, c;
};

static inline struct strides strides_of(const struct cllm_matmul *shape)
{
    return (struct strides){
        .a = shape->lda ? shape->lda : (shape->trans_a ? shape->m : shape->k),
        .b = shape->ldb ? shape->ldb : (shape->trans_b ? shape->k : shape->n),
        .c = shape->ldc ? shape->ldc : shape->n};
}

/* What the product is added to, where C's first element is: an array whose rows lie as
 * far apart as C's, a row, their sum, or nothing. */
struct start {
    const float *add, *bias;
};

static inline struct start start_of(const float *c, const struct cllm_matmul *shape)
{
    CLLM_ASSERT(!shape->accumulate || (shape->add == NULL && shape->bias == NULL));
    return (struct start){.add = shape->accumulate ? c : shape->add, .bias = shape->bias};
}

/* C itself, once some of k is in it. */
static inline struct start start_itself(const float *c)
{
    return (struct start){.add = c};
}

static inline bool is_start(const struct start *start)
{
    return start->add != NULL || start->bias != NULL;
}

/* That of C's part at (@i,@j). */
static inline struct start start_at(const struct start *whole, size_t ldc, size_t i,
                                    size_t j)
{
    return (struct start){.add = whole->add == NULL ? NULL : whole->add + i * ldc + j,
                          .bias = whole->bias == NULL ? NULL : whole->bias + j};
}

/* Element (@i,@j) of it. */
static inline float start_value(const struct start *start, size_t ldc, size_t i, size_t j)
{
    if (start->add == NULL)
        return start->bias[j];
    if (start->bias == NULL)
        return start->add[i * ldc + j];
    return start->add[i * ldc + j] + start->bias[j];
}

/* @rows and @cols of it to @out, whose rows lie @ld apart; that may be C. */
static inline void put_start(float *out, size_t ld, const struct start *start, size_t ldc,
                             size_t rows, size_t cols)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++)
            out[i * ld + j] = start_value(start, ldc, i, j);
}

/* To the nearest bf16, ties to even, as f32's bits. NaN stays NaN; what is denormal
 * becomes 0. */
static inline uint32_t round_bf16(float x)
{
    uint32_t bits = cllm_f32_bits(x), even = bits >> 16 & 1;
    uint32_t rounded = (bits + 0x7fff + even) & 0xffff0000u;

    if ((bits & 0x7fffffffu) > 0x7f800000u)
        rounded = (bits | 0x00400000u) & 0xffff0000u;
    return (bits & 0x7f800000u) == 0 ? bits & 0x80000000u : rounded;
}

#endif /* CLLM_COMPUTE_PRODUCT_H */
