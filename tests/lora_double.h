/*
 * tests/lora_double.h - adapters once more, in double precision: the loss of merged
 * weights, and what its gradient means for both factors.
 */
#ifndef CLLM_TESTS_LORA_DOUBLE_H
#define CLLM_TESTS_LORA_DOUBLE_H

#include "base/lora.h"

struct lora_double {
    const struct cllm_parameters *base, *adapters;
    const struct cllm_lora *lora;
    const float *frozen; // (base->n_elements)
    const float *w;      // (adapters->n_elements)
};

/* The sum of token losses of @tokens (B,T+1); its gradient is added to @dw, of the
 * adapters. */
double lora_double_loss(const struct lora_double *model, double *dw, uint32_t B,
                        uint32_t T, const uint32_t *tokens);

#endif /* CLLM_TESTS_LORA_DOUBLE_H */
