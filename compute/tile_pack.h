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

#include "compute/pairs.h"
#include "compute/product.h"

#include <string.h>

#if defined(__AMX_BF16__)

enum {
    TILE = WORDS,                /* rows, and columns of C */
    TILE_BYTES = 1024,           /* in a tile register */
    TILE_WORDS = TILE_BYTES / 4, /* pairs of bf16 */
    SIDE = 2 * TILE,             /* of C, in four registers */
};

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

static inline __attribute__((always_inline)) void store_rows(uint32_t *to,
                                                             const __m512i word[TILE])
{
#    pragma GCC unroll 16
    for (size_t i = 0; i < TILE; i++)
        _mm512_store_si512(to + i * TILE, word[i]);
}

/* An operand, or a part of it, and what becomes of it. */
struct operand {
    struct part part;
    bool of_a;
    size_t pieces; /* 1 or PIECES */
};

/* A tile for each piece of @x, which has at most 16 rows or columns and TILE_DEPTH of k.
 * A goes into rows, B into columns: where they are stored the other way, tiles are
 * transposed. */
static inline __attribute__((always_inline)) void pack_tile(uint32_t *to,
                                                            const struct operand *x)
{
    __m512i word[PIECES][TILE];

#    pragma GCC unroll 16
    for (size_t i = 0; i < TILE; i++) {
        struct halves row = load_row(&x->part, i);

#    pragma GCC unroll 3
        for (size_t p = 0; p < x->pieces; p++) {
            __m512i rounded = round_halves(&row);

            row = rest_of(&row, rounded);
            word[p][i] = x->part.along ? rounded : interleave(rounded);
        }
    }
#    pragma GCC unroll 3
    for (size_t p = 0; p < x->pieces; p++) {
        if (x->part.along != x->of_a)
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
                                                              const struct operand *x,
                                                              bool along, size_t pieces)
{
    const struct part *part = &x->part;
    size_t panels = cllm_align_up(part->n, SIDE) / TILE, steps = steps_of(part->depth);
    struct operand tile = {
        .part = {.ld = part->ld, .along = along}, .of_a = x->of_a, .pieces = pieces};

    for (size_t t = 0; t < panels * steps; t++) {
        size_t i = along ? t / steps : t % panels, q = along ? t % steps : t / panels;
        uint32_t *at = to + (i * steps + q) * pieces * TILE_WORDS;

        tile.part.x = part->x + (along ? i * TILE * part->ld + q * TILE_DEPTH
                                       : q * TILE_DEPTH * part->ld + i * TILE);
        tile.part.n = cllm_min_u64(TILE, part->n - cllm_min_u64(part->n, i * TILE));
        tile.part.depth = cllm_min_u64(TILE_DEPTH, part->depth - q * TILE_DEPTH);
        if (tile.part.n == 0) {
            memset(at, 0, pieces * TILE_BYTES);
        } else if (tile.part.n == TILE && tile.part.depth == TILE_DEPTH) {
            tile.part.n = TILE; /* known numbers: fewer questions */
            tile.part.depth = TILE_DEPTH;
            pack_tile(at, &tile);
        } else {
            pack_tile(at, &tile);
        }
    }
}

/*
 * Panels of 16 rows or columns, as many as whole squares of C have, each the tiles along
 * k, those of a step's pieces together. @x is read in the direction of its rows. A
 * function of its own, so that a profile tells it from multiplying.
 */
static __attribute__((noinline)) void pack(uint32_t *to, const struct operand *x)
{
    if (x->pieces == 1 && x->part.along)
        pack_panels(to, x, true, 1);
    else if (x->pieces == 1)
        pack_panels(to, x, false, 1);
    else if (x->part.along)
        pack_panels(to, x, true, PIECES);
    else
        pack_panels(to, x, false, PIECES);
}

#endif

#endif /* CLLM_COMPUTE_TILE_PACK_H */
