/*
 * compute/tiles.c - matrix products of bf16 in the tile registers of AMX.
 *
 * A tile register holds 16 rows of 64 bytes: of A 16 rows and 32 of k, of B 16 pairs of k
 * and 16 columns, of C 16 x 16 sums. Four tiles of C meet two of A and two of B, which is
 * all eight registers. What the sums are: compute/product.h.
 *
 * Operands are rounded where they are packed, into tiles that follow each other along k.
 * All rows of A that fit are packed once for so much of k; a block of B stays in the
 * second-level cache while strips of A, 32 rows each, pass by. C is passed once for each
 * block of k, strip by strip, so that it comes from memory as seldom as can be; the runs
 * that a strip is multiplied in are as long as the first-level cache holds its part of A.
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
    RUN = 16,                    /* tiles along k that are multiplied at once */
    MOST_DEPTH = 1024,           /* of k that is packed at once */
    A_MOST = 1024 * MOST_DEPTH,  /* elements of A that are packed at once */
    B_MOST = 768 * MOST_DEPTH,   /* and of B */
    LINE = 64,                   /* bytes */
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

/* A part of an operand where it lies: @n rows of A or columns of B, @depth of k. */
struct part {
    const float *x;
    size_t ld, n, depth;
    bool along; /* its rows go along k, otherwise across */
    bool of_a;
};

static size_t steps_of(size_t depth)
{
    return cllm_div_up(depth, TILE_DEPTH);
}

/* Two panels of 16 rows or columns, and as deep. */
static size_t words_of(size_t depth)
{
    return 2 * steps_of(depth) * TILE_WORDS;
}

/* Panels of 16 rows or columns, as many as whole squares of C have, each the tiles along
 * k. @part is read in the direction of its rows. */
static void pack(uint32_t *to, const struct part *part)
{
    size_t panels = cllm_align_up(part->n, SIDE) / TILE, steps = steps_of(part->depth);
    bool along = part->along;

    for (size_t t = 0; t < panels * steps; t++) {
        size_t i = along ? t / steps : t % panels, q = along ? t % steps : t / panels;
        size_t some = cllm_min_u64(TILE, part->n - cllm_min_u64(part->n, i * TILE));
        size_t deep = cllm_min_u64(TILE_DEPTH, part->depth - q * TILE_DEPTH);
        const float *from = part->x + (along ? i * TILE * part->ld + q * TILE_DEPTH
                                             : q * TILE_DEPTH * part->ld + i * TILE);
        uint32_t *tile = to + (i * steps + q) * TILE_WORDS;

        if (some == 0)
            memset(tile, 0, TILE_BYTES);
        else if (some == TILE && deep == TILE_DEPTH) /* known numbers: fewer questions */
            pack_tile(tile, from, part->ld, TILE, TILE_DEPTH, along, part->of_a);
        else
            pack_tile(tile, from, part->ld, some, deep, along, part->of_a);
    }
}

/* ---- tiles ---- */

/* A square of C (32,32), what the product is added to, @row elements apart, or NULL, and
 * the square that follows, or NULL. */
struct target {
    float *c;
    size_t ldc;
    const float *start;
    size_t row;
    const float *next;
};

/* Two panels of A and two of B, the second ones @stride words behind the first. */
struct panels {
    const uint32_t *a, *b;
    size_t stride, steps;
};

/* What is wanted soon: lines of packed A, in order, so many each step, up to the end. */
struct ahead {
    const char *at, *end;
    size_t lines;
};

/*
 * C = start + A times B. B is loaded past the first-level cache as far as the CPU allows
 * it, because A has to stay there. A function of its own, so that a profile tells it from
 * packing.
 */
static __attribute__((noinline)) void multiply_tiles(const struct target *to,
                                                     const struct panels *x,
                                                     struct ahead *wanted)
{
    float *c = to->c, *below = c + TILE * to->ldc;
    const float *next = to->next;
    const uint32_t *a = x->a, *a1 = a + x->stride, *b = x->b, *b1 = b + x->stride;
    const size_t ldc = to->ldc, row = ldc * sizeof *c;
    const size_t rows = cllm_div_up(SIDE, x->steps);
    size_t left = next ? SIDE : 0;
    const size_t lines = wanted->lines;
    const char *soon = wanted->at, *end = wanted->end;

