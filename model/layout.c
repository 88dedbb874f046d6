/*
 * model/layout.c - where the arrays of a model lie in its arena.
 */
#include <stddef.h>

#include "model/inside.h"

/* Logits are at most about this many elements at a time: 104 MiB, 512 rows of a
 * vocabulary of 50257 where tokens are a multiple of that. The output matrix, and its
 * gradient twice, pass through the caches once for each chunk of rows. Part of the
 * bits. */
#define LOGITS_ELEMENTS (26u << 20)

/* Floats a token. */
enum size { ONE, WIDTH, QKV, ATT, HIDDEN, HEADS };

static size_t floats_of(const struct cllm_model_config *config, enum size size)
{
    size_t D = config->head_size;

    switch (size) {
    case ONE:
        return 1;
    case WIDTH:
        return config->width;
    case QKV:
        return (config->heads + 2 * (size_t)config->kv_heads) * D;
    case ATT:
        return config->heads * D;
    case HIDDEN:
        return config->hidden;
    case HEADS:
        return config->heads;
    }
    CLLM_ASSERT(false);
    return 0;
}

/* The arrays of a block, and the last setting with which each block has its own. */
static const struct piece {
    size_t field; /* in struct cllm_model_block */
    enum size size;
    enum cllm_model_recompute kept;
    bool families[CLLM_N_ARCHS];
} pieces[] = {
#define PIECE(field) offsetof(struct cllm_model_block, field)
    {PIECE(x), WIDTH, CLLM_RECOMPUTE_BLOCK, {true, true}},
    {PIECE(qkv), QKV, CLLM_RECOMPUTE_NONE, {true, true}},
    {PIECE(att), ATT, CLLM_RECOMPUTE_ATTENTION, {true, true}},
    {PIECE(x2), WIDTH, CLLM_RECOMPUTE_ATTENTION, {true, true}},
    {PIECE(gate), HIDDEN, CLLM_RECOMPUTE_ATTENTION, {false, true}},
    {PIECE(fc), HIDDEN, CLLM_RECOMPUTE_ATTENTION, {true, true}},
    {PIECE(lse), HEADS, CLLM_RECOMPUTE_ATTENTION, {true, true}},
    {PIECE(mean1), ONE, CLLM_RECOMPUTE_NONE, {true, false}},
    {PIECE(rstd1), ONE, CLLM_RECOMPUTE_NONE, {true, true}},
    {PIECE(mean2), ONE, CLLM_RECOMPUTE_ATTENTION, {true, false}},
    {PIECE(rstd2), ONE, CLLM_RECOMPUTE_ATTENTION, {true, true}},
#undef PIECE
};

/* One for each block, or one for all. */
static void carve_piece(struct cllm_model *model, struct cllm_carve *carve,
                        const struct piece *piece)
{
    const struct cllm_model_config *config = &model->plan->config;
    size_t floats = floats_of(config, piece->size);
    bool own = model->train && model->recompute <= piece->kept;
    float *at = NULL;

    for (uint32_t layer = 0; layer < config->layers; layer++) {
        if (layer == 0 || own)
            at = cllm_carve_f32(carve, cllm_model_rows(model) * floats);
        if (model->blocks != NULL)
            *(float **)(void *)((uint8_t *)&model->blocks[layer] + piece->field) = at;
    }
}

static void carve_blocks(struct cllm_model *model, struct cllm_carve *carve)
{
    const struct cllm_model_config *config = &model->plan->config;

    for (size_t i = 0; i < CLLM_LEN(pieces); i++)
        if (pieces[i].families[config->arch])
            carve_piece(model, carve, &pieces[i]);
    if (model->train)
        model->x = cllm_carve_f32(carve, cllm_model_rows(model) * config->width);
    else if (model->blocks != NULL)
        model->x = model->blocks[0].x;
}

/* The same for all chunks but for the last one's rounding. */
uint32_t cllm_model_chunk_rows(size_t N, size_t V)
{
    size_t most = cllm_max_u64(LOGITS_ELEMENTS / V / 16 * 16, 16);
    size_t chunks = cllm_div_up(N, most);

    return (uint32_t)cllm_min_u64(cllm_align_up(cllm_div_up(N, chunks), 16), N);
}

