/*
 * model/sample.h - pick a token from logits: temperature, top-k, top-p, one uniform
 * number.
 *
 * Deterministic: candidates are ordered by falling logit, equal ones by rising token, and
 * sums are taken in that order.
 */
#ifndef CLLM_MODEL_SAMPLE_H
#define CLLM_MODEL_SAMPLE_H

#include "base/base.h"

struct cllm_sample {
    float temperature; /* 0: the likeliest token; otherwise above 0 */
    uint32_t top_k;    /* only the k likeliest; 0 = all */
    float top_p;       /* only the likeliest whose sum reaches p, at least one; 1 = all */
};

struct cllm_sample_candidate {
    float weight; /* logit, then exp of it */
    uint32_t token;
};

/* The likeliest of @n tokens; of equals the first. NaN is never chosen unless all are
 * NaN. */
uint32_t cllm_sample_greedy(const float *logits, uint32_t n);

/* A token of @n >= 1 for @uniform in [0,1). @candidates is room for @n. */
uint32_t cllm_sample_token(const struct cllm_sample *sample, const float *logits,
                           uint32_t n, float uniform,
                           struct cllm_sample_candidate *candidates);

#endif /* CLLM_MODEL_SAMPLE_H */
