/*
 * tests/llama_double.h - Llama once more, in double precision, as simple as it can be
 * said.
 *
 * Written from the formulas, not from model/llama.c: loops over scalars, whole attention
 * matrices, everything kept, angles from libm. It shares the plan's offsets with the
 * model and nothing else.
 */
#ifndef CLLM_TESTS_LLAMA_DOUBLE_H
#define CLLM_TESTS_LLAMA_DOUBLE_H

#include "base/parameters.h"

/*
 * The sum of token losses of @tokens (B,T+1); its gradient is added to @dw unless that is
 * NULL. With @logits not NULL the logits (B,T,V) go there. Vectors have plan->n_elements.
 * Rotated positions are not scaled, or linearly.
 */
double llama_double_loss(const struct cllm_parameters *plan, const double *w, double *dw,
                         uint32_t B, uint32_t T, const uint32_t *tokens, double *logits);

#endif /* CLLM_TESTS_LLAMA_DOUBLE_H */
