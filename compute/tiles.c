/*
 * compute/tiles.c - matrix products in the tile registers of AMX, of bf16 numbers or of
 * f32 numbers that are split into three of bf16.
 *
 * A tile register holds 16 rows of 64 bytes: of A 16 rows and 32 of k, of B 16 pairs of k
 * and 16 columns, of C 16 x 16 sums. Four tiles of C meet two of A and two of B, which is
 * all eight registers. What the sums are: compute/product.h.
 *
 * Operands are packed into tiles that follow each other along k (compute/tile_pack.h).
 * All rows of A that fit are packed once for so much of k; a block of B stays in the
 * second-level cache while strips of A, 32 rows each, pass by. C is passed once for each
 * block of k, strip by strip, so that it comes from memory as seldom as can be; the runs
 * that a strip is multiplied in are as long as the first-level cache holds its part of A.
 * Of split numbers a tile is used so often that nothing has to be there.
 */
#include "compute/product.h"

#if defined(__AMX_BF16__)

#    include "compute/tile_pack.h"

enum {
    LINE = 64, /* bytes */
    /* Words of A and of B that are packed at once. */
    A_WORDS = 512 * 1024,
    B_WORDS = 384 * 1024,
};

/* How a product is cut, by what becomes of a number. */
struct form {
    size_t pieces;           /* of bf16 */
    size_t depth;            /* of k that is packed at once, at most */
    size_t a_words, b_words; /* likewise */
    size_t run;              /* steps along k that a strip is multiplied in, at most */
    bool from_zero;          /* so much of k is summed before it is added */
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

/* ---- tiles ---- */

/* A square (32,32), what it begins as, or NULL for zeros, and C's square that follows, or
 * NULL; of each how far rows are apart. */
struct target {
    float *c;
    size_t ldc;
    const float *start;
    size_t row;
    const float *next;
    size_t next_row;
};

/* Two panels of A and two of B, the second ones @stride words behind the first. */
struct panels {
    const uint32_t *a, *b;
    size_t stride, steps, pieces;
};

/* What is wanted soon: lines of packed A, in order, so many each step, up to the end. */
struct ahead {
    const char *at, *end;
    size_t lines;
};

/* C's four registers are 0 to 3, in rows. */
static inline __attribute__((always_inline)) void load_a(const uint32_t *a, size_t stride)
{
    _tile_loadd(4, a, LINE);
    _tile_loadd(5, a + stride, LINE);
}

/* Past the first-level cache, as far as the CPU allows it, because A has to stay there.
 */
static inline __attribute__((always_inline)) void load_b(const uint32_t *b, size_t stride)
{
    _tile_stream_loadd(6, b, LINE);
    _tile_stream_loadd(7, b + stride, LINE);
}

static inline __attribute__((always_inline)) void add_products(void)
{
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

static inline __attribute__((always_inline)) void add_step(const uint32_t *a,
                                                           const uint32_t *b,
                                                           size_t stride)
{
    load_a(a, stride);
    load_b(b, stride);
    add_products();
}

/* Products of pieces, the order of compute/product.h: with each only one operand is
 * another. */
static inline __attribute__((always_inline)) void add_split_step(const uint32_t *a,
                                                                 const uint32_t *b,
                                                                 size_t stride)
{
    const uint32_t *a2 = a + TILE_WORDS, *a3 = a2 + TILE_WORDS;
    const uint32_t *b2 = b + TILE_WORDS, *b3 = b2 + TILE_WORDS;

    load_a(a, stride);
    load_b(b3, stride);
    add_products();
    load_b(b2, stride);
    add_products();
    load_a(a2, stride);
    add_products();
    load_b(b, stride);
    add_products();
    load_a(a3, stride);
    add_products();
    load_a(a, stride);
    add_products();
}

static inline __attribute__((always_inline)) void load_c(const float *c, size_t row)
{
    const float *below = c + TILE * row;

    _tile_loadd(0, c, row * sizeof *c);
    _tile_loadd(1, c + TILE, row * sizeof *c);
    _tile_loadd(2, below, row * sizeof *c);
    _tile_loadd(3, below + TILE, row * sizeof *c);
}

static inline __attribute__((always_inline)) void zero_c(void)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

static inline __attribute__((always_inline)) void store_c(float *c, size_t row)
{
    float *below = c + TILE * row;

    _tile_stored(0, c, row * sizeof *c);
    _tile_stored(1, c + TILE, row * sizeof *c);
    _tile_stored(2, below, row * sizeof *c);
    _tile_stored(3, below + TILE, row * sizeof *c);
}

/* C = start + A times B; the number of pieces is known where it is inlined. */
static inline __attribute__((always_inline)) void multiply_steps(const struct target *to,
                                                                 const struct panels *x,
                                                                 struct ahead *wanted,
                                                                 size_t pieces)
{
    const size_t step = pieces * TILE_WORDS, rows = cllm_div_up(SIDE, x->steps);
    const size_t lines = wanted->lines, next_row = to->next_row;
    const float *next = to->next;
    const char *soon = wanted->at, *end = wanted->end;
    size_t left = next ? SIDE : 0;

    if (to->start != NULL)
        load_c(to->start, to->row);
    else
        zero_c();
    for (size_t at = 0; at < x->steps * step; at += step) {
        for (size_t r = 0; r < rows && left > 0; r++, left--, next += next_row) {
            _mm_prefetch((const char *)next, _MM_HINT_T1);
            _mm_prefetch((const char *)(next + TILE), _MM_HINT_T1);
        }
        for (size_t i = 0; i < lines && soon < end; i++, soon += LINE)
            _mm_prefetch(soon, _MM_HINT_T1);
        if (pieces == 1)
            add_step(x->a + at, x->b + at, x->stride);
        else
            add_split_step(x->a + at, x->b + at, x->stride);
    }
    wanted->at = soon;
    store_c(to->c, to->ldc);
}

/* A function of its own, so that a profile tells it from packing. */
static __attribute__((noinline)) void multiply_tiles(const struct target *to,
                                                     const struct panels *x,
                                                     struct ahead *wanted)
{
    if (x->pieces == 1)
        multiply_steps(to, x, wanted, 1);
    else
        multiply_steps(to, x, wanted, PIECES);
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
                        .next = next,
                        .next_row = ldc};

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

/* 16 columns from (@i,@j) on of what is added to. */
static inline __m512 load_start(const struct start *start, size_t ldc, size_t i, size_t j,
                                __mmask16 cols)
{
    __m512 bias = _mm512_setzero_ps(), add;

    if (start->bias != NULL)
        bias = _mm512_maskz_loadu_ps(cols, start->bias + j);
    if (start->add == NULL)
        return bias;
    add = _mm512_maskz_loadu_ps(cols, start->add + i * ldc + j);
    return start->bias == NULL ? add : _mm512_add_ps(add, bias);
}

/* The same, where sums begin with zeros and are added when they are done. */
static void add_square(float *c, size_t ldc, const struct start *start, size_t rows,
                       size_t cols, const float *next, const struct panels *x,
                       struct ahead *wanted)
{
    _Alignas(64) float sum[SIDE * SIDE];
    const struct target to = {.c = sum, .ldc = SIDE, .next = next, .next_row = ldc};

    multiply_tiles(&to, x, wanted);
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < SIDE; j += TILE) {
            __mmask16 wanted_cols = lanes((ptrdiff_t)cols - (ptrdiff_t)j);
            __m512 begin = load_start(start, ldc, i, j, wanted_cols);

            _mm512_mask_storeu_ps(
                c + i * ldc + j, wanted_cols,
                _mm512_add_ps(begin, _mm512_load_ps(sum + i * SIDE + j)));
        }
    }
}

