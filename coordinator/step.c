/*
 * coordinator/step.c - phases of a step; the table is in coordinator/README.md.
 */
#include "coordinator/step.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>

#include "base/atomic.h"
#include "base/err.h"
#include "base/fault.h"
#include "coordinator/lanes.h"
#include "coordinator/step_inside.h"
#include "model/schedule.h"
#include "shm/chunk.h"
#include "shm/slot.h"
#include "shm/takeover.h"

/* One store, so that whoever takes over finds it whole. */
void cllm_step_publish_folded(const struct cllm_step *step, uint32_t lanes)
{
    const struct cllm_folded now = {
        .lanes = lanes, .group = step->group_fold, .total = step->total_fold};

    /* release: pairs with the read of a Node Zero that adopts the run */
    cllm_store_release(&step->control->state->folded, cllm_folded(step->step, &now));
}

bool cllm_step_evaluates(const struct cllm_config *config, uint64_t step)
{
    if (config->data_valid.n == 0)
        return false;
    return step == config->train_steps ||
           (config->train_eval_every > 0 && step % config->train_eval_every == 0);
}

void cllm_step_init(struct cllm_step *step, struct cllm_control *control,
                    const struct cllm_config *config, uint32_t workers)
{
    *step = (struct cllm_step){
        .control = control, .config = config, .workers = workers, .numerics = 0};
}

/* ---- version 0, or one from a checkpoint ---- */

void cllm_step_open_initial(struct cllm_step *step)
{
    struct cllm_assignment work;

    step->step = 0;
    step->record = (struct cllm_step_record){
        .valid_loss = (double)NAN, .best_loss = (double)NAN, .loss = (double)NAN};
    work = blank(step, CLLM_WORK_INIT);
    work.target = 0;
    cllm_sweep_begin(&step->sweep, step->control, &work, step->workers);
    enter(step, CLLM_PHASE_INIT);
}

void cllm_step_open_load(struct cllm_step *step, const struct cllm_step_record *record)
{
    struct cllm_assignment work;

    step->step = record->step;
    step->record = *record;
    work = blank(step, CLLM_WORK_LOAD);
    work.target = (uint32_t)(record->step & 1);
    cllm_sweep_begin(&step->sweep, step->control, &work, 1);
    enter(step, CLLM_PHASE_INIT);
}

/* ---- a training step ---- */

/* What the record of the step after @committed begins with. */
void cllm_step_begin_record(struct cllm_step *step,
                            const struct cllm_step_record *committed)
{
    const struct cllm_geometry *g = geometry(step);

    step->step = committed->step + 1;
    step->record = *committed;
    step->record.step = step->step;
    step->record.skipped = CLLM_SKIP_NO;
    step->record.cursor += (uint64_t)g->lanes * g->microbatches * g->sequences;
    step->group_fold = CLLM_NONE;
    step->total_fold = CLLM_NONE;
    step->run_hi = 0;
    step->sweep.active = false;
    step->turn = CLLM_TURN_NO;
    step->skip = CLLM_SKIP_NO;
    step->verified = false;
}

void cllm_step_open(struct cllm_step *step, const struct cllm_step_record *committed)
{
    cllm_step_begin_record(step, committed);
    cllm_lanes_open(step->control, step->step, false, step->config->run_audit);
    cllm_step_publish_folded(step, 0);
    enter(step, CLLM_PHASE_COMPUTE);
    if (cllm_load_relaxed(&step->control->state->distrust) != 0)
        cllm_step_want_turn(step, CLLM_TURN_VERIFY);
}

/* ---- fold ---- */

/*
 * Fold the finished lanes at the front now? A long run costs less traffic than many short
 * ones, so not before the group is complete, or somebody is idle, or a lane waits for a
 * buffer.
 */
static bool fold_now(const struct cllm_step *step, uint32_t run,
                     const struct cllm_step_world *world)
{
    const struct cllm_control *control = step->control;
    uint32_t end = folded(step) + run;
    uint32_t ready = cllm_lanes_count(control, CLLM_LANE_READY);

    if (run == 0)
        return false;
    if (end == geometry(step)->lanes || end % CLLM_GROUP_LANES == 0)
        return true;
    if (cllm_lanes_kept(geometry(step)))
        return false;
    if (ready == 0)
        return world->idle > 0;
    return cllm_lanes_free_buffer(control, geometry(step)->lanes) == CLLM_NONE;
}

