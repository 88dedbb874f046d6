/*
 * model/llama.c - a block of the Llama family (Touvron and others: "LLaMA: open and
 * efficient foundation language models"), forward and backward.
 *
 *     x = embed[token]
 *     L times: x += o(attention(rope(q, k, v of norm(x))))
 *              x += down(silu(gate(norm(x))) up(norm(x)))
 *     logits = norm(x) head^T
 *
 * Linear weights are stored (out,in), so that y = x W^T; there are no biases. Queries,
 * keys and values lie in one row of qkv, as operation attention wants them.
 */
#include "model/inside.h"

/* ---- parts ---- */

/* out (N,to) = add (N,to, or NULL) + x (N,from) w^T. */
static void linear(const struct cllm_model *model, const struct cllm_block_weights *w,
                   const struct cllm_linear *layer, float *out, const float *add,
                   const float *x)
{
    model->ops->matmul(out, x, w->at[layer->weight],
                       &(struct cllm_matmul){.m = cllm_model_rows(model),
                                             .n = layer->to,
                                             .k = layer->from,
                                             .ldc = layer->stride,
                                             .trans_b = true,
                                             .add = add});
    cllm_model_adapt(model, w, layer, out, x);
}

/* dw (to,from) (+)= dout^T x. */
static void linear_gradient(const struct cllm_model *model,
                            const struct cllm_block_weights *w,
                            const struct cllm_block_gradients *d,
                            const struct cllm_linear *layer, const float *dout,
                            const float *x)
{
    cllm_model_adapt_gradient(model, w, d, layer, dout, x);
    if (d->at[layer->weight] == NULL)
        return;
    model->ops->matmul(d->at[layer->weight], dout, x,
                       &(struct cllm_matmul){.m = layer->to,
                                             .n = layer->from,
                                             .k = cllm_model_rows(model),
                                             .lda = layer->stride,
                                             .trans_a = true,
                                             .accumulate = !model->overwrite});
}

/* dx (N,from) (+)= dout w. */
static void linear_input(const struct cllm_model *model,
                         const struct cllm_block_weights *w,
                         const struct cllm_linear *layer, float *dx, const float *dout,
                         bool accumulate)
{
    model->ops->matmul(dx, dout, w->at[layer->weight],
                       &(struct cllm_matmul){.m = cllm_model_rows(model),
                                             .n = layer->from,
                                             .k = layer->to,
                                             .lda = layer->stride,
                                             .accumulate = accumulate});
    cllm_model_adapt_input(model, w, layer, dx, dout);
}

/* The three products that make qkv: and where in a row. */
struct third {
    struct cllm_linear layer;
    size_t at;
};

static void thirds_of(struct third thirds[3], const struct cllm_model *model)
{
    const struct cllm_attention sizes = cllm_model_attention(model);
    size_t C = model->plan->config.width, row = cllm_attention_row(&sizes);
    size_t keys = sizes.C / cllm_attention_group(&sizes);
    const struct cllm_linear from = {.from = C, .to = keys, .stride = row};

    for (size_t i = 0; i < 3; i++)
        thirds[i].layer = from;
    thirds[0].layer.weight = CLLM_TENSOR_Q_W;
    thirds[0].layer.to = sizes.C;
    thirds[0].at = 0;
    thirds[1].layer.weight = CLLM_TENSOR_K_W;
    thirds[1].at = sizes.C;
    thirds[2].layer.weight = CLLM_TENSOR_V_W;
    thirds[2].at = sizes.C + keys;
}

static struct cllm_linear of_attention(const struct cllm_model *model)
{
    const struct cllm_model_config *config = &model->plan->config;

    return (struct cllm_linear){.weight = CLLM_TENSOR_ATTN_W,
                                .from = (size_t)config->heads * config->head_size,
                                .to = config->width};
}

static struct cllm_linear into_mlp(const struct cllm_model *model,
                                   enum cllm_tensor_kind weight)
{
    const struct cllm_model_config *config = &model->plan->config;

    return (struct cllm_linear){
        .weight = weight, .from = config->width, .to = config->hidden};
}

static struct cllm_linear out_of_mlp(const struct cllm_model *model)
{
    const struct cllm_model_config *config = &model->plan->config;

    return (struct cllm_linear){
        .weight = CLLM_TENSOR_PROJ_W, .from = config->hidden, .to = config->width};
}

/* model->norm = norm(x). */
static void rmsnorm(const struct cllm_model *model, float *rstd, const float *x,
                    const float *weight)
{
    const struct cllm_model_config *config = &model->plan->config;

    model->ops->rmsnorm(model->norm, rstd, x, weight, (float)config->norm_epsilon,
                        cllm_model_rows(model), config->width);
}

/* out (N,C) = stream + x w^T, of which some are dropped at the site of block @at. */
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

/* ---- forward ---- */

/* qkv = rope(q, k, v of norm(x)). */
static void forward_qkv(const struct cllm_model *model,
                        const struct cllm_block_weights *w,
                        const struct cllm_model_block *block)
{
    const struct cllm_attention sizes = cllm_model_attention(model);
    struct third thirds[3];

    thirds_of(thirds, model);
    rmsnorm(model, block->rstd1, block->x, w->at[CLLM_TENSOR_NORM1_W]);
    for (size_t i = 0; i < 3; i++)
        linear(model, w, &thirds[i].layer, block->qkv + thirds[i].at, NULL, model->norm);
    model->ops->rope(block->qkv, model->rope, &sizes, 0, cllm_model_rows(model), false);
}

/* x2 = x + o(attention(qkv)). */
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

