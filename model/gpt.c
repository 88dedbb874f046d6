/*
 * model/gpt.c - forward and backward, written out.
 *
 * Everything happens in the order in which it stands here, in memory laid out before the
 * first step; an operation may use several threads (compute/threads.h). The residual
 * stream's gradient dx is one buffer that every block adds to in place.
 */
#include "model/gpt.h"

#include <stddef.h>
#include <string.h>

#include "base/err.h"
#include "compute/ops.h"
#include "model/carve.h"

/* Logits are at most about this many elements at a time: 48 MiB. Fewer rows would not
 * pay for packing the output matrix. */
#define LOGITS_ELEMENTS (12u << 20)

/* ---- layout ---- */

/* The floats of a block, and the last setting with which each block has its own. */
static const struct piece {
    size_t field;     /* in struct cllm_gpt_block */
    uint32_t c, h, n; /* c C + h H + n a token */
    enum cllm_gpt_recompute kept;
} pieces[] = {
    {offsetof(struct cllm_gpt_block, x), 1, 0, 0, CLLM_GPT_RECOMPUTE_BLOCK},
    {offsetof(struct cllm_gpt_block, qkv), 3, 0, 0, CLLM_GPT_RECOMPUTE_NONE},
    {offsetof(struct cllm_gpt_block, att), 1, 0, 0, CLLM_GPT_RECOMPUTE_ATTENTION},
    {offsetof(struct cllm_gpt_block, x2), 1, 0, 0, CLLM_GPT_RECOMPUTE_ATTENTION},
    {offsetof(struct cllm_gpt_block, fc), 4, 0, 0, CLLM_GPT_RECOMPUTE_ATTENTION},
    {offsetof(struct cllm_gpt_block, lse), 0, 1, 0, CLLM_GPT_RECOMPUTE_ATTENTION},
    {offsetof(struct cllm_gpt_block, mean1), 0, 0, 1, CLLM_GPT_RECOMPUTE_NONE},
    {offsetof(struct cllm_gpt_block, rstd1), 0, 0, 1, CLLM_GPT_RECOMPUTE_NONE},
    {offsetof(struct cllm_gpt_block, mean2), 0, 0, 1, CLLM_GPT_RECOMPUTE_ATTENTION},
    {offsetof(struct cllm_gpt_block, rstd2), 0, 0, 1, CLLM_GPT_RECOMPUTE_ATTENTION},
};

/* One for each block, or one for all. */
static void carve_piece(struct cllm_gpt *gpt, struct cllm_carve *carve,
                        const struct piece *piece)
{
    const struct cllm_model_config *config = &gpt->plan->config;
    size_t floats =
        (size_t)piece->c * config->width + (size_t)piece->h * config->heads + piece->n;
    bool own = gpt->train && gpt->recompute <= piece->kept;
    float *at = NULL;

    for (uint32_t layer = 0; layer < config->layers; layer++) {
        if (layer == 0 || own)
            at = cllm_carve_f32(carve, (size_t)gpt->B * gpt->T * floats);
        if (gpt->blocks != NULL)
            *(float **)(void *)((uint8_t *)&gpt->blocks[layer] + piece->field) = at;
    }
}

static void carve_blocks(struct cllm_gpt *gpt, struct cllm_carve *carve)
{
    const struct cllm_model_config *config = &gpt->plan->config;
    size_t N = (size_t)gpt->B * gpt->T;

    gpt->blocks = cllm_carve_take(carve, config->layers, sizeof *gpt->blocks);
    for (size_t i = 0; i < CLLM_LEN(pieces); i++)
        carve_piece(gpt, carve, &pieces[i]);
    if (gpt->train)
        gpt->x = cllm_carve_f32(carve, N * config->width);
    else if (gpt->blocks != NULL)
        gpt->x = gpt->blocks[0].x;
}

