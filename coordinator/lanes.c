/*
 * coordinator/lanes.c - transitions of lanes, each named in coordinator/README.md.
 */
#include "coordinator/lanes.h"

#include <string.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/hash.h"
#include "base/random.h"
#include "shm/slot.h"
#include "shm/takeover.h"

#define POISON_CRASHES 3

static uint32_t n_lanes(const struct cllm_control *control)
{
    return control->header->geometry.lanes;
}

static uint64_t lanes_of(const struct cllm_control *control)
{
    return cllm_load_relaxed(&control->state->lanes_of);
}

/* The state is stored last: whoever adopts the table finds the rest of the lane. */
static void enter(struct cllm_lane *lane, enum cllm_lane_state state)
{
    cllm_fence_release();
    lane->state = (uint32_t)state;
}

void cllm_lanes_open(struct cllm_control *control, uint64_t step, bool eval,
                     uint64_t audit)
{
    uint64_t seed = control->header->geometry.seed, table = cllm_lanes_of(step, eval);
    bool same_step = lanes_of(control) >> 1 == table >> 1;

    cllm_store_relaxed(&control->state->lanes_of, 0);
    cllm_fence_release();
    cllm_fault(CLLM_FAULT_lanes_void);
    for (uint32_t l = 0; l < n_lanes(control); l++) {
        uint64_t index = step * n_lanes(control) + l;
        struct cllm_lane before = control->lane[l];

        control->lane[l] = (struct cllm_lane){
            .slot = CLLM_NONE,
            .buffer = CLLM_NONE,
            .crash_slot = CLLM_NONE,
            .audited =
                audit > 0 && cllm_random_u64(seed, CLLM_RANDOM_AUDIT, index) % audit == 0,
        };
        if (!same_step)
            continue;
        control->lane[l].crashes = before.crashes;
        control->lane[l].crash_slot = before.crash_slot;
        control->lane[l].crash_slots = before.crash_slots;
    }
    cllm_fault(CLLM_FAULT_lanes_made);
    /* release: pairs with the read of a Node Zero that adopts the run */
    cllm_store_release(&control->state->lanes_of, table);
}

void cllm_lanes_reopen(struct cllm_control *control, uint64_t step)
{
    cllm_store_relaxed(&control->state->lanes_of, 0);
    cllm_fence_release();
    for (uint32_t l = 0; l < n_lanes(control); l++)
        control->lane[l].state = CLLM_LANE_EMPTY;
    /* release: as above */
    cllm_store_release(&control->state->lanes_of, cllm_lanes_of(step, false));
}

/* What a lane with its batch there and without a holder is. */
static uint32_t waiting(const struct cllm_lane *lane)
{
    return lane->n_opinions > 0 ? CLLM_LANE_RECHECK : CLLM_LANE_READY;
}

void cllm_lanes_fill(struct cllm_control *control, uint64_t step, uint64_t filled)
{
    const struct cllm_geometry *g = &control->header->geometry;

    for (uint32_t l = 0; l < g->lanes; l++)
        if (control->lane[l].state == CLLM_LANE_EMPTY &&
            cllm_batch_number(g, step, l, g->microbatches - 1) < filled)
            control->lane[l].state = waiting(&control->lane[l]);
}

