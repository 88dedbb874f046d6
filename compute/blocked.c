/*
 * compute/blocked.c - matrix products in blocks, with FMA instructions.
 *
 * After Goto and van de Geijn ("Anatomy of high-performance matrix multiplication", ACM
 * TOMS 34, 2008): B is packed into panels as wide as two vectors, which stay in the
 * caches while rows of A pass by in tiles whose sums stay in registers.
 *
 * Blocks are packed on the stack, a good mebibyte of it: nothing is allocated, nothing is
 * kept.
 */
#include "compute/product.h"

#include <string.h>

#if defined(__FMA__)

#    if defined(__AVX512F__)
enum { WIDTH = 16, ROWS = 12 }; /* 24 of 32 registers are sums */
typedef __m512 vector;
#        define vector_zero()         _mm512_setzero_ps()
#        define vector_load(p)        _mm512_loadu_ps(p)
#        define vector_store(p, x)    _mm512_storeu_ps(p, x)
#        define vector_all(x)         _mm512_set1_ps(x)
#        define vector_add(x, y)      _mm512_add_ps(x, y)
#        define vector_fma(x, y, sum) _mm512_fmadd_ps(x, y, sum)
/* CPUs with AMX do one such instruction in the time of four multiply-adds. */
#        if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
#            define HAS_PAIRS true
#            define vector_pairs(x, y, sum) \
                _mm512_dpbf16_ps(sum, (__m512bh)(x), (__m512bh)(y))
#        endif
#    else
enum { WIDTH = 8, ROWS = 6 }; /* 12 of 16 registers are sums */
typedef __m256 vector;
#        define vector_zero()         _mm256_setzero_ps()
#        define vector_load(p)        _mm256_loadu_ps(p)
#        define vector_store(p, x)    _mm256_storeu_ps(p, x)
#        define vector_all(x)         _mm256_set1_ps(x)
#        define vector_add(x, y)      _mm256_add_ps(x, y)
#        define vector_fma(x, y, sum) _mm256_fmadd_ps(x, y, sum)
#    endif

/* Multiply-adds of pairs of bf16 in one instruction. */
#    if !defined(HAS_PAIRS)
#        define HAS_PAIRS               false
#        define vector_pairs(x, y, sum) vector_fma(x, y, sum)
#    endif

enum {
    COLS = 2 * WIDTH, /* of a tile */
    ROW_BLOCK = 96,   /* rows of A that a panel of B meets: in the second-level cache */
    COL_BLOCK = 1024, /* columns of B that are packed at once */
    AHEAD = 32,       /* rows that are fetched before they are packed */
    FEW_COLS = 128    /* of which packing A costs more than it gains */
};

enum { DENORMALS_ARE_ZERO = 1 << 6, FLUSH_TO_ZERO = 1 << 15 }; /* in MXCSR */

/* What products are written to. */
struct target {
    float *c;
    size_t ldc;
    bool add; /* to what is there; otherwise it is overwritten */
};

/* ---- packing ---- */

/* A panel (depth,COLS) of B, stored (n,k): @cols of its rows. */
static void pack_transposed(float *to, const float *b, size_t ldb, size_t cols,
                            size_t depth)
{
    size_t j = 0;

    if (cols < COLS)
        memset(to, 0, depth * COLS * sizeof *to);
    for (; j + SQUARE <= cols; j += SQUARE) {
        size_t p = 0;

        for (; p + SQUARE <= depth; p += SQUARE)
            transpose_square(to + p * COLS + j, COLS, b + j * ldb + p, ldb, SQUARE);
        for (; p < depth; p++)
            for (size_t i = 0; i < SQUARE; i++)
                to[p * COLS + j + i] = b[(j + i) * ldb + p];
    }
    for (; j < cols; j++)
        for (size_t p = 0; p < depth; p++)
            to[p * COLS + j] = b[j * ldb + p];
}

