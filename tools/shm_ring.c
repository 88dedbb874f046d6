/*
 * tools/shm_ring.c - see tools/shm_ring.h.
 */
#include "tools/shm_ring.h"

#include <errno.h>
#include <stdlib.h>

#include "base/atomic.h"
#include "base/err.h"
#include "shm/ring.h"

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

/* Does the ring that @g describes fit into @bytes? By division: products may overflow. */
static bool fits(const struct cllm_geometry *g, uint64_t bytes)
{
    uint64_t slots = (uint64_t)g->ring_slots + g->ring_eval_slots;
    uint64_t tokens = g->sequences * ((uint64_t)g->context + 1);

    if (g->ring_slots == 0 || g->lanes == 0 || g->microbatches == 0 || tokens == 0)
        return false;
    return slots <= bytes / sizeof(struct cllm_ring_slot) &&
           tokens <= bytes / sizeof(uint32_t) / slots && cllm_ring_bytes(g) <= bytes;
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

int cllm_shm_ring_take(struct cllm_shm_ring *ring, const struct cllm_shm_view *view)
{
    const struct cllm_geometry *g = &view->header.geometry;
    struct cllm_ring mapped = {0};
    uint32_t *scratch = NULL;
    int rc;

    *ring = (struct cllm_shm_ring){0};
    rc = cllm_ring_open(&mapped, view->id, g, false);
    if (rc != 0) {
        cllm_err_add("cannot look at the ring of run %s", view->id);
        return rc;
    }
    if (!fits(g, mapped.region.bytes)) {
        rc = cllm_err(-EBADMSG, "the ring of run %s is not as its header says", view->id);
        goto out;
    }
    ring->n_rows = g->ring_slots + g->ring_eval_slots;
    ring->batch_tokens = mapped.batch_tokens;
    ring->row = calloc(ring->n_rows, sizeof *ring->row);
    scratch = calloc(mapped.batch_tokens + 1, sizeof *scratch);
    if (!ring->row || !scratch) {
        rc = cllm_err(-ENOMEM, "cannot look at the ring of run %s", view->id);
        goto out;
    }
    for (uint32_t i = 0; i < ring->n_rows; i++) {
        look(&ring->row[i], &mapped, i, scratch);
        ring->in_state[ring->row[i].state]++;
    }

out:
    free(scratch);
    cllm_ring_close(&mapped);
    if (rc != 0)
        cllm_shm_ring_fini(ring);
    return rc;
}

void cllm_shm_ring_fini(struct cllm_shm_ring *ring)
{
    free(ring->row);
    *ring = (struct cllm_shm_ring){0};
}
