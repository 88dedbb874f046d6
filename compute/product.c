/*
 * compute/product.c - matrix products, with the same bits on every instruction set.
 *
 * Every element is the same sum everywhere: k is cut into runs of DEPTH; a run is summed
 * in order, from zero, with one rounding for each multiply-add; runs are added in order.
 * What differs is how many elements are computed at once. With FMA instructions this is
 * the blocked algorithm of Goto and van de Geijn ("Anatomy of high-performance matrix
 * multiplication", ACM TOMS 34, 2008): B is packed into panels as wide as two vectors,
 * which stay in the caches while rows of A pass by in tiles whose sums stay in registers.
 * Without, it is the definition, written out.
 *
 * With bf16 precision A and B are rounded to bf16 when they are packed. Products of two
 * such numbers are exact in f32, sums are f32's: what hardware for bf16 gives, but for
 * the order within pairs and for denormals.
 *
 * Blocks are packed on the stack, a good mebibyte of it: nothing is allocated, nothing
 * is kept.
 */
#include "compute/kernels.h"

#include <string.h>

#include "compute/elementary.h"

enum { DEPTH = 256 }; /* part of the bits */

/* Leading dimensions as given, or those of an array without gaps. */
struct strides {
    size_t a, b, c;
};

static struct strides strides_of(const struct cllm_matmul *shape)
{
    return (struct strides){
        .a = shape->lda ? shape->lda : (shape->trans_a ? shape->m : shape->k),
        .b = shape->ldb ? shape->ldb : (shape->trans_b ? shape->k : shape->n),
        .c = shape->ldc ? shape->ldc : shape->n};
}

/* To the nearest bf16, ties to even, as f32. NaN stays NaN. */
static inline float round_bf16(float x)
{
    uint32_t bits = cllm_f32_bits(x), even = bits >> 16 & 1;
    uint32_t rounded = (bits + 0x7fff + even) & 0xffff0000u;

    return cllm_f32_from_bits((bits & 0x7fffffffu) > 0x7f800000u
                                  ? (bits | 0x00400000u) & 0xffff0000u
                                  : rounded);
}

#if defined(__FMA__)

#    include <immintrin.h>

#    if defined(__AVX512F__)
enum { WIDTH = 16, ROWS = 12 }; /* 24 of 32 registers are sums */
typedef __m512 vector;
#        define vector_zero()         _mm512_setzero_ps()
#        define vector_load(p)        _mm512_loadu_ps(p)
#        define vector_store(p, x)    _mm512_storeu_ps(p, x)
#        define vector_all(x)         _mm512_set1_ps(x)
#        define vector_add(x, y)      _mm512_add_ps(x, y)
#        define vector_fma(x, y, sum) _mm512_fmadd_ps(x, y, sum)
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

enum {
    COLS = 2 * WIDTH, /* of a tile */
    ROW_BLOCK = 96,   /* rows of A that a panel of B meets: in the second-level cache */
    COL_BLOCK = 1024, /* columns of B that are packed at once */
    TRANSPOSED = 8    /* side of the squares in which B^T is packed */
};

/* What products are written to. */
struct target {
    float *c;
    size_t ldc;
    bool add; /* to what is there; otherwise it is overwritten */
};

/* ---- packing ---- */