/* ---- blocks ---- */

/* Rows and columns of C that come from so much of k. */
struct block {
    const struct form *form;
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
    size_t steps = steps_of(block->depth), runs = cllm_div_up(steps, block->form->run);
    size_t pieces = block->form->pieces, words = words_of(block->depth, pieces);
    size_t lines =
        cllm_div_up(words * sizeof *a / LINE, cllm_div_up(block->cols, SIDE) * steps);
    struct ahead wanted = {.at = (const char *)soon,
                           .end = soon ? (const char *)(soon + words) : NULL,
                           .lines = lines};

    for (size_t r = 0; r < runs; r++) {
        size_t q = steps * r / runs, from = q * pieces * TILE_WORDS;
        struct panels x = {.a = a + from,
                           .stride = words / 2,
                           .steps = steps * (r + 1) / runs - q,
                           .pieces = pieces};

        for (size_t j = 0; j < block->cols; j += SIDE) {
            size_t cols = cllm_min_u64(SIDE, block->cols - j);
            float *c = block->c + i * ldc + j;
            const float *next =
                rows == SIDE && j + 2 * SIDE <= block->cols ? c + SIDE : NULL;
            const struct start start =
                r > 0 ? start_itself(c) : start_at(&block->start, ldc, i, j);

            x.b = b + j / SIDE * words + from;
            if (block->form->from_zero && is_start(&start))
                add_square(c, ldc, &start, rows, cols, next, &x, &wanted);
            else
                multiply_square(c, ldc, &start, rows, cols, next, &x, &wanted);
        }
    }
}