static void lay_out(struct cllm_gpt *gpt, struct cllm_carve *carve)
{
    size_t N = (size_t)gpt->B * gpt->T, C = gpt->plan->config.width;
    size_t V = gpt->plan->config.vocab;
    size_t rows = cllm_max_u64(LOGITS_ELEMENTS / V / 16 * 16, 16);

    gpt->chunk_rows = (uint32_t)cllm_min_u64(rows, N);
    carve_blocks(gpt, carve);
    gpt->targets = cllm_carve_take(carve, N, sizeof *gpt->targets);
    gpt->meanf = cllm_carve_f32(carve, N);
    gpt->rstdf = cllm_carve_f32(carve, N);
    gpt->norm = cllm_carve_f32(carve, N * C);
    gpt->act = cllm_carve_f32(carve, N * 4 * C);
    gpt->scratch = cllm_carve_f32(carve, cllm_attention_scratch(gpt->T));
    gpt->logits = cllm_carve_f32(carve, gpt->chunk_rows * V);
    if (!gpt->train)
        return;
    gpt->dx = cllm_carve_f32(carve, N * C);
    gpt->dnorm = cllm_carve_f32(carve, N * C);
    gpt->dact = cllm_carve_f32(carve, N * 4 * C);
}

/* Without operations and memory. */
static struct cllm_gpt shaped(const struct cllm_parameters *plan,
                              const struct cllm_gpt_shape *shape)
{
    return (struct cllm_gpt){.plan = plan,
                             .B = shape->B,
                             .T = shape->T,
                             .train = shape->train,
                             .recompute = shape->recompute};
}

size_t cllm_gpt_arena_bytes(const struct cllm_parameters *plan,
                            const struct cllm_gpt_shape *shape)
{
    struct cllm_gpt gpt = shaped(plan, shape);
    struct cllm_carve carve = {0};

    lay_out(&gpt, &carve);
    return carve.used;
}

size_t cllm_gpt_thread_bytes(uint32_t T)
{
    return cllm_attention_scratch(T) * sizeof(float);
}

int cllm_gpt_init(struct cllm_gpt *gpt, const struct cllm_parameters *plan,
                  const struct cllm_ops *ops, const struct cllm_gpt_shape *shape,
                  struct cllm_arena *arena)
{
    struct cllm_carve carve = {0};
    size_t bytes;

    if (shape->B == 0)
        return cllm_err(CLLM_ECONFIG, "cannot lay out the model for no sequences");
    if (shape->T == 0 || shape->T > plan->config.context)
        return cllm_err(CLLM_ECONFIG,
                        "cannot lay out the model for sequences of %u tokens: its "
                        "context is %u",
                        shape->T, plan->config.context);
    *gpt = shaped(plan, shape);
    gpt->ops = ops;
    bytes = cllm_gpt_arena_bytes(plan, shape);
    carve.base = cllm_arena_take(arena, bytes);
    lay_out(gpt, &carve);
    CLLM_ASSERT(carve.used == bytes);
    return 0;
}

/* ---- parts ---- */

static void show_progress(const struct cllm_gpt *gpt)
{
    if (gpt->progress != NULL)
        gpt->progress(gpt->progress_ctx);
}

/* out (N,to) = x (N,from) w (from,to) + bias + add (N,to, or NULL). */
static void linear(const struct cllm_gpt *gpt, float *out, const float *add,
                   const float *x, const float *w, const float *bias, size_t from,
                   size_t to)
{
    size_t N = (size_t)gpt->B * gpt->T;

    gpt->ops->add_bias(out, add, bias, N, to);
    gpt->ops->matmul(
        out, x, w, &(struct cllm_matmul){.m = N, .n = to, .k = from, .accumulate = true});
}

/* dw += x^T dout, dbias += sums of dout's columns. */
static void linear_gradient(const struct cllm_gpt *gpt, float *dw, float *dbias,
                            const float *dout, const float *x, size_t from, size_t to)
{
    size_t N = (size_t)gpt->B * gpt->T;

    gpt->ops->matmul(
        dw, x, dout,
        &(struct cllm_matmul){
            .m = from, .n = to, .k = N, .trans_a = true, .accumulate = true});
    gpt->ops->add_columns(dbias, dout, N, to);
}

/* dx (N,from) = dout (N,to) w^T. */
static void linear_input(const struct cllm_gpt *gpt, float *dx, const float *dout,
                         const float *w, size_t from, size_t to)
{
    size_t N = (size_t)gpt->B * gpt->T;

    gpt->ops->matmul(dx, dout, w,
                     &(struct cllm_matmul){.m = N, .n = from, .k = to, .trans_b = true});
}

static struct cllm_attention attention_sizes(const struct cllm_gpt *gpt)
{
    return (struct cllm_attention){.B = gpt->B,
                                   .T = gpt->T,
                                   .C = gpt->plan->config.width,
                                   .H = gpt->plan->config.heads};
}