/* The same of B, stored (k,n). */
static void pack_straight(float *to, const float *b, size_t ldb, size_t cols,
                          size_t depth)
{
    if (cols == COLS) {
        for (size_t p = 0; p < depth; p++) {
            __builtin_prefetch(b + (p + AHEAD) * ldb);
            memcpy(to + p * COLS, b + p * ldb, COLS * sizeof *to);
        }
        return;
    }
    for (size_t p = 0; p < depth; p++) {
        memcpy(to + p * COLS, b + p * ldb, cols * sizeof *to);
        memset(to + p * COLS + cols, 0, (COLS - cols) * sizeof *to);
    }
}

/* As many steps of a whole panel (depth,ROWS) of A, stored (m,k), as squares take; the
 * result. */
static size_t pack_squares(float *to, const float *a, size_t row, size_t depth)
{
    float square[SQUARE * SQUARE];
    size_t p = 0;

    for (; p + SQUARE <= depth; p += SQUARE) {
#    pragma GCC unroll 2
        for (size_t i = 0; i < ROWS; i += SQUARE) {
            size_t rows = cllm_min_u64(SQUARE, ROWS - i);

            transpose_square(square, SQUARE, a + i * row + p, row, rows);
            for (size_t q = 0; q < SQUARE; q++)
                memcpy(to + (p + q) * ROWS + i, square + q * SQUARE, rows * sizeof *to);
        }
    }
    return p;
}

/* A panel (depth,ROWS) of A: @rows rows, @row apart, elements @step apart. */
static void pack_rows(float *to, const float *a, size_t row, size_t step, size_t rows,
                      size_t depth)
{
    size_t p = rows == ROWS && step == 1 ? pack_squares(to, a, row, depth) : 0;

    for (; p < depth; p++) {
        for (size_t i = 0; i < rows; i++)
            to[p * ROWS + i] = a[i * row + p * step];
        for (size_t i = rows; i < ROWS; i++)
            to[p * ROWS + i] = 0.0f;
    }
}

/*
 * A packed panel (depth,width) becomes pairs of bf16, in place: as the instruction takes
 * them, two in an element, the second in the upper half; else one after the other, the
 * second first. Returns the panel's new depth.
 */
static size_t make_pairs(float *panel, size_t width, size_t depth)
{
    size_t pairs = (depth + 1) / 2;

    if (depth % 2 != 0)
        memset(panel + depth * width, 0, width * sizeof *panel);
    for (size_t q = 0; q < pairs; q++) {
        const float *x = panel + 2 * q * width;
        float *to = panel + (HAS_PAIRS ? q : 2 * q) * width;

        for (size_t i = 0; i < width; i++) {
            uint32_t first = round_bf16(x[i]), second = round_bf16(x[width + i]);

            if (HAS_PAIRS) {
                to[i] = cllm_f32_from_bits(first >> 16 | second);
            } else {
                to[i] = cllm_f32_from_bits(second);
                to[width + i] = cllm_f32_from_bits(first);
            }
        }
    }
    return HAS_PAIRS ? pairs : 2 * pairs;
}

/* ---- tiles ---- */

/*
 * C (ROWS,COLS) = or += ROWS rows of A, @row apart, their elements @step apart, times a
 * packed panel of B. Every third row has a pointer, from which the next two are reached
 * by the scales of an address: pointers to all rows do not fit in registers.
 */
