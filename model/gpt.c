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

static struct cllm_linear to_qkv(const struct cllm_model *model)
{
    size_t C = model->plan->config.width;

    return (struct cllm_linear){
        .weight = CLLM_TENSOR_QKV_W, .bias = CLLM_TENSOR_QKV_B, .from = C, .to = 3 * C};
}

static struct cllm_linear of_attention(const struct cllm_model *model)
{
    size_t C = model->plan->config.width;

    return (struct cllm_linear){
        .weight = CLLM_TENSOR_ATTN_W, .bias = CLLM_TENSOR_ATTN_B, .from = C, .to = C};
}

static struct cllm_linear into_mlp(const struct cllm_model *model)
{
    const struct cllm_model_config *config = &model->plan->config;

    return (struct cllm_linear){.weight = CLLM_TENSOR_FC_W,
                                .bias = CLLM_TENSOR_FC_B,
                                .from = config->width,
                                .to = config->hidden};
}

static struct cllm_linear out_of_mlp(const struct cllm_model *model)
{
    const struct cllm_model_config *config = &model->plan->config;

    return (struct cllm_linear){.weight = CLLM_TENSOR_PROJ_W,
                                .bias = CLLM_TENSOR_PROJ_B,
                                .from = config->hidden,
                                .to = config->width};
}

/* out (N,to) = x (N,from) w (from,to) + bias + add (N,to, or NULL). */
static void linear(const struct cllm_model *model, const struct cllm_block_weights *w,
                   const struct cllm_linear *layer, float *out, const float *add,
                   const float *x)
{
    model->ops->matmul(out, x, w->at[layer->weight],
                       &(struct cllm_matmul){.m = cllm_model_rows(model),
                                             .n = layer->to,
                                             .k = layer->from,
                                             .add = add,
                                             .bias = w->at[layer->bias]});
    cllm_model_adapt(model, w, layer, out, x);
}

/* out (N,C) = stream + x (N,from) w (from,C) + bias, of which some are dropped at the
 * site of block @at. */
static void add_linear(const struct cllm_model *model, const struct cllm_block_weights *w,
                       const struct cllm_linear *layer, float *out, const float *stream,
                       const float *x, enum cllm_dropout_site site, uint32_t at)
{
    if (!model->dropping) {
        linear(model, w, layer, out, stream, x);
        return;
    }
    linear(model, w, layer, model->norm, NULL, x);
    cllm_model_drop(model, out, stream, model->norm, site, at);
}

/* dw (+)= x^T dout, dbias += sums of dout's columns. */
static void linear_gradient(const struct cllm_model *model,
                            const struct cllm_block_weights *w,
                            const struct cllm_block_gradients *d,
                            const struct cllm_linear *layer, const float *dout,
                            const float *x)
{
    size_t N = cllm_model_rows(model);

    cllm_model_adapt_gradient(model, w, d, layer, dout, x);
    if (d->at[layer->weight] == NULL)
        return;
    model->ops->matmul(d->at[layer->weight], x, dout,
                       &(struct cllm_matmul){.m = layer->from,
                                             .n = layer->to,
                                             .k = N,
                                             .trans_a = true,
                                             .accumulate = !model->overwrite});
    model->ops->add_columns(d->at[layer->bias], dout, N, layer->to);
}

/* dx (N,from) = dout (N,to) w^T. */
static void linear_input(const struct cllm_model *model,
                         const struct cllm_block_weights *w,
                         const struct cllm_linear *layer, float *dx, const float *dout)
{
    size_t N = cllm_model_rows(model);

    model->ops->matmul(
        dx, dout, w->at[layer->weight],
        &(struct cllm_matmul){.m = N, .n = layer->from, .k = layer->to, .trans_b = true});
    cllm_model_adapt_input(model, w, layer, dx, dout);
}

static float epsilon_of(const struct cllm_model *model)
{
    return (float)model->plan->config.norm_epsilon;
}

/* model->norm = ln_1(x), or ln_2(x2). */
static void norm_1(const struct cllm_model *model, const struct cllm_block_weights *w,
                   const struct cllm_model_block *block)
{
    model->ops->layernorm(model->norm, block->mean1, block->rstd1, block->x,
                          w->at[CLLM_TENSOR_NORM1_W], w->at[CLLM_TENSOR_NORM1_B],
                          epsilon_of(model), cllm_model_rows(model),
                          model->plan->config.width);
}

static void norm_2(const struct cllm_model *model, const struct cllm_block_weights *w,
                   const struct cllm_model_block *block)
{
    model->ops->layernorm(model->norm, block->mean2, block->rstd2, block->x2,
                          w->at[CLLM_TENSOR_NORM2_W], w->at[CLLM_TENSOR_NORM2_B],
                          epsilon_of(model), cllm_model_rows(model),
                          model->plan->config.width);
}

/* ---- forward ---- */

