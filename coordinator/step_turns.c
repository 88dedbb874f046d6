/*
 * coordinator/step_turns.c - the step goes back to its beginning, or aside.
 */
#include "base/units.h"
#include "coordinator/step_inside.h"

#include <errno.h>
#include <inttypes.h>

#include "base/err.h"
#include "base/fault.h"
#include "coordinator/lanes.h"
#include "shm/slot.h"
#include "shm/takeover.h"

/*
 * Back to the beginning of the step; crashes and opinions about its lanes are kept. The
 * folds are void first: whoever takes over in the middle finds no finished lane in them.
 */
static void reopen(struct cllm_step *step)
{
    struct cllm_state *state = step->control->state;
    bool eval = cllm_load_relaxed(&state->lanes_of) == cllm_lanes_of(step->step, true);
    uint32_t lost = eval ? geometry(step)->lanes
                         : cllm_lanes_count(step->control, CLLM_LANE_DONE) +
                               cllm_lanes_count(step->control, CLLM_LANE_FOLDED);
    const struct cllm_step_record *other = &step->control->record[(step->step - 1) & 1];
    struct cllm_step_record committed = *other;

    CLLM_ASSERT(committed.step + 1 == step->step);
    (void)atomic_fetch_add_explicit(&state->lanes_redone, lost, memory_order_relaxed);
    cllm_step_begin_record(step, &committed);
    cllm_step_publish_folded(step, 0);
    cllm_fault(CLLM_FAULT_step_reopened);
    if (eval)
        cllm_lanes_open(step->control, step->step, false, step->config->run_audit);
    else
        cllm_lanes_reopen(step->control, step->step);
    enter(step, CLLM_PHASE_COMPUTE);
}

/* The newest of two turns is not always the one to take. */
void cllm_step_want_turn(struct cllm_step *step, enum cllm_step_turn turn)
{
    if (turn == CLLM_TURN_VERIFY || step->turn == CLLM_TURN_NO)
        step->turn = turn;
}

static void begin_verify(struct cllm_step *step)
{
    struct cllm_assignment work = blank(step, CLLM_WORK_VERIFY);

    work.target = (uint32_t)((step->step - 1) & 1);
    work.version = work.target;
    cllm_fault(CLLM_FAULT_verify_begin);
    cllm_sweep_begin(&step->sweep, step->control, &work, step->workers);
    enter(step, CLLM_PHASE_VERIFY);
}

/*
 * Does @slot owe an answer about chunks, or about the version that the step made? After a
 * turn that version may be another one.
 */
static bool holds_up_turn(const struct cllm_step *step, uint32_t slot)
{
    const struct cllm_assignment *work;

    for (uint32_t i = 0; (work = cllm_slot_unanswered(step->control, slot, i)); i++)
        if (work->kind == CLLM_WORK_EVAL && work->step == step->step)
            return true;
    return cllm_sweep_owed(step->control, slot);
}

bool cllm_step_needs(const struct cllm_step *step, uint32_t slot)
{
    return holds_up_turn(step, slot);
}

static bool turn_held_up(const struct cllm_step *step)
{
    for (uint32_t slot = 0; slot < geometry(step)->n_slots; slot++)
        if (holds_up_turn(step, slot))
            return true;
    return false;
}

/* Nobody owes such an answer any more. */
static void take_turn(struct cllm_step *step)
{
    enum cllm_step_turn turn = step->turn;

    step->turn = CLLM_TURN_NO;
    step->sweep.active = false;
    /* Visible to a worker with its next assignment. */
    (void)atomic_fetch_add_explicit(&step->control->state->turns, 1,
                                    memory_order_relaxed);
    if (phase(step) == CLLM_PHASE_INIT) {
        struct cllm_assignment work = step->sweep.work;

        cllm_sweep_begin(&step->sweep, step->control, &work, step->workers);
    } else if (turn == CLLM_TURN_VERIFY) {
        begin_verify(step);
    } else {
        enter(step, CLLM_PHASE_UPDATE);
    }
}

void cllm_step_suspect(struct cllm_step *step)
{
    cllm_store_relaxed(&step->control->state->distrust, 1);
    if (phase(step) == CLLM_PHASE_NONE)
        return; /* the next step begins with it */
    cllm_step_want_turn(step, CLLM_TURN_VERIFY);
}

void cllm_step_skip(struct cllm_step *step, enum cllm_skip why)
{
    step->skip = why;
    cllm_step_want_turn(step, CLLM_TURN_SKIP);
}

int cllm_step_poisoned(struct cllm_step *step, uint32_t lane)
{
    int rc;

    if (step->config->run_on_poison == CLLM_POLICY_SKIP &&
        phase(step) != CLLM_PHASE_EVAL) {
        cllm_step_skip(step, CLLM_SKIP_POISON);
        return 0;
    }
    rc = cllm_err(-EFAULT,
                  "lane %u of step %" PRIu64 " kills every worker that computes it", lane,
                  step->step);
    cllm_err_detail("%u fault signal%s; its batch begins at sequence %" PRIu64
                    " of the training order",
                    step->control->lane[lane].crashes,
                    cllm_plural(step->control->lane[lane].crashes),
                    step->record.cursor - (uint64_t)(geometry(step)->lanes - lane) *
                                              geometry(step)->microbatches *
                                              geometry(step)->sequences);
    cllm_err_hint("cllm-shm crashes and RUN/crash/ show where; [run] on_poison = skip "
                  "leaves the step out");
    return rc;
}

bool cllm_step_waits_for_death(const struct cllm_step *step, uint32_t slot)
{
    if (step->turn != CLLM_TURN_NO)
        return holds_up_turn(step, slot);
    return cllm_sweep_owed(step->control, slot) && step->sweep.active &&
           cllm_sweep_count(step->control, CLLM_CHUNK_NEW) == geometry(step)->n_chunks;
}

bool cllm_step_try_turn(struct cllm_step *step)
{
    if (turn_held_up(step))
        return false;
    take_turn(step);
    return true;
}

enum cllm_step_outcome cllm_step_advance_verify(struct cllm_step *step)
{
    if (!cllm_sweep_done(&step->sweep, step->control))
        return CLLM_STEP_GOING;
    step->sweep.active = false;
    if (step->sweep.damaged == CLLM_NONE) {
        if (step->skip != CLLM_SKIP_NO) {
            enter(step, CLLM_PHASE_UPDATE);
        } else {
            reopen(step);
            /* Not before there is nothing left that was not trusted. */
            cllm_fence_release();
            cllm_store_relaxed(&step->control->state->distrust, 0);
        }
        step->verified = true;
        return CLLM_STEP_GOING;
    }
    (void)cllm_err(CLLM_EDATA,
                   "version %" PRIu64 " of the parameters is damaged in memory",
                   step->step - 1);
    cllm_err_detail("chunk %u is not what was committed", step->sweep.damaged);
    cllm_err_hint("the newest checkpoint counts; --resume goes on from it");
    return CLLM_STEP_DAMAGED;
}
