/*
 * compute/select.c - which table serves this machine.
 *
 * One today: the reference with oneDNN's matrix product. A variant for an instruction set
 * is a further table like this one and a test of the CPU here; the choice must come out
 * the same in all processes of a run, so it depends on the machine alone.
 */
#include "compute/matmul.h"
#include "compute/ref.h"

static const struct cllm_ops onednn = {
    .name = "onednn",
    .matmul = cllm_matmul_onednn,
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

const struct cllm_ops *cllm_ops_select(void)
{
    return &onednn;
}