/* Starts of a block's tensors in the vector @w, by their kind. */
static void block_weights(const float *out[CLLM_N_TENSOR_KINDS],
                          const struct cllm_gpt *gpt, const float *w, uint32_t layer)
{
    for (uint32_t kind = 0; kind < CLLM_N_TENSOR_KINDS; kind++)
        if (cllm_parameters_have(gpt->plan, (enum cllm_tensor_kind)kind))
            out[kind] =
                w + cllm_parameters_off(gpt->plan, (enum cllm_tensor_kind)kind, layer);
}

static void block_gradients(float *out[CLLM_N_TENSOR_KINDS], const struct cllm_gpt *gpt,
                            float *dw, uint32_t layer)
{
    for (uint32_t kind = 0; kind < CLLM_N_TENSOR_KINDS; kind++)
        if (cllm_parameters_have(gpt->plan, (enum cllm_tensor_kind)kind))
            out[kind] =
                dw + cllm_parameters_off(gpt->plan, (enum cllm_tensor_kind)kind, layer);
}

/* ---- forward ---- */

/* qkv = qkv(ln_1(x)). */
static void forward_qkv(const struct cllm_gpt *gpt, const float *const *p,
                        const struct cllm_gpt_block *block)
{
    size_t N = (size_t)gpt->B * gpt->T, C = gpt->plan->config.width;

    gpt->ops->layernorm(gpt->norm, block->mean1, block->rstd1, block->x,
                        p[CLLM_TENSOR_NORM1_W], p[CLLM_TENSOR_NORM1_B], N, C);
    linear(gpt, block->qkv, NULL, gpt->norm, p[CLLM_TENSOR_QKV_W], p[CLLM_TENSOR_QKV_B],
           C, 3 * C);
}

/* x2 = x + proj(attention(qkv)). */
static void forward_attention(const struct cllm_gpt *gpt, const float *const *p,
                              const struct cllm_gpt_block *block)
{
    const struct cllm_attention sizes = attention_sizes(gpt);
    size_t C = sizes.C;

    gpt->ops->attention(gpt->ops, block->att, block->lse, block->qkv, gpt->scratch,
                        &sizes);
    linear(gpt, block->x2, block->x, block->att, p[CLLM_TENSOR_ATTN_W],
           p[CLLM_TENSOR_ATTN_B], C, C);
}

/* fc = fc(ln_2(x2)). */
static void forward_fc(const struct cllm_gpt *gpt, const float *const *p,
                       const struct cllm_gpt_block *block)
{
    size_t N = (size_t)gpt->B * gpt->T, C = gpt->plan->config.width;

    gpt->ops->layernorm(gpt->norm, block->mean2, block->rstd2, block->x2,
                        p[CLLM_TENSOR_NORM2_W], p[CLLM_TENSOR_NORM2_B], N, C);
    linear(gpt, block->fc, NULL, gpt->norm, p[CLLM_TENSOR_FC_W], p[CLLM_TENSOR_FC_B], C,
           4 * C);
}

static void forward_block(const struct cllm_gpt *gpt, const float *w, uint32_t layer)
{
    const struct cllm_gpt_block *block = &gpt->blocks[layer];
    const float *p[CLLM_N_TENSOR_KINDS];
    size_t N = (size_t)gpt->B * gpt->T, C = gpt->plan->config.width;
    float *next =
        layer + 1 < gpt->plan->config.layers ? gpt->blocks[layer + 1].x : gpt->x;

    block_weights(p, gpt, w, layer);
    forward_qkv(gpt, p, block);
    forward_attention(gpt, p, block);
    forward_fc(gpt, p, block);
    gpt->ops->gelu(gpt->act, block->fc, N * 4 * C);
    linear(gpt, next, block->x2, gpt->act, p[CLLM_TENSOR_PROJ_W], p[CLLM_TENSOR_PROJ_B],
           4 * C, C);
}

