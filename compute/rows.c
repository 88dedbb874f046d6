/*
 * compute/rows.c - matrix products of a few rows, as a decoder has: packing B would cost
 * more than the product.
 */
#include "compute/panel.h"

#if defined(__FMA__)

enum { COLS = 1024 }; /* sums on the stack */

/* c (n) from one row of A, elements @step apart, and B, stored (k,n). */
static void multiply_row(float *c, const float *a, size_t step, const float *b,
                         size_t ldb, const struct cllm_matmul *shape)
{
    float sum[COLS];

    for (size_t j = 0; j < shape->n; j += COLS) {
        size_t cols = cllm_min_u64(COLS, shape->n - j);

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

/* WIDTH elements of it from as many rows of B, stored (n,k). */
static void multiply_square(float *c, const float *a, size_t step, const float *b,
                            size_t ldb, const struct cllm_matmul *shape)
{
    for (size_t p = 0; p < shape->k; p += DEPTH) {
        size_t end = cllm_min_u64(p + DEPTH, shape->k), q = p;
        float square[WIDTH * WIDTH];
        bool add = shape->accumulate || p > 0;
        vector sum = vector_zero();

        for (; q + WIDTH <= end; q += WIDTH) {
            transpose_square(square, WIDTH, b + q, ldb, WIDTH);
            for (size_t i = 0; i < WIDTH; i++)
                sum = vector_fma(vector_all(a[(q + i) * step]),
                                 vector_load(square + i * WIDTH), sum);
        }
        for (; q < end; q++) {
            for (size_t i = 0; i < WIDTH; i++)
                square[i] = b[i * ldb + q];
            sum = vector_fma(vector_all(a[q * step]), vector_load(square), sum);
        }
        vector_store(c, add ? vector_add(vector_load(c), sum) : sum);
    }
}

/* The whole row. */
static void multiply_row_transposed(float *c, const float *a, size_t step, const float *b,
                                    size_t ldb, const struct cllm_matmul *shape)
{
    size_t j = 0;

    for (; j + WIDTH <= shape->n; j += WIDTH)
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

void CLLM_KERNEL(multiply_rows)(float *c, const float *a, const float *b,
                                const struct cllm_matmul *shape)
{
    const struct strides ld = strides_of(shape);
    const struct start start = start_of(c, shape);
    struct cllm_matmul onto = *shape;
    size_t row = shape->trans_a ? 1 : ld.a, step = shape->trans_a ? ld.a : 1;

    if (!shape->accumulate && is_start(&start)) {
        put_start(c, ld.c, &start, ld.c, shape->m, shape->n);
        onto.accumulate = true;
    }
    for (size_t i = 0; i < shape->m; i++) {
        if (shape->trans_b)
            multiply_row_transposed(c + i * ld.c, a + i * row, step, b, ld.b, &onto);
        else
            multiply_row(c + i * ld.c, a + i * row, step, b, ld.b, &onto);
    }
}

#endif
