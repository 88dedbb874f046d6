/*
 * compute/kernels.h - the kernels: one source in plain C, compiled once for each
 * instruction set.
 *
 * The Makefile compiles the sources listed there as kernels with -DCLLM_ISA=ref, avx2,
 * avx512 ..., each with its own flags, and CLLM_KERNEL(gelu) is cllm_ref_gelu,
 * cllm_avx2_gelu, cllm_avx512_gelu and so on. The order of operations is the source's,
 * and no flag allows a fused multiply-add, so that the bits are the same
 * (tests/test_isa.c). What the compiler does not vectorise well is written so that it
 * does, not in intrinsics.
 *
 * Contracts: struct cllm_ops in compute/ops.h.
 */
#ifndef CLLM_COMPUTE_KERNELS_H
#define CLLM_COMPUTE_KERNELS_H

#include "compute/ops.h"

#ifndef CLLM_ISA
#    define CLLM_ISA ref
#endif
#define CLLM_KERNEL_OF_(isa, name) cllm_##isa##_##name
#define CLLM_KERNEL_OF(isa, name)  CLLM_KERNEL_OF_(isa, name)
#define CLLM_KERNEL(name)          CLLM_KERNEL_OF(CLLM_ISA, name)

/* compute/table.c */
extern const struct cllm_ops cllm_ref_f32, cllm_ref_bf16, cllm_ref_tiles, cllm_ref_split;
extern const struct cllm_ops cllm_avx2_f32, cllm_avx2_bf16, cllm_avx2_tiles,
    cllm_avx2_split;
extern const struct cllm_ops cllm_avx512_f32, cllm_avx512_bf16, cllm_avx512_tiles,
    cllm_avx512_split;
extern const struct cllm_ops cllm_avx512bf16_f32, cllm_avx512bf16_bf16,
    cllm_avx512bf16_tiles, cllm_avx512bf16_split;
extern const struct cllm_ops cllm_amx_f32, cllm_amx_bf16, cllm_amx_tiles, cllm_amx_split;

/* compute/product.c: both operands as they are; or rounded to bf16, and summed in pairs
 * or in tiles; or split into pieces of bf16, and summed in tiles */
void CLLM_KERNEL(matmul)(float *c, const float *a, const float *b,
                         const struct cllm_matmul *shape);
void CLLM_KERNEL(matmul_bf16)(float *c, const float *a, const float *b,
                              const struct cllm_matmul *shape);
void CLLM_KERNEL(matmul_tiles)(float *c, const float *a, const float *b,
                               const struct cllm_matmul *shape);
void CLLM_KERNEL(matmul_split)(float *c, const float *a, const float *b,
                               const struct cllm_matmul *shape);

/* compute/elementwise.c */
void CLLM_KERNEL(add_columns)(float *sum, const float *x, size_t rows, size_t cols);
void CLLM_KERNEL(gelu)(float *out, const float *x, size_t n);
void CLLM_KERNEL(gelu_backward)(float *d, float *out, const float *x, size_t n);
void CLLM_KERNEL(swiglu)(float *out, const float *gate, const float *up, size_t n);
void CLLM_KERNEL(swiglu_backward)(float *d, float *dup, float *out, const float *gate,
                                  const float *up, size_t n);
void CLLM_KERNEL(embedding)(float *out, const uint32_t *tokens, size_t stride,
                            const float *wte, const float *wpe, size_t V, size_t B,
                            size_t T, size_t C);
void CLLM_KERNEL(embedding_backward)(float *dwte, float *dwpe, const uint32_t *tokens,
                                     size_t stride, const float *dout, size_t V, size_t B,
                                     size_t T, size_t C);
void CLLM_KERNEL(next_tokens)(uint32_t *targets, const uint32_t *tokens, size_t B,
                              size_t T);

/* compute/dropout.c */
void CLLM_KERNEL(dropout)(float *out, const float *add, const float *x, size_t n,
                          const struct cllm_dropout *dropout);

/* What each of the CLLM_DROPOUT_GROUP elements from dropout->first on is multiplied by.
 */
#define CLLM_DROPOUT_GROUP 128
void CLLM_KERNEL(dropout_factors)(float *factor, const struct cllm_dropout *dropout);

