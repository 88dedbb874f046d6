/*
 * compute/tiles.c - matrix products of bf16 in the tile registers of AMX.
 *
 * A tile register holds 16 rows of 64 bytes: of A 16 rows and 32 of k, of B 16 pairs of k
 * and 16 columns, of C 16 x 16 sums. Four tiles of C meet two of A and two of B, which is
 * all eight registers. What the sums are: compute/product.h.
 *
 * Operands are rounded where they are packed, into tiles that follow each other along k,
 * so that the tiles of a step come from one or two lines of addresses. A block of B stays
 * in the second-level cache while blocks of A pass by.
 */
#include "compute/product.h"

#include <string.h>

#if defined(__AMX_BF16__)

#    include <immintrin.h>

enum {
    TILE = 16,                   /* rows, and columns of C */
    TILE_BYTES = 1024,           /* in a tile register */
    TILE_WORDS = TILE_BYTES / 4, /* pairs of bf16 */
    SIDE = 2 * TILE,             /* of C, in four registers */
    MOST_STEPS = 12,             /* of TILE_DEPTH that are packed at once */
    MOST_DEPTH = MOST_STEPS * TILE_DEPTH,
    ROW_BLOCK = 128,
    COL_BLOCK = 1536,
    FAR = 4096, /* from row to row of C: no prefetcher of the CPU follows */
};

/* What LDTILECFG reads: palette 1, every register 16 rows of 64 bytes. */
struct configuration {
    uint8_t palette, start_row, zero[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
static const struct configuration configuration = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE}};

/* ---- packing ---- */

/* The first @n of 16 lanes; n may be more, or less than 0. */
static inline __mmask16 lanes(ptrdiff_t n)
{
    return (__mmask16)(n >= TILE ? 0xffffu : n <= 0 ? 0u : (1u << n) - 1);
}

