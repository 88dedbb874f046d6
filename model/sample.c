/*
 * model/sample.c - order the candidates, cut the tail, walk to the uniform number.
 */
#include "model/sample.h"

#include <stdlib.h>

#include "compute/elementary.h"

uint32_t cllm_sample_greedy(const float *logits, uint32_t n)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[best] ||
            __builtin_isnan(logits[best]) > __builtin_isnan(logits[i]))
            best = i;
    return best;
}

/* Heavier first, then lower token: a total order, so the sort's algorithm is no input. */
static int by_weight(const void *left, const void *right)
{
    const struct cllm_sample_candidate *a = left, *b = right;

    if (a->weight != b->weight)
        return a->weight > b->weight ? -1 : 1;
    return a->token < b->token ? -1 : a->token > b->token;
}

/* How many of @n sorted candidates it takes to reach @share of their @total weight. */
static uint32_t cut_share(const struct cllm_sample_candidate *candidates, uint32_t n,
                          double total, double share)
{
    double sum = 0;

    for (uint32_t i = 0; i < n; i++) {
        sum += (double)candidates[i].weight;
        if (sum >= share * total)
            return i + 1;
    }
    return n;
}

static double weight_of(const struct cllm_sample_candidate *candidates, uint32_t n)
{
    double total = 0;

    for (uint32_t i = 0; i < n; i++)
        total += (double)candidates[i].weight;
    return total;
}

uint32_t cllm_sample_token(const struct cllm_sample *sample, const float *logits,
                           uint32_t n, float uniform,
                           struct cllm_sample_candidate *candidates)
{
    float top = logits[cllm_sample_greedy(logits, n)];
    double total, walked = 0;

    if (sample->temperature <= 0.0f || !__builtin_isfinite(top))
        return cllm_sample_greedy(logits, n);
    for (uint32_t i = 0; i < n; i++) {
        float weight = cllm_expf((logits[i] - top) / sample->temperature);

        candidates[i] = (struct cllm_sample_candidate){
            .weight = __builtin_isnan(weight) ? 0.0f : weight, .token = i};
    }
    qsort(candidates, n, sizeof *candidates, by_weight);
    if (sample->top_k > 0 && sample->top_k < n)
        n = sample->top_k;
    total = weight_of(candidates, n);
    if (sample->top_p < 1.0f) {
        n = cut_share(candidates, n, total, (double)sample->top_p);
        total = weight_of(candidates, n);
    }
    for (uint32_t i = 0; i + 1 < n; i++) {
        walked += (double)candidates[i].weight;
        if ((double)uniform * total < walked)
            return candidates[i].token;
    }
    return candidates[n - 1].token;
}
