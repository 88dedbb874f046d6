/*
 * model/decoder.c - the forward pass of one row, over keys and values kept from before.
 */
#include "model/decoder.h"

#include <string.h>

#include "compute/elementary.h"
#include "compute/ops.h"
#include "model/carve.h"
#include "model/model.h"
#include "model/rope.h"

/* Where heads lie: one row at a time. */
static struct cllm_attention sizes_of(const struct cllm_model_config *config)
{
    return (struct cllm_attention){.B = 1,
                                   .T = 1,
                                   .C = (size_t)config->heads * config->head_size,
                                   .H = config->heads,
                                   .KV = config->kv_heads};
}

/* Elements of all keys, or values, of a position. */
static size_t keys_of(const struct cllm_model_config *config)
{
    return (size_t)config->kv_heads * config->head_size;
}

static void lay_out(struct cllm_decoder *decoder, struct cllm_carve *carve)
{
    const struct cllm_model_config *config = &decoder->plan->config;
    const struct cllm_attention sizes = sizes_of(config);
    size_t C = config->width, F = config->hidden;
    size_t kept = (size_t)config->layers * config->context * keys_of(config);

    decoder->keys = cllm_carve_f32(carve, kept);
    decoder->values = cllm_carve_f32(carve, kept);
    decoder->x = cllm_carve_f32(carve, C);
    decoder->norm = cllm_carve_f32(carve, C);
    decoder->qkv = cllm_carve_f32(carve, cllm_attention_row(&sizes));
    decoder->att = cllm_carve_f32(carve, sizes.C);
    decoder->fc = cllm_carve_f32(carve, F);
    decoder->act = cllm_carve_f32(carve, F);
    decoder->scores = cllm_carve_f32(carve, config->context);
    decoder->logits = cllm_carve_f32(carve, config->vocab);
    if (config->arch != CLLM_ARCH_LLAMA)
        return;
    decoder->gate = cllm_carve_f32(carve, F);
    decoder->rope = cllm_carve_f32(carve, (size_t)config->context * config->head_size);
}

size_t cllm_decoder_arena_bytes(const struct cllm_parameters *plan)
{
    struct cllm_decoder decoder = {.plan = plan};
    struct cllm_carve carve = {0};

    lay_out(&decoder, &carve);
    return carve.used;
}

void cllm_decoder_init(struct cllm_decoder *decoder, const struct cllm_parameters *plan,
                       const struct cllm_ops *ops, struct cllm_arena *arena)
{
    struct cllm_carve carve = {
        .base = cllm_arena_take(arena, cllm_decoder_arena_bytes(plan))};

    *decoder = (struct cllm_decoder){.plan = plan, .ops = ops};
    lay_out(decoder, &carve);
    if (decoder->rope != NULL)
        cllm_rope_table(decoder->rope, &plan->config, plan->config.context);
}

void cllm_decoder_reset(struct cllm_decoder *decoder)
{
    decoder->position = 0;
}

/* ---- parts ---- */

/* One decoder and the weights it reads: a tensor of block @layer, or of none. */
struct pass {
    const struct cllm_decoder *decoder;
    const float *w;
    uint32_t layer;
};

static const float *weight(const struct pass *pass, enum cllm_tensor_kind kind)
{
    return pass->w + cllm_parameters_off(pass->decoder->plan, kind, pass->layer);
}

/* decoder->qkv to decoder->att; the new key and value are kept at the position. */
static void attend(const struct pass *pass)
{
    const struct cllm_decoder *decoder = pass->decoder;
    const struct cllm_model_config *config = &decoder->plan->config;
    const struct cllm_attention sizes = sizes_of(config);
    const struct cllm_ops *ops = decoder->ops;
    size_t D = config->head_size, row = keys_of(config), at = decoder->position * row;
    size_t n = decoder->position + (size_t)1, group = cllm_attention_group(&sizes);
    float *keys = decoder->keys + (size_t)pass->layer * config->context * row;
    float *values = decoder->values + (size_t)pass->layer * config->context * row;
    const struct cllm_matmul to_scores = {
        .m = 1, .n = n, .k = D, .ldb = row, .trans_b = true};
    const struct cllm_matmul to_out = {.m = 1, .n = D, .k = n, .ldb = row};
    float scale = 1.0f / cllm_sqrtf((float)D);

    memcpy(keys + at, decoder->qkv + sizes.C, row * sizeof *keys);
    memcpy(values + at, decoder->qkv + sizes.C + row, row * sizeof *values);
    for (size_t h = 0; h < config->heads; h++) {
        size_t shared = h / group * D;

        ops->matmul(decoder->scores, decoder->qkv + h * D, keys + shared, &to_scores);
        (void)ops->softmax(decoder->scores, n, scale);
        ops->matmul(decoder->att + h * D, decoder->scores, values + shared, &to_out);
    }
}

/* ---- gpt2 ---- */

/* out (to) = x (from) w (from,to) + bias + add (to, or NULL). */
static void affine(const struct pass *pass, float *out, const float *add, const float *x,
                   enum cllm_tensor_kind w, enum cllm_tensor_kind bias)
{
    const struct cllm_ops *ops = pass->decoder->ops;
    const struct cllm_tensor *tensor =
        cllm_parameters_at(pass->decoder->plan, w, pass->layer);
    const struct cllm_matmul product = {
        .m = 1, .n = tensor->shape[1], .k = tensor->shape[0], .accumulate = true};

    ops->add_bias(out, add, weight(pass, bias), 1, product.n);
    ops->matmul(out, x, weight(pass, w), &product);
}

