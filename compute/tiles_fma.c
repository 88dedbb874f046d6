/*
 * compute/tiles_fma.c - the sums of AMX tiles (compute/product.h) with FMA instructions,
 * for CPUs that have no tiles.
 *
 * Operands are rounded where they are packed, as f32: B into panels two vectors wide, A
 * into panels of as many rows as leave two sums of each element in registers.
 */
#include "compute/panel.h"

#if defined(__FMA__) && !defined(__AMX_BF16__)

enum {
#    if defined(__AVX512F__)
    ROWS = 6, /* of a tile; 24 of 32 registers are sums */
#    else
    ROWS = 3, /* 12 of 16 */
#    endif
    COLS = 2 * WIDTH,
    MOST_DEPTH = 256, /* that is packed at once */
    ROW_BLOCK = 96,
    COL_BLOCK = 1024,
};

/* A panel (depth,width) of @n of @x's rows or columns, @of apart, elements of k @step
 * apart; zeros around it, to the whole width and to a multiple of TILE_DEPTH. */
static void pack_panel(float *to, size_t width, const float *x, size_t of, size_t step,
                       size_t n, size_t depth)
{
    for (size_t p = 0; p < cllm_align_up(depth, TILE_DEPTH); p++) {
        size_t some = p < depth ? n : 0;

        for (size_t i = 0; i < some; i++)
            to[p * width + i] = cllm_f32_from_bits(round_bf16(x[i * of + p * step]));
        memset(to + p * width + some, 0, (width - some) * sizeof *to);
    }
}

static void pack(float *to, size_t width, const float *x, size_t of, size_t step,
                 size_t n, size_t depth)
{
    for (size_t i = 0; i < n; i += width)
        pack_panel(to + i * MOST_DEPTH, width, x + i * of, of, step,
                   cllm_min_u64(width, n - i), depth);
}

/* Onto sum (ROWS,COLS): a panel of A times a panel of B, @depth a multiple of
 * TILE_DEPTH. */
static __attribute__((noinline)) void add_tile(float *sum, const float *a, const float *b,
                                               size_t depth)
{
    for (size_t p = 0; p < depth; p += TILE_DEPTH) {
        vector part[ROWS][2][2]; /* of the first of each pair, of the second */

#    pragma GCC unroll 16
        for (size_t i = 0; i < ROWS; i++)
            part[i][0][0] = part[i][0][1] = part[i][1][0] = part[i][1][1] = vector_zero();
        for (size_t q = 0; q < TILE_DEPTH; q += 2) {
#    pragma GCC unroll 2
            for (size_t half = 0; half < 2; half++) {
                vector b0 = vector_load(b), b1 = vector_load(b + WIDTH);

#    pragma GCC unroll 16
                for (size_t i = 0; i < ROWS; i++) {
                    vector x = vector_all(a[i]);

                    part[i][half][0] = vector_fma(x, b0, part[i][half][0]);
                    part[i][half][1] = vector_fma(x, b1, part[i][half][1]);
                }
                a += ROWS;
                b += COLS;
            }
        }
#    pragma GCC unroll 16
        for (size_t i = 0; i < ROWS; i++) {
            float *to = sum + i * COLS;

#    pragma GCC unroll 2
            for (size_t j = 0; j < 2; j++)
                vector_store(to + j * WIDTH,
                             vector_add(vector_load(to + j * WIDTH),
                                        vector_add(part[i][0][j], part[i][1][j])));
        }
    }
}

/* C (rows,cols) = or += packed A times packed B. */
static void multiply_block(float *c, size_t ldc, size_t rows, size_t cols, const float *a,
                           const float *b, size_t depth, bool add)
{
    _Alignas(64) float sum[ROWS * COLS];

    for (size_t j = 0; j < cols; j += COLS) {
        size_t wide = cllm_min_u64(COLS, cols - j) * sizeof *c;

        for (size_t i = 0; i < rows; i += ROWS) {
            size_t high = cllm_min_u64(ROWS, rows - i);
            float *to = c + i * ldc + j;

            memset(sum, 0, sizeof sum);
            for (size_t r = 0; add && r < high; r++)
                memcpy(sum + r * COLS, to + r * ldc, wide);
            add_tile(sum, a + i * MOST_DEPTH, b + j * MOST_DEPTH, depth);
            for (size_t r = 0; r < high; r++)
                memcpy(to + r * ldc, sum + r * COLS, wide);
        }
    }
}

static void multiply(float *c, const float *a, const float *b,
                     const struct cllm_matmul *shape)
{
    _Alignas(64) float cols[COL_BLOCK * MOST_DEPTH], rows[ROW_BLOCK * MOST_DEPTH];
    const struct strides ld = strides_of(shape);
    size_t a_row = shape->trans_a ? 1 : ld.a, a_step = shape->trans_a ? ld.a : 1;
    size_t b_col = shape->trans_b ? ld.b : 1, b_step = shape->trans_b ? 1 : ld.b;

    for (size_t j = 0; j < shape->n; j += COL_BLOCK) {
        size_t wide = cllm_min_u64(COL_BLOCK, shape->n - j);

        for (size_t p = 0; p < shape->k; p += MOST_DEPTH) {
            size_t depth = cllm_min_u64(MOST_DEPTH, shape->k - p);

            pack(cols, COLS, b + j * b_col + p * b_step, b_col, b_step, wide, depth);
            for (size_t i = 0; i < shape->m; i += ROW_BLOCK) {
                size_t high = cllm_min_u64(ROW_BLOCK, shape->m - i);

                pack(rows, ROWS, a + i * a_row + p * a_step, a_row, a_step, high, depth);
                multiply_block(c + i * ld.c + j, ld.c, high, wide, rows, cols,
                               cllm_align_up(depth, TILE_DEPTH),
                               shape->accumulate || p > 0);
            }
        }
    }
}

void CLLM_KERNEL(matmul_tiles)(float *c, const float *a, const float *b,
                               const struct cllm_matmul *shape)
{
    unsigned normal = _mm_getcsr();

    _mm_setcsr(normal | DENORMALS_ARE_ZERO | FLUSH_TO_ZERO);
    multiply(c, a, b, shape);
    _mm_setcsr(normal);
}

#endif
