/*
 * shm/takeover.c - words and hashes that outlive Node Zero.
 */
#include "shm/takeover.h"

#include "base/hash.h"

static uint64_t folded_hash(uint64_t step, uint64_t low)
{
    return cllm_hash(&low, sizeof low, step) << 32;
}

uint64_t cllm_folded(uint64_t step, const struct cllm_folded *folded)
{
    /* CLLM_NONE + 1 is 0. */
    uint64_t low = folded->lanes | (uint64_t)((folded->group + 1) & 0xff) << 16 |
                   (uint64_t)((folded->total + 1) & 0xff) << 24;

    return folded_hash(step, low) | low;
}

bool cllm_folded_decode(uint64_t word, uint64_t step, struct cllm_folded *folded)
{
    uint64_t low = word & UINT32_MAX;

    if (word != (folded_hash(step, low) | low))
        return false;
    folded->lanes = cllm_folded_lanes(low);
    folded->group = (uint32_t)(low >> 16 & 0xff) - 1;
    folded->total = (uint32_t)(low >> 24 & 0xff) - 1;
    return true;
}

uint64_t cllm_lane_sum(const struct cllm_lane *lane, uint64_t lanes_of, uint32_t index)
{
    const uint64_t all[] = {lanes_of,     index,        lane->slot,
                            lane->buffer, lane->tokens, lane->grad_sum};

    return cllm_hash(&lane->loss, sizeof lane->loss, cllm_hash(all, sizeof all, 0));
}

uint64_t cllm_chunk_check(const struct cllm_chunk *chunk, uint64_t step, uint32_t index)
{
    return cllm_hash(&chunk->sum_squares, sizeof chunk->sum_squares,
                     cllm_hash(&step, sizeof step, index));
}
