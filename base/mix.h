/*
 * base/mix.h - which of several sources a numbered sample comes from, and which of that
 * source's samples it is: pure whole-number arithmetic, so there is no state to lose.
 *
 * Sources have whole weights, in falling order. Sample number k = 0, 1, 2 ... goes to the
 * first source or to "the rest", the first having round(k w / W) of the first k samples
 * (W: its weight and those behind it); what goes to the rest is numbered anew and divided
 * the same way. So after W samples each source has had exactly its weight of them, over
 * and over, and at any moment a source has had what it is due but for less than
 * (1 + H) / 2 samples, H = 1 + 1/2 + ... + 1/n: 2 samples for 11 sources.
 */
#ifndef CLLM_BASE_MIX_H
#define CLLM_BASE_MIX_H

#include "base/base.h"

#define CLLM_MIX_MAX 64 /* sources */

struct cllm_mix {
    uint32_t n;                    /* at least 1 */
    uint32_t weight[CLLM_MIX_MAX]; /* falling, at least 1; their sum fits 32 bits */
};

/* The source of sample @number, and how many samples of that source come before it. */
void cllm_mix_place(const struct cllm_mix *mix, uint64_t number, uint32_t *source,
                    uint64_t *rank);

/* How many of the samples 0 to @number - 1 come from each source: counts[n]. */
void cllm_mix_count(const struct cllm_mix *mix, uint64_t number, uint64_t *counts);

/* The sum of the weights. */
uint64_t cllm_mix_total(const struct cllm_mix *mix);

#endif /* CLLM_BASE_MIX_H */
