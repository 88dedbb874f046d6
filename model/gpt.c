/*
 * model/gpt.c - a block of the GPT-2 family (Radford and others: "Language models are
 * unsupervised multitask learners"), forward and backward.
 *
 *     x = wte[token] + wpe[t]
 *     L times: x += proj(attention(ln_1(x)));  x += proj(gelu(fc(ln_2(x))))
 *     logits = ln_f(x) head^T
 *
 * Linear weights are stored (in,out), so that y = x W + b.
 */
#include "model/inside.h"

/* ---- parts ---- */

/* out (N,to) = x (N,from) w (from,to) + bias + add (N,to, or NULL). */
static void linear(const struct cllm_model *model, float *out, const float *add,
                   const float *x, const float *w, const float *bias, size_t from,
                   size_t to)
{
    size_t N = cllm_model_rows(model);

    model->ops->add_bias(out, add, bias, N, to);
    model->ops->matmul(
        out, x, w, &(struct cllm_matmul){.m = N, .n = to, .k = from, .accumulate = true});
}

/* out (N,C) = stream + x (N,from) w (from,C) + bias, of which some are dropped. */
static void add_linear(const struct cllm_model *model, float *out, const float *stream,
                       const float *x, const float *w, const float *bias, size_t from,
                       enum cllm_dropout_site site, uint32_t layer)
{
    size_t C = model->plan->config.width;

    if (!model->dropping) {
        linear(model, out, stream, x, w, bias, from, C);
        return;
    }
    linear(model, model->norm, NULL, x, w, bias, from, C);
    cllm_model_drop(model, out, stream, model->norm, site, layer);
}

/* dw += x^T dout, dbias += sums of dout's columns. */
static void linear_gradient(const struct cllm_model *model, float *dw, float *dbias,
                            const float *dout, const float *x, size_t from, size_t to)
{
    size_t N = cllm_model_rows(model);

    model->ops->matmul(
        dw, x, dout,
        &(struct cllm_matmul){
            .m = from, .n = to, .k = N, .trans_a = true, .accumulate = true});
    model->ops->add_columns(dbias, dout, N, to);
}

/* dx (N,from) = dout (N,to) w^T. */
static void linear_input(const struct cllm_model *model, float *dx, const float *dout,
                         const float *w, size_t from, size_t to)
{
    size_t N = cllm_model_rows(model);

    model->ops->matmul(
        dx, dout, w, &(struct cllm_matmul){.m = N, .n = from, .k = to, .trans_b = true});
}

/* model->norm = ln_1(x), or ln_2(x2). */
static void norm_1(const struct cllm_model *model, const struct cllm_block_weights *w,
                   const struct cllm_model_block *block)
{
    model->ops->layernorm(model->norm, block->mean1, block->rstd1, block->x,
                          w->at[CLLM_TENSOR_NORM1_W], w->at[CLLM_TENSOR_NORM1_B],
                          cllm_model_rows(model), model->plan->config.width);
}

static void norm_2(const struct cllm_model *model, const struct cllm_block_weights *w,
                   const struct cllm_model_block *block)
{
    model->ops->layernorm(model->norm, block->mean2, block->rstd2, block->x2,
                          w->at[CLLM_TENSOR_NORM2_W], w->at[CLLM_TENSOR_NORM2_B],
                          cllm_model_rows(model), model->plan->config.width);
}

/* ---- forward ---- */

/* qkv = qkv(ln_1(x)). */
static void forward_qkv(const struct cllm_model *model,
                        const struct cllm_block_weights *w,
                        const struct cllm_model_block *block)
{
    size_t C = model->plan->config.width;

    norm_1(model, w, block);
    linear(model, block->qkv, NULL, model->norm, w->at[CLLM_TENSOR_QKV_W],
           w->at[CLLM_TENSOR_QKV_B], C, 3 * C);
}

/* x2 = x + proj(attention(qkv)). */
static void forward_attention(const struct cllm_model *model,
                              const struct cllm_block_weights *w, uint32_t layer)
{
    const struct cllm_attention sizes = cllm_model_attention(model);
    const struct cllm_model_block *block = &model->blocks[layer];

    model->ops->attention(model->ops, block->att, block->lse, block->qkv, model->scratch,
                          &sizes);
    add_linear(model, block->x2, block->x, block->att, w->at[CLLM_TENSOR_ATTN_W],
               w->at[CLLM_TENSOR_ATTN_B], model->plan->config.width, CLLM_DROP_ATTENTION,
               layer);
}

/* fc = fc(ln_2(x2)). */
static void forward_fc(const struct cllm_model *model, const struct cllm_block_weights *w,
                       const struct cllm_model_block *block)
{
    const struct cllm_model_config *config = &model->plan->config;

    norm_2(model, w, block);
    linear(model, block->fc, NULL, model->norm, w->at[CLLM_TENSOR_FC_W],
           w->at[CLLM_TENSOR_FC_B], config->width, config->hidden);
}

/* The next x = x2 + proj(gelu(fc)). */
static void forward(const struct cllm_model *model, const struct cllm_block_weights *w,
                    uint32_t layer)
{
    const struct cllm_model_config *config = &model->plan->config;
    const struct cllm_model_block *block = &model->blocks[layer];
    size_t F = config->hidden;

    forward_qkv(model, w, block);
    forward_attention(model, w, layer);
    forward_fc(model, w, block);
    model->ops->gelu(model->act, block->fc, cllm_model_rows(model) * F);
    add_linear(model, cllm_model_next(model, layer), block->x2, model->act,
               w->at[CLLM_TENSOR_PROJ_W], w->at[CLLM_TENSOR_PROJ_B], F, CLLM_DROP_MLP,
               layer);
}

