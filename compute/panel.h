/*
 * compute/panel.h - vectors of this instruction set, and the panels that matrix products
 * are computed from.
 *
 * A panel (depth,width) is a strip of a matrix, @width rows or columns of it, in the
 * order in which a product reads it: a step of k after the other, elements of a step side
 * by side.
 */
#ifndef CLLM_COMPUTE_PANEL_H
#define CLLM_COMPUTE_PANEL_H

#include "compute/product.h"

#include <string.h>

#if defined(__FMA__)

#    include <immintrin.h>

#    if defined(__AVX512F__)
enum { WIDTH = 16 };
typedef __m512 vector;
#        define vector_zero()         _mm512_setzero_ps()
#        define vector_load(p)        _mm512_loadu_ps(p)
#        define vector_store(p, x)    _mm512_storeu_ps(p, x)
#        define vector_all(x)         _mm512_set1_ps(x)
#        define vector_add(x, y)      _mm512_add_ps(x, y)
#        define vector_fma(x, y, sum) _mm512_fmadd_ps(x, y, sum)
#    else
enum { WIDTH = 8 };
typedef __m256 vector;
#        define vector_zero()         _mm256_setzero_ps()
#        define vector_load(p)        _mm256_loadu_ps(p)
#        define vector_store(p, x)    _mm256_storeu_ps(p, x)
#        define vector_all(x)         _mm256_set1_ps(x)
#        define vector_add(x, y)      _mm256_add_ps(x, y)
#        define vector_fma(x, y, sum) _mm256_fmadd_ps(x, y, sum)
#    endif

/* compute/rows.c: m <= FEW_ROWS, f32. */
enum { FEW_ROWS = 3 };
void CLLM_KERNEL(multiply_rows)(float *c, const float *a, const float *b,
                                const struct cllm_matmul *shape);

#    if defined(__AVX512F__)

/* Four elements of each of the rows @row, @row + 4, and so on, one after the other. */
static inline __m512 take_fours(const float *x, size_t from, size_t row, size_t rows)
{
    __m512 fours = _mm512_setzero_ps();

    if (row < rows)
        fours = _mm512_zextps128_ps512(_mm_loadu_ps(x + row * from));
    if (row + 4 < rows)
        fours = _mm512_insertf32x4(fours, _mm_loadu_ps(x + (row + 4) * from), 1);
    if (row + 8 < rows)
        fours = _mm512_insertf32x4(fours, _mm_loadu_ps(x + (row + 8) * from), 2);
    if (row + 12 < rows)
        fours = _mm512_insertf32x4(fours, _mm_loadu_ps(x + (row + 12) * from), 3);
    return fours;
}

#    endif

/* Rows of a square of WIDTH x WIDTH at @x, @from apart, become columns, @to apart,
 * written in order; of fewer @rows the rest of the columns is 0. */
static inline __attribute__((always_inline)) void transpose_square(float *out, size_t to,
                                                                   const float *x,
                                                                   size_t from,
                                                                   size_t rows)
{
#    if defined(__AVX512F__)
#        pragma GCC unroll 4
    for (size_t i = 0; i < WIDTH; i += 4) {
        __m512 r0 = take_fours(x + i, from, 0, rows),
               r1 = take_fours(x + i, from, 1, rows);
        __m512 r2 = take_fours(x + i, from, 2, rows),
               r3 = take_fours(x + i, from, 3, rows);
        __m512 s0 = _mm512_unpacklo_ps(r0, r1), s1 = _mm512_unpackhi_ps(r0, r1);
        __m512 s2 = _mm512_unpacklo_ps(r2, r3), s3 = _mm512_unpackhi_ps(r2, r3);

        _mm512_storeu_ps(out + i * to, _mm512_shuffle_ps(s0, s2, 0x44));
        _mm512_storeu_ps(out + (i + 1) * to, _mm512_shuffle_ps(s0, s2, 0xee));
        _mm512_storeu_ps(out + (i + 2) * to, _mm512_shuffle_ps(s1, s3, 0x44));
        _mm512_storeu_ps(out + (i + 3) * to, _mm512_shuffle_ps(s1, s3, 0xee));
    }
#    else
    __m256 r[WIDTH], s[WIDTH];

    for (size_t i = 0; i < WIDTH; i++)
        r[i] = i < rows ? _mm256_loadu_ps(x + i * from) : _mm256_setzero_ps();
    for (size_t i = 0; i < WIDTH; i += 2) {
        s[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        s[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (size_t i = 0; i < WIDTH; i += 4) {
        r[i] = _mm256_shuffle_ps(s[i], s[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(s[i], s[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0xee);
    }
    for (size_t i = 0; i < 4; i++)
        _mm256_storeu_ps(out + i * to, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    for (size_t i = 0; i < 4; i++)
        _mm256_storeu_ps(out + (i + 4) * to,
                         _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
#    endif
}

/*
 * A panel (depth,@width) of @count rows that lie along k, @ld apart; the rest is 0. It
 * may write up to WIDTH elements behind its end, so panels are packed in the order in
 * which they lie.
 */
static inline __attribute__((always_inline)) void pack_along(float *to, size_t width,
                                                             const float *x, size_t ld,
                                                             size_t count, size_t depth)
{
    size_t p = 0;

    for (; p + WIDTH <= depth; p += WIDTH)
        for (size_t i = 0; i < width; i += WIDTH)
            transpose_square(to + p * width + i, width, x + i * ld + p, ld,
                             i < count ? count - i : 0);
    for (; p < depth; p++)
        for (size_t i = 0; i < width; i++)
            to[p * width + i] = i < count ? x[i * ld + p] : 0.0f;
}

/* The same of @count columns, where rows, @ld apart, lie across k. */
static inline __attribute__((always_inline)) void pack_across(float *to, size_t width,
                                                              const float *x, size_t ld,
                                                              size_t count, size_t depth)
{
    for (size_t p = 0; p < depth; p++) {
        memcpy(to + p * width, x + p * ld, count * sizeof *to);
        memset(to + p * width + count, 0, (width - count) * sizeof *to);
    }
}

#endif

#endif /* CLLM_COMPUTE_PANEL_H */
