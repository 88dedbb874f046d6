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

/*
 * Panels (MOST_DEPTH,width) of @n rows or columns of @x, rounded; zeros behind @depth, to
 * a multiple of TILE_DEPTH. @along: rows of @x go along k, otherwise across.
 */
static inline __attribute__((always_inline)) void pack(float *to, size_t width,
                                                       const float *x, size_t ld,
                                                       size_t n, size_t depth, bool along)
{
    size_t whole = cllm_align_up(depth, TILE_DEPTH);

    for (size_t i = 0; i < n; i += width) {
        size_t some = cllm_min_u64(width, n - i);
        float *panel = to + i * MOST_DEPTH;

        if (along)
            pack_along(panel, width, x + i * ld, ld, some, depth);
        else
            pack_across(panel, width, x + i, ld, some, depth);
        for (size_t j = 0; j < depth * width; j++)
            panel[j] = cllm_f32_from_bits(round_bf16(panel[j]));
        memset(panel + depth * width, 0, (whole - depth) * width * sizeof *panel);
    }
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

/* C (rows,cols) = start + packed A times packed B. */
static void multiply_block(float *c, size_t ldc, size_t rows, size_t cols, const float *a,
                           const float *b, size_t depth, const struct start *start)
{
    _Alignas(64) float sum[ROWS * COLS];

    for (size_t j = 0; j < cols; j += COLS) {
        size_t wide = cllm_min_u64(COLS, cols - j);

        for (size_t i = 0; i < rows; i += ROWS) {
            size_t high = cllm_min_u64(ROWS, rows - i);
            const struct start here = start_at(start, ldc, i, j);
            float *to = c + i * ldc + j;

            memset(sum, 0, sizeof sum);
            if (is_start(&here))
                put_start(sum, COLS, &here, ldc, high, wide);
            add_tile(sum, a + i * MOST_DEPTH, b + j * MOST_DEPTH, depth);
            for (size_t r = 0; r < high; r++)
                memcpy(to + r * ldc, sum + r * COLS, wide * sizeof *c);
        }
    }
}

/* Not inlined: additions would not have to stay where the mode is set. */
static __attribute__((noinline)) void multiply(float *c, const float *a, const float *b,
                                               const struct cllm_matmul *shape)
{
    /* Packing may write a vector behind the last panel. */
    _Alignas(64) float cols[COL_BLOCK * MOST_DEPTH + WIDTH];
    _Alignas(64) float rows[ROW_BLOCK * MOST_DEPTH + WIDTH];
    const struct strides ld = strides_of(shape);
    const struct start start = start_of(c, shape);

    for (size_t j = 0; j < shape->n; j += COL_BLOCK) {
        size_t wide = cllm_min_u64(COL_BLOCK, shape->n - j);

        for (size_t p = 0; p < shape->k; p += MOST_DEPTH) {
            size_t depth = cllm_min_u64(MOST_DEPTH, shape->k - p);

            pack(cols, COLS, shape->trans_b ? b + j * ld.b + p : b + p * ld.b + j, ld.b,
                 wide, depth, shape->trans_b);
            for (size_t i = 0; i < shape->m; i += ROW_BLOCK) {
                size_t high = cllm_min_u64(ROW_BLOCK, shape->m - i);
                float *to = c + i * ld.c + j;
                const struct start onto =
                    p == 0 ? start_at(&start, ld.c, i, j) : (struct start){.add = to};

                pack(rows, ROWS, shape->trans_a ? a + p * ld.a + i : a + i * ld.a + p,
                     ld.a, high, depth, !shape->trans_a);
                multiply_block(to, ld.c, high, wide, rows, cols,
                               cllm_align_up(depth, TILE_DEPTH), &onto);
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