/* Everything up to the input of the output matrix: gpt->norm. */
static void forward(struct cllm_gpt *gpt, const float *w, const uint32_t *tokens)
{
    const struct cllm_parameters *plan = gpt->plan;
    size_t B = gpt->B, T = gpt->T, C = plan->config.width;

    for (size_t i = 0; i < B * (T + 1); i++)
        CLLM_ASSERT(tokens[i] < plan->config.vocab);
    for (size_t b = 0; b < B; b++)
        memcpy(gpt->targets + b * T, tokens + b * (T + 1) + 1, T * sizeof *tokens);
    gpt->ops->embedding(gpt->blocks[0].x, tokens, T + 1,
                        w + cllm_parameters_off(plan, CLLM_TENSOR_EMBEDDING, 0),
                        w + cllm_parameters_off(plan, CLLM_TENSOR_POSITIONS, 0), B, T, C);
    for (uint32_t layer = 0; layer < plan->config.layers; layer++) {
        forward_block(gpt, w, layer);
        show_progress(gpt);
    }
    gpt->ops->layernorm(gpt->norm, gpt->meanf, gpt->rstdf, gpt->x,
                        w + cllm_parameters_off(plan, CLLM_TENSOR_NORM_W, 0),
                        w + cllm_parameters_off(plan, CLLM_TENSOR_NORM_B, 0), B * T, C);
}

/* ---- loss ---- */

/*
 * Logits of a chunk of rows, their loss, and with @dw at once their gradient: into
 * gpt->dnorm's rows and into the embedding, which is the output matrix.
 */
static double loss_of_chunk(struct cllm_gpt *gpt, const float *w, float *dw, size_t first,
                            size_t rows)
{
    const struct cllm_ops *ops = gpt->ops;
    size_t C = gpt->plan->config.width, V = gpt->plan->config.vocab;
    uint64_t wte = cllm_parameters_off(gpt->plan, CLLM_TENSOR_EMBEDDING, 0);
    const float *norm = gpt->norm + first * C;
    const struct cllm_matmul to_logits = {.m = rows, .n = V, .k = C, .trans_b = true};
    const struct cllm_matmul to_dnorm = {.m = rows, .n = C, .k = V};
    const struct cllm_matmul to_dwte = {
        .m = V, .n = C, .k = rows, .trans_a = true, .accumulate = true};
    double loss;

    ops->matmul(gpt->logits, norm, w + wte, &to_logits);
    loss = ops->cross_entropy(gpt->logits, gpt->targets + first, rows, V, dw != NULL);
    if (dw != NULL) {
        ops->matmul(gpt->dnorm + first * C, gpt->logits, w + wte, &to_dnorm);
        ops->matmul(dw + wte, gpt->logits, norm, &to_dwte);
    }
    return loss;
}

static double loss_of_batch(struct cllm_gpt *gpt, const float *w, float *dw)
{
    size_t N = (size_t)gpt->B * gpt->T;
    double loss = 0;

    for (size_t first = 0; first < N; first += gpt->chunk_rows) {
        loss +=
            loss_of_chunk(gpt, w, dw, first, cllm_min_u64(gpt->chunk_rows, N - first));
        show_progress(gpt);
    }
    return loss;
}

double cllm_gpt_loss(struct cllm_gpt *gpt, const float *w, const uint32_t *tokens)
{
    forward(gpt, w, tokens);
    return loss_of_batch(gpt, w, NULL);
}

/* ---- backward ---- */

/* What block @layer shares with others, out of what is its own: forward_block()'s steps
 * in its order, so the same bits. The last block wrote last. */
static void recompute_block(const struct cllm_gpt *gpt, const float *const *p,
                            uint32_t layer)
{
    const struct cllm_gpt_block *block = &gpt->blocks[layer];

    if (gpt->recompute == CLLM_GPT_RECOMPUTE_NONE ||
        layer + 1 == gpt->plan->config.layers)
        return;
    forward_qkv(gpt, p, block);
    if (gpt->recompute == CLLM_GPT_RECOMPUTE_BLOCK) {
        forward_attention(gpt, p, block);
        forward_fc(gpt, p, block);
    }
    show_progress(gpt);
}

