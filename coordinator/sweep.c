/*
 * coordinator/sweep.c - chunks, handed out in ranges.
 */
#include "coordinator/sweep.h"

#include "base/atomic.h"
#include "base/fault.h"
#include "shm/slot.h"
#include "shm/takeover.h"

/* An assignment is so much of what each worker has left on average: large ones first, so
 * that few messages are needed; small ones last, so that all are done together. */
#define SHARES 2
/* Fewer numbers than this take less time than the message that asks for them. */
#define LEAST_ELEMENTS 65536

static uint32_t n_chunks(const struct cllm_control *control)
{
    return control->header->geometry.n_chunks;
}

void cllm_sweep_begin(struct cllm_sweep *sweep, struct cllm_control *control,
                      const struct cllm_assignment *work, uint32_t workers)
{
    uint64_t share = cllm_div_up(n_chunks(control), (uint64_t)workers * SHARES);
    uint64_t least = LEAST_ELEMENTS / control->header->geometry.chunk_elements;

    CLLM_ASSERT(!cllm_sweep_owed_by_any(control));
    *sweep = (struct cllm_sweep){
        .active = true, .work = *work, .workers = workers, .damaged = CLLM_NONE};
    sweep->least = (uint32_t)cllm_min_u64(cllm_max_u64(least, 1), share);
    for (uint32_t c = 0; c < n_chunks(control); c++) {
        control->chunk[c].state = CLLM_CHUNK_OLD;
        control->chunk[c].slot = CLLM_NONE;
    }
    cllm_fault(CLLM_FAULT_sweep_begun);
}

/* Chunks in the next assignment, at most. */
static uint32_t next_share(const struct cllm_sweep *sweep,
                           const struct cllm_control *control)
{
    uint64_t left = cllm_sweep_count(control, CLLM_CHUNK_OLD);
    uint64_t share = cllm_div_up(left, (uint64_t)sweep->workers * SHARES);

    return (uint32_t)cllm_min_u64(cllm_max_u64(share, sweep->least),
                                  CLLM_MAX_ASSIGN_CHUNKS);
}

bool cllm_sweep_assign(struct cllm_sweep *sweep, struct cllm_control *control,
                       uint32_t slot)
{
    uint32_t lo = 0, hi, most;

    CLLM_ASSERT(sweep->active);
    most = next_share(sweep, control);
    while (lo < n_chunks(control) && control->chunk[lo].state != CLLM_CHUNK_OLD)
        lo++;
    if (lo == n_chunks(control))
        return false;
    for (hi = lo; hi < n_chunks(control) && hi - lo < most &&
                  control->chunk[hi].state == CLLM_CHUNK_OLD;
         hi++) {
        control->chunk[hi].slot = slot;
        control->chunk[hi].seq = control->slots[slot].command.posted + 1;
        control->chunk[hi].state = CLLM_CHUNK_ASSIGNED;
    }
    sweep->work.chunk_lo = lo;
    sweep->work.chunk_hi = hi;
    cllm_fault(CLLM_FAULT_sweep_assigned);
    (void)cllm_slot_post(control, slot, &sweep->work);
    return true;
}

/* What a report says of chunk @c goes into the table. */
static void keep(struct cllm_sweep *sweep, struct cllm_control *control, uint32_t c,
                 const struct cllm_chunk_result *result)
{
    struct cllm_chunk *chunk = &control->chunk[c];

    if (sweep->work.kind == CLLM_WORK_FOLD || sweep->work.kind == CLLM_WORK_MERGE) {
        chunk->sum_squares = result->sum_squares;
        chunk->check = cllm_chunk_check(chunk, sweep->work.step, c);
    } else if (sweep->work.kind == CLLM_WORK_VERIFY) {
        if (chunk->sum[sweep->work.target] != result->sum)
            sweep->damaged = c;
    } else {
        chunk->sum[sweep->work.target] = result->sum;
    }
    cllm_fence_release();
    cllm_fault(CLLM_FAULT_chunk_kept);
    chunk->state = CLLM_CHUNK_NEW;
}

bool cllm_sweep_take(struct cllm_sweep *sweep, struct cllm_control *control,
                     uint32_t slot, uint64_t seq, const struct cllm_report *report)
{
    bool any = false;

    if (!sweep->active || report->kind != sweep->work.kind)
        return false;
    for (uint32_t c = report->chunk_lo; c < report->chunk_hi; c++) {
        const struct cllm_chunk *chunk = &control->chunk[c];

        if (chunk->state != CLLM_CHUNK_ASSIGNED || chunk->slot != slot ||
            chunk->seq != seq)
            continue;
        keep(sweep, control, c, &report->result[c - report->chunk_lo]);
        any = true;
    }
    return any;
}

static bool about_chunks(uint32_t kind)
{
    return kind == CLLM_WORK_FOLD || kind == CLLM_WORK_MERGE ||
           kind == CLLM_WORK_UPDATE || kind == CLLM_WORK_COPY ||
           kind == CLLM_WORK_VERIFY || kind == CLLM_WORK_INIT || kind == CLLM_WORK_LOAD;
}

bool cllm_sweep_owed(const struct cllm_control *control, uint32_t slot)
{
    const struct cllm_assignment *work;

    for (uint32_t i = 0; (work = cllm_slot_unanswered(control, slot, i)); i++)
        if (about_chunks(work->kind))
            return true;
    return false;
}

bool cllm_sweep_owed_by_any(const struct cllm_control *control)
{
    for (uint32_t slot = 0; slot < control->header->geometry.n_slots; slot++)
        if (cllm_sweep_owed(control, slot))
            return true;
    return false;
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
           cllm_sweep_count(control, CLLM_CHUNK_NEW) == n_chunks(control) &&
           !cllm_sweep_owed_by_any(control);
}
