/*
 * compute/onednn.c - the only file that knows oneDNN.
 *
 * dnnl_sgemm is row-major, takes leading dimensions, and is the same in oneDNN 2 and 3.
 * It reaches the speed of the matmul primitive on one thread without a cache of
 * primitives by shape.
 */
#include "compute/onednn.h"

#include <dnnl.h>

#include "compute/kernels.h"

void cllm_matmul_onednn(float *c, const float *a, const float *b,
                        const struct cllm_matmul *shape)
{
    size_t lda = shape->lda ? shape->lda : (shape->trans_a ? shape->m : shape->k);
    size_t ldb = shape->ldb ? shape->ldb : (shape->trans_b ? shape->k : shape->n);
    size_t ldc = shape->ldc ? shape->ldc : shape->n;
    dnnl_status_t status;

    /* One row, as a decoder has: bound by memory, so there is nothing to win, and in a
     * process where the library has threads their meetings cost thirty times the work. */
    if (shape->m == 1) {
        cllm_ref_matmul(c, a, b, shape);
        return;
    }
    status = dnnl_sgemm(shape->trans_a ? 'T' : 'N', shape->trans_b ? 'T' : 'N',
                        (dnnl_dim_t)shape->m, (dnnl_dim_t)shape->n, (dnnl_dim_t)shape->k,
                        1.0f, a, (dnnl_dim_t)lda, b, (dnnl_dim_t)ldb,
                        shape->accumulate ? 1.0f : 0.0f, c, (dnnl_dim_t)ldc);
    /* Arguments are ours; what is left is that its packing buffers do not fit in memory.
     */
    CLLM_ASSERT(status == dnnl_success);
}

void cllm_onednn_limit(enum cllm_isa isa)
{
    static const dnnl_cpu_isa_t limit[CLLM_N_ISAS] = {
        [CLLM_ISA_AUTO] = (dnnl_cpu_isa_t)0, /* no limit: its name differs in 2 and 3 */
        [CLLM_ISA_REF] = dnnl_cpu_isa_sse41,
        [CLLM_ISA_AVX2] = dnnl_cpu_isa_avx2,
        [CLLM_ISA_AVX512] = (dnnl_cpu_isa_t)0};

    /* Refused when a product has been computed already: the choice stands then. */
    (void)dnnl_set_max_cpu_isa(limit[isa]);
}