void cllm_lanes_fill_all(struct cllm_control *control)
{
    for (uint32_t l = 0; l < n_lanes(control); l++)
        if (control->lane[l].state == CLLM_LANE_EMPTY)
            control->lane[l].state = waiting(&control->lane[l]);
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

/* ---- who holds what ---- */

/* The first lane that is not in the fold. */
static uint32_t front_of(const struct cllm_control *control)
{
    return cllm_folded_lanes(cllm_load_relaxed(&control->state->folded));
}

static uint32_t work_kind(uint64_t lanes_of)
{
    return lanes_of & 1 ? CLLM_WORK_EVAL : CLLM_WORK_LANE;
}

bool cllm_lanes_computed_by(const struct cllm_control *control,
                            const struct cllm_assignment *work)
{
    uint64_t table = lanes_of(control);

    return work->kind == work_kind(table) &&
           cllm_lanes_of(work->step, table & 1) == table;
}

/* Does @work compute @lane of the table as it is? */
static bool computes(const struct cllm_control *control,
                     const struct cllm_assignment *work, uint32_t lane)
{
    return work->lane == lane && cllm_lanes_computed_by(control, work);
}

struct holders {
    uint32_t n, trusted; /* processes that compute a lane; those not given up */
    uint32_t slot;       /* one of them, trusted if any is */
};

static bool given_up(const struct cllm_control *control, uint32_t slot)
{
    uint32_t state = control->slots[slot].command.state;

    return state != CLLM_SLOT_IDLE && state != CLLM_SLOT_BUSY;
}

static struct holders find_holders(const struct cllm_control *control, uint32_t lane)
{
    uint32_t n_workers = control->header->geometry.n_worker_slots;
    struct holders found = {.slot = CLLM_NONE};

    for (uint32_t slot = 0; slot < n_workers; slot++) {
        const struct cllm_assignment *work;

        for (uint32_t i = 0; (work = cllm_slot_unanswered(control, slot, i)); i++) {
            if (!computes(control, work, lane))
                continue;
            found.n++;
            if (found.trusted == 0)
                found.slot = slot;
            found.trusted += !given_up(control, slot);
        }
    }
    return found;
}

static bool slot_holds(const struct cllm_control *control, uint32_t slot, uint32_t lane)
{
    const struct cllm_assignment *work;

    for (uint32_t i = 0; (work = cllm_slot_unanswered(control, slot, i)); i++)
        if (computes(control, work, lane))
            return true;
    return false;
}

/* held[b] for every lane buffer. */
static void find_held(const struct cllm_control *control, bool held[])
{
    const struct cllm_geometry *g = &control->header->geometry;

    memset(held, 0, g->n_buffers * sizeof *held);
    for (uint32_t l = 0; l < g->lanes; l++)
        if (control->lane[l].state == CLLM_LANE_DONE &&
            control->lane[l].buffer < g->n_buffers)
            held[control->lane[l].buffer] = true;
    for (uint32_t slot = 0; slot < g->n_worker_slots; slot++) {
        const struct cllm_assignment *work;

        for (uint32_t i = 0; (work = cllm_slot_unanswered(control, slot, i)); i++)
            if (work->kind == CLLM_WORK_LANE && work->buffer < g->n_buffers)
                held[work->buffer] = true;
    }
}

/* Is @lane being computed, by nobody who is trusted to finish it? */
static bool abandoned(const struct cllm_control *control, uint32_t lane)
{
    uint32_t state = control->lane[lane].state;

    return (state == CLLM_LANE_ASSIGNED || state == CLLM_LANE_DUPLICATED) &&
           find_holders(control, lane).trusted == 0;
}

/* Does the lane at the front of the fold still need a buffer? */
static bool front_needs_buffer(const struct cllm_control *control, uint32_t front)
{
    uint32_t state;

    if (front >= n_lanes(control))
        return false;
    state = control->lane[front].state;
    return abandoned(control, front) || state == CLLM_LANE_EMPTY ||
           state == CLLM_LANE_READY || state == CLLM_LANE_RECHECK;
}

uint32_t cllm_lanes_free_buffer(const struct cllm_control *control, uint32_t lane)
{
    uint32_t front = front_of(control), found = CLLM_NONE, n = 0;
    bool held[CLLM_MAX_LANES + CLLM_MAX_WORKERS];

    CLLM_ASSERT(control->header->geometry.n_buffers <= CLLM_LEN(held));
    find_held(control, held);
    for (uint32_t b = control->header->geometry.n_buffers; b-- > 0;) {
        if (held[b])
            continue;
        found = b;
        n++;
    }
    if (n == 1 && lane != front && front_needs_buffer(control, front))
        return CLLM_NONE;
    return found;
}

/* ---- out ---- */

static bool has_judged(const struct cllm_lane *lane, uint32_t slot)
{
    for (uint32_t i = 0; i < lane->n_opinions; i++)
        if (lane->opinion[i].slot == slot)
            return true;
    return false;
}

/* Is there, or will there be, a process in @slot? */
static bool has_future(const struct cllm_control *control, uint32_t slot)
{
    uint32_t state = control->slots[slot].command.state;

    return state != CLLM_SLOT_EMPTY && state != CLLM_SLOT_UNKILLABLE &&
           state != CLLM_SLOT_DISABLED;
}

/* May @slot say what comes out of @lane? Not twice, unless nobody else will ever come. */
static bool may_judge(const struct cllm_control *control, const struct cllm_lane *lane,
                      uint32_t slot)
{
    if (!has_judged(lane, slot))
        return true;
    for (uint32_t s = 0; s < control->header->geometry.n_worker_slots; s++)
        if (!has_judged(lane, s) && has_future(control, s))
            return false;
    return true;
}

/* The lane that @slot should compute next; n_lanes() = none. */
static uint32_t choose(const struct cllm_control *control, uint32_t slot,
                       uint64_t overdue_ns)
{
    uint32_t all = n_lanes(control), front = front_of(control);

    /* Nothing can be folded, and no buffer becomes free, before the front is done. */
    if (front < all && abandoned(control, front) && !slot_holds(control, slot, front) &&
        may_judge(control, &control->lane[front], slot))
        return front;
    for (uint32_t l = 0; l < all; l++) {
        const struct cllm_lane *lane = &control->lane[l];

        if ((lane->state == CLLM_LANE_READY || lane->state == CLLM_LANE_RECHECK) &&
            may_judge(control, lane, slot) && !slot_holds(control, slot, l))
            return l;
    }
    for (uint32_t l = 0; l < all; l++) {
        const struct cllm_lane *lane = &control->lane[l];
        struct holders holders;

        if (lane->state != CLLM_LANE_ASSIGNED && lane->state != CLLM_LANE_DUPLICATED)
            continue;
        holders = find_holders(control, l);
        if (slot_holds(control, slot, l) || !may_judge(control, lane, slot))
            continue;
        if (holders.trusted == 0 ||
            (holders.trusted == 1 && lane->assigned_ns < overdue_ns))
            return l;
    }
    return all;
}

/*
 * A buffer for the front of the fold when all are taken: that of the highest finished
 * lane, which is computed again. Otherwise a process that cannot be ended could hold the
 * last one for ever. The front is not finished, so no fold reads that buffer. Where lanes
 * are kept there is no fold that would free another: nothing would be won.
 */
static uint32_t take_buffer(struct cllm_control *control, uint32_t front)
{
    for (uint32_t l = n_lanes(control); l-- > front + 1;) {
        struct cllm_lane *lane = &control->lane[l];

        if (lane->state != CLLM_LANE_DONE)
            continue;
        enter(lane, CLLM_LANE_READY);
        (void)atomic_fetch_add_explicit(&control->state->lanes_redone, 1,
                                        memory_order_relaxed);
        return lane->buffer;
    }
    return CLLM_NONE;
}

bool cllm_lanes_assign(struct cllm_control *control, uint32_t slot, uint32_t kind,
                       uint64_t step, uint32_t version, uint64_t overdue_ns)
{
    struct cllm_assignment work = {.kind = kind,
                                   .step = step,
                                   .version = version,
                                   .buffer = CLLM_NONE,
                                   .fold_from = CLLM_NONE,
                                   .fold_to = CLLM_NONE,
                                   .fold_add = CLLM_NONE};
    uint32_t l = choose(control, slot, overdue_ns);
    struct cllm_lane *lane = &control->lane[l];
    bool running;

    if (l == n_lanes(control))
        return false;
    if (kind == CLLM_WORK_LANE) {
        work.buffer = cllm_lanes_free_buffer(control, l);
        if (work.buffer == CLLM_NONE && l == front_of(control) &&
            !cllm_lanes_kept(&control->header->geometry))
            work.buffer = take_buffer(control, l);
        if (work.buffer == CLLM_NONE)
            return false;
    }
    work.lane = l;
    running = lane->state == CLLM_LANE_ASSIGNED || lane->state == CLLM_LANE_DUPLICATED;
    lane->slot = slot;
    lane->generation = cllm_load_relaxed(&control->slots[slot].command.generation);
    lane->buffer = work.buffer;
    lane->seq = control->slots[slot].command.posted + 1;
    lane->assigned_ns = cllm_now_ns();
    enter(lane, running ? CLLM_LANE_DUPLICATED : CLLM_LANE_ASSIGNED);
    cllm_fault(CLLM_FAULT_lane_assigned);
    (void)cllm_slot_post(control, slot, &work);
    return true;
}

/* ---- in ---- */

static uint64_t result_sum(double loss, uint64_t tokens, uint64_t grad_sum)
{
    const uint64_t all[] = {tokens, grad_sum};

    return cllm_hash(&loss, sizeof loss, cllm_hash(all, sizeof all, 0));
}

static void finish(struct cllm_control *control, uint32_t slot,
                   const struct cllm_report *report)
{
    struct cllm_lane *lane = &control->lane[report->lane];

    lane->slot = slot;
    lane->buffer = report->buffer;
    lane->loss = report->loss;
    lane->tokens = report->tokens;
    lane->grad_sum = report->grad_sum;
    lane->sum = cllm_lane_sum(lane, lanes_of(control), report->lane);
    cllm_fault(CLLM_FAULT_lane_kept);
    enter(lane, CLLM_LANE_DONE);
    cllm_fault(CLLM_FAULT_lane_done);
}

/* Workers of which two may rightly find different bits: one opinion has to do. */
static bool mixed(const struct cllm_control *control)
{
    return cllm_load_relaxed(&control->state->mixed) != 0;
}

/* Compare with what others found; the newest opinion joins them when nobody agrees. */
static struct cllm_lane_judgement judge(struct cllm_control *control, uint32_t slot,
                                        const struct cllm_report *report)
{
    struct cllm_lane *lane = &control->lane[report->lane];
    bool finite = (report->flags & CLLM_REPORT_FINITE) != 0;
    uint64_t sum = result_sum(report->loss, report->tokens, report->grad_sum) + finite;
    struct cllm_lane_judgement result = {.odd = {CLLM_NONE, CLLM_NONE}};
    uint32_t n_odd = 0;

    if (mixed(control)) {
        result.verdict = finite ? CLLM_VERDICT_DONE : CLLM_VERDICT_NONFINITE;
        if (finite)
            finish(control, slot, report);
        return result;
    }
    if (!may_judge(control, lane, slot)) {
        result.verdict = CLLM_VERDICT_LATE; /* it was asked before a turn back */
        (void)cllm_lanes_settle(control);
        return result;
    }
    for (uint32_t i = 0; i < lane->n_opinions; i++)
        if (lane->opinion[i].sum != sum)
            result.odd[n_odd++] = lane->opinion[i].slot;
    if (lane->n_opinions == 0 && finite && !lane->audited) {
        finish(control, slot, report);
    } else if (n_odd < lane->n_opinions) {
        result.verdict = finite ? CLLM_VERDICT_DONE : CLLM_VERDICT_NONFINITE;
        if (finite)
            finish(control, slot, report);
    } else if (lane->n_opinions == CLLM_LEN(lane->opinion)) {
        result.verdict = CLLM_VERDICT_THREE_WAYS;
    } else {
        lane->opinion[lane->n_opinions] = (struct cllm_opinion){.sum = sum, .slot = slot};
        cllm_fence_release();
        lane->n_opinions++;
        result = (struct cllm_lane_judgement){.verdict = CLLM_VERDICT_MORE,
                                              .odd = {CLLM_NONE, CLLM_NONE}};
        (void)cllm_lanes_settle(control);
    }
    return result;
}

/* A report about a lane that is finished: of another worker than the one that won. */
static enum cllm_lane_verdict compare(struct cllm_lane *lane, uint32_t slot,
                                      const struct cllm_report *report)
{
    bool finite = (report->flags & CLLM_REPORT_FINITE) != 0;
    uint64_t theirs = result_sum(lane->loss, lane->tokens, lane->grad_sum) + 1;
    uint64_t ours = result_sum(report->loss, report->tokens, report->grad_sum) + finite;

    if (ours == theirs)
        return CLLM_VERDICT_LATE;
    lane->opinion[0] = (struct cllm_opinion){.sum = theirs, .slot = lane->slot};
    lane->opinion[1] = (struct cllm_opinion){.sum = ours, .slot = slot};
    lane->n_opinions = 2;
    return CLLM_VERDICT_DISAGREES;
}

struct cllm_lane_judgement cllm_lanes_take(struct cllm_control *control, uint32_t slot,
                                           const struct cllm_report *report)
{
    struct cllm_lane *lane = &control->lane[report->lane];
    struct cllm_lane_judgement result = {.verdict = CLLM_VERDICT_LATE,
                                         .odd = {CLLM_NONE, CLLM_NONE}};
    uint64_t table = lanes_of(control);

    if (report->kind != work_kind(table) ||
        cllm_lanes_of(report->step, table & 1) != table)
        return result;
    if (report->flags & CLLM_REPORT_BAD_BATCH) {
        result.verdict = CLLM_VERDICT_BAD_BATCH;
        if ((lane->state == CLLM_LANE_ASSIGNED || lane->state == CLLM_LANE_DUPLICATED) &&
            find_holders(control, report->lane).trusted == 0)
            lane->state = CLLM_LANE_EMPTY;
        return result;
    }
    if (lane->state == CLLM_LANE_DONE || lane->state == CLLM_LANE_FOLDED)
        result.verdict = mixed(control) ? CLLM_VERDICT_LATE : compare(lane, slot, report);
    else if (lane->state != CLLM_LANE_POISONED)
        result = judge(control, slot, report);
    return result;
}

uint32_t cllm_lanes_settle(struct cllm_control *control)
{
    uint32_t n = 0;

    for (uint32_t l = 0; l < n_lanes(control); l++) {
        struct cllm_lane *lane = &control->lane[l];
        struct holders holders;

        if (lane->state != CLLM_LANE_ASSIGNED && lane->state != CLLM_LANE_DUPLICATED)
            continue;
        holders = find_holders(control, l);
        if (holders.n == 0) {
            enter(lane, (enum cllm_lane_state)waiting(lane));
            n++;
        } else {
            lane->slot = holders.slot;
            enter(lane, holders.n == 1 ? CLLM_LANE_ASSIGNED : CLLM_LANE_DUPLICATED);
        }
    }
    return n;
}

bool cllm_lanes_crash(struct cllm_control *control, uint32_t l, uint32_t slot)
{
    struct cllm_lane *lane = &control->lane[l];

    lane->crashes++;
    lane->crash_slot = slot;
    lane->crash_slots |= UINT64_C(1) << slot % 64;
    if (lane->crashes < POISON_CRASHES ||
        (lane->crashes < 2 * POISON_CRASHES &&
         (lane->crash_slots & (lane->crash_slots - 1)) == 0))
        return false;
    lane->state = CLLM_LANE_POISONED;
    return true;
}

bool cllm_lanes_adopt(struct cllm_control *control, uint64_t step, bool eval,
                      uint32_t folded)
{
    const struct cllm_geometry *g = &control->header->geometry;
    uint64_t table = cllm_lanes_of(step, eval);

    if (lanes_of(control) != table || folded > g->lanes)
        return false;
    for (uint32_t l = 0; l < g->lanes; l++) {
        struct cllm_lane *lane = &control->lane[l];
        bool intact = lane->sum == cllm_lane_sum(lane, table, l);
        bool kept = lane->state == CLLM_LANE_DONE && intact;

        if (l < folded && !intact)
            return false;
        if (l < folded)
            lane->state = CLLM_LANE_FOLDED;
        else if (!kept)
            lane->state = CLLM_LANE_EMPTY;
        for (uint32_t i = 0; i < CLLM_LEN(lane->opinion); i++)
            if (lane->n_opinions > CLLM_LEN(lane->opinion) ||
                lane->opinion[i].slot >= g->n_worker_slots)
                lane->n_opinions = 0;
    }
    return true;
}