/* Rows of an 8 x 8 square, @from apart, become columns, @to apart. */
static inline void transpose_square(float *out, size_t to, const float *x, size_t from)
{
    __m256 r[8], s[8];

    for (size_t i = 0; i < 8; i++)
        r[i] = _mm256_loadu_ps(x + i * from);
    for (size_t i = 0; i < 8; i += 2) {
        s[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        s[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (size_t i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(s[i], s[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(s[i], s[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0xee);
    }
    for (size_t i = 0; i < 4; i++) {
        _mm256_storeu_ps(out + i * to, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps(out + (i + 4) * to,
                         _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
}

/* A panel (depth,COLS) of B, stored (n,k): @cols of its rows. */
static void pack_transposed(float *to, const float *b, size_t ldb, size_t cols,
                            size_t depth)
{
    size_t j = 0;

    if (cols < COLS)
        memset(to, 0, depth * COLS * sizeof *to);
    for (; j + TRANSPOSED <= cols; j += TRANSPOSED) {
        size_t p = 0;

        for (; p + TRANSPOSED <= depth; p += TRANSPOSED)
            transpose_square(to + p * COLS + j, COLS, b + j * ldb + p, ldb);
        for (; p < depth; p++)
            for (size_t i = 0; i < TRANSPOSED; i++)
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
        for (size_t p = 0; p < depth; p++)
            memcpy(to + p * COLS, b + p * ldb, COLS * sizeof *to);
        return;
    }
    for (size_t p = 0; p < depth; p++) {
        memcpy(to + p * COLS, b + p * ldb, cols * sizeof *to);
        memset(to + p * COLS + cols, 0, (COLS - cols) * sizeof *to);
    }
}

/* A panel (depth,ROWS) of A: @rows rows, @row apart, elements @step apart. */
static void pack_rows(float *to, const float *a, size_t row, size_t step, size_t rows,
                      size_t depth)
{
    for (size_t p = 0; p < depth; p++) {
        for (size_t i = 0; i < rows; i++)
            to[p * ROWS + i] = a[i * row + p * step];
        for (size_t i = rows; i < ROWS; i++)
            to[p * ROWS + i] = 0.0f;
    }
}

static void round_all(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = round_bf16(x[i]);
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
                                                               size_t depth)
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

            sum[i][0] = vector_fma(x, b0, sum[i][0]);
            sum[i][1] = vector_fma(x, b1, sum[i][1]);
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
    compute_tile(to, a, lda, 1, panel, depth);
}

/* A in a packed panel. */
static __attribute__((noinline)) void packed_tile(const struct target *to, const float *a,
                                                  const float *panel, size_t depth)
{
    compute_tile(to, a, 1, ROWS, panel, depth);
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

            if (x->packed)
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

/* ---- few rows: packing would cost more than the product ---- */

enum { FEW_ROWS = 3 };

/* c (n) from one row of A, elements @step apart, and B, stored (k,n). */
static void multiply_row(float *c, const float *a, size_t step, const float *b,
                         size_t ldb, const struct cllm_matmul *shape)
{
    float sum[COL_BLOCK];

    for (size_t j = 0; j < shape->n; j += COL_BLOCK) {
        size_t cols = cllm_min_u64(COL_BLOCK, shape->n - j);

        for (size_t p = 0; p < shape->k; p += DEPTH) {
            size_t end = cllm_min_u64(p + DEPTH, shape->k);
            bool add = shape->accumulate || p > 0;

            memset(sum, 0, cols * sizeof *sum);
            for (size_t q = p; q < end; q++)
                for (size_t i = 0; i < cols; i++)
                    sum[i] = __builtin_fmaf(a[q * step], b[q * ldb + j + i], sum[i]);
            for (size_t i = 0; i < cols; i++)
                c[j + i] = add ? c[j + i] + sum[i] : sum[i];
        }
    }
}

/* Eight elements of it from eight rows of B, stored (n,k). */
static void multiply_square(float *c, const float *a, size_t step, const float *b,
                            size_t ldb, const struct cllm_matmul *shape)
{
    for (size_t p = 0; p < shape->k; p += DEPTH) {
        size_t end = cllm_min_u64(p + DEPTH, shape->k), q = p;
        float square[TRANSPOSED * TRANSPOSED];
        bool add = shape->accumulate || p > 0;
        __m256 sum = _mm256_setzero_ps();

        for (; q + TRANSPOSED <= end; q += TRANSPOSED) {
            transpose_square(square, TRANSPOSED, b + q, ldb);
            for (size_t i = 0; i < TRANSPOSED; i++)
                sum = _mm256_fmadd_ps(_mm256_set1_ps(a[(q + i) * step]),
                                      _mm256_loadu_ps(square + i * TRANSPOSED), sum);
        }
        for (; q < end; q++) {
            for (size_t i = 0; i < TRANSPOSED; i++)
                square[i] = b[i * ldb + q];
            sum = _mm256_fmadd_ps(_mm256_set1_ps(a[q * step]), _mm256_loadu_ps(square),
                                  sum);
        }
        _mm256_storeu_ps(c, add ? _mm256_add_ps(_mm256_loadu_ps(c), sum) : sum);
    }
}

/* The whole row. */
static void multiply_row_transposed(float *c, const float *a, size_t step, const float *b,
                                    size_t ldb, const struct cllm_matmul *shape)
{
    size_t j = 0;

    for (; j + TRANSPOSED <= shape->n; j += TRANSPOSED)
        multiply_square(c + j, a, step, b + j * ldb, ldb, shape);
    for (; j < shape->n; j++) {
        for (size_t p = 0; p < shape->k; p += DEPTH) {
            size_t end = cllm_min_u64(p + DEPTH, shape->k);
            float sum = 0.0f;

            for (size_t q = p; q < end; q++)
                sum = __builtin_fmaf(a[q * step], b[j * ldb + q], sum);
            c[j] = shape->accumulate || p > 0 ? c[j] + sum : sum;
        }
    }
}

static void multiply_few(float *c, const float *a, const float *b,
                         const struct cllm_matmul *shape, const struct strides *ld)
{
    size_t row = shape->trans_a ? 1 : ld->a, step = shape->trans_a ? ld->a : 1;

    for (size_t i = 0; i < shape->m; i++) {
        if (shape->trans_b)
            multiply_row_transposed(c + i * ld->c, a + i * row, step, b, ld->b, shape);
        else
            multiply_row(c + i * ld->c, a + i * row, step, b, ld->b, shape);
    }
}

/* ---- all ---- */

/* Panels (DEPTH,COLS) of @cols columns of B from @j on, rows @p to @p + depth. */
static void pack_panels(float *to, const float *b, size_t ldb, bool transposed, size_t j,
                        size_t cols, size_t p, size_t depth, bool bf16)
{
    for (size_t q = 0; q < cols; q += COLS) {
        size_t some = cllm_min_u64(COLS, cols - q);
        float *panel = to + q * DEPTH;

        if (transposed)
            pack_transposed(panel, b + (j + q) * ldb + p, ldb, some, depth);
        else
            pack_straight(panel, b + p * ldb + j + q, ldb, some, depth);
        if (bf16)
            round_all(panel, depth * COLS);
    }
}

/* Panels (DEPTH,ROWS) of @block's rows of A. */
static void pack_block(float *to, const struct block *block, bool transposed, bool bf16)
{
    size_t row = transposed ? 1 : block->lda, step = transposed ? block->lda : 1;

    for (size_t i = 0; i < block->rows; i += ROWS) {
        size_t some = cllm_min_u64(ROWS, block->rows - i);
        float *panel = to + i * DEPTH;

        if (transposed && some == ROWS) /* of a fixed length, a few instructions */
            for (size_t p = 0; p < block->depth; p++)
                memcpy(panel + p * ROWS, block->a + i + p * step, ROWS * sizeof *to);
        else
            pack_rows(panel, block->a + i * row, row, step, some, block->depth);
        if (bf16)
            round_all(panel, block->depth * ROWS);
    }
}

static inline __attribute__((always_inline)) void multiply(
    float *c, const float *a, const float *b, const struct cllm_matmul *shape, bool bf16)
{
    _Alignas(64) float panels[DEPTH * COL_BLOCK], rows[DEPTH * ROW_BLOCK];
    const struct strides ld = strides_of(shape);
    size_t m = shape->m, n = shape->n, k = shape->k;

    if (m <= FEW_ROWS && !bf16) {
        multiply_few(c, a, b, shape, &ld);
        return;
    }
    for (size_t j = 0; j < n; j += COL_BLOCK) {
        struct block block = {.panels = panels,
                              .lda = ld.a,
                              .cols = cllm_min_u64(COL_BLOCK, n - j),
                              .packed = shape->trans_a || bf16};

        for (size_t p = 0; p < k; p += DEPTH) {
            block.depth = cllm_min_u64(DEPTH, k - p);
            pack_panels(panels, b, ld.b, shape->trans_b, j, block.cols, p, block.depth,
                        bf16);
            for (size_t i = 0; i < m; i += ROW_BLOCK) {
                const struct target to = {.c = c + i * ld.c + j,
                                          .ldc = ld.c,
                                          .add = shape->accumulate || p > 0};

                block.rows = cllm_min_u64(ROW_BLOCK, m - i);
                block.a = shape->trans_a ? a + p * ld.a + i : a + i * ld.a + p;
                if (block.packed) {
                    pack_block(rows, &block, shape->trans_a, bf16);
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
    multiply(c, a, b, shape, true);
}

#else /* no FMA instructions */

/*
 * x y + z with one rounding. The product of two f32 is exact in double; the sum is
 * rounded to odd (Boldo, Melquiond: "Emulation of FMA and correctly rounded sums", 2008),
 * so that rounding it again to f32 is as rounding once.
 */
static inline float fma_f32(float x, float y, float z)
{
    double product = (double)x * (double)y, sum = product + (double)z;
    double part = sum - product;
    double rest = (product - (sum - part)) + ((double)z - part);
    uint64_t bits;

    memcpy(&bits, &sum, sizeof bits);
    if (rest != 0 && (bits & 1) == 0 && __builtin_isfinite(sum))
        bits += (rest > 0) == (sum > 0) ? 1 : UINT64_MAX;
    memcpy(&sum, &bits, sizeof bits);
    return (float)sum;
}

/* One element's run of k. */
static float sum_run(const float *a, size_t a_step, const float *b, size_t b_step,
                     size_t depth, bool bf16)
{
    float sum = 0.0f;

    for (size_t p = 0; p < depth; p++) {
        float x = a[p * a_step], y = b[p * b_step];

        sum = bf16 ? fma_f32(round_bf16(x), round_bf16(y), sum) : fma_f32(x, y, sum);
    }
    return sum;
}

static void multiply(float *c, const float *a, const float *b,
                     const struct cllm_matmul *shape, bool bf16)
{
    const struct strides ld = strides_of(shape);
    size_t a_row = shape->trans_a ? 1 : ld.a, a_step = shape->trans_a ? ld.a : 1;
    size_t b_col = shape->trans_b ? ld.b : 1, b_step = shape->trans_b ? 1 : ld.b;

    for (size_t i = 0; i < shape->m; i++) {
        for (size_t j = 0; j < shape->n; j++) {
            float *to = c + i * ld.c + j;

            for (size_t p = 0; p < shape->k; p += DEPTH) {
                float sum = sum_run(a + i * a_row + p * a_step, a_step,
                                    b + j * b_col + p * b_step, b_step,
                                    cllm_min_u64(DEPTH, shape->k - p), bf16);

                *to = shape->accumulate || p > 0 ? *to + sum : sum;
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
    multiply(c, a, b, shape, true);
}

#endif
