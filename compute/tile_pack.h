/*
 * compute/tile_pack.h - operands of compute/tiles.c, packed into tiles of AMX.
 *
 * A tile is an image of a register: 16 rows of 16 words, a word a pair of bf16 that
 * follow each other along k. Of A a row of the tile is a row of A; of B a column is a
 * column of B. An operand is rounded to bf16 where it is packed, or split into PIECES of
 * bf16 (compute/product.h), each a tile of its own.
 */
#ifndef CLLM_COMPUTE_TILE_PACK_H
#define CLLM_COMPUTE_TILE_PACK_H

#include "compute/product.h"

#include <string.h>

#if defined(__AMX_BF16__)

#    include <immintrin.h>

enum {
    TILE = 16,                   /* rows, and columns of C */
    TILE_BYTES = 1024,           /* in a tile register */
    TILE_WORDS = TILE_BYTES / 4, /* pairs of bf16 */
    SIDE = 2 * TILE,             /* of C, in four registers */
};

/* The first @n of 16 lanes; n may be more, or less than 0. */
static inline __mmask16 lanes(ptrdiff_t n)
{
    return (__mmask16)(n >= TILE ? 0xffffu : n <= 0 ? 0u : (1u << n) - 1);
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

/* Numbers that were rounded. */
static inline __m512 widen(__m256i rounded)
{
    return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded), 16);
}

/* What rounding @x left. */
static inline struct halves rest_of(const struct halves *x, __m512i rounded)
{
    __m512 low = widen(_mm512_castsi512_si256(rounded));
    __m512 high = widen(_mm512_extracti64x4_epi64(rounded, 1));

    return (struct halves){.low = _mm512_sub_ps(x->low, low),
                           .high = _mm512_sub_ps(x->high, high)};
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
static inline void transpose(__m512i x[TILE])
{
    __m512i y[TILE];

#    pragma GCC unroll 8
    for (size_t i = 0; i < TILE; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
#    pragma GCC unroll 4
    for (size_t i = 0; i < TILE; i += 4) {
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
    for (size_t i = 0; i < TILE; i++)
        x[i] = y[i];
}

/* A part of an operand where it lies: @n rows of A or columns of B, @depth of k. */
struct part {
    const float *x;
    size_t ld, n, depth;
    bool along; /* its rows go along k, otherwise across */
    bool of_a;
    size_t pieces; /* 1 or PIECES */
};

/* Row @i of a tile before it is rounded: row @i of @part, or rows 2 @i and 2 @i + 1 where
 * they go across k; zeros behind the edge. */
static inline __attribute__((always_inline)) struct halves load_row(
    const struct part *part, size_t i)
{
    const float *x = part->x + (part->along ? i : 2 * i) * part->ld;
    struct halves row = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    ptrdiff_t n = (ptrdiff_t)part->n, depth = (ptrdiff_t)part->depth;

    if (part->along && i < part->n) {
        row.low = _mm512_maskz_loadu_ps(lanes(depth), x);
        row.high = _mm512_maskz_loadu_ps(lanes(depth - TILE), x + TILE);
    }
    if (!part->along && 2 * i < part->depth)
        row.low = _mm512_maskz_loadu_ps(lanes(n), x);
    if (!part->along && 2 * i + 1 < part->depth)
        row.high = _mm512_maskz_loadu_ps(lanes(n), x + part->ld);
    return row;
}

static inline __attribute__((always_inline)) void store_rows(uint32_t *to,
                                                             const __m512i word[TILE])
{
#    pragma GCC unroll 16
    for (size_t i = 0; i < TILE; i++)
        _mm512_store_si512(to + i * TILE, word[i]);
}

/* A tile for each piece of @part, which has at most 16 rows or columns and TILE_DEPTH of
 * k. A goes into rows, B into columns: where they are stored the other way, tiles are
 * transposed. */
static inline __attribute__((always_inline)) void pack_tile(uint32_t *to,
                                                            const struct part *part)
{
    __m512i word[PIECES][TILE];

#    pragma GCC unroll 16
    for (size_t i = 0; i < TILE; i++) {
        struct halves row = load_row(part, i);

#    pragma GCC unroll 3
        for (size_t p = 0; p < part->pieces; p++) {
            __m512i rounded = round_halves(&row);

            row = rest_of(&row, rounded);
            word[p][i] = part->along ? rounded : interleave(rounded);
        }
    }
#    pragma GCC unroll 3
    for (size_t p = 0; p < part->pieces; p++) {
        if (part->along != part->of_a)
            transpose(word[p]);
        store_rows(to + p * TILE_WORDS, word[p]);
    }
}

static inline size_t steps_of(size_t depth)
{
    return cllm_div_up(depth, TILE_DEPTH);
}

/* Two panels of 16 rows or columns, and as deep. */
static inline size_t words_of(size_t depth, size_t pieces)
{
    return 2 * steps_of(depth) * pieces * TILE_WORDS;
}

/* What pack() does; the last two are known where it is inlined. */
static inline __attribute__((always_inline)) void pack_panels(uint32_t *to,
                                                              const struct part *part,
                                                              bool along, size_t pieces)
{
    size_t panels = cllm_align_up(part->n, SIDE) / TILE, steps = steps_of(part->depth);
    struct part tile = {
        .ld = part->ld, .along = along, .of_a = part->of_a, .pieces = pieces};

    for (size_t t = 0; t < panels * steps; t++) {
        size_t i = along ? t / steps : t % panels, q = along ? t % steps : t / panels;
        uint32_t *at = to + (i * steps + q) * pieces * TILE_WORDS;

        tile.x = part->x + (along ? i * TILE * part->ld + q * TILE_DEPTH
                                  : q * TILE_DEPTH * part->ld + i * TILE);
        tile.n = cllm_min_u64(TILE, part->n - cllm_min_u64(part->n, i * TILE));
        tile.depth = cllm_min_u64(TILE_DEPTH, part->depth - q * TILE_DEPTH);
        if (tile.n == 0) {
            memset(at, 0, pieces * TILE_BYTES);
        } else if (tile.n == TILE && tile.depth == TILE_DEPTH) {
            tile.n = TILE; /* known numbers: fewer questions */
            tile.depth = TILE_DEPTH;
            pack_tile(at, &tile);
        } else {
            pack_tile(at, &tile);
        }
    }
}

/*
 * Panels of 16 rows or columns, as many as whole squares of C have, each the tiles along
 * k, those of a step's pieces together. @part is read in the direction of its rows. A
 * function of its own, so that a profile tells it from multiplying.
 */
static __attribute__((noinline)) void pack(uint32_t *to, const struct part *part)
{
    if (part->pieces == 1 && part->along)
        pack_panels(to, part, true, 1);
    else if (part->pieces == 1)
        pack_panels(to, part, false, 1);
    else if (part->along)
        pack_panels(to, part, true, PIECES);
    else
        pack_panels(to, part, false, PIECES);
}

#endif

#endif /* CLLM_COMPUTE_TILE_PACK_H */
