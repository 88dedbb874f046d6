/*
 * tools/shm_ring.c - see tools/shm_ring.h.
 */
#include "tools/shm_ring.h"

#include <errno.h>
#include <stdlib.h>

#include "base/atomic.h"
#include "base/err.h"

static const char *const batch_name[] = {
    [CLLM_SHM_BATCH_EMPTY] = "empty",
    [CLLM_SHM_BATCH_OK] = "ok",
    [CLLM_SHM_BATCH_CHANGED] = "changing",
    [CLLM_SHM_BATCH_BAD] = "BAD",
};
static_assert(CLLM_LEN(batch_name) == CLLM_SHM_BATCH_LAST, "name every state");

const char *cllm_shm_batch_name(uint32_t state)
{
    return state < CLLM_SHM_BATCH_LAST ? batch_name[state] : "invalid";
}

/* Which step, lane and micro-batch batch row->batch is. */
static void place(struct cllm_shm_ring_row *row, const struct cllm_geometry *g)
{
    uint64_t in_lane = row->validation ? g->eval_microbatches : g->microbatches;
    uint64_t in_step = in_lane * g->lanes;

    if (in_step == 0)
        return;
    row->step = row->validation ? 0 : row->batch / in_step + 1;
    row->lane = (uint32_t)(row->batch % in_step / in_lane);
    row->microbatch = (uint32_t)(row->batch % in_lane);
}

static void look(struct cllm_shm_ring_row *row, const struct cllm_ring *ring,
                 uint32_t index, uint32_t *scratch)
{
    const struct cllm_geometry *g = ring->geometry;
    const struct cllm_ring_slot *slot = &ring->slot[index];
    /* acquire: pairs with the release in cllm_ring_publish() */
    uint64_t ready = cllm_load_acquire(&slot->ready);
    uint64_t batch = ready - 1;
    bool belongs;

    row->validation = index >= g->ring_slots;
    if (ready == 0)
        return;
    row->batch = batch & ~CLLM_BATCH_EVAL;
    row->generation = slot->generation;
    place(row, g);
    /* A batch in a slot that is not its own would never be found there. */
    if (row->validation)
        belongs = (batch & CLLM_BATCH_EVAL) != 0 && row->batch == index - g->ring_slots;
    else
        belongs = (batch & CLLM_BATCH_EVAL) == 0 && batch % g->ring_slots == index;
    if (belongs && cllm_ring_read(ring, batch, scratch))
        row->state = CLLM_SHM_BATCH_OK;
    else if (cllm_load_relaxed(&slot->ready) != ready)
        row->state = CLLM_SHM_BATCH_CHANGED;
    else
        row->state = CLLM_SHM_BATCH_BAD;
}

int cllm_shm_ring_look(struct cllm_shm_ring *ring, const struct cllm_ring *mapped)
{
    const struct cllm_geometry *g = mapped->geometry;
    uint32_t *scratch = calloc(mapped->batch_tokens + 1, sizeof *scratch);
    int rc = 0;

    *ring = (struct cllm_shm_ring){.n_rows = g->ring_slots + g->ring_eval_slots,
                                   .batch_tokens = mapped->batch_tokens};
    ring->row = calloc(ring->n_rows, sizeof *ring->row);
    if (!ring->row || !scratch) {
        rc = cllm_err(-ENOMEM, "cannot copy a batch");
        cllm_shm_ring_fini(ring);
    }
    for (uint32_t i = 0; i < ring->n_rows; i++) {
        look(&ring->row[i], mapped, i, scratch);
        ring->in_state[ring->row[i].state]++;
    }
    free(scratch);
    return rc;
}

int cllm_shm_ring_take(struct cllm_shm_ring *ring, const struct cllm_shm_view *view)
{
    struct cllm_ring mapped = {0};
    int rc;

    *ring = (struct cllm_shm_ring){0};
    rc = cllm_ring_open(&mapped, view->id, &view->header.geometry, false);
    if (rc == 0) {
        rc = cllm_shm_ring_look(ring, &mapped);
        cllm_ring_close(&mapped);
    }
    if (rc != 0)
        cllm_err_add("cannot look at the ring of run %s", view->id);
    return rc;
}

void cllm_shm_ring_fini(struct cllm_shm_ring *ring)
{
    free(ring->row);
    *ring = (struct cllm_shm_ring){0};
}
