/*
 * model/loss.c - from the last norm to the loss, and back: logits are never whole, but a
 * chunk of rows at a time.
 */
#include "model/inside.h"

/*
 * Logits of a chunk of rows, their loss, and with @backward at once their gradient: into
 * model->dnorm's rows and, unless that is frozen, into the output matrix.
 */
static void lose_chunk(const struct cllm_model *model, const float *w, float *dw,
                       bool backward, size_t first, size_t rows)
{
    const struct cllm_ops *ops = model->ops;
    size_t C = model->plan->config.width, V = model->plan->config.vocab;
    uint64_t head = cllm_parameters_off(model->plan, cllm_model_head(model), 0);
    const float *norm = model->norm + first * C;
    const struct cllm_matmul to_logits = {.m = rows, .n = V, .k = C, .trans_b = true};
    const struct cllm_matmul to_dnorm = {.m = rows, .n = C, .k = V};
    const struct cllm_matmul to_dhead = {.m = V,
                                         .n = C,
                                         .k = rows,
                                         .trans_a = true,
                                         .accumulate = first > 0 || !model->overwrite};
    const uint32_t *targets = model->targets + first;
    double *losses = model->losses + first;

    ops->matmul(model->logits, norm, w + head, &to_logits);
    if (backward && model->smoothing.epsilon > 0)
        ops->smooth_cross_entropy(losses, model->logits, targets, rows, V, true,
                                  &model->smoothing, model->similar);
    else
        ops->cross_entropy(losses, model->logits, targets, rows, V, backward);
    if (backward)
        ops->matmul(model->dnorm + first * C, model->logits, w + head, &to_dnorm);
    if (dw != NULL)
        ops->matmul(dw + head, model->logits, norm, &to_dhead);
}

void cllm_model_lose(const struct cllm_model *model, const float *w, float *dw,
                     bool backward)
{
    size_t N = cllm_model_rows(model);

    for (size_t first = 0; first < N; first += model->chunk_rows) {
        lose_chunk(model, w, dw, backward, first,
                   cllm_min_u64(model->chunk_rows, N - first));
        cllm_model_show_progress(model);
    }
}

double cllm_model_sum_losses(const struct cllm_model *model)
{
    return model->ops->sum_losses(model->losses, cllm_model_rows(model),
                                  model->chunk_rows);
}
