/*
 * compute/opencl/table_product.c - matrix products: which form; variant.c says which
 * variant.
 */
#include "compute/opencl/table_inside.h"

/* TRANS_A, TRANS_B, ADD, BIAS of matmul_form.cl, a bit each. */
enum { TRANS_A = 1, TRANS_B = 2, ADD = 4, BIAS = 8 };

size_t cllm_cl_matrix_bytes(size_t rows, size_t cols, size_t stride)
{
    return ((rows - 1) * stride + cols) * sizeof(float);
}

/* By a kernel that takes f32 as it lies. */
static void run_product(const struct cllm_cl_product *p, size_t chosen)
{
    const struct cllm_cl_variant *variant = cllm_cl_variant(chosen);
    const struct cllm_matmul *s = &p->shape;
    size_t bytes_c = cllm_cl_matrix_bytes(s->m, s->n, s->ldc);
    struct cllm_cl_launch launch;

    cllm_cl_begin(&launch, cllm_cl_variant_kernel(chosen));
    if (s->ldc == s->n && s->add != p->c)
        cllm_cl_out(&launch, p->c, bytes_c);
    else
        cllm_cl_inout(&launch, p->c, bytes_c);
    cllm_cl_in(
        &launch, p->a,
        cllm_cl_matrix_bytes(s->trans_a ? s->k : s->m, s->trans_a ? s->m : s->k, s->lda));
    cllm_cl_in(
        &launch, p->b,
        cllm_cl_matrix_bytes(s->trans_b ? s->n : s->k, s->trans_b ? s->k : s->n, s->ldb));
    cllm_cl_in(&launch, s->add, s->add == NULL ? 0 : bytes_c);
    cllm_cl_in(&launch, s->bias, s->bias == NULL ? 0 : s->n * sizeof *s->bias);
    cllm_cl_sizes(&launch, (const size_t[]){s->m, s->n, s->k, s->lda, s->ldb, s->ldc}, 6);
    cllm_cl_u32(&launch, (uint32_t)p->form);
    cllm_cl_run(&launch, 2,
                (const size_t[]){cllm_div_up(s->n, variant->n) * variant->items[0],
                                 cllm_div_up(s->m, variant->m) * variant->items[1]},
                variant->items);
}

void cllm_opencl_matmul(float *c, const float *a, const float *b,
                        const struct cllm_matmul *shape)
{
    struct cllm_cl_product p = {.c = c, .a = a, .b = b, .shape = *shape};
    struct cllm_matmul *s = &p.shape;
    size_t chosen = cllm_opencl_variant_choose(shape);

    s->lda = s->lda == 0 ? (s->trans_a ? s->m : s->k) : s->lda;
    s->ldb = s->ldb == 0 ? (s->trans_b ? s->k : s->n) : s->ldb;
    s->ldc = s->ldc == 0 ? s->n : s->ldc;
    CLLM_ASSERT(!s->accumulate || (s->add == NULL && s->bias == NULL));
    s->add = s->accumulate ? c : s->add;
    s->accumulate = false;
    p.form = (s->trans_a ? TRANS_A : 0u) | (s->trans_b ? TRANS_B : 0u) |
             (s->add != NULL ? ADD : 0u) | (s->bias != NULL ? BIAS : 0u);
    if (cllm_cl_tensor())
        cllm_cl_tensor_product(&p, chosen);
    else
        run_product(&p, chosen);
}