/* Lanes [lo,hi) are what @work adds up. */
static void name_lanes(const struct cllm_step *step, struct cllm_assignment *work,
                       uint32_t lo, uint32_t hi)
{
    work->lane_lo = lo;
    work->lane_hi = hi;
    for (uint32_t l = lo; l < hi; l++)
        work->buffers[l - lo] = (uint16_t)step->control->lane[l].buffer;
}

/* Folds 0 and 1 alternate. Lanes that are kept are only looked at, for the norm. */
static void begin_fold(struct cllm_step *step, uint32_t run)
{
    struct cllm_assignment work = blank(step, CLLM_WORK_FOLD);
    uint32_t front = folded(step);

    name_lanes(step, &work, front, front + run);
    work.fold_from = step->group_fold;
    if (!cllm_lanes_kept(geometry(step)))
        work.fold_to = step->group_fold == CLLM_NONE ? 0 : 1 - step->group_fold;
    step->run_hi = front + run;
    cllm_sweep_begin(&step->sweep, step->control, &work, step->workers);
}

/* The present group is complete: add it to the groups before it (folds 2 and 3
 * alternate). */
static void begin_merge(struct cllm_step *step)
{
    struct cllm_assignment work = blank(step, CLLM_WORK_MERGE);

    work.fold_from = step->total_fold;
    work.fold_to = step->total_fold == CLLM_NONE ? 2 : 5 - step->total_fold;
    work.fold_add = step->group_fold;
    cllm_sweep_begin(&step->sweep, step->control, &work, step->workers);
}

bool cllm_step_merge_due(const struct cllm_step *step)
{
    uint32_t front = folded(step);

    return geometry(step)->n_groups > 1 && step->group_fold != CLLM_NONE &&
           (front == geometry(step)->lanes || front % CLLM_GROUP_LANES == 0);
}

/* A fold run or a merge is complete in all chunks. */
static void end_fold(struct cllm_step *step)
{
    uint32_t front = folded(step);

    step->sweep.active = false;
    if (step->sweep.work.kind == CLLM_WORK_MERGE) {
        step->total_fold = step->sweep.work.fold_to;
        step->group_fold = CLLM_NONE;
        cllm_step_publish_folded(step, front);
        return;
    }
    step->group_fold = step->sweep.work.fold_to;
    cllm_fault(CLLM_FAULT_fold_complete);
    cllm_step_publish_folded(step, step->run_hi);
    cllm_fault(CLLM_FAULT_fold_published);
    for (uint32_t l = front; l < step->run_hi; l++)
        step->control->lane[l].state = CLLM_LANE_FOLDED;
}

static enum cllm_step_outcome advance_compute(struct cllm_step *step,
                                              const struct cllm_step_world *world)
{
    uint32_t run;

    cllm_lanes_fill(step->control, step->step, world->filled);
    if (cllm_sweep_done(&step->sweep, step->control))
        end_fold(step);
    if (step->sweep.active)
        return CLLM_STEP_GOING;
    if (cllm_step_merge_due(step)) {
        begin_merge(step);
        return CLLM_STEP_GOING;
    }
    if (folded(step) == geometry(step)->lanes) {
        if (geometry(step)->n_groups == 1)
            step->total_fold = step->group_fold;
        enter(step, CLLM_PHASE_UPDATE);
        return CLLM_STEP_GOING;
    }
    run = cllm_lanes_done_run(step->control, folded(step));
    if (fold_now(step, run, world))
        begin_fold(step, run);
    if (cllm_lanes_count(step->control, CLLM_LANE_DONE) + folded(step) ==
        geometry(step)->lanes)
        enter(step, CLLM_PHASE_FOLD);
    return CLLM_STEP_GOING;
}

/* ---- norm, update, validation ---- */

