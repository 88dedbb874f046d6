/*
 * tests/model_batch.h - a small model of either family, a batch, and memory for both
 * directions; for tests of model/.
 */
#ifndef CLLM_TESTS_MODEL_BATCH_H
#define CLLM_TESTS_MODEL_BATCH_H

#include "model/model.h"

/* Two layers each: of GPT-2, of Llama with keys for every query, for groups of two, for
 * all; of both with the learned bias. */
extern const struct cllm_model_config model_two_layers[6];

#define FOR_EACH_MODEL(config)                                      \
    for (const struct cllm_model_config *config = model_two_layers; \
         config < model_two_layers + CLLM_LEN(model_two_layers); config++)

struct model_batch {
    struct cllm_parameters plan;
    struct cllm_model model;
    struct cllm_arena arena;
    float *w, *dw;
    uint32_t *tokens;
};

/* Weights far from the start of training: every tensor random, norms around 1, so that no
 * gradient is zero or hidden. @shift moves everything in memory by multiples of 64. */
struct model_batch *model_batch_shaped(const struct cllm_model_config *config,
                                       const struct cllm_ops *ops,
                                       const struct cllm_model_shape *shape,
                                       size_t shift);
/* Likewise, with nothing but these sizes. */
struct model_batch *model_batch_new(const struct cllm_model_config *config,
                                    const struct cllm_ops *ops, uint32_t B, uint32_t T,
                                    bool train, size_t shift);
void model_batch_free(struct model_batch *s);

#endif /* CLLM_TESTS_MODEL_BATCH_H */