/* What the model itself reads and writes: its blocks, and tables on their way. */
static void carve_own(struct cllm_model *model, struct cllm_carve *carve)
{
    const struct cllm_model_config *config = &model->plan->config;
    size_t table =
        config->arch == CLLM_ARCH_LLAMA ? model->T * (size_t)config->head_size : 0;
    size_t places = model->smoothing.epsilon > 0 ? 2 * (size_t)config->vocab : 0;

    model->blocks = cllm_carve_take(carve, config->layers, sizeof *model->blocks);
    model->staging = cllm_carve_f32(carve, cllm_max_u64(table, places));
}

void cllm_model_lay_out(struct cllm_model *model, struct cllm_carve *own,
                        struct cllm_carve *arrays)
{
    const struct cllm_model_config *config = &model->plan->config;
    bool llama = config->arch == CLLM_ARCH_LLAMA;
    size_t N = cllm_model_rows(model), C = config->width, F = config->hidden;
    size_t V = config->vocab, qkv = floats_of(config, QKV), att = floats_of(config, ATT);

    model->chunk_rows = cllm_model_chunk_rows(N, V);
    carve_own(model, own);
    carve_blocks(model, arrays);
    model->tokens = cllm_carve_take(arrays, N + model->B, sizeof *model->tokens);
    model->targets = cllm_carve_take(arrays, N, sizeof *model->targets);
    model->losses = cllm_carve_take(arrays, N, sizeof *model->losses);
    model->meanf = cllm_carve_f32(arrays, N);
    model->rstdf = cllm_carve_f32(arrays, N);
    model->norm = cllm_carve_f32(arrays, N * C);
    model->act = cllm_carve_f32(arrays, N * cllm_max_u64(F, model->train ? qkv : 0));
    model->scratch = cllm_carve_f32(arrays, cllm_attention_scratch(model->T));
    model->logits = cllm_carve_f32(arrays, model->chunk_rows * V);
    if (llama)
        model->rope = cllm_carve_f32(arrays, model->T * (size_t)config->head_size);
    if (model->rank > 0)
        model->low = cllm_carve_f32(arrays, N * model->rank);
    if (config->crystalline_bias) {
        model->points = cllm_carve_f32(arrays, 3 * cllm_align_up(model->T, 16));
        model->pairs = cllm_carve_f32(arrays, model->B * cllm_attention_pairs(model->T));
    }
    if (!model->train)
        return;
    if (model->rank > 0)
        model->dlow = cllm_carve_f32(arrays, N * model->rank);
    if (config->crystalline_bias) {
        model->dbeta = cllm_carve_f32(arrays, model->B * (size_t)config->heads);
        model->by_query = cllm_carve_f32(arrays, N * config->heads);
    }
    model->dx = cllm_carve_f32(arrays, N * C);
    model->dnorm = cllm_carve_f32(arrays, N * cllm_max_u64(C, att));
    model->dact = cllm_carve_f32(arrays, N * F);
    if (llama)
        model->dup = cllm_carve_f32(arrays, N * F);
    if (model->smoothing.epsilon > 0) {
        model->smoothing.x = cllm_carve_f32(arrays, V);
        model->smoothing.y = cllm_carve_f32(arrays, V);
        model->similar = cllm_carve_f32(arrays, V);
    }
}

struct cllm_model cllm_model_shaped(const struct cllm_parameters *plan,
                                    const struct cllm_model_shape *shape)
{
    return (struct cllm_model){
        .plan = plan,
        .B = shape->B,
        .T = shape->T,
        .train = shape->train,
        .recompute = shape->recompute,
        .adapters = shape->adapters,
        .adapter_scale = shape->adapter_scale,
        .rank = shape->adapters == NULL ? 0 : shape->adapters->tensors[0].shape[0],
        .smoothing.epsilon = shape->train ? shape->epsilon : 0};
}
