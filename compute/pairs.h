/*
 * compute/pairs.h - pairs of bf16 as instructions take them: words of two numbers that
 * follow each other along k, the first in the lower half.
 *
 * Operands are f32 and are rounded on the way, by VCVTNE2PS2BF16, which rounds as
 * round_bf16() of compute/product.h does (Intel: "Intel 64 and IA-32 Architectures
 * Software Developer's Manual", volume 2C).
 */
#ifndef CLLM_COMPUTE_PAIRS_H
#define CLLM_COMPUTE_PAIRS_H

#include <stdbool.h>
#include <stddef.h>

#if defined(__AVX512BF16__)

#    include <immintrin.h>

/* Of a vector. */
enum { WORDS = 16 };

/* The first @n of 16 lanes; n may be more, or less than 0. */
static inline __mmask16 lanes(ptrdiff_t n)
{
    return (__mmask16)(n >= WORDS ? 0xffffu : n <= 0 ? 0u : (1u << n) - 1);
}

/* What becomes a row of words: two halves of 16 numbers. */
struct halves {
    __m512 low, high;
};

/* Rounded; the low half first. */
static inline __m512i round_halves(const struct halves *x)
{
    return (__m512i)_mm512_cvtne2ps_pbh(x->high, x->low);
}

/* Words of the numbers that follow each other become words of those that face each other
 * in both halves. */
static inline __m512i interleave(__m512i words)
{
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23,
                         7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);

    return _mm512_permutexvar_epi16(order, words);
}

/* 16 x 16 words: rows become columns. */
static inline void transpose(__m512i x[WORDS])
{
    __m512i y[WORDS];

#    pragma GCC unroll 8
    for (size_t i = 0; i < WORDS; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
#    pragma GCC unroll 4
    for (size_t i = 0; i < WORDS; i += 4) {
        x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
    }
    /* A quarter of x[4 g + j] is now column 4 l + j of rows 4 g to 4 g + 3. */
#    pragma GCC unroll 4
    for (size_t j = 0; j < 4; j++) {
        __m512i even0 = _mm512_shuffle_i32x4(x[j], x[4 + j], 0x88);
        __m512i even1 = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0x88);
        __m512i odd0 = _mm512_shuffle_i32x4(x[j], x[4 + j], 0xdd);
        __m512i odd1 = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0xdd);

        y[j] = _mm512_shuffle_i32x4(even0, even1, 0x88);
        y[4 + j] = _mm512_shuffle_i32x4(odd0, odd1, 0x88);
        y[8 + j] = _mm512_shuffle_i32x4(even0, even1, 0xdd);
        y[12 + j] = _mm512_shuffle_i32x4(odd0, odd1, 0xdd);
    }
#    pragma GCC unroll 16
    for (size_t i = 0; i < WORDS; i++)
        x[i] = y[i];
}

/* A part of an operand where it lies: @n rows of A or columns of B, @depth of k. */
struct part {
    const float *x;
    size_t ld, n, depth;
    bool along; /* its rows go along k, otherwise across */
};

/* Row @i of 16 rows of words, not rounded yet: row i of @part, or rows 2 i and 2 i + 1
 * where they go across k; zeros behind the edge. */
static inline __attribute__((always_inline)) struct halves load_row(
    const struct part *part, size_t i)
{
    const float *x = part->x + (part->along ? i : 2 * i) * part->ld;
    struct halves row = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    ptrdiff_t n = (ptrdiff_t)part->n, depth = (ptrdiff_t)part->depth;

    if (part->along && i < part->n) {
        row.low = _mm512_maskz_loadu_ps(lanes(depth), x);
        row.high = _mm512_maskz_loadu_ps(lanes(depth - WORDS), x + WORDS);
    }
    if (!part->along && 2 * i < part->depth)
        row.low = _mm512_maskz_loadu_ps(lanes(n), x);
    if (!part->along && 2 * i + 1 < part->depth)
        row.high = _mm512_maskz_loadu_ps(lanes(n), x + part->ld);
    return row;
}

#endif

#endif /* CLLM_COMPUTE_PAIRS_H */
