/*
 * compute/table.c - the tables of one instruction set, by the precision of products.
 *
 * With CLLM_ISA=ref they are the reference: every other table is held to their bits, and
 * they are tested against double precision.
 */
#include "compute/kernels.h"

#define TEXT_OF_(name) #name
#define TEXT_OF(name)  TEXT_OF_(name)

#define OP(name) .name = CLLM_KERNEL(name),

/* All but the products, which know of precision. */
/* clang-format off */
#define KERNELS \
    OP(adamw) \
    OP(add_columns) \
    OP(attention) \
    OP(attention_backward) \
    OP(cross_entropy) \
    OP(crystal_pairs) \
    OP(crystal_points) \
    OP(dropout) \
    OP(embedding) \
    OP(embedding_backward) \
    OP(fold) \
    OP(gelu) \
    OP(gelu_backward) \
    OP(is_finite) \
    OP(layernorm) \
    OP(layernorm_backward) \
    OP(layernorm_weights) \
    OP(lion) \
    OP(mix) \
    OP(next_tokens) \
    OP(put) \
    OP(rmsnorm) \
    OP(rmsnorm_backward) \
    OP(rmsnorm_weights) \
    OP(rope) \
    OP(sgd) \
    OP(similarities) \
    OP(smooth_cross_entropy) \
    OP(softmax) \
    OP(stream) \
    OP(sum_losses) \
    OP(sumsq) \
    OP(swiglu) \
    OP(swiglu_backward) \
    OP(zero)
/* clang-format on */

const struct cllm_ops CLLM_KERNEL(f32) = {
    .name = TEXT_OF(CLLM_ISA) ", f32", .matmul = CLLM_KERNEL(matmul), KERNELS};

#if defined(__AVX512BF16__)
#    define HOW "bf16"
#else
#    define HOW "bf16 (emulated)"
#endif
#if defined(__AMX_BF16__)
#    define HOW_TILES "bf16-amx"
#    define HOW_SPLIT "f32-amx"
#else
#    define HOW_TILES "bf16-amx (emulated)"
#    define HOW_SPLIT "f32-amx (emulated)"
#endif

const struct cllm_ops CLLM_KERNEL(bf16) = {
    .name = TEXT_OF(CLLM_ISA) ", " HOW, .matmul = CLLM_KERNEL(matmul_bf16), KERNELS};

const struct cllm_ops CLLM_KERNEL(tiles) = {.name = TEXT_OF(CLLM_ISA) ", " HOW_TILES,
                                            .matmul = CLLM_KERNEL(matmul_tiles),
                                            KERNELS};

const struct cllm_ops CLLM_KERNEL(split) = {.name = TEXT_OF(CLLM_ISA) ", " HOW_SPLIT,
                                            .matmul = CLLM_KERNEL(matmul_split),
                                            KERNELS};
