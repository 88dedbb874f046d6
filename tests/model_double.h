/*
 * tests/model_double.h - the loss of a whole model in double precision, of either family.
 */
#ifndef CLLM_TESTS_MODEL_DOUBLE_H
#define CLLM_TESTS_MODEL_DOUBLE_H

#include "tests/gpt_double.h"
#include "tests/llama_double.h"

/* As gpt_double_loss() and llama_double_loss(). */
static inline double model_double_loss(const struct cllm_parameters *plan,
                                       const double *w, double *dw, uint32_t B,
                                       uint32_t T, const uint32_t *tokens, double *logits)
{
    return plan->config.arch == CLLM_ARCH_LLAMA
               ? llama_double_loss(plan, w, dw, B, T, tokens, logits)
               : gpt_double_loss(plan, w, dw, B, T, tokens, logits);
}

#endif /* CLLM_TESTS_MODEL_DOUBLE_H */