static inline __attribute__((always_inline)) void compute_tile(const struct target *to,
                                                               const float *a, size_t row,
                                                               size_t step,
                                                               const float *panel,
                                                               size_t depth, bool bf16)
{
    const float *third[ROWS / 3];
    vector sum[ROWS][2];

    for (size_t i = 0; i < ROWS; i++) {
        third[i / 3] = a + i / 3 * 3 * row;
        sum[i][0] = sum[i][1] = vector_zero();
        __builtin_prefetch(to->c + i * to->ldc, 1);
        __builtin_prefetch(to->c + i * to->ldc + COLS - 1, 1);
    }
#    pragma GCC unroll 4
    for (size_t p = 0; p < depth; p++) {
        vector b0 = vector_load(panel), b1 = vector_load(panel + WIDTH);

#    pragma GCC unroll 16
        for (size_t i = 0; i < ROWS; i++) {
            vector x = vector_all(third[i / 3][i % 3 * row]);

            sum[i][0] =
                bf16 ? vector_pairs(x, b0, sum[i][0]) : vector_fma(x, b0, sum[i][0]);
            sum[i][1] =
                bf16 ? vector_pairs(x, b1, sum[i][1]) : vector_fma(x, b1, sum[i][1]);
        }
#    pragma GCC unroll 16
        for (size_t i = 0; i < ROWS / 3; i++)
            third[i] += step;
        panel += COLS;
    }
    if (to->add) {
#    pragma GCC unroll 16
        for (size_t i = 0; i < ROWS; i++) {
            const float *c = to->c + i * to->ldc;

            sum[i][0] = vector_add(vector_load(c), sum[i][0]);
            sum[i][1] = vector_add(vector_load(c + WIDTH), sum[i][1]);
        }
    }
#    pragma GCC unroll 16
    for (size_t i = 0; i < ROWS; i++) {
        vector_store(to->c + i * to->ldc, sum[i][0]);
        vector_store(to->c + i * to->ldc + WIDTH, sum[i][1]);
    }
}

/* A as it lies. Functions of their own, because their registers are all taken. */
static __attribute__((noinline)) void straight_tile(const struct target *to,
                                                    const float *a, size_t lda,
                                                    const float *panel, size_t depth)
{
    compute_tile(to, a, lda, 1, panel, depth, false);
}

/* A in a packed panel. */
static __attribute__((noinline)) void packed_tile(const struct target *to, const float *a,
                                                  const float *panel, size_t depth)
{
    compute_tile(to, a, 1, ROWS, panel, depth, false);
}

/* Both in packed panels of pairs. */
static __attribute__((noinline)) void pairs_tile(const struct target *to, const float *a,
                                                 const float *panel, size_t depth)
{
    compute_tile(to, a, 1, ROWS, panel, depth, true);
}

/* @rows and @cols of a tile that hangs over the edge of C. */
static void put_edge(const struct target *to, const float *tile, size_t rows, size_t cols)
{
    for (size_t i = 0; i < rows; i++) {
        float *c = to->c + i * to->ldc;

        for (size_t j = 0; j < cols; j++)
            c[j] = to->add ? c[j] + tile[i * COLS + j] : tile[i * COLS + j];
    }
}

/* ---- blocks ---- */

struct block {
    const float *a, *panels; /* at the block's corner; packed panels of B */
    size_t lda, rows, cols, depth;
    bool packed; /* A is in panels (DEPTH,ROWS) */
    bool bf16;   /* both are, of pairs */
};

static void multiply_block(const struct target *to, const struct block *x)
{
    _Alignas(64) float rest[DEPTH * ROWS], tile[ROWS * COLS];
    const struct target aside = {.c = tile, .ldc = COLS};
    size_t whole = x->packed ? x->rows : x->rows - x->rows % ROWS;

    if (whole < x->rows)
        pack_rows(rest, x->a + whole * x->lda, x->lda, 1, x->rows - whole, x->depth);
    for (size_t j = 0; j < x->cols; j += COLS) {
        size_t cols = cllm_min_u64(COLS, x->cols - j);
        const float *panel = x->panels + j * DEPTH;

        for (size_t i = 0; i < x->rows; i += ROWS) {
            const struct target at = {
                .c = to->c + i * to->ldc + j, .ldc = to->ldc, .add = to->add};
            size_t rows = cllm_min_u64(ROWS, x->rows - i);
            bool edge = rows < ROWS || cols < COLS;

            if (x->bf16)
                pairs_tile(edge ? &aside : &at, x->a + i * DEPTH, panel, x->depth);
            else if (x->packed)
                packed_tile(edge ? &aside : &at, x->a + i * DEPTH, panel, x->depth);
            else if (i < whole)
                straight_tile(edge ? &aside : &at, x->a + i * x->lda, x->lda, panel,
                              x->depth);
            else
                packed_tile(&aside, rest, panel, x->depth);
            if (edge)
                put_edge(&at, tile, rows, cols);
        }
    }
}

