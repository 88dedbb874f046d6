/*
 * compute/table.c - the tables of one instruction set, by the precision of products.
 *
 * With CLLM_ISA=ref they are the reference: every other table is held to their bits, and
 * they are tested against double precision.
 */
#include "compute/kernels.h"

#define TEXT_OF_(name) #name
#define TEXT_OF(name)  TEXT_OF_(name)

#define KERNELS                                                                         \
    .add_bias = CLLM_KERNEL(add_bias), .add_columns = CLLM_KERNEL(add_columns),         \
    .layernorm = CLLM_KERNEL(layernorm),                                                \
    .layernorm_backward = CLLM_KERNEL(layernorm_backward),                              \
    .layernorm_weights = CLLM_KERNEL(layernorm_weights), .gelu = CLLM_KERNEL(gelu),     \
    .rmsnorm = CLLM_KERNEL(rmsnorm), .rmsnorm_backward = CLLM_KERNEL(rmsnorm_backward), \
    .rmsnorm_weights = CLLM_KERNEL(rmsnorm_weights), .swiglu = CLLM_KERNEL(swiglu),     \
    .swiglu_backward = CLLM_KERNEL(swiglu_backward), .rope = CLLM_KERNEL(rope),         \
    .gelu_backward = CLLM_KERNEL(gelu_backward), .embedding = CLLM_KERNEL(embedding),   \
    .embedding_backward = CLLM_KERNEL(embedding_backward),                              \
    .softmax = CLLM_KERNEL(softmax), .attention = CLLM_KERNEL(attention),               \
    .attention_backward = CLLM_KERNEL(attention_backward),                              \
    .cross_entropy = CLLM_KERNEL(cross_entropy), .adamw = CLLM_KERNEL(adamw),           \
    .lion = CLLM_KERNEL(lion), .sgd = CLLM_KERNEL(sgd), .mix = CLLM_KERNEL(mix),        \
    .fold = CLLM_KERNEL(fold), .stream = CLLM_KERNEL(stream),                           \
    .sumsq = CLLM_KERNEL(sumsq), .is_finite = CLLM_KERNEL(is_finite)

const struct cllm_ops CLLM_KERNEL(f32) = {
    .name = TEXT_OF(CLLM_ISA) ", f32", .matmul = CLLM_KERNEL(matmul), KERNELS};

#if defined(__AVX512BF16__)
#    define HOW "bf16"
#else
#    define HOW "bf16 (emulated)"
#endif

const struct cllm_ops CLLM_KERNEL(bf16) = {
    .name = TEXT_OF(CLLM_ISA) ", " HOW, .matmul = CLLM_KERNEL(matmul_bf16), KERNELS};
