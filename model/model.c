/*
 * model/model.c - forward and backward of any family, block by block.
 *
 * Everything happens in the order in which it stands here, in memory laid out before the
 * first step; an operation may use several threads (compute/threads.h). The residual
 * stream's gradient dx is one buffer that every block adds to in place.
 */
#include "model/model.h"

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
    struct cllm_carve own = {0}, arrays = {0};

    cllm_model_lay_out(&model, &own, &arrays);
    return own.used + (shape->arrays == NULL ? arrays.used : 0);
}

size_t cllm_model_array_bytes(const struct cllm_parameters *plan,
                              const struct cllm_model_shape *shape)
{
    struct cllm_model model = cllm_model_shaped(plan, shape);
    struct cllm_carve own = {0}, arrays = {0};

    cllm_model_lay_out(&model, &own, &arrays);
    return arrays.used;
}

size_t cllm_model_thread_bytes(uint32_t T)
{
    return cllm_attention_scratch(T) * sizeof(float);
}

size_t cllm_model_arrays(const struct cllm_parameters *plan,
                         const struct cllm_model_shape *shape, size_t *begin)
{
    struct cllm_model model = cllm_model_shaped(plan, shape);
    struct cllm_carve own = {0}, arrays = {.begin = begin};

    cllm_model_lay_out(&model, &own, &arrays);
    return arrays.n;
}

static void put_rope(const struct cllm_model *model)
{
    const struct cllm_model_config *config = &model->plan->config;

    cllm_rope_table(model->staging, config, model->T);
    model->ops->put(model->rope, model->staging,
                    model->T * (size_t)config->head_size * sizeof *model->rope);
}

static void put_places(const struct cllm_model *model)
{
    size_t V = model->plan->config.vocab;
    float *x = model->staging, *y = x + V;

    for (size_t id = 0; id < V; id++) {
        struct cllm_crystal_place at = cllm_crystal_place(id + 1);

        x[id] = (float)at.x;
        y[id] = (float)at.y;
    }
    model->ops->put(model->smoothing.x, x, V * sizeof *x);
    model->ops->put(model->smoothing.y, y, V * sizeof *y);
}

int cllm_model_init(struct cllm_model *model, const struct cllm_parameters *plan,
                    const struct cllm_ops *ops, const struct cllm_model_shape *shape,
                    struct cllm_arena *arena)
{
    struct cllm_carve own = {0}, arrays = {0};
    uint8_t *base;

    if (shape->B == 0)
        return cllm_err(CLLM_ECONFIG, "cannot lay out the model for no sequences");
    if (shape->T == 0 || shape->T > plan->config.context)
        return cllm_err(CLLM_ECONFIG,
                        "cannot lay out the model for sequences of %u tokens: its "
                        "context is %u",
                        shape->T, plan->config.context);
    if (plan->config.crystalline_bias && ops->crystal_pairs == NULL)
        return cllm_err(CLLM_ECONFIG,
                        "cannot compute the crystalline bias of attention with %s",
                        ops->name);
    *model = cllm_model_shaped(plan, shape);
    model->ops = ops;
    base = cllm_arena_take(arena, cllm_model_arena_bytes(plan, shape));
    cllm_model_lay_out(model, &own, &arrays);
    arrays.base = shape->arrays != NULL ? shape->arrays : base + own.used;
    own = (struct cllm_carve){.base = base};
    arrays.used = arrays.n = 0;
    cllm_model_lay_out(model, &own, &arrays);
    if (model->rope != NULL)
        put_rope(model);
    if (model->smoothing.epsilon > 0)
        put_places(model);
    return 0;
}

/* ---- parts ---- */

/* The model's own weights: @w, or what is frozen while @w is the adapters. */
static const float *weights_in(const struct cllm_model *model, const float *w)
{
    CLLM_ASSERT((model->adapters == NULL) == (model->frozen == NULL));
    return model->adapters == NULL ? w : model->frozen;
}