/* Panels (DEPTH,COLS) of @cols columns of B from @j on, rows @p to @p + depth. Returns
 * the panels' depth. */
static size_t pack_panels(float *to, const float *b, size_t ldb, bool transposed,
                          size_t j, size_t cols, size_t p, size_t depth, bool bf16)
{
    size_t made = depth;

    for (size_t q = 0; q < cols; q += COLS) {
        size_t some = cllm_min_u64(COLS, cols - q);
        float *panel = to + q * DEPTH;

        if (transposed)
            pack_transposed(panel, b + (j + q) * ldb + p, ldb, some, depth);
        else
            pack_straight(panel, b + p * ldb + j + q, ldb, some, depth);
        if (bf16)
            made = make_pairs(panel, COLS, depth);
    }
    return made;
}

/* Panels (DEPTH,ROWS) of @depth of @block's rows of A. */
static void pack_block(float *to, const struct block *block, bool transposed,
                       size_t depth)
{
    size_t row = transposed ? 1 : block->lda, step = transposed ? block->lda : 1;

    for (size_t i = 0; i < block->rows; i += ROWS) {
        size_t some = cllm_min_u64(ROWS, block->rows - i);
        float *panel = to + i * DEPTH;

        if (transposed && some == ROWS) /* of a fixed length, a few instructions */
            for (size_t p = 0; p < depth; p++) {
                __builtin_prefetch(block->a + i + (p + AHEAD) * step);
                memcpy(panel + p * ROWS, block->a + i + p * step, ROWS * sizeof *to);
            }
        else
            pack_rows(panel, block->a + i * row, row, step, some, depth);
        if (block->bf16)
            (void)make_pairs(panel, ROWS, depth);
    }
}

static __attribute__((noinline)) void multiply(float *c, const float *a, const float *b,
                                               const struct cllm_matmul *shape, bool bf16)
{
    _Alignas(64) float panels[DEPTH * COL_BLOCK], rows[DEPTH * ROW_BLOCK];
    const struct strides ld = strides_of(shape);
    size_t m = shape->m, n = shape->n, k = shape->k;

    if (m <= FEW_ROWS && !bf16) {
        CLLM_KERNEL(multiply_rows)(c, a, b, shape);
        return;
    }
    for (size_t j = 0; j < n; j += COL_BLOCK) {
        struct block block = {.panels = panels,
                              .lda = ld.a,
                              .cols = cllm_min_u64(COL_BLOCK, n - j),
                              .packed = shape->trans_a || bf16 || n > FEW_COLS,
                              .bf16 = bf16};

        for (size_t p = 0; p < k; p += DEPTH) {
            size_t depth = cllm_min_u64(DEPTH, k - p);

            block.depth = pack_panels(panels, b, ld.b, shape->trans_b, j, block.cols, p,
                                      depth, bf16);
            for (size_t i = 0; i < m; i += ROW_BLOCK) {
                const struct target to = {.c = c + i * ld.c + j,
                                          .ldc = ld.c,
                                          .add = shape->accumulate || p > 0};

                block.rows = cllm_min_u64(ROW_BLOCK, m - i);
                block.a = shape->trans_a ? a + p * ld.a + i : a + i * ld.a + p;
                if (block.packed) {
                    pack_block(rows, &block, shape->trans_a, depth);
                    block.a = rows;
                }
                multiply_block(&to, &block);
            }
        }
    }
}

void CLLM_KERNEL(matmul)(float *c, const float *a, const float *b,
                         const struct cllm_matmul *shape)
{
    multiply(c, a, b, shape, false);
}

void CLLM_KERNEL(matmul_bf16)(float *c, const float *a, const float *b,
                              const struct cllm_matmul *shape)
{
    unsigned normal = _mm_getcsr();

    _mm_setcsr(normal | DENORMALS_ARE_ZERO | FLUSH_TO_ZERO);
    multiply(c, a, b, shape, true);
    _mm_setcsr(normal);
}

#endif
