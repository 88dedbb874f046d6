/*
 * tests/gpt_double.h - GPT-2 once more, in double precision, as simple as it can be said.
 *
 * Written from the formulas, not from model/gpt.c: loops over scalars, whole attention
 * matrices, everything kept. It shares the plan's offsets with the model and nothing
 * else.
 */
#ifndef CLLM_TESTS_GPT_DOUBLE_H
#define CLLM_TESTS_GPT_DOUBLE_H

#include "model/model.h"

/*
 * The sum of token losses of @tokens (B,T+1); its gradient is added to @dw unless that is
 * NULL. With @logits not NULL the logits (B,T,V) go there. Vectors have plan->n_elements.
 */
double gpt_double_loss(const struct cllm_parameters *plan, const double *w, double *dw,
                       uint32_t B, uint32_t T, const uint32_t *tokens, double *logits);

#endif /* CLLM_TESTS_GPT_DOUBLE_H */
