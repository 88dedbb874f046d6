/*
 * model/inside.h - what the files of a model share. Inner header of adapters.c,
 * model.c, layout.c, loss.c, gpt.c and llama.c; others use model/model.h.
 */
#ifndef CLLM_MODEL_INSIDE_H
#define CLLM_MODEL_INSIDE_H

#include "compute/ops.h"
#include "model/carve.h"
#include "model/model.h"

/* Where the output matrix (V,C) is: a tensor of its own, or the token embedding. */
static inline enum cllm_tensor_kind cllm_model_head(const struct cllm_model *model)
{
    return cllm_parameters_have(model->plan, CLLM_TENSOR_HEAD_W) ? CLLM_TENSOR_HEAD_W
                                                                 : CLLM_TENSOR_EMBEDDING;
}

/* Starts of a block's tensors by their kind; kinds that the family lacks are not set. Of
 * a matrix without adapters a and b are NULL. */
struct cllm_block_weights {
    const float *at[CLLM_N_TENSOR_KINDS];
    const float *a[CLLM_N_TENSOR_KINDS]; // (rank,in)
    const float *b[CLLM_N_TENSOR_KINDS]; // (out,rank)
};
/* Likewise; NULL what is not wanted: of a frozen model all but a and b. */
struct cllm_block_gradients {
    float *at[CLLM_N_TENSOR_KINDS];
    float *a[CLLM_N_TENSOR_KINDS];
    float *b[CLLM_N_TENSOR_KINDS];
};

/* A linear layer: all N rows times a weight. */
struct cllm_linear {
    enum cllm_tensor_kind weight, bias; /* bias: gpt2 */
    size_t from, to;                    /* elements of an input row, of an output row */
    size_t stride;                      /* from output row to row; 0 = to */
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
     * model->dx, which comes as zero; @dw NULL: into that alone. */
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

/* Where something is dropped: activations of the embedding, and of a block in what
 * attention or the MLP adds to the residual stream; probabilities within attention. */
enum cllm_dropout_site {
    CLLM_DROP_EMBEDDING,
    CLLM_DROP_ATTENTION,
    CLLM_DROP_MLP,
    CLLM_DROP_PROBABILITIES
};

/* model/dropout.c: what is dropped there in this batch. */
struct cllm_dropout cllm_model_dropout(const struct cllm_model *model,
                                       enum cllm_dropout_site site, uint32_t layer);

/* The same with what block @layer has besides: its learned bias, what is dropped. */
static inline struct cllm_attention cllm_model_attention_of(
    const struct cllm_model *model, const struct cllm_block_weights *w, uint32_t layer)
{
    struct cllm_attention sizes = cllm_model_attention(model);

    if (model->pairs != NULL) {
        sizes.beta = w->at[CLLM_TENSOR_CRYSTALLINE] + layer * sizes.H;
        sizes.similar = model->pairs;
        sizes.dbeta = model->dbeta;
        sizes.by_query = model->by_query;
    }
    if (model->dropping_attention)
        sizes.dropout = cllm_model_dropout(model, CLLM_DROP_PROBABILITIES, layer);
    return sizes;
}

/* Behind attention's backward pass: its bias' gradient, sequences in order. */
static inline void cllm_model_add_dbeta(const struct cllm_model *model,
                                        const struct cllm_block_gradients *d,
                                        uint32_t layer)
{
    size_t H = model->plan->config.heads;

    if (model->dbeta != NULL && d->at[CLLM_TENSOR_CRYSTALLINE] != NULL) /* not frozen */
        model->ops->add_columns(d->at[CLLM_TENSOR_CRYSTALLINE] + layer * H, model->dbeta,
                                model->B, H);
}

static inline void cllm_model_show_progress(const struct cllm_model *model)
{
    if (model->progress != NULL)
        model->progress(model->progress_ctx);
}

/* model/dropout.c: out (N,C) = add + dropped(x); add NULL: none. Where nothing is dropped
 * in this pass this must not be called. The gradient is the same without add. */
void cllm_model_drop(const struct cllm_model *model, float *out, const float *add,
                     const float *x, enum cllm_dropout_site site, uint32_t layer);

/* The gradient of what was dropped at @site out of model->dx: model->dx itself, or
 * model->norm while things are dropped. */
const float *cllm_model_undrop(const struct cllm_model *model,
                               enum cllm_dropout_site site, uint32_t layer);

/*
 * model/adapters.c: what adapters add to a layer, nothing where it has none: out (N,to)
 * += scale (x (N,from) A^T) B^T; the gradients of A and B, out of dout (N,to); and dx
 * (N,from) += scale (dout B) A.
 */
void cllm_model_adapt(const struct cllm_model *model, const struct cllm_block_weights *w,
                      const struct cllm_linear *layer, float *out, const float *x);
void cllm_model_adapt_gradient(const struct cllm_model *model,
                               const struct cllm_block_weights *w,
                               const struct cllm_block_gradients *d,
                               const struct cllm_linear *layer, const float *dout,
                               const float *x);
void cllm_model_adapt_input(const struct cllm_model *model,
                            const struct cllm_block_weights *w,
                            const struct cllm_linear *layer, float *dx,
                            const float *dout);

/* model/layout.c: without operations and memory; then what memory it takes, its own and
 * that of arrays, which only operations touch; or, with bases, where everything lies. */
struct cllm_model cllm_model_shaped(const struct cllm_parameters *plan,
                                    const struct cllm_model_shape *shape);
void cllm_model_lay_out(struct cllm_model *model, struct cllm_carve *own,
                        struct cllm_carve *arrays);

/* model/loss.c: the losses of all rows of model->norm into model->losses, a chunk of rows
 * at a time; with @backward at once the gradient, into model->dnorm and, unless @dw is
 * NULL, the output matrix. */
void cllm_model_lose(const struct cllm_model *model, const float *w, float *dw,
                     bool backward);
/* Their sum, for which a device has to have done everything: last of all. */
double cllm_model_sum_losses(const struct cllm_model *model);

#endif /* CLLM_MODEL_INSIDE_H */