/* Sum over lanes in lane order: the order is part of the bits. */
static double sum_losses(const struct cllm_step *step, uint64_t *tokens)
{
    double loss = 0;

    *tokens = 0;
    for (uint32_t l = 0; l < geometry(step)->lanes; l++) {
        loss += step->control->lane[l].loss;
        *tokens += step->control->lane[l].tokens;
    }
    return loss;
}

/* Loss, global norm and clip scale; pure functions of the lane and chunk tables. */
static int norm(struct cllm_step *step)
{
    const struct cllm_config *config = step->config;
    const struct cllm_schedule schedule = cllm_schedule_of(config);
    struct cllm_step_record *record = &step->record;
    uint64_t tokens;
    double squares = 0, scale;
    double loss = sum_losses(step, &tokens);

    for (uint32_t c = 0; c < geometry(step)->n_chunks; c++)
        squares += step->control->chunk[c].sum_squares;
    record->loss = loss / (double)tokens;
    record->grad_norm = sqrt(squares) / (double)tokens;
    record->tokens += tokens;
    scale = 1.0 / (double)tokens;
    if (config->train_clip > 0 && record->grad_norm > config->train_clip)
        scale *= config->train_clip / record->grad_norm;
    record->grad_scale = (float)scale;
    record->learning_rate = cllm_schedule_rate(&schedule, step->step);
    if (isfinite(record->loss) && isfinite(record->grad_norm))
        return 0;
    return cllm_err(CLLM_ENONFINITE, "step %" PRIu64 ": loss %g, gradient norm %g",
                    step->step, record->loss, record->grad_norm);
}

/* From here on the target does not hold the version before the committed one any more. */
static void begin_target(struct cllm_step *step, const struct cllm_assignment *work)
{
    cllm_control_void_record(step->control, work->target);
    cllm_fault(CLLM_FAULT_target_voided);
    cllm_sweep_begin(&step->sweep, step->control, work, step->workers);
}

/* The next version is the committed one; the record says why. */
static void begin_copy(struct cllm_step *step)
{
    struct cllm_assignment work = blank(step, CLLM_WORK_COPY);

    step->record.skipped = (uint32_t)step->skip;
    step->record.skips++;
    step->record.loss = (double)NAN;
    step->record.grad_norm = (double)NAN;
    work.version = (uint32_t)((step->step - 1) & 1);
    work.target = (uint32_t)(step->step & 1);
    begin_target(step, &work);
}

/* Returns false with error text when the step's numbers are not finite. */
static bool begin_update(struct cllm_step *step)
{
    struct cllm_assignment work = blank(step, CLLM_WORK_UPDATE);

    if (step->skip != CLLM_SKIP_NO) {
        begin_copy(step);
        return true;
    }
    if (norm(step) != 0) {
        if (step->config->run_on_nonfinite != CLLM_POLICY_SKIP)
            return false;
        step->skip = CLLM_SKIP_NONFINITE;
        step->record.tokens = step->control->record[(step->step - 1) & 1].tokens;
        begin_copy(step);
        return true;
    }
    work.version = (uint32_t)((step->step - 1) & 1);
    work.target = (uint32_t)(step->step & 1);
    work.fold_from = step->total_fold;
    if (cllm_lanes_kept(geometry(step)))
        name_lanes(step, &work, 0, geometry(step)->lanes);
    work.learning_rate = step->record.learning_rate;
    work.grad_scale = step->record.grad_scale;
    begin_target(step, &work);
    return true;
}

/* The new version is complete; what its record says so far outlives Node Zero. */
static void begin_eval(struct cllm_step *step)
{
    cllm_step_seal(step);
    cllm_control_void_record(step->control, CLLM_RECORD_OPEN);
    cllm_fault(CLLM_FAULT_eval_cleared);
    cllm_control_put_record(step->control, CLLM_RECORD_OPEN, &step->record);
    cllm_fault(CLLM_FAULT_eval_recorded);
    cllm_lanes_open(step->control, step->step, true, 0);
    enter(step, CLLM_PHASE_EVAL);
}

