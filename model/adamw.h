/*
 * model/adamw.h - AdamW over a range of the parameter vector, from one version into
 * another.
 *
 * The source version is never written, so a range can be done again after a crash; an
 * element's new bits do not depend on the range that it was computed in.
 */
#ifndef CLLM_MODEL_ADAMW_H
#define CLLM_MODEL_ADAMW_H

#include "base/base.h"

struct cllm_gpt_plan;
struct cllm_ops;

struct cllm_adamw {
    float learning_rate, beta1, beta2, epsilon, weight_decay;
    float grad_scale; /* multiplies the gradient: 1 / tokens, times the clipping factor */
    uint64_t step;    /* of this update, from 1: for the bias corrections */
};

/*
 * Elements [lo,hi) of weights and moments: version 0 and gradient @g in, version 1 out.
 * All pointers are at element 0 of their vectors. Weight decay applies to tensors with
 * ->decay alone; padding becomes 0.
 */
void cllm_adamw_range(const struct cllm_gpt_plan *plan, const struct cllm_ops *ops,
                      const struct cllm_adamw *adamw, uint64_t lo, uint64_t hi,
                      const float *w0, const float *m0, const float *v0, const float *g,
                      float *w1, float *m1, float *v1);

#endif /* CLLM_MODEL_ADAMW_H */
