/*
 * shm/ring.c - fill, publish, copy and verify. State of a slot: not ready -> ready(batch)
 * -> ...
 */
#include "shm/ring.h"

#include <errno.h>
#include <string.h>

#include "base/atomic.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/hash.h"

/* Does the ring of @g fit into @bytes? By division: products of a damaged geometry
 * overflow. */
static bool fits(const struct cllm_geometry *g, uint64_t bytes)
{
    uint64_t slots = (uint64_t)g->ring_slots + g->ring_eval_slots;
    uint64_t tokens = cllm_ring_batch_tokens(g);

    if (g->ring_slots == 0 || g->lanes == 0 || g->microbatches == 0 || tokens == 0)
        return false;
    return slots <= bytes / sizeof(struct cllm_ring_slot) &&
           tokens <= bytes / sizeof(uint32_t) / slots && cllm_ring_bytes(g) <= bytes;
}

int cllm_ring_use(struct cllm_ring *ring, const struct cllm_region *region,
                  const struct cllm_geometry *geometry)
{
    uint64_t slots = (uint64_t)geometry->ring_slots + geometry->ring_eval_slots;

    if (!fits(geometry, region->bytes))
        return cllm_err(-EBADMSG, "the ring %s is not as the run's header says",
                        region->name);
    *ring = (struct cllm_ring){.region = *region, .geometry = geometry};
    ring->slot = (struct cllm_ring_slot *)(void *)ring->region.base;
    ring->tokens =
        (uint32_t *)(void *)(ring->region.base +
                             cllm_align_up(slots * sizeof *ring->slot, CLLM_PAGE));
    ring->batch_tokens = cllm_ring_batch_tokens(geometry);
    return 0;
}

int cllm_ring_open(struct cllm_ring *ring, const char *run_id,
                   const struct cllm_geometry *geometry, bool writable)
{
    char name[CLLM_REGION_NAME_BYTES];
    struct cllm_region region = {0};
    int rc;

    *ring = (struct cllm_ring){.geometry = geometry};
    cllm_ring_name(name, run_id);
    rc = cllm_region_open(&region, name, sizeof(struct cllm_ring_slot),
                          writable ? CLLM_REGION_READ_WRITE : CLLM_REGION_READ);
    if (rc != 0)
        return rc;
    rc = cllm_ring_use(ring, &region, geometry);
    if (rc != 0)
        cllm_region_close(&region);
    return rc;
}

void cllm_ring_close(struct cllm_ring *ring)
{
    cllm_region_close(&ring->region);
}

static uint32_t *payload(const struct cllm_ring *ring, uint32_t slot)
{
    return ring->tokens + slot * ring->batch_tokens;
}

/* Does @slot hold @batch? Its head is copied to *@head: a reader that comes late may find
 * the loader at the next batch already. */
static bool names(const struct cllm_ring *ring, const struct cllm_ring_slot *slot,
                  uint64_t batch, struct cllm_ring_slot *head)
{
    /* acquire: pairs with the release in cllm_ring_publish() */
    if (cllm_load_acquire(&slot->ready) != batch + 1)
        return false;
    cllm_read_words(head, slot, offsetof(struct cllm_ring_slot, ready));
    return head->batch == batch && head->n_tokens == ring->batch_tokens;
}

bool cllm_ring_has(const struct cllm_ring *ring, uint64_t batch)
{
    uint32_t index = cllm_ring_slot_of(ring->geometry, batch);
    struct cllm_ring_slot head;

    return names(ring, &ring->slot[index], batch, &head) &&
           cllm_hash(payload(ring, index), ring->batch_tokens * sizeof(uint32_t),
                     batch) == head.sum;
}

uint32_t *cllm_ring_begin(struct cllm_ring *ring, uint64_t batch)
{
    uint32_t index = cllm_ring_slot_of(ring->geometry, batch);

    cllm_store_relaxed(&ring->slot[index].ready, 0);
    /* The payload must not change before the slot says that it is not ready. */
    cllm_fence_release();
    cllm_fault(CLLM_FAULT_ring_cleared);
    return payload(ring, index);
}

void cllm_ring_publish(struct cllm_ring *ring, uint64_t batch, uint32_t generation)
{
    uint32_t index = cllm_ring_slot_of(ring->geometry, batch);
    struct cllm_ring_slot *slot = &ring->slot[index];
    const struct cllm_ring_slot head = {
        .batch = batch,
        .n_tokens = (uint32_t)ring->batch_tokens,
        .generation = generation,
        .sum = cllm_hash(payload(ring, index), ring->batch_tokens * sizeof(uint32_t),
                         batch)};

    cllm_fault(CLLM_FAULT_ring_rows);
    cllm_write_words(slot, &head, offsetof(struct cllm_ring_slot, ready));
    cllm_fault(CLLM_FAULT_ring_tagged);
    /* release: pairs with the acquire in names() */
    cllm_store_release(&slot->ready, batch + 1);
    cllm_fault(CLLM_FAULT_ring_ready);
}

/* Word by word, relaxed, as cllm_read_words(): rows are aligned to 4 only. */
static void copy_tokens(uint32_t *out, const uint32_t *shared, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        out[i] = cllm_load_relaxed((const _Atomic uint32_t *)&shared[i]);
}

bool cllm_ring_read(const struct cllm_ring *ring, uint64_t batch, uint32_t *out)
{
    uint32_t index = cllm_ring_slot_of(ring->geometry, batch);
    struct cllm_ring_slot head;

    if (!names(ring, &ring->slot[index], batch, &head))
        return false;
    cllm_fault(CLLM_FAULT_ring_named);
    copy_tokens(out, payload(ring, index), ring->batch_tokens);
    cllm_fault(CLLM_FAULT_ring_copied);
    return cllm_hash(out, ring->batch_tokens * sizeof *out, batch) == head.sum;
}
