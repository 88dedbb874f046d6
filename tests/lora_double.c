/*
 * tests/lora_double.c - see tests/lora_double.h.
 */
#include "tests/lora_double.h"

#include <stdlib.h>

#include "tests/gpt_double.h"
#include "tests/llama_double.h"

/* One adapted weight: where A, B and W are, and how W is stored. */
struct piece {
    uint64_t a, b, w, in, out, along_in, along_out;
};

static struct piece piece_of(const struct lora_double *model,
                             const struct cllm_tensor *weight)
{
    bool llama = model->base->config.arch == CLLM_ARCH_LLAMA;
    const struct cllm_tensor *a =
        cllm_parameters_at(model->adapters, weight->kind, weight->layer);
    uint64_t in = weight->shape[llama], out = weight->shape[!llama];

    return (struct piece){.a = a[0].off,
                          .b = a[1].off,
                          .w = weight->off,
                          .in = in,
                          .out = out,
                          .along_in = llama ? 1 : out,
                          .along_out = llama ? in : 1};
}

/* @merged += the products; or with @dmerged what follows from it for A and B. */
static void each_pair(const struct lora_double *model, double *merged,
                      const double *dmerged, double *dw)
{
    double scale = model->lora->alpha / model->lora->rank;
    uint64_t R = model->lora->rank;

    for (uint32_t t = 0; t < model->base->n_tensors; t++) {
        const struct cllm_tensor *weight = &model->base->tensors[t];
        struct piece p;

        if (!cllm_parameters_have(model->adapters, weight->kind))
            continue;
        p = piece_of(model, weight);
        for (uint64_t i = 0; i < p.in * p.out * R; i++) {
            uint64_t r = i % R, n = i / R % p.in, o = i / R / p.in;
            uint64_t at = p.w + n * p.along_in + o * p.along_out;
            uint64_t a = p.a + r * p.in + n, b = p.b + o * R + r;

            if (merged != NULL)
                merged[at] += scale * (double)model->w[b] * (double)model->w[a];
            if (dw == NULL)
                continue;
            dw[a] += scale * (double)model->w[b] * dmerged[at];
            dw[b] += scale * (double)model->w[a] * dmerged[at];
        }
    }
}

double lora_double_loss(const struct lora_double *model, double *dw, uint32_t B,
                        uint32_t T, const uint32_t *tokens)
{
    const struct cllm_parameters *base = model->base;
    double *merged = calloc(base->n_elements, sizeof *merged);
    double *dmerged = calloc(base->n_elements, sizeof *dmerged), loss;

    CLLM_ASSERT(merged != NULL && dmerged != NULL);
    for (uint64_t i = 0; i < base->n_elements; i++)
        merged[i] = (double)model->frozen[i];
    each_pair(model, merged, NULL, NULL);
    loss = base->config.arch == CLLM_ARCH_LLAMA
               ? llama_double_loss(base, merged, dmerged, B, T, tokens, NULL)
               : gpt_double_loss(base, merged, dmerged, B, T, tokens, NULL);
    each_pair(model, NULL, dmerged, dw);
    free(merged);
    free(dmerged);
    return loss;
}