static void layernorm(const struct pass *pass, enum cllm_tensor_kind w,
                      enum cllm_tensor_kind bias)
{
    const struct cllm_decoder *decoder = pass->decoder;
    float mean, rstd;

    decoder->ops->layernorm(decoder->norm, &mean, &rstd, decoder->x, weight(pass, w),
                            weight(pass, bias), 1, decoder->plan->config.width);
}

static void gpt_block(const struct pass *pass)
{
    const struct cllm_decoder *decoder = pass->decoder;
    float *x = decoder->x;

    layernorm(pass, CLLM_TENSOR_NORM1_W, CLLM_TENSOR_NORM1_B);
    affine(pass, decoder->qkv, NULL, decoder->norm, CLLM_TENSOR_QKV_W, CLLM_TENSOR_QKV_B);
    attend(pass);
    affine(pass, x, x, decoder->att, CLLM_TENSOR_ATTN_W, CLLM_TENSOR_ATTN_B);
    layernorm(pass, CLLM_TENSOR_NORM2_W, CLLM_TENSOR_NORM2_B);
    affine(pass, decoder->fc, NULL, decoder->norm, CLLM_TENSOR_FC_W, CLLM_TENSOR_FC_B);
    decoder->ops->gelu(decoder->act, decoder->fc, decoder->plan->config.hidden);
    affine(pass, x, x, decoder->act, CLLM_TENSOR_PROJ_W, CLLM_TENSOR_PROJ_B);
}

/* ---- llama ---- */

/* out (to) (+)= x (from) w (to,from)^T. */
static void linear(const struct pass *pass, float *out, const float *x,
                   enum cllm_tensor_kind w, bool accumulate)
{
    const struct cllm_tensor *tensor =
        cllm_parameters_at(pass->decoder->plan, w, pass->layer);

    pass->decoder->ops->matmul(out, x, weight(pass, w),
                               &(struct cllm_matmul){.m = 1,
                                                     .n = tensor->shape[0],
                                                     .k = tensor->shape[1],
                                                     .trans_b = true,
                                                     .accumulate = accumulate});
}

static void rmsnorm(const struct pass *pass, enum cllm_tensor_kind w)
{
    const struct cllm_decoder *decoder = pass->decoder;
    const struct cllm_model_config *config = &decoder->plan->config;
    float rstd;

    decoder->ops->rmsnorm(decoder->norm, &rstd, decoder->x, weight(pass, w),
                          (float)config->norm_epsilon, 1, config->width);
}

static void llama_block(const struct pass *pass)
{
    const struct cllm_decoder *decoder = pass->decoder;
    const struct cllm_model_config *config = &decoder->plan->config;
    const struct cllm_attention sizes = sizes_of(config);
    float *keys = decoder->qkv + sizes.C;

    rmsnorm(pass, CLLM_TENSOR_NORM1_W);
    linear(pass, decoder->qkv, decoder->norm, CLLM_TENSOR_Q_W, false);
    linear(pass, keys, decoder->norm, CLLM_TENSOR_K_W, false);
    linear(pass, keys + keys_of(config), decoder->norm, CLLM_TENSOR_V_W, false);
    decoder->ops->rope(decoder->qkv,
                       decoder->rope + (size_t)decoder->position * config->head_size,
                       &sizes, 0, 1, false);
    attend(pass);
    linear(pass, decoder->x, decoder->att, CLLM_TENSOR_ATTN_W, true);
    rmsnorm(pass, CLLM_TENSOR_NORM2_W);
    linear(pass, decoder->gate, decoder->norm, CLLM_TENSOR_GATE_W, false);
    linear(pass, decoder->fc, decoder->norm, CLLM_TENSOR_FC_W, false);
    decoder->ops->swiglu(decoder->act, decoder->gate, decoder->fc, config->hidden);
    linear(pass, decoder->x, decoder->act, CLLM_TENSOR_PROJ_W, true);
}

/* ---- all of it ---- */

const float *cllm_decoder_step(struct cllm_decoder *decoder, const float *w,
                               uint32_t token)
{
    const struct cllm_parameters *plan = decoder->plan;
    const struct cllm_model_config *config = &plan->config;
    bool llama = config->arch == CLLM_ARCH_LLAMA;
    enum cllm_tensor_kind head = cllm_parameters_have(plan, CLLM_TENSOR_HEAD_W)
                                     ? CLLM_TENSOR_HEAD_W
                                     : CLLM_TENSOR_EMBEDDING;
    struct pass pass = {.decoder = decoder, .w = w};
    size_t C = config->width;

    CLLM_ASSERT(decoder->position < config->context);
    CLLM_ASSERT(token < config->vocab);
    decoder->ops->embedding(
        decoder->x, &token, 1, weight(&pass, CLLM_TENSOR_EMBEDDING),
        llama ? NULL : weight(&pass, CLLM_TENSOR_POSITIONS) + decoder->position * C, 1, 1,
        C);
    for (; pass.layer < config->layers; pass.layer++) {
        if (llama)
            llama_block(&pass);
        else
            gpt_block(&pass);
    }
    if (llama)
        rmsnorm(&pass, CLLM_TENSOR_NORM_W);
    else
        layernorm(&pass, CLLM_TENSOR_NORM_W, CLLM_TENSOR_NORM_B);
    decoder->ops->matmul(
        decoder->logits, decoder->norm, weight(&pass, head),
        &(struct cllm_matmul){.m = 1, .n = config->vocab, .k = C, .trans_b = true});
    decoder->position++;
    return decoder->logits;
}
