/*
 * model/adapters.c - what low-rank adapters add to a linear layer, forward and backward
 * (Hu and others: "LoRA: low-rank adaptation of large language models").
 *
 *     low = scale x A^T        out += low B^T
 *     dB += dout^T low         dlow = scale dout B
 *     dA += dlow^T x           dx += dlow A
 *
 * What lies between A and B is a few columns wide; it is computed again where it is
 * needed, not kept.
 */
#include "model/inside.h"

/* model->low (N,rank) = scale x A^T. */
static void go_low(const struct cllm_model *model, const float *a, const float *x,
                   size_t from)
{
    size_t N = cllm_model_rows(model), rank = model->rank;

    model->ops->matmul(
        model->low, x, a,
        &(struct cllm_matmul){.m = N, .n = rank, .k = from, .trans_b = true});
    model->ops->mix(model->low, model->low, model->low, model->adapter_scale, 0.0f,
                    N * rank);
}

/* model->dlow (N,rank) = scale dout B. */
static void come_low(const struct cllm_model *model, const float *b,
                     const struct cllm_linear *layer, const float *dout)
{
    size_t N = cllm_model_rows(model), rank = model->rank;

    model->ops->matmul(
        model->dlow, dout, b,
        &(struct cllm_matmul){.m = N, .n = rank, .k = layer->to, .lda = layer->stride});
    model->ops->mix(model->dlow, model->dlow, model->dlow, model->adapter_scale, 0.0f,
                    N * rank);
}

void cllm_model_adapt(const struct cllm_model *model, const struct cllm_block_weights *w,
                      const struct cllm_linear *layer, float *out, const float *x)
{
    if (w->a[layer->weight] == NULL)
        return;
    go_low(model, w->a[layer->weight], x, layer->from);
    model->ops->matmul(out, model->low, w->b[layer->weight],
                       &(struct cllm_matmul){.m = cllm_model_rows(model),
                                             .n = layer->to,
                                             .k = model->rank,
                                             .ldc = layer->stride,
                                             .trans_b = true,
                                             .accumulate = true});
}

void cllm_model_adapt_gradient(const struct cllm_model *model,
                               const struct cllm_block_weights *w,
                               const struct cllm_block_gradients *d,
                               const struct cllm_linear *layer, const float *dout,
                               const float *x)
{
    size_t N = cllm_model_rows(model), rank = model->rank;

    if (w->a[layer->weight] == NULL)
        return;
    go_low(model, w->a[layer->weight], x, layer->from);
    come_low(model, w->b[layer->weight], layer, dout);
    model->ops->matmul(d->b[layer->weight], dout, model->low,
                       &(struct cllm_matmul){.m = layer->to,
                                             .n = rank,
                                             .k = N,
                                             .lda = layer->stride,
                                             .trans_a = true,
                                             .accumulate = true});
    model->ops->matmul(
        d->a[layer->weight], model->dlow, x,
        &(struct cllm_matmul){
            .m = rank, .n = layer->from, .k = N, .trans_a = true, .accumulate = true});
}

void cllm_model_adapt_input(const struct cllm_model *model,
                            const struct cllm_block_weights *w,
                            const struct cllm_linear *layer, float *dx, const float *dout)
{
    if (w->a[layer->weight] == NULL)
        return;
    come_low(model, w->b[layer->weight], layer, dout);
    model->ops->matmul(dx, model->dlow, w->a[layer->weight],
                       &(struct cllm_matmul){.m = cllm_model_rows(model),
                                             .n = layer->from,
                                             .k = model->rank,
                                             .accumulate = true});
}