/* @w is what learns: the model's weights, or its adapters. */
static struct cllm_block_weights weights_of(const struct cllm_model *model,
                                            const float *w, uint32_t layer)
{
    const struct cllm_parameters *plan = model->plan, *adapters = model->adapters;
    const float *own = weights_in(model, w);
    struct cllm_block_weights block = {{0}, {0}, {0}};

    for (uint32_t k = 0; k < CLLM_N_TENSOR_KINDS; k++) {
        enum cllm_tensor_kind kind = (enum cllm_tensor_kind)k;

        if (cllm_parameters_have(plan, kind))
            block.at[k] = own + cllm_parameters_off(plan, kind, layer);
        if (adapters == NULL || !cllm_parameters_have(adapters, kind))
            continue;
        block.a[k] = w + cllm_parameters_at(adapters, kind, layer)[0].off;
        block.b[k] = w + cllm_parameters_at(adapters, kind, layer)[1].off;
    }
    return block;
}

static struct cllm_block_gradients gradients_of(const struct cllm_model *model, float *dw,
                                                uint32_t layer)
{
    const struct cllm_parameters *plan = model->plan, *adapters = model->adapters;
    struct cllm_block_gradients block = {{0}, {0}, {0}};

    for (uint32_t k = 0; k < CLLM_N_TENSOR_KINDS; k++) {
        enum cllm_tensor_kind kind = (enum cllm_tensor_kind)k;

        if (adapters == NULL && cllm_parameters_have(plan, kind))
            block.at[k] = dw + cllm_parameters_off(plan, kind, layer);
        if (adapters == NULL || !cllm_parameters_have(adapters, kind))
            continue;
        block.a[k] = dw + cllm_parameters_at(adapters, kind, layer)[0].off;
        block.b[k] = dw + cllm_parameters_at(adapters, kind, layer)[1].off;
    }
    return block;
}

/* Where the table of positions begins; only of families that have one. */
static uint64_t positions_off(const struct cllm_parameters *plan)
{
    return cllm_parameters_off(plan, CLLM_TENSOR_POSITIONS, 0);
}

/* ---- forward ---- */

/* How similar the tokens of each sequence are, for all layers and both directions. */
static void compare_tokens(const struct cllm_model *model)
{
    size_t B = model->B, T = model->T, stride = cllm_align_up(T, 16);

    for (size_t b = 0; b < B; b++) {
        float *pairs = model->pairs + b * cllm_attention_pairs(T);

        model->ops->crystal_points(model->points, stride, model->tokens + b * (T + 1), 0,
                                   T);
        for (size_t first = 0; first < T; first += CLLM_ATTENTION_BLOCK) {
            size_t rows = cllm_min_u64(CLLM_ATTENTION_BLOCK, T - first);

            model->ops->crystal_pairs(pairs + cllm_attention_pairs_before(first),
                                      first + rows, model->points, stride, first, rows);
        }
    }
}

/* Fills what the backward pass needs. The last norm ends in model->norm. */
static void forward(struct cllm_model *model, const float *w, const uint32_t *tokens,
                    bool train)
{
    const struct cllm_parameters *plan = model->plan;
    const float *own = weights_in(model, w);
    size_t B = model->B, T = model->T;
    bool table = cllm_parameters_have(plan, CLLM_TENSOR_POSITIONS);

    for (size_t i = 0; i < B * (T + 1); i++)
        CLLM_ASSERT(tokens[i] < plan->config.vocab);
    model->ops->put(model->tokens, tokens, B * (T + 1) * sizeof *tokens);
    model->ops->next_tokens(model->targets, model->tokens, B, T);
    model->ops->embedding(model->blocks[0].x, model->tokens, T + 1,
                          own + cllm_parameters_off(plan, CLLM_TENSOR_EMBEDDING, 0),
                          table ? own + positions_off(plan) : NULL, plan->config.vocab, B,
                          T, plan->config.width);
    if (model->pairs != NULL)
        compare_tokens(model);
    model->dropping = train && model->dropout > 0;
    model->dropping_attention = train && model->attention_dropout > 0;
    if (model->dropping)
        cllm_model_drop(model, model->blocks[0].x, NULL, model->blocks[0].x,
                        CLLM_DROP_EMBEDDING, 0);
    for (uint32_t layer = 0; layer < plan->config.layers; layer++) {
        const struct cllm_block_weights block = weights_of(model, w, layer);

        family_of(model)->forward(model, &block, layer);
        cllm_model_show_progress(model);
    }
    family_of(model)->norm(model, own);
}

