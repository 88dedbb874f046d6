/*
 * model/model.c - forward and backward of any family, block by block.
 *
 * Everything happens in the order in which it stands here, in memory laid out before the
 * first step; an operation may use several threads (compute/threads.h). The residual
 * stream's gradient dx is one buffer that every block adds to in place.
 */
#include "model/model.h"

#include <string.h>

#include "base/crystal.h"
#include "base/err.h"
#include "model/inside.h"
#include "model/rope.h"

static const struct cllm_family *const families[CLLM_N_ARCHS] = {
    [CLLM_ARCH_GPT2] = &cllm_gpt_family, [CLLM_ARCH_LLAMA] = &cllm_llama_family};

static const struct cllm_family *family_of(const struct cllm_model *model)
{
    return families[model->plan->config.arch];
}

/* ---- memory ---- */

size_t cllm_model_arena_bytes(const struct cllm_parameters *plan,
                              const struct cllm_model_shape *shape)
{
    struct cllm_model model = cllm_model_shaped(plan, shape);

    return cllm_model_lay_out(&model, NULL);
}

size_t cllm_model_thread_bytes(uint32_t T)
{
    return cllm_attention_scratch(T) * sizeof(float);
}

static void place_ids(const struct cllm_smoothing *smoothing, uint32_t V)
{
    for (uint32_t id = 0; id < V; id++) {
        struct cllm_crystal_place at = cllm_crystal_place((uint64_t)id + 1);

        smoothing->x[id] = (float)at.x;
        smoothing->y[id] = (float)at.y;
    }
}

int cllm_model_init(struct cllm_model *model, const struct cllm_parameters *plan,
                    const struct cllm_ops *ops, const struct cllm_model_shape *shape,
                    struct cllm_arena *arena)
{
    size_t bytes, used;

    if (shape->B == 0)
        return cllm_err(CLLM_ECONFIG, "cannot lay out the model for no sequences");
    if (shape->T == 0 || shape->T > plan->config.context)
        return cllm_err(CLLM_ECONFIG,
                        "cannot lay out the model for sequences of %u tokens: its "
                        "context is %u",
                        shape->T, plan->config.context);
    *model = cllm_model_shaped(plan, shape);
    model->ops = ops;
    bytes = cllm_model_arena_bytes(plan, shape);
    used = cllm_model_lay_out(model, cllm_arena_take(arena, bytes));
    CLLM_ASSERT(used == bytes);
    if (model->rope != NULL)
        cllm_rope_table(model->rope, &plan->config, shape->T);
    if (model->smoothing.epsilon > 0)
        place_ids(&model->smoothing, plan->config.vocab);
    return 0;
}

/* ---- parts ---- */

static struct cllm_block_weights weights_of(const struct cllm_model *model,
                                            const float *w, uint32_t layer)
{
    const struct cllm_parameters *plan = model->plan;
    struct cllm_block_weights block = {{0}};

    for (uint32_t k = 0; k < CLLM_N_TENSOR_KINDS; k++)
        if (cllm_parameters_have(plan, (enum cllm_tensor_kind)k))
            block.at[k] = w + cllm_parameters_off(plan, (enum cllm_tensor_kind)k, layer);
    return block;
}

static struct cllm_block_gradients gradients_of(const struct cllm_model *model, float *dw,
                                                uint32_t layer)
{
    const struct cllm_parameters *plan = model->plan;
    struct cllm_block_gradients block = {{0}};

    for (uint32_t k = 0; k < CLLM_N_TENSOR_KINDS; k++)
        if (cllm_parameters_have(plan, (enum cllm_tensor_kind)k))
            block.at[k] = dw + cllm_parameters_off(plan, (enum cllm_tensor_kind)k, layer);
    return block;
}

/* Where the table of positions begins; only of families that have one. */
static uint64_t positions_off(const struct cllm_parameters *plan)
{
    return cllm_parameters_off(plan, CLLM_TENSOR_POSITIONS, 0);
}

/* ---- forward ---- */

/* Fills what the backward pass needs. The last norm ends in model->norm. */
static void forward(struct cllm_model *model, const float *w, const uint32_t *tokens,
                    bool train)
{
    const struct cllm_parameters *plan = model->plan;
    size_t B = model->B, T = model->T;
    bool table = cllm_parameters_have(plan, CLLM_TENSOR_POSITIONS);

    for (size_t i = 0; i < B * (T + 1); i++)
        CLLM_ASSERT(tokens[i] < plan->config.vocab);
    for (size_t b = 0; b < B; b++)
        memcpy(model->targets + b * T, tokens + b * (T + 1) + 1, T * sizeof *tokens);
    model->ops->embedding(model->blocks[0].x, tokens, T + 1,
                          w + cllm_parameters_off(plan, CLLM_TENSOR_EMBEDDING, 0),
                          table ? w + positions_off(plan) : NULL, B, T,
                          plan->config.width);
    model->dropping = train && model->dropout > 0;
    if (model->dropping)
        cllm_model_drop(model, model->blocks[0].x, NULL, model->blocks[0].x,
                        CLLM_DROP_EMBEDDING, 0);
    for (uint32_t layer = 0; layer < plan->config.layers; layer++) {
        const struct cllm_block_weights block = weights_of(model, w, layer);

        family_of(model)->forward(model, &block, layer);
        cllm_model_show_progress(model);
    }
    family_of(model)->norm(model, w);
}

double cllm_model_loss(struct cllm_model *model, const float *w, const uint32_t *tokens)
{
    forward(model, w, tokens, false);
    return cllm_model_loss_of_batch(model, w, NULL);
}

/* ---- backward ---- */

static void backward_block(const struct cllm_model *model, const float *w, float *dw,
                           uint32_t layer)
{
    const struct cllm_block_weights block = weights_of(model, w, layer);
    const struct cllm_block_gradients gradients = gradients_of(model, dw, layer);
    bool last = layer + 1 == model->plan->config.layers; /* wrote last */

    if (model->recompute != CLLM_RECOMPUTE_NONE && !last) {
        family_of(model)->recompute(model, &block, layer);
        cllm_model_show_progress(model);
    }
    family_of(model)->backward(model, &block, &gradients, layer);
    cllm_model_show_progress(model);
}

double cllm_model_forward_backward(struct cllm_model *model, const float *w, float *dw,
                                   const uint32_t *tokens)
{
    const struct cllm_parameters *plan = model->plan;
    size_t B = model->B, T = model->T, C = plan->config.width;
    bool table = cllm_parameters_have(plan, CLLM_TENSOR_POSITIONS);
    double loss;

    CLLM_ASSERT(model->train);
    forward(model, w, tokens, true);
    loss = cllm_model_loss_of_batch(model, w, dw);
    memset(model->dx, 0, B * T * C * sizeof *model->dx);
    family_of(model)->norm_backward(model, w, dw);
    for (uint32_t layer = plan->config.layers; layer-- > 0;)
        backward_block(model, w, dw, layer);
    if (model->dropping)
        cllm_model_drop(model, model->dx, NULL, model->dx, CLLM_DROP_EMBEDDING, 0);
    model->ops->embedding_backward(
        dw + cllm_parameters_off(plan, CLLM_TENSOR_EMBEDDING, 0),
        table ? dw + positions_off(plan) : NULL, tokens, T + 1, model->dx, B, T, C);
    return loss;
}