/* gate and fc of norm(x2). */
static void forward_fc(const struct cllm_model *model, const struct cllm_block_weights *w,
                       const struct cllm_model_block *block)
{
    const struct cllm_linear to_gate = into_mlp(model, CLLM_TENSOR_GATE_W),
                             to_fc = into_mlp(model, CLLM_TENSOR_FC_W);

    rmsnorm(model, block->rstd2, block->x2, w->at[CLLM_TENSOR_NORM2_W]);
    linear(model, w, &to_gate, block->gate, NULL, model->norm);
    linear(model, w, &to_fc, block->fc, NULL, model->norm);
}

/* The next x = x2 + down(silu(gate) fc). */
static void forward(const struct cllm_model *model, const struct cllm_block_weights *w,
                    uint32_t layer)
{
    const struct cllm_model_block *block = &model->blocks[layer];
    const struct cllm_linear out = out_of_mlp(model);

    forward_qkv(model, w, block);
    forward_attention(model, w, layer);
    forward_fc(model, w, block);
    model->ops->swiglu(model->act, block->gate, block->fc,
                       cllm_model_rows(model) * out.from);
    add_linear(model, w, &out, cllm_model_next(model, layer), block->x2, model->act,
               CLLM_DROP_MLP, layer);
}

static void norm(const struct cllm_model *model, const float *w)
{
    rmsnorm(model, model->rstdf, model->x,
            w + cllm_parameters_off(model->plan, CLLM_TENSOR_NORM_W, 0));
}

/* ---- backward ---- */

/* model->dx += the gradient through a norm of @x, out of model->dnorm. */
static void rmsnorm_backward(const struct cllm_model *model, float *dweight,
                             const float *rstd, const float *x, const float *weight)
{
    model->ops->rmsnorm_backward(model->dx, dweight, model->dnorm, x, rstd, weight,
                                 cllm_model_rows(model), model->plan->config.width);
}

static void norm_backward(const struct cllm_model *model, const float *w, float *dw)
{
    uint64_t weight = cllm_parameters_off(model->plan, CLLM_TENSOR_NORM_W, 0);

    rmsnorm_backward(model, dw == NULL ? NULL : dw + weight, model->rstdf, model->x,
                     w + weight);
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

/* x_next = x2 + down(silu(gate) fc): model->dx from x_next's to x2's gradient. */
static void backward_mlp(const struct cllm_model *model,
                         const struct cllm_block_weights *w,
                         const struct cllm_block_gradients *d, uint32_t layer)
{
    const struct cllm_model_block *block = &model->blocks[layer];
    const struct cllm_linear to_gate = into_mlp(model, CLLM_TENSOR_GATE_W),
                             to_fc = into_mlp(model, CLLM_TENSOR_FC_W),
                             out = out_of_mlp(model);
    const float *dout = cllm_model_undrop(model, CLLM_DROP_MLP, layer);
    float *dgate = model->dact, *dup = model->dup;

    linear_input(model, w, &out, dgate, dout, false);
    model->ops->swiglu_backward(dgate, dup, model->act, block->gate, block->fc,
                                cllm_model_rows(model) * out.from);
    linear_gradient(model, w, d, &out, dout, model->act);
    rmsnorm(model, block->rstd2, block->x2, w->at[CLLM_TENSOR_NORM2_W]);
    linear_gradient(model, w, d, &to_gate, dgate, model->norm);
    linear_gradient(model, w, d, &to_fc, dup, model->norm);
    linear_input(model, w, &to_gate, model->dnorm, dgate, false);
    linear_input(model, w, &to_fc, model->dnorm, dup, true);
    rmsnorm_backward(model, d->at[CLLM_TENSOR_NORM2_W], block->rstd2, block->x2,
                     w->at[CLLM_TENSOR_NORM2_W]);
}

/* x2 = x + o(attention(qkv)): model->dx from x2's to x's gradient. */
static void backward_attention(const struct cllm_model *model,
                               const struct cllm_block_weights *w,
                               const struct cllm_block_gradients *d, uint32_t layer)
{
    const struct cllm_attention sizes = cllm_model_attention_of(model, w, layer);
    const struct cllm_model_block *block = &model->blocks[layer];
    const struct cllm_linear projection = of_attention(model);
    const float *dout = cllm_model_undrop(model, CLLM_DROP_ATTENTION, layer);
    float *datt = model->dnorm, *dqkv = model->act;
    struct third thirds[3];

    thirds_of(thirds, model);
    linear_input(model, w, &projection, datt, dout, false);
    linear_gradient(model, w, d, &projection, dout, block->att);
    model->ops->attention_backward(model->ops, dqkv, datt, block->qkv, block->att,
                                   block->lse, model->scratch, &sizes);
    cllm_model_add_dbeta(model, d, layer);
    model->ops->rope(dqkv, model->rope, &sizes, 0, cllm_model_rows(model), true);
    rmsnorm(model, block->rstd1, block->x, w->at[CLLM_TENSOR_NORM1_W]);
    for (size_t i = 0; i < 3; i++) {
        const float *dthird = dqkv + thirds[i].at;

        linear_gradient(model, w, d, &thirds[i].layer, dthird, model->norm);
        linear_input(model, w, &thirds[i].layer, model->dnorm, dthird, i > 0);
    }
    rmsnorm_backward(model, d->at[CLLM_TENSOR_NORM1_W], block->rstd1, block->x,
                     w->at[CLLM_TENSOR_NORM1_W]);
}

static void backward(const struct cllm_model *model, const struct cllm_block_weights *w,
                     const struct cllm_block_gradients *d, uint32_t layer)
{
    backward_mlp(model, w, d, layer);
    backward_attention(model, w, d, layer);
}

const struct cllm_family cllm_llama_family = {.forward = forward,
                                              .recompute = recompute,
                                              .backward = backward,
                                              .norm = norm,
                                              .norm_backward = norm_backward};
