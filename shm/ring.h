/*
 * shm/ring.h - the batch ring: the loader fills slots, workers copy them out.
 *
 * A filled slot never changes before every step it serves is committed. Readers copy,
 * then verify the copy against tag and hash, then use it: a loader that dies half way, or
 * a read that lands late, can only make a slot fail its check, never be used wrongly.
 */
#ifndef CLLM_SHM_RING_H
#define CLLM_SHM_RING_H

#include "shm/control.h"

struct cllm_ring {
    struct cllm_region region;
    const struct cllm_geometry *geometry; /* of the run; borrowed */
    struct cllm_ring_slot *slot;          /* [ring_slots + ring_eval_slots] */
    uint32_t *tokens;                     /* payload of slot 0 */
    uint64_t batch_tokens;                /* tokens in a slot: (sequences, context + 1) */
};

/* Map the ring; only the loader writes. @geometry must outlive the ring. */
int cllm_ring_open(struct cllm_ring *ring, const char *run_id,
                   const struct cllm_geometry *geometry, bool writable);

/*
 * What open does with a mapping: see that the ring of @geometry fits into it, whatever
 * the geometry says, and point into it. 0 moves @region into @ring; -EBADMSG with text
 * leaves it to the caller.
 */
int cllm_ring_use(struct cllm_ring *ring, const struct cllm_region *region,
                  const struct cllm_geometry *geometry);
void cllm_ring_close(struct cllm_ring *ring);

/* Loader: is @batch there and intact (reads all of it)? */
bool cllm_ring_has(const struct cllm_ring *ring, uint64_t batch);

/*
 * Loader: begin filling the slot of @batch (it stops being ready) and return its payload
 * of batch_tokens tokens; then publish it. Release; pairs with the acquire in
 * cllm_ring_read().
 */
uint32_t *cllm_ring_begin(struct cllm_ring *ring, uint64_t batch);
void cllm_ring_publish(struct cllm_ring *ring, uint64_t batch, uint32_t generation);

/* Worker: copy @batch to @out (batch_tokens tokens). False when tag or hash are not
 * right. */
bool cllm_ring_read(const struct cllm_ring *ring, uint64_t batch, uint32_t *out);

#endif /* CLLM_SHM_RING_H */
