/*
 * compute/table.c - the tables of one instruction set.
 *
 * With CLLM_ISA=ref, the plain one is the reference: every other table is tested against
 * it, and it against double precision.
 */
#include "compute/kernels.h"
#include "compute/onednn.h"

#define TEXT_OF_(name) #name
#define TEXT_OF(name)  TEXT_OF_(name)

#define KERNELS                                                            \
    .add_bias = CLLM_KERNEL(add_bias), .add_columns = CLLM_KERNEL(add_columns), \
    .layernorm = CLLM_KERNEL(layernorm),                                   \
    .layernorm_backward = CLLM_KERNEL(layernorm_backward),                 \
    .gelu = CLLM_KERNEL(gelu), .gelu_backward = CLLM_KERNEL(gelu_backward), \
    .embedding = CLLM_KERNEL(embedding),                                   \
    .embedding_backward = CLLM_KERNEL(embedding_backward),                 \
    .softmax = CLLM_KERNEL(softmax), .attention = CLLM_KERNEL(attention),   \
    .attention_backward = CLLM_KERNEL(attention_backward),                 \
    .cross_entropy = CLLM_KERNEL(cross_entropy), .adamw = CLLM_KERNEL(adamw), \
    .fold = CLLM_KERNEL(fold), .sumsq = CLLM_KERNEL(sumsq),                 \
    .is_finite = CLLM_KERNEL(is_finite)

const struct cllm_ops CLLM_KERNEL(plain) = {
    .name = TEXT_OF(CLLM_ISA), .matmul = CLLM_KERNEL(matmul), KERNELS};

const struct cllm_ops CLLM_KERNEL(onednn) = {
    .name = "onednn, " TEXT_OF(CLLM_ISA), .matmul = cllm_matmul_onednn, KERNELS};
