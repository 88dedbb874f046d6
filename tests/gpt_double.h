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

/* The share of each target's mass that goes to what is similar (struct cllm_smoothing),
 * here and in Llama once more; 0 at first. And q (V), where the mass of @target is. */
extern double gpt_double_smoothing;
void gpt_double_target(double *q, uint32_t target, size_t V);

/* The share of attention's probabilities that is dropped, here and in Llama once more, 0
 * at first, and the batch's key. And what that makes of the probability that query @t of
 * head @head, of all sequences' heads, gives key @j in a block: its factor. */
extern float gpt_double_dropout;
extern uint64_t gpt_double_key;
double gpt_double_factor(size_t layer, size_t head, size_t T, size_t t, size_t j);

/*
 * The sum of token losses of @tokens (B,T+1); its gradient is added to @dw unless that is
 * NULL. With @logits not NULL the logits (B,T,V) go there. Vectors have plan->n_elements.
 */
double gpt_double_loss(const struct cllm_parameters *plan, const double *w, double *dw,
                       uint32_t B, uint32_t T, const uint32_t *tokens, double *logits);

#endif /* CLLM_TESTS_GPT_DOUBLE_H */
