/*
 * model/sample.c - weigh the candidates, take the heaviest off a heap until the uniform
 * number is reached.
 *
 * A heap, not a sort: of a vocabulary of 50000 a few hundred are ever taken.
 */
#include "model/sample.h"

#include <string.h>

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

void cllm_sample_penalise(float *out, const float *logits, uint32_t n,
                          const uint32_t *recent, uint32_t n_recent, float penalty)
{
    memcpy(out, logits, n * sizeof *out);
    if (penalty == 1.0f)
        return;
    for (uint32_t i = 0; i < n_recent; i++) {
        uint32_t token = recent[i];

        CLLM_ASSERT(token < n);
        /* From the logit as it was: a second time changes nothing. */
        out[token] =
            logits[token] > 0.0f ? logits[token] / penalty : logits[token] * penalty;
    }
}

/* Heavier first, then lower token: a total order, so the heap's shape is no input. */
static bool before(const struct cllm_sample_candidate *a,
                   const struct cllm_sample_candidate *b)
{
    return a->weight != b->weight ? a->weight > b->weight : a->token < b->token;
}

/* Let heap[at] sink to its place among the first @n. */
static void sink(struct cllm_sample_candidate *heap, uint32_t n, uint32_t at)
{
    struct cllm_sample_candidate moved = heap[at];

    for (uint32_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &moved))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

/* Candidates by rank: those that were asked for stand at the end, the first one last. */
struct order {
    struct cllm_sample_candidate *heap; /* of the first n - taken */
    uint32_t n, taken;
};

/* The candidate of rank @rank, in turn. */
static const struct cllm_sample_candidate *ranked(struct order *order, uint32_t rank)
{
    while (order->taken <= rank) {
        uint32_t last = order->n - ++order->taken;
        struct cllm_sample_candidate first = order->heap[0];

        order->heap[0] = order->heap[last];
        order->heap[last] = first;
        sink(order->heap, last, 0);
    }
    return &order->heap[order->n - 1 - rank];
}

/* Of the first @k candidates, with @total of weight, those that make up @top_p: their
 * number, and their weight. */
static uint32_t cut(struct order *order, uint32_t k, double total, double top_p,
                    double *share)
{
    uint32_t kept = 0;

    *share = total;
    if (top_p >= 1)
        return k;
    for (*share = 0; kept < k && (kept == 0 || *share < top_p * total); kept++)
        *share += (double)ranked(order, kept)->weight;
    return kept;
}

uint32_t cllm_sample_token(const struct cllm_sample *sample, const float *logits,
                           uint32_t n, float uniform,
                           struct cllm_sample_candidate *candidates)
{
    struct order order = {.heap = candidates, .n = n};
    float top = logits[cllm_sample_greedy(logits, n)];
    uint32_t k = sample->top_k > 0 && sample->top_k < n ? sample->top_k : n;
    double total = 0, share, walked = 0;

    if (sample->temperature <= 0.0f || !__builtin_isfinite(top))
        return cllm_sample_greedy(logits, n);
    for (uint32_t i = 0; i < n; i++) {
        float weight = cllm_expf((logits[i] - top) / sample->temperature);

        candidates[i] = (struct cllm_sample_candidate){
            .weight = __builtin_isnan(weight) ? 0.0f : weight, .token = i};
        total += (double)candidates[i].weight;
    }
    for (uint32_t i = n / 2; i-- > 0;)
        sink(candidates, n, i);
    if (k < n)
        total = 0;
    for (uint32_t i = 0; k < n && i < k; i++)
        total += (double)ranked(&order, i)->weight;
    k = cut(&order, k, total, (double)sample->top_p, &share);
    for (uint32_t i = 0; i + 1 < k; i++) {
        walked += (double)ranked(&order, i)->weight;
        if ((double)uniform * share < walked)
            return ranked(&order, i)->token;
    }
    return ranked(&order, k - 1)->token;
}
