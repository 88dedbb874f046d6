/*
 * compute/ref.h - the reference operations by name, for tables that replace some of them.
 *
 * Contracts: struct cllm_ops in compute/ops.h.
 */
#ifndef CLLM_COMPUTE_REF_H
#define CLLM_COMPUTE_REF_H

#include "compute/ops.h"

/* compute/ref_matmul.c */
void cllm_ref_matmul(float *c, const float *a, const float *b,
                     const struct cllm_matmul *shape);

/* compute/ref_elementwise.c */
void cllm_ref_add_bias(float *out, const float *x, const float *bias, size_t rows,
                       size_t cols);
void cllm_ref_add_columns(float *sum, const float *x, size_t rows, size_t cols);
void cllm_ref_gelu(float *out, const float *x, size_t n);
void cllm_ref_gelu_backward(float *d, float *out, const float *x, size_t n);
void cllm_ref_embedding(float *out, const uint32_t *tokens, size_t stride,
                        const float *wte, const float *wpe, size_t B, size_t T, size_t C);
void cllm_ref_embedding_backward(float *dwte, float *dwpe, const uint32_t *tokens,
                                 size_t stride, const float *dout, size_t B, size_t T,
                                 size_t C);

/* compute/ref_norm.c */
void cllm_ref_layernorm(float *out, float *mean, float *rstd, const float *x,
                        const float *weight, const float *bias, size_t rows, size_t cols);
void cllm_ref_layernorm_backward(float *dx, float *dweight, float *dbias,
                                 const float *dout, const float *x, const float *mean,
                                 const float *rstd, const float *weight, size_t rows,
                                 size_t cols);

/* compute/ref_softmax.c */
float cllm_ref_softmax(float *x, size_t n, float scale);
double cllm_ref_cross_entropy(float *logits, const uint32_t *targets, size_t rows,
                              size_t V, bool backward);

/* compute/ref_attention.c */
void cllm_ref_attention(const struct cllm_ops *ops, float *out, float *lse,
                        const float *qkv, float *scratch,
                        const struct cllm_attention *sizes);
void cllm_ref_attention_backward(const struct cllm_ops *ops, float *dqkv,
                                 const float *dout, const float *qkv, const float *out,
                                 const float *lse, float *scratch,
                                 const struct cllm_attention *sizes);

/* compute/ref_vector.c */
void cllm_ref_adamw(float *w1, float *m1, float *v1, const float *w0, const float *m0,
                    const float *v0, const float *g, size_t n,
                    const struct cllm_adamw_terms *terms);
void cllm_ref_fold(float *dst, const float *acc, const float *const *lanes,
                   uint32_t n_lanes, size_t n);
double cllm_ref_sumsq(const float *x, size_t n);
bool cllm_ref_is_finite(const float *x, size_t n);

#endif /* CLLM_COMPUTE_REF_H */
