/*
 * compute/ref_matmul.c - the matrix product as it stands in the book.
 */
#include "compute/ref.h"

void cllm_ref_matmul(float *c, const float *a, const float *b,
                     const struct cllm_matmul *shape)
{
    size_t lda = shape->lda ? shape->lda : (shape->trans_a ? shape->m : shape->k);
    size_t ldb = shape->ldb ? shape->ldb : (shape->trans_b ? shape->k : shape->n);
    size_t ldc = shape->ldc ? shape->ldc : shape->n;
    size_t a_row = shape->trans_a ? 1 : lda, a_col = shape->trans_a ? lda : 1;
    size_t b_row = shape->trans_b ? 1 : ldb, b_col = shape->trans_b ? ldb : 1;

    for (size_t i = 0; i < shape->m; i++) {
        float *row = c + i * ldc; // (n)

        if (!shape->accumulate)
            for (size_t j = 0; j < shape->n; j++)
                row[j] = 0.0f;
        for (size_t p = 0; p < shape->k; p++) {
            const float *from = b + p * b_row;
            float factor = a[i * a_row + p * a_col];

            for (size_t j = 0; j < shape->n; j++)
                row[j] += factor * from[j * b_col];
        }
    }
}