/* compute/norm.c */
void CLLM_KERNEL(layernorm)(float *out, float *mean, float *rstd, const float *x,
                            const float *weight, const float *bias, float epsilon,
                            size_t rows, size_t cols);
void CLLM_KERNEL(layernorm_backward)(float *dx, float *dweight, float *dbias,
                                     const float *dout, const float *x, const float *mean,
                                     const float *rstd, const float *weight, size_t rows,
                                     size_t cols);
void CLLM_KERNEL(layernorm_weights)(float *dweight, float *dbias, const float *dout,
                                    const float *x, const float *mean, const float *rstd,
                                    size_t rows, size_t cols, size_t first, size_t n);

void CLLM_KERNEL(rmsnorm)(float *out, float *rstd, const float *x, const float *weight,
                          float epsilon, size_t rows, size_t cols);
void CLLM_KERNEL(rmsnorm_backward)(float *dx, float *dweight, const float *dout,
                                   const float *x, const float *rstd, const float *weight,
                                   size_t rows, size_t cols);
void CLLM_KERNEL(rmsnorm_weights)(float *dweight, const float *dout, const float *x,
                                  const float *rstd, size_t rows, size_t cols,
                                  size_t first, size_t n);

/* compute/softmax.c */
float CLLM_KERNEL(softmax)(float *x, size_t n, float scale);
void CLLM_KERNEL(cross_entropy)(double *losses, float *logits, const uint32_t *targets,
                                size_t rows, size_t V, bool backward);
double CLLM_KERNEL(sum_losses)(const double *losses, size_t n, size_t chunk);

/* compute/smoothing.c */
void CLLM_KERNEL(similarities)(float *c, uint32_t target, size_t V,
                               const struct cllm_smoothing *smoothing);
void CLLM_KERNEL(smooth_cross_entropy)(double *losses, float *logits,
                                       const uint32_t *targets, size_t rows, size_t V,
                                       bool backward,
                                       const struct cllm_smoothing *smoothing, float *c);

/* compute/crystal.c */
void CLLM_KERNEL(crystal_points)(float *points, size_t stride, const uint32_t *tokens,
                                 size_t first, size_t n);
void CLLM_KERNEL(crystal_pairs)(float *similar, size_t ld, const float *points,
                                size_t stride, size_t first, size_t rows);

/* compute/attention.c */
void CLLM_KERNEL(attention)(const struct cllm_ops *ops, float *out, float *lse,
                            const float *qkv, float *scratch,
                            const struct cllm_attention *sizes);
void CLLM_KERNEL(attention_backward)(const struct cllm_ops *ops, float *dqkv,
                                     const float *dout, const float *qkv,
                                     const float *out, const float *lse, float *scratch,
                                     const struct cllm_attention *sizes);

/* compute/rope.c */
void CLLM_KERNEL(rope)(float *qkv, const float *table, const struct cllm_attention *sizes,
                       size_t first, size_t rows, bool inverse);

/* compute/vector.c */
void CLLM_KERNEL(put)(void *to, const void *from, size_t bytes);
void CLLM_KERNEL(zero)(float *x, size_t n);
void CLLM_KERNEL(adamw)(float *w1, float *m1, float *v1, const float *w0, const float *m0,
                        const float *v0, const float *g, size_t n,
                        const struct cllm_adamw_terms *terms);
void CLLM_KERNEL(lion)(float *w1, float *m1, const float *w0, const float *m0,
                       const float *g, size_t n, const struct cllm_lion_terms *terms);
void CLLM_KERNEL(sgd)(float *w1, float *m1, const float *w0, const float *m0,
                      const float *g, size_t n, const struct cllm_sgd_terms *terms);
void CLLM_KERNEL(mix)(float *out, const float *x, const float *y, float a, float b,
                      size_t n);
void CLLM_KERNEL(fold)(float *dst, const float *acc, const float *const *lanes,
                       uint32_t n_lanes, size_t n);
void CLLM_KERNEL(stream)(float *to, const float *from, size_t n);
double CLLM_KERNEL(sumsq)(const float *x, size_t n);
bool CLLM_KERNEL(is_finite)(const float *x, size_t n);

#endif /* CLLM_COMPUTE_KERNELS_H */
