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
#include <string.h>

#include "model/inside.h"

/* ---- parts ---- */

/* A product of all N rows with a weight; rows of the wide side may be apart. */
struct linear {
    size_t from, to;   /* elements of an input row, of an output row */
    size_t out_stride; /* from output row to row; 0 = to */
};

/* out (N,to) (+)= x (N,from) w^T. */
static void linear(const struct cllm_model *model, float *out, const float *x,
                   const float *w, const struct linear *sizes, bool accumulate)
{
    model->ops->matmul(out, x, w,
                       &(struct cllm_matmul){.m = cllm_model_rows(model),
                                             .n = sizes->to,
                                             .k = sizes->from,
                                             .ldc = sizes->out_stride,
                                             .trans_b = true,
                                             .accumulate = accumulate});
}

/* dw (to,from) += dout^T x. */
static void linear_gradient(const struct cllm_model *model, float *dw, const float *dout,
                            const float *x, const struct linear *sizes)
{
    model->ops->matmul(dw, dout, x,
                       &(struct cllm_matmul){.m = sizes->to,
                                             .n = sizes->from,
                                             .k = cllm_model_rows(model),
                                             .lda = sizes->out_stride,
                                             .trans_a = true,
                                             .accumulate = true});
}

/* dx (N,from) (+)= dout w. */
static void linear_input(const struct cllm_model *model, float *dx, const float *dout,
                         const float *w, const struct linear *sizes, bool accumulate)
{
    model->ops->matmul(dx, dout, w,
                       &(struct cllm_matmul){.m = cllm_model_rows(model),
                                             .n = sizes->from,
                                             .k = sizes->to,
                                             .lda = sizes->out_stride,
                                             .accumulate = accumulate});
}

/* The three products that make qkv: where in a row, and how wide. */
struct third {
    enum cllm_tensor_kind kind;
    size_t at;
    struct linear sizes;
};

static void thirds_of(struct third thirds[3], const struct cllm_model *model)
{
    const struct cllm_attention sizes = cllm_model_attention(model);
    size_t C = model->plan->config.width, row = cllm_attention_row(&sizes);
    size_t keys = sizes.C / cllm_attention_group(&sizes);

    thirds[0] = (struct third){CLLM_TENSOR_Q_W, 0, {C, sizes.C, row}};
    thirds[1] = (struct third){CLLM_TENSOR_K_W, sizes.C, {C, keys, row}};
    thirds[2] = (struct third){CLLM_TENSOR_V_W, sizes.C + keys, {C, keys, row}};
}

static struct linear of_attention(const struct cllm_model *model)
{
    const struct cllm_model_config *config = &model->plan->config;

    return (struct linear){.from = (size_t)config->heads * config->head_size,
                           .to = config->width};
}

static struct linear into_mlp(const struct cllm_model *model)
{
    const struct cllm_model_config *config = &model->plan->config;

    return (struct linear){.from = config->width, .to = config->hidden};
}

static struct linear out_of_mlp(const struct cllm_model *model)
{
    const struct cllm_model_config *config = &model->plan->config;

    return (struct linear){.from = config->hidden, .to = config->width};
}

/* model->norm = norm(x). */
static void rmsnorm(const struct cllm_model *model, float *rstd, const float *x,
                    const float *weight)
{
    const struct cllm_model_config *config = &model->plan->config;

    model->ops->rmsnorm(model->norm, rstd, x, weight, (float)config->norm_epsilon,
                        cllm_model_rows(model), config->width);
}

/* out (N,C) = stream + x w^T, of which some are dropped. */
static void add_linear(const struct cllm_model *model, float *out, const float *stream,
                       const float *x, const float *w, const struct linear *sizes,
                       enum cllm_dropout_site site, uint32_t layer)
{
    if (!model->dropping) {
        memcpy(out, stream, cllm_model_rows(model) * sizes->to * sizeof *out);
        linear(model, out, x, w, sizes, true);
        return;
    }
    linear(model, model->norm, x, w, sizes, false);
    cllm_model_drop(model, out, stream, model->norm, site, layer);
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
        linear(model, block->qkv + thirds[i].at, model->norm, w->at[thirds[i].kind],
               &thirds[i].sizes, false);
    model->ops->rope(block->qkv, model->rope, &sizes, 0, cllm_model_rows(model), false);
}

