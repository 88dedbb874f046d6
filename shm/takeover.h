/*
 * shm/takeover.h - what of an open step outlives Node Zero, and how its successor knows
 * that it is whole (coordinator/README.md, What a new Node Zero finds).
 */
#ifndef CLLM_SHM_TAKEOVER_H
#define CLLM_SHM_TAKEOVER_H

#include "shm/layout.h"

/* Lanes of training step @step, or of its validation; never 0. */
static inline uint64_t cllm_lanes_of(uint64_t step, bool eval)
{
    return (step << 1 | eval) + 2;
}

/*
 * Progress of the fold in one word, so that one store publishes it: lanes [0, lanes) are
 * in the folds; @group and @total are the folds that hold the present group's sum and
 * that of the finished groups (CLLM_NONE = none yet). The upper half is a hash of @step
 * and the rest: a word of another step, or a damaged one, does not decode.
 */
struct cllm_folded {
    uint32_t lanes, group, total;
};

uint64_t cllm_folded(uint64_t step, const struct cllm_folded *folded);
bool cllm_folded_decode(uint64_t word, uint64_t step, struct cllm_folded *folded);

/* Lanes alone, unchecked, for people. */
static inline uint32_t cllm_folded_lanes(uint64_t word)
{
    return (uint32_t)(word & 0xffff);
}

/* Hash of what a DONE or FOLDED lane @index of @lanes_of says of itself. */
uint64_t cllm_lane_sum(const struct cllm_lane *lane, uint64_t lanes_of, uint32_t index);

/* Hash that goes with sum_squares of chunk @index in @step. */
uint64_t cllm_chunk_check(const struct cllm_chunk *chunk, uint64_t step, uint32_t index);

#endif /* CLLM_SHM_TAKEOVER_H */
