/*
 * model/sample.h - pick a token from logits: repetition penalty, temperature, top-k,
 * top-p, one uniform number.
 *
 * Deterministic: candidates are ordered by falling weight, equal ones by rising token,
 * and the uniform number walks down that order. In that order also goes what is cut away:
 * first by top-k, then by top-p of what is left.
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
    float weight; /* exp((logit - greatest) / temperature) */
    uint32_t token;
};

/* The likeliest of @n tokens; of equals the first. NaN is never chosen unless all are
 * NaN. */
uint32_t cllm_sample_greedy(const float *logits, uint32_t n);

/*
 * @out (n) = @logits (n), but tokens that are among the @n_recent are made less likely:
 * a logit above zero is divided by @penalty, another multiplied (Keskar et al.: "CTRL",
 * section 4.1). However often a token stands there, it is done once. 1 = none.
 */
void cllm_sample_penalise(float *out, const float *logits, uint32_t n,
                          const uint32_t *recent, uint32_t n_recent, float penalty);

/* A token of @n >= 1 for @uniform in [0,1). @candidates is room for @n. */
uint32_t cllm_sample_token(const struct cllm_sample *sample, const float *logits,
                           uint32_t n, float uniform,
                           struct cllm_sample_candidate *candidates);

#endif /* CLLM_MODEL_SAMPLE_H */