/* qkv = qkv(ln_1(x)). */
static void forward_qkv(const struct cllm_model *model,
                        const struct cllm_block_weights *w,
                        const struct cllm_model_block *block)
{
    const struct cllm_linear qkv = to_qkv(model);

    norm_1(model, w, block);
    linear(model, w, &qkv, block->qkv, NULL, model->norm);
}

/* x2 = x + proj(attention(qkv)). */
static void forward_attention(const struct cllm_model *model,
                              const struct cllm_block_weights *w, uint32_t layer)
{
    const struct cllm_attention sizes = cllm_model_attention_of(model, w, layer);
    const struct cllm_model_block *block = &model->blocks[layer];
    const struct cllm_linear projection = of_attention(model);

    model->ops->attention(model->ops, block->att, block->lse, block->qkv, model->scratch,
                          &sizes);
    add_linear(model, w, &projection, block->x2, block->x, block->att,
               CLLM_DROP_ATTENTION, layer);
}

/* fc = fc(ln_2(x2)). */
static void forward_fc(const struct cllm_model *model, const struct cllm_block_weights *w,
                       const struct cllm_model_block *block)
{
    const struct cllm_linear into = into_mlp(model);

    norm_2(model, w, block);
    linear(model, w, &into, block->fc, NULL, model->norm);
}

/* The next x = x2 + proj(gelu(fc)). */
static void forward(const struct cllm_model *model, const struct cllm_block_weights *w,
                    uint32_t layer)
{
    const struct cllm_model_block *block = &model->blocks[layer];
    const struct cllm_linear out = out_of_mlp(model);

    forward_qkv(model, w, block);
    forward_attention(model, w, layer);
    forward_fc(model, w, block);
    model->ops->gelu(model->act, block->fc, cllm_model_rows(model) * out.from);
    add_linear(model, w, &out, cllm_model_next(model, layer), block->x2, model->act,
               CLLM_DROP_MLP, layer);
}

static void norm(const struct cllm_model *model, const float *w)
{
    const struct cllm_parameters *plan = model->plan;

    model->ops->layernorm(model->norm, model->meanf, model->rstdf, model->x,
                          w + cllm_parameters_off(plan, CLLM_TENSOR_NORM_W, 0),
                          w + cllm_parameters_off(plan, CLLM_TENSOR_NORM_B, 0),
                          epsilon_of(model), cllm_model_rows(model), plan->config.width);
}

/* ---- backward ---- */

static void norm_backward(const struct cllm_model *model, const float *w, float *dw)
{
    const struct cllm_parameters *plan = model->plan;
    uint64_t weight = cllm_parameters_off(plan, CLLM_TENSOR_NORM_W, 0);
    uint64_t bias = cllm_parameters_off(plan, CLLM_TENSOR_NORM_B, 0);

    model->ops->layernorm_backward(model->dx, dw == NULL ? NULL : dw + weight,
                                   dw == NULL ? NULL : dw + bias, model->dnorm, model->x,
                                   model->meanf, model->rstdf, w + weight,
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
    const struct cllm_linear into = into_mlp(model), out = out_of_mlp(model);
    size_t N = cllm_model_rows(model), C = model->plan->config.width;
    const float *dout = cllm_model_undrop(model, CLLM_DROP_MLP, layer);

    linear_input(model, w, &out, model->dact, dout);
    ops->gelu_backward(model->dact, model->act, block->fc, N * out.from);
    linear_gradient(model, w, d, &out, dout, model->act);
    norm_2(model, w, block);
    linear_gradient(model, w, d, &into, model->dact, model->norm);
    linear_input(model, w, &into, model->dnorm, model->dact);
    ops->layernorm_backward(model->dx, d->at[CLLM_TENSOR_NORM2_W],
                            d->at[CLLM_TENSOR_NORM2_B], model->dnorm, block->x2,
                            block->mean2, block->rstd2, w->at[CLLM_TENSOR_NORM2_W], N, C);
}

/* x2 = x + proj(attention(ln_1(x))): model->dx from x2's to x's gradient. */
static void backward_attention(const struct cllm_model *model,
                               const struct cllm_block_weights *w,
                               const struct cllm_block_gradients *d, uint32_t layer)
{
    const struct cllm_attention sizes = cllm_model_attention_of(model, w, layer);
    const struct cllm_model_block *block = &model->blocks[layer];
    const struct cllm_ops *ops = model->ops;
    const struct cllm_linear projection = of_attention(model), qkv = to_qkv(model);
    size_t N = cllm_model_rows(model), C = model->plan->config.width;
    const float *dout = cllm_model_undrop(model, CLLM_DROP_ATTENTION, layer);
    float *datt = model->dnorm, *dqkv = model->act;

    linear_input(model, w, &projection, datt, dout);
    linear_gradient(model, w, d, &projection, dout, block->att);
    ops->attention_backward(ops, dqkv, datt, block->qkv, block->att, block->lse,
                            model->scratch, &sizes);
    cllm_model_add_dbeta(model, d, layer);
    norm_1(model, w, block);
    linear_gradient(model, w, d, &qkv, dqkv, model->norm);
    linear_input(model, w, &qkv, model->dnorm, dqkv);
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
