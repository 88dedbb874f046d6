/*
 * model/adamw.h - AdamW over a range of the parameter vector, from one version into
 * another.
 *
 * The source version is never written, so a range can be done again after a crash; an
 * element's new bits do not depend on the range that it was computed in.
 */
#ifndef CLLM_MODEL_ADAMW_H
#define CLLM_MODEL_ADAMW_H

#include "compute/ops.h"

struct cllm_parameters;

struct cllm_adamw {
    float learning_rate, beta1, beta2, epsilon, weight_decay;
    float grad_scale; /* multiplies the gradient: 1 / tokens, times the clipping factor */
    uint64_t step;    /* of this update, from 1: for the bias corrections */
};

/* One walk over ascending ranges. */
struct cllm_adamw_walk {
    const struct cllm_parameters *plan;
    const struct cllm_ops *ops;
    struct cllm_adamw_terms terms;
    float weight_decay;
    uint32_t tensor; /* those before it end before the last range's end */
};

void cllm_adamw_begin(struct cllm_adamw_walk *walk, const struct cllm_parameters *plan,
                      const struct cllm_ops *ops, const struct cllm_adamw *adamw);

/*
 * Elements [lo,hi), not before those of the last call: version 0 of weights and moments
 * and gradient @g in, all pointing at element 0 of their vectors; version 1 out, pointing
 * at element @lo. Weight decay applies to tensors with ->decay alone; padding becomes 0.
 */
void cllm_adamw_range(struct cllm_adamw_walk *walk, uint64_t lo, uint64_t hi,
                      const float *w0, const float *m0, const float *v0, const float *g,
                      float *w1, float *m1, float *v1);

#endif /* CLLM_MODEL_ADAMW_H */
