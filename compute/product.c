/*
 * compute/matmul.c - the matrix product as it stands in the book, row by row.
 */
#include "compute/kernels.h"

#include "compute/reduce.h"

/* c (n) += a (k, @step apart) B (k,n). */
static void add_rows(float *restrict c, const float *restrict a, size_t step,
                     const float *restrict b, size_t ldb, size_t n, size_t k)
{
    for (size_t p = 0; p < k; p++)
        for (size_t j = 0; j < n; j++)
            c[j] += a[p * step] * b[p * ldb + j];
}

/* c (n) += a (k) B^T, B stored (n,k). */
static void add_dots(float *restrict c, const float *restrict a, const float *restrict b,
                     size_t ldb, size_t n, size_t k)
{
    for (size_t j = 0; j < n; j++)
        c[j] += cllm_reduce_dot(a, b + j * ldb, k);
}

/* The same with a's elements @step apart. */
static void add_strided_dots(float *restrict c, const float *restrict a, size_t step,
                             const float *restrict b, size_t ldb, size_t n, size_t k)
{
    for (size_t j = 0; j < n; j++)
        for (size_t p = 0; p < k; p++)
            c[j] += a[p * step] * b[j * ldb + p];
}

void CLLM_KERNEL(matmul)(float *c, const float *a, const float *b,
                     const struct cllm_matmul *shape)
{
    size_t n = shape->n, k = shape->k;
    size_t lda = shape->lda ? shape->lda : (shape->trans_a ? shape->m : k);
    size_t ldb = shape->ldb ? shape->ldb : (shape->trans_b ? k : n);
    size_t ldc = shape->ldc ? shape->ldc : n;

    for (size_t i = 0; i < shape->m; i++) {
        const float *from = shape->trans_a ? a + i : a + i * lda;
        float *to = c + i * ldc;

        for (size_t j = 0; j < n && !shape->accumulate; j++)
            to[j] = 0.0f;
        if (!shape->trans_b)
            add_rows(to, from, shape->trans_a ? lda : 1, b, ldb, n, k);
        else if (!shape->trans_a)
            add_dots(to, from, b, ldb, n, k);
        else
            add_strided_dots(to, from, lda, b, ldb, n, k);
    }
}