static void norm(const struct cllm_model *model, const float *w)
{
    const struct cllm_parameters *plan = model->plan;

    model->ops->layernorm(model->norm, model->meanf, model->rstdf, model->x,
                          w + cllm_parameters_off(plan, CLLM_TENSOR_NORM_W, 0),
                          w + cllm_parameters_off(plan, CLLM_TENSOR_NORM_B, 0),
                          cllm_model_rows(model), plan->config.width);
}

/* ---- backward ---- */

static void norm_backward(const struct cllm_model *model, const float *w, float *dw)
{
    const struct cllm_parameters *plan = model->plan;
    uint64_t weight = cllm_parameters_off(plan, CLLM_TENSOR_NORM_W, 0);
    uint64_t bias = cllm_parameters_off(plan, CLLM_TENSOR_NORM_B, 0);

    model->ops->layernorm_backward(model->dx, dw + weight, dw + bias, model->dnorm,
                                   model->x, model->meanf, model->rstdf, w + weight,
                                   cllm_model_rows(model), plan->config.width);
}

static void recompute(const struct cllm_model *model, const struct cllm_block_weights *w,
                      uint32_t layer)
{
    const struct cllm_model_block *block = &model->blocks[layer];

    forward_qkv(model, w, block);
    if (model->recompute == CLLM_RECOMPUTE_BLOCK) {
        forward_attention(model, w, layer);
        forward_fc(model, w, block);
    }
}

/* x_next = x2 + proj(gelu(fc(ln_2(x2)))): model->dx from x_next's to x2's gradient. */
static void backward_mlp(const struct cllm_model *model,
                         const struct cllm_block_weights *w,
                         const struct cllm_block_gradients *d, uint32_t layer)
{
    const struct cllm_model_block *block = &model->blocks[layer];
    const struct cllm_ops *ops = model->ops;
    size_t N = cllm_model_rows(model), C = model->plan->config.width;
    size_t F = model->plan->config.hidden;
    const float *dout = cllm_model_undrop(model, CLLM_DROP_MLP, layer);

    linear_input(model, model->dact, dout, w->at[CLLM_TENSOR_PROJ_W], F, C);
    ops->gelu_backward(model->dact, model->act, block->fc, N * F);
    linear_gradient(model, d->at[CLLM_TENSOR_PROJ_W], d->at[CLLM_TENSOR_PROJ_B], dout,
                    model->act, F, C);
    norm_2(model, w, block);
    linear_gradient(model, d->at[CLLM_TENSOR_FC_W], d->at[CLLM_TENSOR_FC_B], model->dact,
                    model->norm, C, F);
    linear_input(model, model->dnorm, model->dact, w->at[CLLM_TENSOR_FC_W], C, F);
    ops->layernorm_backward(model->dx, d->at[CLLM_TENSOR_NORM2_W],
                            d->at[CLLM_TENSOR_NORM2_B], model->dnorm, block->x2,
                            block->mean2, block->rstd2, w->at[CLLM_TENSOR_NORM2_W], N, C);
}

/* x2 = x + proj(attention(ln_1(x))): model->dx from x2's to x's gradient. */
static void backward_attention(const struct cllm_model *model,
                               const struct cllm_block_weights *w,
                               const struct cllm_block_gradients *d, uint32_t layer)
{
    const struct cllm_attention sizes = cllm_model_attention(model);
    const struct cllm_model_block *block = &model->blocks[layer];
    const struct cllm_ops *ops = model->ops;
    size_t N = cllm_model_rows(model), C = model->plan->config.width;
    const float *dout = cllm_model_undrop(model, CLLM_DROP_ATTENTION, layer);
    float *datt = model->dnorm, *dqkv = model->act;

    linear_input(model, datt, dout, w->at[CLLM_TENSOR_ATTN_W], C, C);
    linear_gradient(model, d->at[CLLM_TENSOR_ATTN_W], d->at[CLLM_TENSOR_ATTN_B], dout,
                    block->att, C, C);
    ops->attention_backward(ops, dqkv, datt, block->qkv, block->att, block->lse,
                            model->scratch, &sizes);
    norm_1(model, w, block);
    linear_gradient(model, d->at[CLLM_TENSOR_QKV_W], d->at[CLLM_TENSOR_QKV_B], dqkv,
                    model->norm, C, 3 * C);
    linear_input(model, model->dnorm, dqkv, w->at[CLLM_TENSOR_QKV_W], C, 3 * C);
    ops->layernorm_backward(model->dx, d->at[CLLM_TENSOR_NORM1_W],
                            d->at[CLLM_TENSOR_NORM1_B], model->dnorm, block->x,
                            block->mean1, block->rstd1, w->at[CLLM_TENSOR_NORM1_W], N, C);
}

static void backward(const struct cllm_model *model, const struct cllm_block_weights *w,
                     const struct cllm_block_gradients *d, uint32_t layer)
{
    backward_mlp(model, w, d, layer);
    backward_attention(model, w, d, layer);
}

const struct cllm_family cllm_gpt_family = {.forward = forward,
                                            .recompute = recompute,
                                            .backward = backward,
                                            .norm = norm,
                                            .norm_backward = norm_backward};