/* x_next = x2 + proj(gelu(fc(ln_2(x2)))): gpt->dx from x_next's to x2's gradient. */
static void backward_mlp(struct cllm_gpt *gpt, const float *const *p, float *const *d,
                         const struct cllm_gpt_block *block)
{
    const struct cllm_ops *ops = gpt->ops;
    size_t N = (size_t)gpt->B * gpt->T, C = gpt->plan->config.width;

    linear_input(gpt, gpt->dact, gpt->dx, p[CLLM_TENSOR_PROJ_W], 4 * C, C);
    ops->gelu_backward(gpt->dact, gpt->act, block->fc, N * 4 * C);
    linear_gradient(gpt, d[CLLM_TENSOR_PROJ_W], d[CLLM_TENSOR_PROJ_B], gpt->dx, gpt->act,
                    4 * C, C);
    ops->layernorm(gpt->norm, block->mean2, block->rstd2, block->x2,
                   p[CLLM_TENSOR_NORM2_W], p[CLLM_TENSOR_NORM2_B], N, C);
    linear_gradient(gpt, d[CLLM_TENSOR_FC_W], d[CLLM_TENSOR_FC_B], gpt->dact, gpt->norm,
                    C, 4 * C);
    linear_input(gpt, gpt->dnorm, gpt->dact, p[CLLM_TENSOR_FC_W], C, 4 * C);
    ops->layernorm_backward(gpt->dx, d[CLLM_TENSOR_NORM2_W], d[CLLM_TENSOR_NORM2_B],
                            gpt->dnorm, block->x2, block->mean2, block->rstd2,
                            p[CLLM_TENSOR_NORM2_W], N, C);
}

/* x2 = x + proj(attention(ln_1(x))): gpt->dx from x2's to x's gradient. */
static void backward_attention(struct cllm_gpt *gpt, const float *const *p,
                               float *const *d, const struct cllm_gpt_block *block)
{
    const struct cllm_attention sizes = attention_sizes(gpt);
    const struct cllm_ops *ops = gpt->ops;
    size_t N = (size_t)gpt->B * gpt->T, C = sizes.C;
    float *datt = gpt->dnorm, *dqkv = gpt->act;

    linear_input(gpt, datt, gpt->dx, p[CLLM_TENSOR_ATTN_W], C, C);
    linear_gradient(gpt, d[CLLM_TENSOR_ATTN_W], d[CLLM_TENSOR_ATTN_B], gpt->dx,
                    block->att, C, C);
    ops->attention_backward(ops, dqkv, datt, block->qkv, block->att, block->lse,
                            gpt->scratch, &sizes);
    ops->layernorm(gpt->norm, block->mean1, block->rstd1, block->x,
                   p[CLLM_TENSOR_NORM1_W], p[CLLM_TENSOR_NORM1_B], N, C);
    linear_gradient(gpt, d[CLLM_TENSOR_QKV_W], d[CLLM_TENSOR_QKV_B], dqkv, gpt->norm, C,
                    3 * C);
    linear_input(gpt, gpt->dnorm, dqkv, p[CLLM_TENSOR_QKV_W], C, 3 * C);
    ops->layernorm_backward(gpt->dx, d[CLLM_TENSOR_NORM1_W], d[CLLM_TENSOR_NORM1_B],
                            gpt->dnorm, block->x, block->mean1, block->rstd1,
                            p[CLLM_TENSOR_NORM1_W], N, C);
}

double cllm_gpt_forward_backward(struct cllm_gpt *gpt, const float *w, float *dw,
                                 const uint32_t *tokens)
{
    const struct cllm_parameters *plan = gpt->plan;
    size_t B = gpt->B, T = gpt->T, C = plan->config.width;
    uint64_t lnf_w = cllm_parameters_off(plan, CLLM_TENSOR_NORM_W, 0),
             lnf_b = cllm_parameters_off(plan, CLLM_TENSOR_NORM_B, 0);
    double loss;

    CLLM_ASSERT(gpt->train);
    forward(gpt, w, tokens);
    loss = loss_of_batch(gpt, w, dw);
    memset(gpt->dx, 0, B * T * C * sizeof *gpt->dx);
    gpt->ops->layernorm_backward(gpt->dx, dw + lnf_w, dw + lnf_b, gpt->dnorm, gpt->x,
                                 gpt->meanf, gpt->rstdf, w + lnf_w, B * T, C);
    for (uint32_t layer = plan->config.layers; layer-- > 0;) {
        const float *p[CLLM_N_TENSOR_KINDS];
        float *d[CLLM_N_TENSOR_KINDS];

        block_weights(p, gpt, w, layer);
        block_gradients(d, gpt, dw, layer);
        recompute_block(gpt, p, layer);
        backward_mlp(gpt, p, d, &gpt->blocks[layer]);
        backward_attention(gpt, p, d, &gpt->blocks[layer]);
        show_progress(gpt);
    }
    gpt->ops->embedding_backward(dw + cllm_parameters_off(plan, CLLM_TENSOR_EMBEDDING, 0),
                                 dw + cllm_parameters_off(plan, CLLM_TENSOR_POSITIONS, 0),
                                 tokens, T + 1, gpt->dx, B, T, C);
    return loss;
}
