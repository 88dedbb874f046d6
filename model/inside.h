/*
 * model/inside.h - what the files of a model share. Inner header of model.c, layout.c,
 * loss.c, gpt.c and llama.c; others use model/model.h.
 */
#ifndef CLLM_MODEL_INSIDE_H
#define CLLM_MODEL_INSIDE_H

#include "compute/ops.h"
#include "model/model.h"

/* Starts of a block's tensors by their kind; kinds that the family lacks are not set. */
struct cllm_block_weights {
    const float *at[CLLM_N_TENSOR_KINDS];
};
struct cllm_block_gradients {
    float *at[CLLM_N_TENSOR_KINDS];
};

/* One family. Every function works on all N = B T rows. */
struct cllm_family {
    /* Block @layer, from its input to that of the next. */
    void (*forward)(const struct cllm_model *model, const struct cllm_block_weights *w,
                    uint32_t layer);
    /* What of block @layer was not kept, out of what was: the steps of forward in their
     * order, so the same bits. */
    void (*recompute)(const struct cllm_model *model, const struct cllm_block_weights *w,
                      uint32_t layer);
    /* model->dx from the gradient of the block's output to that of its input. */
    void (*backward)(const struct cllm_model *model, const struct cllm_block_weights *w,
                     const struct cllm_block_gradients *d, uint32_t layer);
    /* The last norm: model->x to model->norm; and its gradient, model->dnorm into
     * model->dx, which comes as zero. */
    void (*norm)(const struct cllm_model *model, const float *w);
    void (*norm_backward)(const struct cllm_model *model, const float *w, float *dw);
};

extern const struct cllm_family cllm_gpt_family, cllm_llama_family;

static inline size_t cllm_model_rows(const struct cllm_model *model)
{
    return (size_t)model->B * model->T;
}

/* Where block @layer's output goes. */
static inline float *cllm_model_next(const struct cllm_model *model, uint32_t layer)
{
    return layer + 1 < model->plan->config.layers ? model->blocks[layer + 1].x : model->x;
}

static inline struct cllm_attention cllm_model_attention(const struct cllm_model *model)
{
    const struct cllm_model_config *config = &model->plan->config;

    return (struct cllm_attention){.B = model->B,
                                   .T = model->T,
                                   .C = (size_t)config->heads * config->head_size,
                                   .H = config->heads,
                                   .KV = config->kv_heads};
}

static inline void cllm_model_show_progress(const struct cllm_model *model)
{
    if (model->progress != NULL)
        model->progress(model->progress_ctx);
}

/* Where activations are dropped: in the embedding, and of a block @layer in what
 * attention or the MLP adds to the residual stream. */
enum cllm_dropout_site { CLLM_DROP_EMBEDDING, CLLM_DROP_ATTENTION, CLLM_DROP_MLP };

/* model/dropout.c: out (N,C) = add + dropped(x); add NULL: none. Where nothing is dropped
 * in this pass this must not be called. The gradient is the same without add. */
void cllm_model_drop(const struct cllm_model *model, float *out, const float *add,
                     const float *x, enum cllm_dropout_site site, uint32_t layer);

/* The gradient of what was dropped at @site out of model->dx: model->dx itself, or
 * model->norm while things are dropped. */
const float *cllm_model_undrop(const struct cllm_model *model,
                               enum cllm_dropout_site site, uint32_t layer);

/* model/layout.c: without operations and memory; then what memory it takes, or with
 * memory at @base, where all arrays lie. Returns bytes. */
struct cllm_model cllm_model_shaped(const struct cllm_parameters *plan,
                                    const struct cllm_model_shape *shape);
size_t cllm_model_lay_out(struct cllm_model *model, void *base);

/* model/loss.c: the loss of all rows of model->norm, a chunk of rows at a time; with @dw
 * at once the gradient, into model->dnorm and the output matrix. */
double cllm_model_loss_of_batch(const struct cllm_model *model, const float *w,
                                float *dw);

#endif /* CLLM_MODEL_INSIDE_H */