/* A product, and how it is cut. */
struct product {
    struct operand a, b;      /* all of them */
    size_t rows, cols, depth; /* of a block */
};

/* @n rows or columns of @whole from @at on, and @depth of k from @p on. */
static struct operand part_of(const struct operand *whole, size_t at, size_t n, size_t p,
                              size_t depth)
{
    struct operand part = *whole;

    part.part.x += part.part.along ? at * part.part.ld + p : p * part.part.ld + at;
    part.part.n = n;
    part.part.depth = depth;
    return part;
}

/* The block at (@i,@j) from @p on. A is packed with the first columns; if there are no
 * others, each strip of it where the last one was. */
static void multiply_block(const struct product *x, const struct block *block, size_t i,
                           size_t j, size_t p, uint32_t *a, const uint32_t *b)
{
    bool once = x->cols >= x->b.part.n;
    size_t words = words_of(block->depth, block->form->pieces);

    for (size_t at = 0; at < block->rows; at += SIDE) {
        uint32_t *strip = a + (once ? 0 : at / SIDE * words);
        const uint32_t *soon = NULL;

        if (j == 0) {
            const struct operand part = part_of(
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
                                               const struct cllm_matmul *shape,
                                               const struct form *form)
{
    _Alignas(64) uint32_t packed_a[A_WORDS], packed_b[B_WORDS];
    size_t m = shape->m, n = shape->n, k = shape->k;
    size_t depth = form->from_zero
                       ? cllm_min_u64(cllm_align_up(k, TILE_DEPTH), form->depth)
                       : cut(k, form->depth, TILE_DEPTH);
    size_t words = words_of(depth, form->pieces);
    const struct strides ld = strides_of(shape);
    const struct start start = start_of(c, shape);
    const struct product x = {
        .a = {.part = {.x = a, .ld = ld.a, .n = m, .depth = k, .along = !shape->trans_a},
              .of_a = true,
              .pieces = form->pieces},
        .b = {.part = {.x = b, .ld = ld.b, .n = n, .depth = k, .along = shape->trans_b},
              .pieces = form->pieces},
        .rows = cut(m, form->a_words / words * SIDE, SIDE),
        .cols = cut(n, form->b_words / words * SIDE, SIDE),
        .depth = depth};

    for (size_t p = 0; p < k; p += x.depth) {
        struct block block = {
            .form = form, .ldc = ld.c, .depth = cllm_min_u64(x.depth, k - p)};

        for (size_t i = 0; i < m; i += x.rows) {
            block.rows = cllm_min_u64(x.rows, m - i);
            for (size_t j = 0; j < n; j += x.cols) {
                block.c = c + i * ld.c + j;
                block.cols = cllm_min_u64(x.cols, n - j);
                block.start =
                    p > 0 ? start_itself(block.c) : start_at(&start, ld.c, i, j);
                if (i == 0 || x.cols < n) {
                    const struct operand part =
                        part_of(&x.b, j, block.cols, p, block.depth);

                    pack(packed_b, &part);
                }
                multiply_block(&x, &block, i, j, p, packed_a, packed_b);
            }
        }
    }
}

/* Tiles have a mode of their own; the others make what C begins as. The registers are
 * given back, so that nobody has to save them for this process. */
static void multiply_in_tiles(float *c, const float *a, const float *b,
                              const struct cllm_matmul *shape, const struct form *form)
{
    unsigned normal = _mm_getcsr();

    CLLM_ASSERT(form->a_words <= A_WORDS && form->b_words <= B_WORDS);
    _mm_setcsr(normal | DENORMALS_ARE_ZERO | FLUSH_TO_ZERO);
    _tile_loadconfig(&configuration);
    multiply(c, a, b, shape, form);
    _tile_release();
    _mm256_zeroupper(); /* gcc 12 forgets it, and SSE instructions would crawl */
    _mm_setcsr(normal);
}

void CLLM_KERNEL(matmul_tiles)(float *c, const float *a, const float *b,
                               const struct cllm_matmul *shape)
{
    static const struct form form = {
        .pieces = 1, .depth = 1024, .a_words = A_WORDS, .b_words = B_WORDS, .run = 16};

    multiply_in_tiles(c, a, b, shape, &form);
}

void CLLM_KERNEL(matmul_split)(float *c, const float *a, const float *b,
                               const struct cllm_matmul *shape)
{
    static const struct form form = {.pieces = PIECES,
                                     .depth = SPLIT_DEPTH,
                                     .a_words = A_WORDS,
                                     .b_words = B_WORDS / 2,
                                     .run = SPLIT_DEPTH / TILE_DEPTH,
                                     .from_zero = true};

    multiply_in_tiles(c, a, b, shape, &form);
}

#endif