    if (to->start != NULL) {
        const float *low = to->start + TILE * to->row;

        _tile_loadd(0, to->start, to->row * sizeof *c);
        _tile_loadd(1, to->start + TILE, to->row * sizeof *c);
        _tile_loadd(2, low, to->row * sizeof *c);
        _tile_loadd(3, low + TILE, to->row * sizeof *c);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (size_t at = 0; at < x->steps * TILE_WORDS; at += TILE_WORDS) {
        for (size_t r = 0; r < rows && left > 0; r++, left--, next += ldc) {
            _mm_prefetch((const char *)next, _MM_HINT_T1);
            _mm_prefetch((const char *)(next + TILE), _MM_HINT_T1);
        }
        for (size_t i = 0; i < lines && soon < end; i++, soon += LINE)
            _mm_prefetch(soon, _MM_HINT_T1);
        _tile_loadd(4, a + at, 64);
        _tile_stream_loadd(6, b + at, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_stream_loadd(7, b1 + at, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a1 + at, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    wanted->at = soon;
    _tile_stored(0, c, row);
    _tile_stored(1, c + TILE, row);
    _tile_stored(2, below, row);
    _tile_stored(3, below + TILE, row);
}

/*
 * @rows and @cols of C, all of them or what does not hang over its edge. What they are
 * added to is loaded from where it lies, a bias for all rows; the sum of two, and what is
 * no whole square, by way of one.
 */
static void multiply_square(float *c, size_t ldc, const struct start *start, size_t rows,
                            size_t cols, const float *next, const struct panels *x,
                            struct ahead *wanted)
{
    _Alignas(64) float begin[SIDE * SIDE], end[SIDE * SIDE];
    bool whole = rows == SIDE && cols == SIDE;
    struct target to = {.c = whole ? c : end,
                        .ldc = whole ? ldc : SIDE,
                        .start = start->add != NULL ? start->add : start->bias,
                        .row = start->add != NULL ? ldc : 0,
                        .next = whole ? next : NULL};

    if (is_start(start) && (!whole || (start->add != NULL && start->bias != NULL))) {
        if (!whole)
            memset(begin, 0, sizeof begin);
        put_start(begin, SIDE, start, ldc, rows, cols);
        to.start = begin;
        to.row = SIDE;
    }
    multiply_tiles(&to, x, wanted);
    for (size_t i = 0; !whole && i < rows; i++)
        memcpy(c + i * ldc, end + i * SIDE, cols * sizeof *c);
}

/* ---- blocks ---- */

/* Rows and columns of C that come from so much of k. */
struct block {
    float *c;
    size_t ldc, rows, cols, depth;
    struct start start; /* what is added to */
};

/* 32 rows of @block, or what is left. @soon, if it is not NULL, is the strip of A that
 * follows. */
static void multiply_strip(const struct block *block, size_t i, const uint32_t *a,
                           const uint32_t *b, const uint32_t *soon)
{
    size_t rows = cllm_min_u64(SIDE, block->rows - i), ldc = block->ldc;
    size_t steps = steps_of(block->depth), runs = cllm_div_up(steps, RUN);
    size_t words = words_of(block->depth);
    size_t lines =
        cllm_div_up(words * sizeof *a / LINE, cllm_div_up(block->cols, SIDE) * steps);
    struct ahead wanted = {.at = (const char *)soon,
                           .end = soon ? (const char *)(soon + words) : NULL,
                           .lines = lines};

    for (size_t r = 0; r < runs; r++) {
        size_t q = steps * r / runs;
        struct panels x = {.a = a + q * TILE_WORDS,
                           .stride = words / 2,
                           .steps = steps * (r + 1) / runs - q};

        for (size_t j = 0; j < block->cols; j += SIDE) {
            size_t cols = cllm_min_u64(SIDE, block->cols - j);
            float *c = block->c + i * ldc + j;
            const struct start start =
                r > 0 ? start_itself(c) : start_at(&block->start, ldc, i, j);

            x.b = b + j / SIDE * words + q * TILE_WORDS;
            multiply_square(c, ldc, &start, rows, cols,
                            j + SIDE < block->cols ? c + SIDE : NULL, &x, &wanted);
        }
    }
}

/* A product, and how it is cut. */
struct product {
    struct part a, b;         /* all of them */
    size_t rows, cols, depth; /* of a block */
};

/* @n rows or columns of @whole from @at on, and @depth of k from @p on. */
static struct part part_of(const struct part *whole, size_t at, size_t n, size_t p,
                           size_t depth)
{
    struct part part = *whole;

    part.x += part.along ? at * part.ld + p : p * part.ld + at;
    part.n = n;
    part.depth = depth;
    return part;
}

/* The block at (@i,@j) from @p on. A is packed with the first columns; if there are no
 * others, each strip of it where the last one was. */
static void multiply_block(const struct product *x, const struct block *block, size_t i,
                           size_t j, size_t p, uint32_t *a, const uint32_t *b)
{
    bool once = x->cols >= x->b.n;
    size_t words = words_of(block->depth);

    for (size_t at = 0; at < block->rows; at += SIDE) {
        uint32_t *strip = a + (once ? 0 : at / SIDE * words);
        const uint32_t *soon = NULL;

        if (j == 0) {
            const struct part part = part_of(
                &x->a, i + at, cllm_min_u64(SIDE, block->rows - at), p, block->depth);

            pack(strip, &part);
        } else {
            soon = at + SIDE < block->rows ? strip + words : a;
        }
        multiply_strip(block, at, strip, b, soon);
    }
}

/* @n in equal parts of at most @most, in multiples of @unit. */
static size_t cut(size_t n, size_t most, size_t unit)
{
    size_t parts = cllm_max_u64(cllm_div_up(n, most / unit * unit), 1);

    return cllm_align_up(cllm_max_u64(cllm_div_up(n, parts), 1), unit);
}

/* Not inlined: additions would not have to stay where the mode is set. */
static __attribute__((noinline)) void multiply(float *c, const float *a, const float *b,
                                               const struct cllm_matmul *shape)
{
    _Alignas(64) uint32_t packed_a[A_MOST / 2], packed_b[B_MOST / 2];
    size_t m = shape->m, n = shape->n, k = shape->k;
    size_t depth = cut(k, MOST_DEPTH, TILE_DEPTH);
    const struct strides ld = strides_of(shape);
    const struct start start = start_of(c, shape);
    const struct product x = {
        .a = {.x = a,
              .ld = ld.a,
              .n = m,
              .depth = k,
              .along = !shape->trans_a,
              .of_a = true},
        .b = {.x = b, .ld = ld.b, .n = n, .depth = k, .along = shape->trans_b},
        .rows = cut(m, A_MOST / depth, SIDE),
        .cols = cut(n, B_MOST / depth, SIDE),
        .depth = depth};

    for (size_t p = 0; p < k; p += x.depth) {
        struct block block = {.ldc = ld.c, .depth = cllm_min_u64(x.depth, k - p)};

        for (size_t i = 0; i < m; i += x.rows) {
            block.rows = cllm_min_u64(x.rows, m - i);
            for (size_t j = 0; j < n; j += x.cols) {
                block.c = c + i * ld.c + j;
                block.cols = cllm_min_u64(x.cols, n - j);
                block.start =
                    p > 0 ? start_itself(block.c) : start_at(&start, ld.c, i, j);
                if (i == 0 || x.cols < n) {
                    const struct part part = part_of(&x.b, j, block.cols, p, block.depth);

                    pack(packed_b, &part);
                }
                multiply_block(&x, &block, i, j, p, packed_a, packed_b);
            }
        }
    }
}

/* Tiles have a mode of their own; the others make what C begins as. The registers are
 * given back, so that nobody has to save them for this process. */
void CLLM_KERNEL(matmul_tiles)(float *c, const float *a, const float *b,
                               const struct cllm_matmul *shape)
{
    unsigned normal = _mm_getcsr();

    _mm_setcsr(normal | DENORMALS_ARE_ZERO | FLUSH_TO_ZERO);
    _tile_loadconfig(&configuration);
    multiply(c, a, b, shape);
    _tile_release();
    _mm256_zeroupper(); /* gcc 12 forgets it, and SSE instructions would crawl */
    _mm_setcsr(normal);
}

#endif
