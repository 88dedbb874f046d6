/*
 * compute/tiles_fma.c - the sums of AMX tiles (compute/product.h) with FMA instructions,
 * for CPUs that have no tiles.
 *
 * Operands are rounded or split where they are packed, as f32: B into panels two vectors
 * wide, A into panels of as many rows as leave two sums of each element in registers. A
 * panel has the pieces of a tile of k one behind the other.
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
    /* Packed elements of A, of B. */
    MOST_DEPTH = SPLIT_DEPTH,
    MOST_ROWS = 96 * 256,
    MOST_COLS = 1024 * 256,
};

/* How a product is summed. */
struct form {
    size_t depth; /* of k that is packed at once */
    size_t pieces;
    const struct split_pair *pairs;
    size_t n_pairs; /* which are multiplied */
    bool from_zero; /* so much of k is summed before it is added */
};

/* Elements of a panel for each of its rows. */
static size_t panel_of(const struct form *form)
{
    return form->depth * form->pieces;
}

/*
 * Panels of @n rows or columns of @x, as many as make @width each; zeros behind @depth,
 * to a multiple of TILE_DEPTH. @along: rows of @x go along k, otherwise across.
 */
static inline __attribute__((always_inline)) void pack(float *to, size_t width,
                                                       const float *x, size_t ld,
                                                       size_t n, size_t depth, bool along,
                                                       const struct form *form)
{
    /* Packing may write a vector behind the end. */
    _Alignas(64) float panel[MOST_DEPTH * COLS + WIDTH];
    size_t whole = cllm_align_up(depth, TILE_DEPTH), tile = TILE_DEPTH * width;

    for (size_t i = 0; i < n; i += width, to += panel_of(form) * width) {
        size_t some = cllm_min_u64(width, n - i);
        float *piece = to;

        if (along)
            pack_along(panel, width, x + i * ld, ld, some, depth);
        else
            pack_across(panel, width, x + i, ld, some, depth);
        memset(panel + depth * width, 0, (whole - depth) * width * sizeof *panel);
        for (float *rest = panel; rest < panel + whole * width; rest += tile) {
            for (size_t p = 0; p < form->pieces; p++, piece += tile) {
                for (size_t j = 0; j < tile; j++) {
                    piece[j] = cllm_f32_from_bits(round_bf16(rest[j]));
                    rest[j] -= piece[j];
                }
            }
        }
    }
}

/* Onto sum (ROWS,COLS): a tile of k of A's panel times that of B's. */
static inline __attribute__((always_inline)) void add_tile(float *sum, const float *a,
                                                           const float *b)
{
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

/* Onto sum (ROWS,COLS): a panel of A times a panel of B, @depth a multiple of TILE_DEPTH.
 */
static __attribute__((noinline)) void add_panels(float *sum, const float *a,
                                                 const float *b, size_t depth,
                                                 const struct form *form)
{
    for (size_t p = 0; p < depth * form->pieces; p += TILE_DEPTH * form->pieces)
        for (size_t i = 0; i < form->n_pairs; i++)
            add_tile(sum, a + (p + TILE_DEPTH * form->pairs[i].a) * ROWS,
                     b + (p + TILE_DEPTH * form->pairs[i].b) * COLS);
}

/* A block of C (rows,cols), @depth of k. */
struct block {
    float *c;
    size_t ldc, rows, cols, depth;
    struct start start; /* what it is added to */
};

/* @rows and @cols of C = start + packed A times packed B. */
static void multiply_square(const struct block *block, size_t i, size_t j, const float *a,
                            const float *b, const struct form *form)
{
    _Alignas(64) float begin[ROWS * COLS] = {0}, sum[ROWS * COLS] = {0};
    size_t rows = cllm_min_u64(ROWS, block->rows - i);
    size_t cols = cllm_min_u64(COLS, block->cols - j), ldc = block->ldc;
    size_t depth = cllm_align_up(block->depth, TILE_DEPTH);
    const struct start start = start_at(&block->start, ldc, i, j);
    bool apart = form->from_zero && is_start(&start);
    float *c = block->c + i * ldc + j;

    if (is_start(&start))
        put_start(apart ? begin : sum, COLS, &start, ldc, rows, cols);
    add_panels(sum, a + i * panel_of(form), b + j * panel_of(form), depth, form);
    for (size_t at = 0; apart && at < ROWS * COLS; at++)
        sum[at] = begin[at] + sum[at];
    for (size_t r = 0; r < rows; r++)
        memcpy(c + r * ldc, sum + r * COLS, cols * sizeof *c);
}

/* Not inlined: additions would not have to stay where the mode is set. */
static __attribute__((noinline)) void multiply(float *c, const float *a, const float *b,
                                               const struct cllm_matmul *shape,
                                               const struct form *form)
{
    _Alignas(64) float cols[MOST_COLS], rows[MOST_ROWS];
    const size_t col_block = MOST_COLS / panel_of(form) / COLS * COLS;
    const size_t row_block = MOST_ROWS / panel_of(form) / ROWS * ROWS;
    const struct strides ld = strides_of(shape);
    const struct start start = start_of(c, shape);
    struct block block = {.ldc = ld.c};

    for (size_t j = 0; j < shape->n; j += col_block) {
        block.cols = cllm_min_u64(col_block, shape->n - j);
        for (size_t p = 0; p < shape->k; p += form->depth) {
            block.depth = cllm_min_u64(form->depth, shape->k - p);
            pack(cols, COLS, shape->trans_b ? b + j * ld.b + p : b + p * ld.b + j, ld.b,
                 block.cols, block.depth, shape->trans_b, form);
            for (size_t i = 0; i < shape->m; i += row_block) {
                block.rows = cllm_min_u64(row_block, shape->m - i);
                block.c = c + i * ld.c + j;
                block.start =
                    p == 0 ? start_at(&start, ld.c, i, j) : start_itself(block.c);
                pack(rows, ROWS, shape->trans_a ? a + p * ld.a + i : a + i * ld.a + p,
                     ld.a, block.rows, block.depth, !shape->trans_a, form);
                for (size_t col = 0; col < block.cols; col += COLS)
                    for (size_t row = 0; row < block.rows; row += ROWS)
                        multiply_square(&block, row, col, rows, cols, form);
            }
        }
    }
}

/* In the mode of tiles. */
static void multiply_as_tiles(float *c, const float *a, const float *b,
                              const struct cllm_matmul *shape, const struct form *form)
{
    unsigned normal = _mm_getcsr();

    _mm_setcsr(normal | DENORMALS_ARE_ZERO | FLUSH_TO_ZERO);
    multiply(c, a, b, shape, form);
    _mm_setcsr(normal);
}

void CLLM_KERNEL(matmul_tiles)(float *c, const float *a, const float *b,
                               const struct cllm_matmul *shape)
{
    static const struct split_pair whole = {0, 0};
    static const struct form form = {
        .depth = 256, .pieces = 1, .pairs = &whole, .n_pairs = 1};

    multiply_as_tiles(c, a, b, shape, &form);
}

void CLLM_KERNEL(matmul_split)(float *c, const float *a, const float *b,
                               const struct cllm_matmul *shape)
{
    static const struct form form = {.depth = SPLIT_DEPTH,
                                     .pieces = PIECES,
                                     .pairs = split_pairs,
                                     .n_pairs = SPLIT_PAIRS,
                                     .from_zero = true};

    multiply_as_tiles(c, a, b, shape, &form);
}

#endif
