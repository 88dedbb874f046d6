/*
 * model/decoder.c - the forward pass of one row, over keys and values kept from before.
 */
#include "model/decoder.h"

#include <string.h>

#include "compute/elementary.h"
#include "compute/ops.h"
#include "model/carve.h"
#include "model/gpt.h"

static void lay_out(struct cllm_decoder *decoder, struct cllm_carve *carve)
{
    const struct cllm_model_config *config = &decoder->plan->config;
    size_t C = config->width, kept = (size_t)config->layers * config->context * C;

    decoder->keys = cllm_carve_f32(carve, kept);
    decoder->values = cllm_carve_f32(carve, kept);
    decoder->x = cllm_carve_f32(carve, C);
    decoder->norm = cllm_carve_f32(carve, C);
    decoder->qkv = cllm_carve_f32(carve, 3 * C);
    decoder->att = cllm_carve_f32(carve, C);
    decoder->fc = cllm_carve_f32(carve, 4 * C);
    decoder->act = cllm_carve_f32(carve, 4 * C);
    decoder->scores = cllm_carve_f32(carve, config->context);
    decoder->logits = cllm_carve_f32(carve, config->vocab);
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
}

void cllm_decoder_reset(struct cllm_decoder *decoder)
{
    decoder->position = 0;
}

/* out (to) = x (from) w (from,to) + bias + add (to, or NULL). */
static void linear(const struct cllm_ops *ops, float *out, const float *add,
                   const float *x, const float *w, const float *bias, size_t from,
                   size_t to)
{
    ops->add_bias(out, add, bias, 1, to);
    ops->matmul(out, x, w,
                &(struct cllm_matmul){.m = 1, .n = to, .k = from, .accumulate = true});
}

static void norm(const struct cllm_decoder *decoder, const float *weight,
                 const float *bias)
{
    float mean, rstd;

    decoder->ops->layernorm(decoder->norm, &mean, &rstd, decoder->x, weight, bias, 1,
                            decoder->plan->config.width);
}

/* decoder->qkv to decoder->att; the new key and value are kept at the position. */
static void attend(const struct cllm_decoder *decoder, uint32_t layer)
{
    const struct cllm_model_config *config = &decoder->plan->config;
    const struct cllm_ops *ops = decoder->ops;
    size_t C = config->width, D = C / config->heads, n = decoder->position + (size_t)1;
    float *keys = decoder->keys + (size_t)layer * config->context * C;
    float *values = decoder->values + (size_t)layer * config->context * C;
    const struct cllm_matmul to_scores = {
        .m = 1, .n = n, .k = D, .ldb = C, .trans_b = true};
    const struct cllm_matmul to_out = {.m = 1, .n = D, .k = n, .ldb = C};
    float scale = 1.0f / cllm_sqrtf((float)D);

    memcpy(keys + decoder->position * C, decoder->qkv + C, C * sizeof *keys);
    memcpy(values + decoder->position * C, decoder->qkv + 2 * C, C * sizeof *values);
    for (size_t h = 0; h < config->heads; h++) {
        ops->matmul(decoder->scores, decoder->qkv + h * D, keys + h * D, &to_scores);
        (void)ops->softmax(decoder->scores, n, scale);
        ops->matmul(decoder->att + h * D, decoder->scores, values + h * D, &to_out);
    }
}

static void block(const struct cllm_decoder *decoder, const float *w, uint32_t layer)
{
    const struct cllm_ops *ops = decoder->ops;
    const float *p[CLLM_N_TENSOR_KINDS];
    size_t C = decoder->plan->config.width;
    float *x = decoder->x;

    for (uint32_t i = 0; i < CLLM_N_TENSOR_KINDS; i++)
        if (cllm_parameters_have(decoder->plan, (enum cllm_tensor_kind)i))
            p[i] =
                w + cllm_parameters_off(decoder->plan, (enum cllm_tensor_kind)i, layer);
    norm(decoder, p[CLLM_TENSOR_NORM1_W], p[CLLM_TENSOR_NORM1_B]);
    linear(ops, decoder->qkv, NULL, decoder->norm, p[CLLM_TENSOR_QKV_W],
           p[CLLM_TENSOR_QKV_B], C, 3 * C);
    attend(decoder, layer);
    linear(ops, x, x, decoder->att, p[CLLM_TENSOR_ATTN_W], p[CLLM_TENSOR_ATTN_B], C, C);
    norm(decoder, p[CLLM_TENSOR_NORM2_W], p[CLLM_TENSOR_NORM2_B]);
    linear(ops, decoder->fc, NULL, decoder->norm, p[CLLM_TENSOR_FC_W],
           p[CLLM_TENSOR_FC_B], C, 4 * C);
    ops->gelu(decoder->act, decoder->fc, 4 * C);
    linear(ops, x, x, decoder->act, p[CLLM_TENSOR_PROJ_W], p[CLLM_TENSOR_PROJ_B], 4 * C,
           C);
}

const float *cllm_decoder_step(struct cllm_decoder *decoder, const float *w,
                               uint32_t token)
{
    const struct cllm_parameters *plan = decoder->plan;
    const struct cllm_model_config *config = &plan->config;
    const float *wte = w + cllm_parameters_off(plan, CLLM_TENSOR_EMBEDDING, 0);
    size_t C = config->width;

    CLLM_ASSERT(decoder->position < config->context);
    CLLM_ASSERT(token < config->vocab);
    decoder->ops->embedding(decoder->x, &token, 1, wte,
                            w + cllm_parameters_off(plan, CLLM_TENSOR_POSITIONS, 0) +
                                decoder->position * C,
                            1, 1, C);
    for (uint32_t layer = 0; layer < config->layers; layer++)
        block(decoder, w, layer);
    norm(decoder, w + cllm_parameters_off(plan, CLLM_TENSOR_NORM_W, 0),
         w + cllm_parameters_off(plan, CLLM_TENSOR_NORM_B, 0));
    decoder->ops->matmul(
        decoder->logits, decoder->norm, wte,
        &(struct cllm_matmul){.m = 1, .n = config->vocab, .k = C, .trans_b = true});
    decoder->position++;
    return decoder->logits;
}
