/*
 * base/mix.c - peel one source after the other off the sequence of samples.
 *
 * Heavy sources first: what a source gets is rounded from the share of a sequence that is
 * itself rounded, and light sources, which come last, take little of that error.
 */
#include "base/mix.h"

uint64_t cllm_mix_total(const struct cllm_mix *mix)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < mix->n; i++)
        total += mix->weight[i];
    return total;
}

/* round(number * weight / total), halves up; exact at multiples of total. */
static uint64_t due(uint64_t number, uint64_t weight, uint64_t total)
{
    return number / total * weight + (number % total * weight + total / 2) / total;
}

void cllm_mix_place(const struct cllm_mix *mix, uint64_t number, uint32_t *source,
                    uint64_t *rank)
{
    uint64_t total = cllm_mix_total(mix);

    CLLM_ASSERT(mix->n >= 1 && mix->n <= CLLM_MIX_MAX && total <= UINT32_MAX);
    for (uint32_t i = 0; i + 1 < mix->n; i++) {
        uint64_t before = due(number, mix->weight[i], total);

        if (due(number + 1, mix->weight[i], total) > before) {
            *source = i;
            *rank = before;
            return;
        }
        number -= before;
        total -= mix->weight[i];
    }
    *source = mix->n - 1;
    *rank = number;
}

void cllm_mix_count(const struct cllm_mix *mix, uint64_t number, uint64_t *counts)
{
    uint64_t total = cllm_mix_total(mix);

    for (uint32_t i = 0; i < mix->n; i++) {
        counts[i] = i + 1 < mix->n ? due(number, mix->weight[i], total) : number;
        number -= counts[i];
        total -= mix->weight[i];
    }
}