/* x2 = x + o(attention(qkv)). */
static void forward_attention(const struct cllm_model *model,
                              const struct cllm_block_weights *w, uint32_t layer)
{
    const struct cllm_attention sizes = cllm_model_attention(model);
    const struct cllm_model_block *block = &model->blocks[layer];
    const struct linear projection = of_attention(model);

    model->ops->attention(model->ops, block->att, block->lse, block->qkv, model->scratch,
                          &sizes);
    add_linear(model, block->x2, block->x, block->att, w->at[CLLM_TENSOR_ATTN_W],
               &projection, CLLM_DROP_ATTENTION, layer);
}

/* gate and fc of norm(x2). */
static void forward_fc(const struct cllm_model *model, const struct cllm_block_weights *w,
                       const struct cllm_model_block *block)
{
    const struct linear into = into_mlp(model);

    rmsnorm(model, block->rstd2, block->x2, w->at[CLLM_TENSOR_NORM2_W]);
    linear(model, block->gate, model->norm, w->at[CLLM_TENSOR_GATE_W], &into, false);
    linear(model, block->fc, model->norm, w->at[CLLM_TENSOR_FC_W], &into, false);
}

/* The next x = x2 + down(silu(gate) fc). */
static void forward(const struct cllm_model *model, const struct cllm_block_weights *w,
                    uint32_t layer)
{
    const struct cllm_model_block *block = &model->blocks[layer];
    const struct linear out = out_of_mlp(model);

    forward_qkv(model, w, block);
    forward_attention(model, w, layer);
    forward_fc(model, w, block);
    model->ops->swiglu(model->act, block->gate, block->fc,
                       cllm_model_rows(model) * out.from);
    add_linear(model, cllm_model_next(model, layer), block->x2, model->act,
               w->at[CLLM_TENSOR_PROJ_W], &out, CLLM_DROP_MLP, layer);
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

    rmsnorm_backward(model, dw + weight, model->rstdf, model->x, w + weight);
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
    const struct linear into = into_mlp(model), out = out_of_mlp(model);
    const float *dout = cllm_model_undrop(model, CLLM_DROP_MLP, layer);
    float *dgate = model->dact, *dup = model->dup;

    linear_input(model, dgate, dout, w->at[CLLM_TENSOR_PROJ_W], &out, false);
    model->ops->swiglu_backward(dgate, dup, model->act, block->gate, block->fc,
                                cllm_model_rows(model) * out.from);
    linear_gradient(model, d->at[CLLM_TENSOR_PROJ_W], dout, model->act, &out);
    rmsnorm(model, block->rstd2, block->x2, w->at[CLLM_TENSOR_NORM2_W]);
    linear_gradient(model, d->at[CLLM_TENSOR_GATE_W], dgate, model->norm, &into);
    linear_gradient(model, d->at[CLLM_TENSOR_FC_W], dup, model->norm, &into);
    linear_input(model, model->dnorm, dgate, w->at[CLLM_TENSOR_GATE_W], &into, false);
    linear_input(model, model->dnorm, dup, w->at[CLLM_TENSOR_FC_W], &into, true);
    rmsnorm_backward(model, d->at[CLLM_TENSOR_NORM2_W], block->rstd2, block->x2,
                     w->at[CLLM_TENSOR_NORM2_W]);
}

/* x2 = x + o(attention(qkv)): model->dx from x2's to x's gradient. */
static void backward_attention(const struct cllm_model *model,
                               const struct cllm_block_weights *w,
                               const struct cllm_block_gradients *d, uint32_t layer)
{
    const struct cllm_attention sizes = cllm_model_attention(model);
    const struct cllm_model_block *block = &model->blocks[layer];
    const struct linear projection = of_attention(model);
    const float *dout = cllm_model_undrop(model, CLLM_DROP_ATTENTION, layer);
    float *datt = model->dnorm, *dqkv = model->act;
    struct third thirds[3];

    thirds_of(thirds, model);
    linear_input(model, datt, dout, w->at[CLLM_TENSOR_ATTN_W], &projection, false);
    linear_gradient(model, d->at[CLLM_TENSOR_ATTN_W], dout, block->att, &projection);
    model->ops->attention_backward(model->ops, dqkv, datt, block->qkv, block->att,
                                   block->lse, model->scratch, &sizes);
    model->ops->rope(dqkv, model->rope, &sizes, 0, cllm_model_rows(model), true);
    rmsnorm(model, block->rstd1, block->x, w->at[CLLM_TENSOR_NORM1_W]);
    for (size_t i = 0; i < 3; i++) {
        const float *dthird = dqkv + thirds[i].at;

        linear_gradient(model, d->at[thirds[i].kind], dthird, model->norm,
                        &thirds[i].sizes);
        linear_input(model, model->dnorm, dthird, w->at[thirds[i].kind], &thirds[i].sizes,
                     i > 0);
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
