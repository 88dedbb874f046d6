/*
 * coordinator/sweep.c - chunks, handed out in ranges.
 */
#include "coordinator/sweep.h"

#include "shm/slot.h"

#define SHARES 2 /* assignments for each worker in a sweep: evens out who is late */

static uint32_t n_chunks(const struct cllm_control *control)
{
    return control->header->geometry.n_chunks;
}

void cllm_sweep_begin(struct cllm_sweep *sweep, struct cllm_control *control,
                      const struct cllm_assignment *work, uint32_t workers)
{
    uint64_t share = cllm_div_up(n_chunks(control), (uint64_t)workers * SHARES);

    *sweep = (struct cllm_sweep){.active = true, .work = *work};
    sweep->chunks_per_assignment = (uint32_t)cllm_min_u64(share, CLLM_MAX_ASSIGN_CHUNKS);
    for (uint32_t c = 0; c < n_chunks(control); c++) {
        control->chunk[c].state = CLLM_CHUNK_OLD;
        control->chunk[c].slot = CLLM_NONE;
    }
}

bool cllm_sweep_assign(struct cllm_sweep *sweep, struct cllm_control *control,
                       uint32_t slot)
{
    uint32_t lo = 0, hi;

    CLLM_ASSERT(sweep->active);
    while (lo < n_chunks(control) && control->chunk[lo].state != CLLM_CHUNK_OLD)
        lo++;
    if (lo == n_chunks(control))
        return false;
    for (hi = lo; hi < n_chunks(control) && hi - lo < sweep->chunks_per_assignment &&
                  control->chunk[hi].state == CLLM_CHUNK_OLD;
         hi++) {
        control->chunk[hi].slot = slot;
        control->chunk[hi].seq = control->slots[slot].command.posted + 1;
        control->chunk[hi].state = CLLM_CHUNK_ASSIGNED;
    }
    sweep->work.chunk_lo = lo;
    sweep->work.chunk_hi = hi;
    (void)cllm_slot_post(control, slot, &sweep->work);
    return true;
}

void cllm_sweep_take(const struct cllm_sweep *sweep, struct cllm_control *control,
                     const struct cllm_report *report)
{
    CLLM_ASSERT(sweep->active);
    CLLM_ASSERT(report->kind == sweep->work.kind);
    for (uint32_t c = report->chunk_lo; c < report->chunk_hi; c++) {
        const struct cllm_chunk_result *result = &report->result[c - report->chunk_lo];
        struct cllm_chunk *chunk = &control->chunk[c];

        CLLM_ASSERT(chunk->state == CLLM_CHUNK_ASSIGNED);
        if (report->kind == CLLM_WORK_FOLD || report->kind == CLLM_WORK_MERGE)
            chunk->sum_squares = result->sum_squares;
        else
            chunk->sum[sweep->work.target] = result->sum;
        chunk->state = CLLM_CHUNK_NEW;
    }
}

void cllm_sweep_revoke(struct cllm_control *control, uint32_t slot)
{
    for (uint32_t c = 0; c < n_chunks(control); c++)
        if (control->chunk[c].state == CLLM_CHUNK_ASSIGNED &&
            control->chunk[c].slot == slot)
            control->chunk[c].state = CLLM_CHUNK_OLD;
}

uint32_t cllm_sweep_count(const struct cllm_control *control, enum cllm_chunk_state state)
{
    uint32_t n = 0;

    for (uint32_t c = 0; c < n_chunks(control); c++)
        n += control->chunk[c].state == (uint32_t)state;
    return n;
}

bool cllm_sweep_done(const struct cllm_sweep *sweep, const struct cllm_control *control)
{
    return sweep->active &&
           cllm_sweep_count(control, CLLM_CHUNK_NEW) == n_chunks(control);
}