static enum cllm_step_outcome advance_update(struct cllm_step *step,
                                             const struct cllm_step_world *world)
{
    if (cllm_sweep_done(&step->sweep, step->control)) {
        step->sweep.active = false;
        if (!cllm_step_evaluates(step->config, step->step)) {
            enter(step, CLLM_PHASE_COMMIT);
            return CLLM_STEP_COMPLETE;
        }
        begin_eval(step);
        return CLLM_STEP_GOING;
    }
    if (step->sweep.active)
        return CLLM_STEP_GOING;
    if (world->target_pinned)
        return CLLM_STEP_PINNED;
    return begin_update(step) ? CLLM_STEP_GOING : CLLM_STEP_NONFINITE;
}

static enum cllm_step_outcome advance_eval(struct cllm_step *step,
                                           const struct cllm_step_world *world)
{
    struct cllm_step_record *record = &step->record;
    uint64_t tokens;
    double loss;

    if (world->eval_ready)
        cllm_lanes_fill_all(step->control);
    if (cllm_lanes_count(step->control, CLLM_LANE_DONE) != geometry(step)->lanes)
        return CLLM_STEP_GOING;
    loss = sum_losses(step, &tokens);
    record->valid_loss = loss / (double)tokens;
    record->valid_step = step->step;
    if (!(record->best_loss <= record->valid_loss)) {
        record->best_loss = record->valid_loss;
        record->best_step = step->step;
    }
    enter(step, CLLM_PHASE_COMMIT);
    return CLLM_STEP_COMPLETE;
}

enum cllm_step_outcome cllm_step_advance(struct cllm_step *step,
                                         const struct cllm_step_world *world)
{
    enum cllm_phase before;
    enum cllm_step_outcome outcome;

    do {
        before = phase(step);
        if (step->turn != CLLM_TURN_NO) {
            if (!cllm_step_try_turn(step))
                return CLLM_STEP_GOING;
            before = phase(step);
        }
        switch (before) {
        case CLLM_PHASE_INIT:
            outcome = cllm_sweep_done(&step->sweep, step->control) ? CLLM_STEP_COMPLETE
                                                                   : CLLM_STEP_GOING;
            break;
        case CLLM_PHASE_COMPUTE:
        case CLLM_PHASE_FOLD:
            outcome = advance_compute(step, world);
            break;
        case CLLM_PHASE_UPDATE:
            outcome = advance_update(step, world);
            break;
        case CLLM_PHASE_EVAL:
            outcome = advance_eval(step, world);
            break;
        case CLLM_PHASE_VERIFY:
            outcome = cllm_step_advance_verify(step);
            break;
        case CLLM_PHASE_COMMIT:
            return CLLM_STEP_COMPLETE;
        case CLLM_PHASE_NONE:
        case CLLM_PHASE_LAST:
        default:
            return CLLM_STEP_GOING;
        }
    } while (outcome == CLLM_STEP_GOING && phase(step) != before);
    return outcome;
}

/* ---- the end of a step ---- */

void cllm_step_seal(struct cllm_step *step)
{
    struct cllm_step_record *record = &step->record;

    record->root = cllm_chunk_root(step->control->chunk, geometry(step)->n_chunks,
                                   (uint32_t)(record->step & 1));
    record->numerics = step->numerics;
    record->sum = cllm_step_record_sum(record);
}

void cllm_step_commit(struct cllm_step *step)
{
    const struct cllm_step_record *record = &step->record;
    uint32_t place = (uint32_t)(record->step & 1);

    CLLM_ASSERT(record->sum == cllm_step_record_sum(record));
    step->sweep.active = false;
    /* A torn record has a wrong sum; the other one still stands for the step before. */
    cllm_control_void_record(step->control, place);
    cllm_fault(CLLM_FAULT_commit_cleared);
    cllm_control_put_record(step->control, place, record);
    cllm_fault(CLLM_FAULT_commit_recorded);
    /* release: pairs with the acquire of the loader and of tools */
    cllm_store_release(&step->control->state->committed, record->step);
    cllm_fault(CLLM_FAULT_commit_stored);
    cllm_store_relaxed(&step->control->state->distrust, 0);
    enter(step, CLLM_PHASE_NONE);
}
