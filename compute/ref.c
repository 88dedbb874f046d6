/*
 * compute/ref.c - the reference table: plain C, kept for ever.
 *
 * Every other table is tested against this one, and this one against double precision.
 */
#include "compute/ref.h"

static const struct cllm_ops reference = {
    .name = "reference",
    .matmul = cllm_ref_matmul,
    .add_bias = cllm_ref_add_bias,
    .add_columns = cllm_ref_add_columns,
    .layernorm = cllm_ref_layernorm,
    .layernorm_backward = cllm_ref_layernorm_backward,
    .gelu = cllm_ref_gelu,
    .gelu_backward = cllm_ref_gelu_backward,
    .embedding = cllm_ref_embedding,
    .embedding_backward = cllm_ref_embedding_backward,
    .softmax = cllm_ref_softmax,
    .attention = cllm_ref_attention,
    .attention_backward = cllm_ref_attention_backward,
    .cross_entropy = cllm_ref_cross_entropy,
    .adamw = cllm_ref_adamw,
    .fold = cllm_ref_fold,
    .sumsq = cllm_ref_sumsq,
    .is_finite = cllm_ref_is_finite,
};

const struct cllm_ops *cllm_ops_reference(void)
{
    return &reference;
}