/* Pairs of @x's @n elements, the first of each in the lower half; zeros behind them. */
static inline __m512i pairs_along(const float *x, ptrdiff_t n)
{
    __m512 low = _mm512_maskz_loadu_ps(lanes(n), x);
    __m512 high = _mm512_maskz_loadu_ps(lanes(n - TILE), x + TILE);

    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* Pairs of element i of @x and of @next, for the first @n; @next may be NULL: zeros. */
static inline __m512i pairs_across(const float *x, const float *next, ptrdiff_t n)
{
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23,
                         7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    __m512 low = _mm512_maskz_loadu_ps(lanes(n), x);
    __m512 high = next ? _mm512_maskz_loadu_ps(lanes(n), next) : _mm512_setzero_ps();

    return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(high, low));
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

/*
 * A tile whose row i has the pairs along k of @rows rows of @x, which lie @ld apart and
 * have @depth elements: A as it is stored. @across: the tile's columns have them, B
 * stored (n,k).
 */
static inline __attribute__((always_inline)) void pack_along(uint32_t *to, const float *x,
                                                             size_t ld, size_t rows,
                                                             size_t depth, bool across)
{
    __m512i word[TILE];

#    pragma GCC unroll 16
    for (size_t i = 0; i < TILE; i++)
        word[i] =
            i < rows ? pairs_along(x + i * ld, (ptrdiff_t)depth) : _mm512_setzero_si512();
    if (across)
        transpose(word);
#    pragma GCC unroll 16
    for (size_t i = 0; i < TILE; i++)
        _mm512_store_si512(to + i * TILE, word[i]);
}

/*
 * A tile whose row q has the pairs of rows 2 q and 2 q + 1 of @x, which lie @ld apart and
 * have @cols elements: B as it is stored. @along: the tile's columns have them, A stored
 * (k,m).
 */
static inline __attribute__((always_inline)) void pack_across(uint32_t *to,
                                                              const float *x, size_t ld,
                                                              size_t cols, size_t depth,
                                                              bool along)
{
    __m512i word[TILE];

#    pragma GCC unroll 16
    for (size_t q = 0; q < TILE; q++) {
        const float *row = x + 2 * q * ld;

        word[q] = 2 * q < depth ? pairs_across(row, 2 * q + 1 < depth ? row + ld : NULL,
                                               (ptrdiff_t)cols)
                                : _mm512_setzero_si512();
    }
    if (along)
        transpose(word);
#    pragma GCC unroll 16
    for (size_t q = 0; q < TILE; q++)
        _mm512_store_si512(to + q * TILE, word[q]);
}

/* One of both. */
static inline __attribute__((always_inline)) void pack_tile(uint32_t *to, const float *x,
                                                            size_t ld, size_t n,
                                                            size_t depth, bool along,
                                                            bool of_a)
{
    if (along)
        pack_along(to, x, ld, n, depth, !of_a);
    else
        pack_across(to, x, ld, n, depth, of_a);
}

/*
 * Tiles of @n rows of A or columns of B and @depth of k: panels of 16, of MOST_STEPS
 * tiles each. @along: rows of @x go along k, otherwise across; either way @x is read in
 * the direction of its rows. @of_a: in the order of A.
 */
static void pack(uint32_t *to, const float *x, size_t ld, size_t n, size_t depth,
                 bool along, bool of_a)
{
    size_t panels = cllm_align_up(n, SIDE) / TILE, steps = cllm_div_up(depth, TILE_DEPTH);

    for (size_t t = 0; t < panels * steps; t++) {
        size_t i = along ? t / steps : t % panels, q = along ? t % steps : t / panels;
        size_t some = cllm_min_u64(TILE, n - cllm_min_u64(n, i * TILE));
        size_t deep = cllm_min_u64(TILE_DEPTH, depth - q * TILE_DEPTH);
        const float *from =
            x + (along ? i * TILE * ld + q * TILE_DEPTH : q * TILE_DEPTH * ld + i * TILE);
        uint32_t *tile = to + (i * MOST_STEPS + q) * TILE_WORDS;

        if (some == 0)
            memset(tile, 0, TILE_BYTES);
        else if (some == TILE && deep == TILE_DEPTH) /* known numbers: fewer questions */
            pack_tile(tile, from, ld, TILE, TILE_DEPTH, along, of_a);
        else
            pack_tile(tile, from, ld, some, deep, along, of_a);
    }
}

/* ---- tiles ---- */

/* C (32,32) = or += two panels of A times two of B, @steps tiles long. A function of its
 * own, so that a profile tells it from packing. */
static __attribute__((noinline)) void multiply_tiles(float *c, size_t ldc,
                                                     const uint32_t *a, const uint32_t *b,
                                                     size_t steps, bool add)
{
    const size_t ahead = ldc < FAR ? 0 : 3; /* rows of the next square, each step */
    const uint32_t *a1 = a + MOST_STEPS * TILE_WORDS, *b1 = b + MOST_STEPS * TILE_WORDS;
    float *below = c + TILE * ldc;
    const size_t row = ldc * sizeof *c;

    if (add) {
        _tile_loadd(0, c, row);
        _tile_loadd(1, c + TILE, row);
        _tile_loadd(2, below, row);
        _tile_loadd(3, below + TILE, row);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (size_t at = 0; at < steps * TILE_WORDS; at += TILE_WORDS) {
        const float *next = c + SIDE + at / TILE_WORDS * ahead * ldc;

        for (size_t r = 0; r < ahead; r++, next += ldc) {
            __builtin_prefetch(next, 1);
            __builtin_prefetch(next + TILE, 1);
        }
        _tile_loadd(4, a + at, 64);
        _tile_loadd(6, b + at, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b1 + at, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a1 + at, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, row);
    _tile_stored(1, c + TILE, row);
    _tile_stored(2, below, row);
    _tile_stored(3, below + TILE, row);
}

/* @rows and @cols of C, which hang over its edge, by way of a whole square. */
static void multiply_edge(float *c, size_t ldc, size_t rows, size_t cols,
                          const uint32_t *a, const uint32_t *b, size_t steps, bool add)
{
    _Alignas(64) float square[SIDE * SIDE];

    if (add) {
        memset(square, 0, sizeof square);
        for (size_t i = 0; i < rows; i++)
            memcpy(square + i * SIDE, c + i * ldc, cols * sizeof *c);
    }
    multiply_tiles(square, SIDE, a, b, steps, add);
    for (size_t i = 0; i < rows; i++)
        memcpy(c + i * ldc, square + i * SIDE, cols * sizeof *c);
}

/* C (rows,cols) = or += packed A times packed B. */
static void multiply_block(float *c, size_t ldc, size_t rows, size_t cols,
                           const uint32_t *a, const uint32_t *b, size_t steps, bool add)
{
    enum { PANEL = MOST_STEPS * TILE_WORDS };

    for (size_t i = 0; i < rows; i += SIDE) {
        size_t high = cllm_min_u64(SIDE, rows - i);

        for (size_t j = 0; j < cols; j += SIDE) {
            size_t wide = cllm_min_u64(SIDE, cols - j);
            float *to = c + i * ldc + j;
            const uint32_t *of_a = a + i / TILE * PANEL, *of_b = b + j / TILE * PANEL;

            if (high == SIDE && wide == SIDE)
                multiply_tiles(to, ldc, of_a, of_b, steps, add);
            else
                multiply_edge(to, ldc, high, wide, of_a, of_b, steps, add);
        }
    }
}

static void multiply(float *c, const float *a, const float *b,
                     const struct cllm_matmul *shape)
{
    _Alignas(64) uint32_t cols[COL_BLOCK / 2 * MOST_DEPTH],
        rows[ROW_BLOCK / 2 * MOST_DEPTH];
    const struct strides ld = strides_of(shape);

    for (size_t j = 0; j < shape->n; j += COL_BLOCK) {
        size_t wide = cllm_min_u64(COL_BLOCK, shape->n - j);

        for (size_t p = 0; p < shape->k; p += MOST_DEPTH) {
            size_t depth = cllm_min_u64(MOST_DEPTH, shape->k - p);
            const float *at = shape->trans_b ? b + j * ld.b + p : b + p * ld.b + j;

            pack(cols, at, ld.b, wide, depth, shape->trans_b, false);
            for (size_t i = 0; i < shape->m; i += ROW_BLOCK) {
                size_t high = cllm_min_u64(ROW_BLOCK, shape->m - i);

                at = shape->trans_a ? a + p * ld.a + i : a + i * ld.a + p;
                pack(rows, at, ld.a, high, depth, !shape->trans_a, true);
                multiply_block(c + i * ld.c + j, ld.c, high, wide, rows, cols,
                               cllm_div_up(depth, TILE_DEPTH),
                               shape->accumulate || p > 0);
            }
        }
    }
}

/* The registers are given back, so that nobody has to save them for this process. */
void CLLM_KERNEL(matmul_tiles)(float *c, const float *a, const float *b,
                               const struct cllm_matmul *shape)
{
    _tile_loadconfig(&configuration);
    multiply(c, a, b, shape);
    _tile_release();
}

#endif
