/*
 * model/decoder.c - the forward pass of some rows, over keys and values kept from before.
 */
#include "model/decoder.h"

#include <string.h>

#include "compute/elementary.h"
#include "compute/ops.h"
#include "model/carve.h"
#include "model/model.h"
#include "model/rope.h"

/* Where heads lie in @rows rows. */
static struct cllm_attention sizes_of(const struct cllm_model_config *config, size_t rows)
{
    return (struct cllm_attention){.B = 1,
                                   .T = rows,
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
    const struct cllm_attention sizes = sizes_of(config, 1);
    size_t C = config->width, F = config->hidden;
    size_t n = cllm_min_u64(CLLM_DECODER_ROWS, config->context);
    size_t kept = (size_t)config->layers * config->context * keys_of(config);

    decoder->keys = cllm_carve_f32(carve, kept);
    decoder->values = cllm_carve_f32(carve, kept);
    decoder->x = cllm_carve_f32(carve, n * C);
    decoder->norm = cllm_carve_f32(carve, n * C);
    decoder->mean = cllm_carve_f32(carve, n);
    decoder->rstd = cllm_carve_f32(carve, n);
    decoder->qkv = cllm_carve_f32(carve, n * cllm_attention_row(&sizes));
    decoder->att = cllm_carve_f32(carve, n * sizes.C);
    decoder->fc = cllm_carve_f32(carve, n * F);
    decoder->act = cllm_carve_f32(carve, n * F);
    decoder->scores = cllm_carve_f32(carve, n * config->context);
    decoder->logits = cllm_carve_f32(carve, config->vocab);
    decoder->rows = cllm_carve_f32(carve, CLLM_DECODER_LOSS * (size_t)config->vocab);
    if (config->crystalline_bias) {
        decoder->points = cllm_carve_f32(carve, 3 * cllm_align_up(config->context, 16));
        decoder->similar = cllm_carve_f32(carve, n * config->context);
    }
    if (config->arch != CLLM_ARCH_LLAMA)
        return;
    decoder->gate = cllm_carve_f32(carve, n * F);
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

void cllm_decoder_rewind(struct cllm_decoder *decoder, uint32_t position)
{
    CLLM_ASSERT(position <= decoder->position);
    decoder->position = position;
}

/* ---- parts ---- */

/* One decoder, the weights it reads (a tensor of block @layer, or of none), and how many
 * rows. */
struct pass {
    const struct cllm_decoder *decoder;
    const float *w;
    uint32_t layer;
    size_t n;
};

static const float *weight(const struct pass *pass, enum cllm_tensor_kind kind)
{
    return pass->w + cllm_parameters_off(pass->decoder->plan, kind, pass->layer);
}

/* Keys and values of the rows to where they are kept. */
static void keep(const struct pass *pass, float *keys, float *values)
{
    const struct cllm_decoder *decoder = pass->decoder;
    const struct cllm_attention sizes = sizes_of(&decoder->plan->config, pass->n);
    size_t row = keys_of(&decoder->plan->config);

    for (size_t i = 0; i < pass->n; i++) {
        const float *from = decoder->qkv + i * cllm_attention_row(&sizes) + sizes.C;
        size_t to = (decoder->position + i) * row;

        memcpy(keys + to, from, row * sizeof *keys);
        memcpy(values + to, from + row, row * sizeof *values);
    }
}

/* How similar the tokens of the rows are to all up to themselves. */
static void compare_tokens(const struct pass *pass, const uint32_t *tokens)
{
    const struct cllm_decoder *decoder = pass->decoder;
    size_t stride = cllm_align_up(decoder->plan->config.context, 16);
    size_t at = decoder->position;

    decoder->ops->crystal_points(decoder->points + at, stride, tokens, 0, pass->n);
    decoder->ops->crystal_pairs(decoder->similar, at + pass->n, decoder->points, stride,
                                at, pass->n);
}

/* The probabilities of row @i for head @h, out of its scores (total). */
static void weigh(const struct pass *pass, float *scores, size_t i, size_t h,
                  size_t total)
{
    const struct cllm_decoder *decoder = pass->decoder;
    float scale = 1.0f / cllm_sqrtf((float)decoder->plan->config.head_size);
    size_t seen = decoder->position + i + 1, heads = decoder->plan->config.heads;

    if (decoder->similar != NULL) {
        const float *similar = decoder->similar + i * total; // (seen)
        float beta = weight(pass, CLLM_TENSOR_CRYSTALLINE)[pass->layer * heads + h];

        for (size_t j = 0; j < seen; j++)
            scores[j] = scores[j] * scale + beta * similar[j];
        scale = 1;
    }
    (void)decoder->ops->softmax(scores, seen, scale);
    memset(scores + seen, 0, (total - seen) * sizeof *scores);
}

/* decoder->qkv to decoder->att: row i attends to all positions up to its own. */
static void attend(const struct pass *pass)
{
    const struct cllm_decoder *decoder = pass->decoder;
    const struct cllm_model_config *config = &decoder->plan->config;
    const struct cllm_attention sizes = sizes_of(config, pass->n);
    const struct cllm_ops *ops = decoder->ops;
    size_t D = config->head_size, row = keys_of(config);
    size_t total = decoder->position + pass->n, group = cllm_attention_group(&sizes);
    float *keys = decoder->keys + (size_t)pass->layer * config->context * row;
    float *values = decoder->values + (size_t)pass->layer * config->context * row;
    const struct cllm_matmul to_scores = {.m = pass->n,
                                          .n = total,
                                          .k = D,
                                          .lda = cllm_attention_row(&sizes),
                                          .ldb = row,
                                          .trans_b = true};
    const struct cllm_matmul to_out = {
        .m = pass->n, .n = D, .k = total, .ldb = row, .ldc = sizes.C};

    keep(pass, keys, values);
    for (size_t h = 0; h < config->heads; h++) {
        size_t shared = h / group * D;

        ops->matmul(decoder->scores, decoder->qkv + h * D, keys + shared, &to_scores);
        for (size_t i = 0; i < pass->n; i++)
            weigh(pass, decoder->scores + i * total, i, h, total);
        ops->matmul(decoder->att + h * D, decoder->scores, values + shared, &to_out);
    }
}

/* ---- gpt2 ---- */

/* out (n,to) = x (n,from) w (from,to) + bias + add (n,to, or NULL). */
static void affine(const struct pass *pass, float *out, const float *add, const float *x,
                   enum cllm_tensor_kind w, enum cllm_tensor_kind bias)
{
    const struct cllm_ops *ops = pass->decoder->ops;
    const struct cllm_tensor *tensor =
        cllm_parameters_at(pass->decoder->plan, w, pass->layer);
    const struct cllm_matmul product = {.m = pass->n,
                                        .n = tensor->shape[1],
                                        .k = tensor->shape[0],
                                        .add = add,
                                        .bias = weight(pass, bias)};

    ops->matmul(out, x, weight(pass, w), &product);
}

static void layernorm(const struct pass *pass, enum cllm_tensor_kind w,
                      enum cllm_tensor_kind bias)
{
    const struct cllm_decoder *decoder = pass->decoder;

    decoder->ops->layernorm(decoder->norm, decoder->mean, decoder->rstd, decoder->x,
                            weight(pass, w), weight(pass, bias),
                            (float)decoder->plan->config.norm_epsilon, pass->n,
                            decoder->plan->config.width);
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
    decoder->ops->gelu(decoder->act, decoder->fc, pass->n * decoder->plan->config.hidden);
    affine(pass, x, x, decoder->act, CLLM_TENSOR_PROJ_W, CLLM_TENSOR_PROJ_B);
}

/* ---- llama ---- */

/* out (n,to) (+)= x (n,from) w (to,from)^T; rows of out are @ldc elements apart, 0: to.
 */
static void linear(const struct pass *pass, float *out, size_t ldc, const float *x,
                   enum cllm_tensor_kind w, bool accumulate)
{
    const struct cllm_tensor *tensor =
        cllm_parameters_at(pass->decoder->plan, w, pass->layer);

    pass->decoder->ops->matmul(out, x, weight(pass, w),
                               &(struct cllm_matmul){.m = pass->n,
                                                     .n = tensor->shape[0],
                                                     .k = tensor->shape[1],
                                                     .ldc = ldc,
                                                     .trans_b = true,
                                                     .accumulate = accumulate});
}

static void rmsnorm(const struct pass *pass, enum cllm_tensor_kind w)
{
    const struct cllm_decoder *decoder = pass->decoder;
    const struct cllm_model_config *config = &decoder->plan->config;

    decoder->ops->rmsnorm(decoder->norm, decoder->rstd, decoder->x, weight(pass, w),
                          (float)config->norm_epsilon, pass->n, config->width);
}

static void llama_block(const struct pass *pass)
{
    const struct cllm_decoder *decoder = pass->decoder;
    const struct cllm_model_config *config = &decoder->plan->config;
    const struct cllm_attention sizes = sizes_of(config, pass->n);
    size_t row = cllm_attention_row(&sizes);
    float *keys = decoder->qkv + sizes.C;

    rmsnorm(pass, CLLM_TENSOR_NORM1_W);
    linear(pass, decoder->qkv, row, decoder->norm, CLLM_TENSOR_Q_W, false);
    linear(pass, keys, row, decoder->norm, CLLM_TENSOR_K_W, false);
    linear(pass, keys + keys_of(config), row, decoder->norm, CLLM_TENSOR_V_W, false);
    decoder->ops->rope(decoder->qkv,
                       decoder->rope + (size_t)decoder->position * config->head_size,
                       &sizes, 0, pass->n, false);
    attend(pass);
    linear(pass, decoder->x, 0, decoder->att, CLLM_TENSOR_ATTN_W, true);
    rmsnorm(pass, CLLM_TENSOR_NORM2_W);
    linear(pass, decoder->gate, 0, decoder->norm, CLLM_TENSOR_GATE_W, false);
    linear(pass, decoder->fc, 0, decoder->norm, CLLM_TENSOR_FC_W, false);
    decoder->ops->swiglu(decoder->act, decoder->gate, decoder->fc,
                         pass->n * config->hidden);
    linear(pass, decoder->x, 0, decoder->act, CLLM_TENSOR_PROJ_W, true);
}

/* ---- all of it ---- */

/* decoder->norm of the rows, from @tokens (pass->n). */
static void run(struct pass *pass, const uint32_t *tokens)
{
    const struct cllm_decoder *decoder = pass->decoder;
    const struct cllm_model_config *config = &decoder->plan->config;
    bool llama = config->arch == CLLM_ARCH_LLAMA;
    size_t C = config->width;

    for (size_t i = 0; i < pass->n; i++)
        CLLM_ASSERT(tokens[i] < config->vocab);
    pass->layer = 0;
    decoder->ops->embedding(
        decoder->x, tokens, pass->n, weight(pass, CLLM_TENSOR_EMBEDDING),
        llama ? NULL : weight(pass, CLLM_TENSOR_POSITIONS) + decoder->position * C,
        config->vocab, 1, pass->n, C);
    if (decoder->similar != NULL)
        compare_tokens(pass, tokens);
    for (; pass->layer < config->layers; pass->layer++) {
        if (llama)
            llama_block(pass);
        else
            gpt_block(pass);
    }
    if (llama)
        rmsnorm(pass, CLLM_TENSOR_NORM_W);
    else
        layernorm(pass, CLLM_TENSOR_NORM_W, CLLM_TENSOR_NORM_B);
}

/* Logits of @n rows of decoder->norm from @first on, to @out (n,V). */
static void predict(const struct pass *pass, float *out, size_t first, size_t n)
{
    const struct cllm_decoder *decoder = pass->decoder;
    const struct cllm_model_config *config = &decoder->plan->config;
    enum cllm_tensor_kind head = cllm_parameters_have(decoder->plan, CLLM_TENSOR_HEAD_W)
                                     ? CLLM_TENSOR_HEAD_W
                                     : CLLM_TENSOR_EMBEDDING;

    decoder->ops->matmul(
        out, decoder->norm + first * config->width, weight(pass, head),
        &(struct cllm_matmul){
            .m = n, .n = config->vocab, .k = config->width, .trans_b = true});
}

/* The losses (n) of @targets, which are those of the first @n rows. */
static void lose(const struct pass *pass, const uint32_t *targets, size_t n,
                 double *losses)
{
    const struct cllm_decoder *decoder = pass->decoder;
    size_t V = decoder->plan->config.vocab;

    for (size_t first = 0; first < n; first += CLLM_DECODER_LOSS) {
        size_t rows = cllm_min_u64(CLLM_DECODER_LOSS, n - first);

        predict(pass, decoder->rows, first, rows);
        for (size_t i = 0; i < rows; i++)
            decoder->ops->cross_entropy(&losses[first + i], decoder->rows + i * V,
                                        &targets[first + i], 1, V, false);
    }
}

const float *cllm_decoder_feed(struct cllm_decoder *decoder, const float *w,
                               const uint32_t *tokens, uint32_t n, double *losses)
{
    struct pass pass = {.decoder = decoder, .w = w};

    CLLM_ASSERT(n >= 1 && n <= decoder->plan->config.context - decoder->position);
    for (uint32_t done = 0; done < n; done += (uint32_t)pass.n) {
        pass.n = cllm_min_u64(CLLM_DECODER_ROWS, n - done);
        run(&pass, tokens + done);
        decoder->position += (uint32_t)pass.n;
        if (losses != NULL)
            lose(&pass, tokens + done + 1, pass.n - (done + pass.n == n), losses + done);
    }
    predict(&pass, decoder->logits, pass.n - 1, 1);
    return decoder->logits;
}

const float *cllm_decoder_step(struct cllm_decoder *decoder, const float *w,
                               uint32_t token)
{
    return cllm_decoder_feed(decoder, w, &token, 1, NULL);
}