double cllm_model_loss(struct cllm_model *model, const float *w, const uint32_t *tokens)
{
    forward(model, w, tokens, false);
    cllm_model_lose(model, weights_in(model, w), NULL, false);
    return cllm_model_sum_losses(model);
}

/* ---- backward ---- */

/* What a product writes whole: linear layers, and the output matrix. */
static bool is_written(const struct cllm_model *model, enum cllm_tensor_kind kind)
{
    static const bool linear[CLLM_N_TENSOR_KINDS] = {
        [CLLM_TENSOR_QKV_W] = true,  [CLLM_TENSOR_Q_W] = true,
        [CLLM_TENSOR_K_W] = true,    [CLLM_TENSOR_V_W] = true,
        [CLLM_TENSOR_ATTN_W] = true, [CLLM_TENSOR_GATE_W] = true,
        [CLLM_TENSOR_FC_W] = true,   [CLLM_TENSOR_PROJ_W] = true};

    return linear[kind] || kind == cllm_model_head(model);
}

/* Zeros wherever gradients are added to: in vectors, in tables of which a batch has some
 * rows only, in adapters, and between the tensors. */
static void clear_rest(const struct cllm_model *model, float *dw)
{
    const struct cllm_parameters *plan = model->plan;
    uint64_t at = 0;

    if (model->adapters != NULL) {
        model->ops->zero(dw, model->adapters->n_elements);
        return;
    }
    for (uint32_t i = 0; i < plan->n_tensors; i++) {
        const struct cllm_tensor *tensor = &plan->tensors[i];

        if (!is_written(model, tensor->kind))
            continue;
        model->ops->zero(dw + at, tensor->off - at);
        at = tensor->off + tensor->count;
    }
    model->ops->zero(dw + at, plan->n_elements - at);
}

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

/* From model->dx, the gradient of the first block's input. */
static void backward_embedding(const struct cllm_model *model, float *dw)
{
    const struct cllm_parameters *plan = model->plan;
    size_t B = model->B, T = model->T;
    bool table = cllm_parameters_have(plan, CLLM_TENSOR_POSITIONS);

    if (model->dropping)
        cllm_model_drop(model, model->dx, NULL, model->dx, CLLM_DROP_EMBEDDING, 0);
    model->ops->embedding_backward(
        dw + cllm_parameters_off(plan, CLLM_TENSOR_EMBEDDING, 0),
        table ? dw + positions_off(plan) : NULL, model->tokens, T + 1, model->dx,
        plan->config.vocab, B, T, plan->config.width);
}

double cllm_model_forward_backward(struct cllm_model *model, const float *w, float *dw,
                                   const uint32_t *tokens)
{
    const struct cllm_model_config *config = &model->plan->config;
    const float *own = weights_in(model, w);
    float *down = model->adapters == NULL ? dw : NULL;

    CLLM_ASSERT(model->train);
    if (model->overwrite)
        clear_rest(model, dw);
    forward(model, w, tokens, true);
    cllm_model_lose(model, own, down, true);
    model->ops->zero(model->dx, cllm_model_rows(model) * config->width);
    family_of(model)->norm_backward(model, own, down);
    for (uint32_t layer = config->layers; layer-- > 0;)
        backward_block(model, w, dw, layer);
    if (down != NULL)
        backward_embedding(model, down);
    return cllm_model_sum_losses(model);
}
