/*
 * shm/ring.c - fill, publish, copy and verify. State of a slot: not ready -> ready(batch)
 * -> ...
 */
#include "shm/ring.h"

#include <string.h>

#include "base/atomic.h"
#include "base/hash.h"

int cllm_ring_open(struct cllm_ring *ring, const char *run_id,
                   const struct cllm_geometry *geometry, bool writable)
{
    char name[CLLM_REGION_NAME_BYTES];
    uint64_t slots = (uint64_t)geometry->ring_slots + geometry->ring_eval_slots;
    int rc;

    *ring = (struct cllm_ring){.geometry = geometry};
    cllm_ring_name(name, run_id);
    rc = cllm_region_open(&ring->region, name, cllm_ring_bytes(geometry),
                          writable ? CLLM_REGION_READ_WRITE : CLLM_REGION_READ);
    if (rc != 0)
        return rc;
    ring->slot = (struct cllm_ring_slot *)(void *)ring->region.base;
    ring->tokens =
        (uint32_t *)(void *)(ring->region.base +
                             cllm_align_up(slots * sizeof *ring->slot, CLLM_PAGE));
    ring->batch_tokens = cllm_ring_batch_tokens(geometry);
    return 0;
}

void cllm_ring_close(struct cllm_ring *ring)
{
    cllm_region_close(&ring->region);
}

static uint32_t *payload(const struct cllm_ring *ring, uint32_t slot)
{
    return ring->tokens + slot * ring->batch_tokens;
}

static bool names(const struct cllm_ring *ring, const struct cllm_ring_slot *slot,
                  uint64_t batch)
{
    /* acquire: pairs with the release in cllm_ring_publish() */
    return cllm_load_acquire(&slot->ready) == batch + 1 && slot->batch == batch &&
           slot->n_tokens == ring->batch_tokens;
}

bool cllm_ring_has(const struct cllm_ring *ring, uint64_t batch)
{
    uint32_t index = cllm_ring_slot_of(ring->geometry, batch);
    const struct cllm_ring_slot *slot = &ring->slot[index];

    return names(ring, slot, batch) &&
           cllm_hash(payload(ring, index), ring->batch_tokens * sizeof(uint32_t),
                     batch) == slot->sum;
}

uint32_t *cllm_ring_begin(struct cllm_ring *ring, uint64_t batch)
{
    uint32_t index = cllm_ring_slot_of(ring->geometry, batch);

    cllm_store_relaxed(&ring->slot[index].ready, 0);
    /* The payload must not change before the slot says that it is not ready. */
    cllm_fence_release();
    return payload(ring, index);
}

void cllm_ring_publish(struct cllm_ring *ring, uint64_t batch, uint32_t generation)
{
    uint32_t index = cllm_ring_slot_of(ring->geometry, batch);
    struct cllm_ring_slot *slot = &ring->slot[index];

    slot->batch = batch;
    slot->n_tokens = (uint32_t)ring->batch_tokens;
    slot->generation = generation;
    slot->sum =
        cllm_hash(payload(ring, index), ring->batch_tokens * sizeof(uint32_t), batch);
    /* release: pairs with the acquire in names() */
    cllm_store_release(&slot->ready, batch + 1);
}

bool cllm_ring_read(const struct cllm_ring *ring, uint64_t batch, uint32_t *out)
{
    uint32_t index = cllm_ring_slot_of(ring->geometry, batch);
    const struct cllm_ring_slot *slot = &ring->slot[index];
    uint64_t sum;

    if (!names(ring, slot, batch))
        return false;
    sum = slot->sum;
    memcpy(out, payload(ring, index), ring->batch_tokens * sizeof *out);
    return cllm_hash(out, ring->batch_tokens * sizeof *out, batch) == sum;
}
