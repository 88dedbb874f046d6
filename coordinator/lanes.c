/*
 * coordinator/lanes.c - transitions of lanes, each named in coordinator/README.md.
 */
#include "coordinator/lanes.h"

#include <string.h>

#include "base/atomic.h"
#include "shm/slot.h"

#define POISON_CRASHES 3

static uint32_t n_lanes(const struct cllm_control *control)
{
    return control->header->geometry.lanes;
}

void cllm_lanes_open(struct cllm_control *control)
{
    memset(control->lane, 0, n_lanes(control) * sizeof *control->lane);
    for (uint32_t l = 0; l < n_lanes(control); l++) {
        control->lane[l].slot = CLLM_NONE;
        control->lane[l].buffer = CLLM_NONE;
        control->lane[l].crash_slot = CLLM_NONE;
    }
}

void cllm_lanes_fill(struct cllm_control *control, uint64_t step, uint64_t filled)
{
    const struct cllm_geometry *g = &control->header->geometry;

    for (uint32_t l = 0; l < g->lanes; l++)
        if (control->lane[l].state == CLLM_LANE_EMPTY &&
            cllm_batch_number(g, step, l, g->microbatches - 1) < filled)
            control->lane[l].state = CLLM_LANE_READY;
}

void cllm_lanes_fill_all(struct cllm_control *control)
{
    for (uint32_t l = 0; l < n_lanes(control); l++)
        if (control->lane[l].state == CLLM_LANE_EMPTY)
            control->lane[l].state = CLLM_LANE_READY;
}

uint32_t cllm_lanes_count(const struct cllm_control *control, enum cllm_lane_state state)
{
    uint32_t n = 0;

    for (uint32_t l = 0; l < n_lanes(control); l++)
        n += control->lane[l].state == (uint32_t)state;
    return n;
}

uint32_t cllm_lanes_done_run(const struct cllm_control *control, uint32_t front)
{
    uint32_t group_end = (front / CLLM_GROUP_LANES + 1) * CLLM_GROUP_LANES;
    uint32_t end = (uint32_t)cllm_min_u64(group_end, n_lanes(control));
    uint32_t l = front;

    while (l < end && control->lane[l].state == CLLM_LANE_DONE)
        l++;
    return l - front;
}

static bool buffer_held(const struct cllm_control *control, uint32_t buffer)
{
    for (uint32_t l = 0; l < n_lanes(control); l++)
        if (control->lane[l].buffer == buffer &&
            (control->lane[l].state == CLLM_LANE_ASSIGNED ||
             control->lane[l].state == CLLM_LANE_DONE))
            return true;
    return false;
}

/* Does the lane at the front of the fold still need a buffer? */
static bool front_needs_buffer(const struct cllm_control *control, uint32_t front)
{
    return front < n_lanes(control) && (control->lane[front].state == CLLM_LANE_EMPTY ||
                                        control->lane[front].state == CLLM_LANE_READY);
}

uint32_t cllm_lanes_free_buffer(const struct cllm_control *control, uint32_t lane)
{
    uint32_t front = cllm_load_relaxed(&control->state->folded_lanes);
    uint32_t found = CLLM_NONE, n = 0;

    for (uint32_t b = control->header->geometry.n_buffers; b-- > 0;) {
        if (buffer_held(control, b))
            continue;
        found = b;
        n++;
    }
    if (n == 1 && lane != front && front_needs_buffer(control, front))
        return CLLM_NONE;
    return found;
}

bool cllm_lanes_assign(struct cllm_control *control, uint32_t slot, uint32_t kind,
                       uint64_t step, uint32_t version)
{
    struct cllm_assignment work = {.kind = kind,
                                   .step = step,
                                   .version = version,
                                   .buffer = CLLM_NONE,
                                   .fold_from = CLLM_NONE,
                                   .fold_to = CLLM_NONE,
                                   .fold_add = CLLM_NONE};
    uint32_t l = 0;

    while (l < n_lanes(control) && control->lane[l].state != CLLM_LANE_READY)
        l++;
    if (l == n_lanes(control))
        return false;
    if (kind == CLLM_WORK_LANE) {
        work.buffer = cllm_lanes_free_buffer(control, l);
        if (work.buffer == CLLM_NONE)
            return false;
    }
    work.lane = l;
    control->lane[l].slot = slot;
    control->lane[l].generation = control->slots[slot].command.generation;
    control->lane[l].buffer = work.buffer;
    control->lane[l].seq = control->slots[slot].command.posted + 1;
    control->lane[l].state = CLLM_LANE_ASSIGNED;
    (void)cllm_slot_post(control, slot, &work);
    return true;
}

void cllm_lanes_done(struct cllm_control *control, const struct cllm_report *report)
{
    struct cllm_lane *lane = &control->lane[report->lane];

    CLLM_ASSERT(lane->state == CLLM_LANE_ASSIGNED);
    lane->loss = report->loss;
    lane->tokens = report->tokens;
    lane->grad_sum = report->grad_sum;
    lane->state = CLLM_LANE_DONE;
}

void cllm_lanes_refetch(struct cllm_control *control, uint32_t lane)
{
    control->lane[lane].state = CLLM_LANE_EMPTY;
    control->lane[lane].buffer = CLLM_NONE;
}

/*
 * Count a crash against @lane; true when it has become poison: three on two slots, or
 * twice as many where one worker does all.
 */
static bool count_crash(struct cllm_lane *lane, uint32_t slot)
{
    lane->crashes++;
    lane->crash_slot = slot;
    lane->crash_slots |= UINT64_C(1) << slot % 64;
    if (lane->crashes >= 2 * POISON_CRASHES)
        return true;
    return lane->crashes >= POISON_CRASHES &&
           (lane->crash_slots & (lane->crash_slots - 1)) != 0;
}

uint32_t cllm_lanes_revoke(struct cllm_control *control, uint32_t slot, bool fault,
                           uint32_t *redone)
{
    uint64_t oldest = UINT64_MAX;
    uint32_t computing = CLLM_NONE;

    *redone = 0;
    for (uint32_t l = 0; l < n_lanes(control); l++) {
        struct cllm_lane *lane = &control->lane[l];

        if (lane->state != CLLM_LANE_ASSIGNED || lane->slot != slot)
            continue;
        if (lane->seq < oldest) {
            oldest = lane->seq;
            computing = l;
        }
        /* Its writer is dead, so the buffer is free at once. */
        lane->buffer = CLLM_NONE;
        lane->state = CLLM_LANE_READY;
        (*redone)++;
    }
    if (!fault || computing == CLLM_NONE || !count_crash(&control->lane[computing], slot))
        return CLLM_NONE;
    control->lane[computing].state = CLLM_LANE_POISONED;
    return computing;
}
