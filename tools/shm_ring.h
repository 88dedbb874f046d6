/*
 * tools/shm_ring.h - what stands in each slot of a run's batch ring, each batch verified.
 */
#ifndef CLLM_TOOLS_SHM_RING_H
#define CLLM_TOOLS_SHM_RING_H

#include "shm/ring.h"
#include "tools/shm_view.h"

enum cllm_shm_batch {
    CLLM_SHM_BATCH_EMPTY = 0, /* never filled, or being filled */
    CLLM_SHM_BATCH_OK,        /* tag and hash agree with the tokens */
    CLLM_SHM_BATCH_CHANGED,   /* it was filled anew while it was looked at */
    CLLM_SHM_BATCH_BAD,       /* tag or hash are wrong: no worker will use it */
    CLLM_SHM_BATCH_LAST
};

const char *cllm_shm_batch_name(uint32_t state);

struct cllm_shm_ring_row {
    enum cllm_shm_batch state;
    bool validation;
    uint32_t generation; /* of the loader that filled it */
    uint64_t batch;      /* number; without CLLM_BATCH_EVAL. Valid unless EMPTY */
    uint64_t step;       /* from 1; training batches */
    uint32_t lane, microbatch;
};

struct cllm_shm_ring {
    struct cllm_shm_ring_row *row; /* heap; ring slots, then validation slots */
    uint32_t n_rows;
    uint32_t in_state[CLLM_SHM_BATCH_LAST];
    uint64_t batch_tokens;
};

/* Look at the ring of the run of @view (has_control). Returns 0 or a negative code with
 * text. Pair with fini. */
int cllm_shm_ring_take(struct cllm_shm_ring *ring, const struct cllm_shm_view *view);

/* The same of a ring that is mapped already. */
int cllm_shm_ring_look(struct cllm_shm_ring *ring, const struct cllm_ring *mapped);
void cllm_shm_ring_fini(struct cllm_shm_ring *ring); /* safe on a zeroed struct */

#endif /* CLLM_TOOLS_SHM_RING_H */
