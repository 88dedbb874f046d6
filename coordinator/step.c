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
#include "model/schedule.h"
#include "shm/chunk.h"
#include "shm/slot.h"

static const struct cllm_geometry *geometry(const struct cllm_step *step)
{
    return &step->control->header->geometry;
}

static enum cllm_phase phase(const struct cllm_step *step)
{
    return (enum cllm_phase)cllm_load_relaxed(&step->control->state->phase);
}

static void enter(struct cllm_step *step, enum cllm_phase next)
{
    cllm_store_relaxed(&step->control->state->phase, (uint32_t)next);
}

static uint32_t folded(const struct cllm_step *step)
{
    return cllm_folded_lanes(cllm_load_relaxed(&step->control->state->folded));
}

/* One store, so that whoever takes over finds it whole. */
static void publish_folded(const struct cllm_step *step, uint32_t lanes)
{
    const struct cllm_folded now = {
        .lanes = lanes, .group = step->group_fold, .total = step->total_fold};

    /* release: pairs with the read of a Node Zero that adopts the run */
    cllm_store_release(&step->control->state->folded, cllm_folded(step->step, &now));
}

/* An assignment of @kind for this step with everything else "none". */
static struct cllm_assignment blank(const struct cllm_step *step, enum cllm_work kind)
{
    return (struct cllm_assignment){.kind = (uint32_t)kind,
                                    .step = step->step,
                                    .lane = CLLM_NONE,
                                    .buffer = CLLM_NONE,
                                    .fold_from = CLLM_NONE,
                                    .fold_to = CLLM_NONE,
                                    .fold_add = CLLM_NONE};
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
static void begin_record(struct cllm_step *step, const struct cllm_step_record *committed)
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
}

void cllm_step_open(struct cllm_step *step, const struct cllm_step_record *committed)
{
    begin_record(step, committed);
    cllm_lanes_open(step->control, step->step, false, step->config->run_audit);
    publish_folded(step, 0);
    enter(step, CLLM_PHASE_COMPUTE);
}

/* Back to the beginning of the step; crashes and opinions about its lanes are kept. */
static void reopen(struct cllm_step *step)
{
    uint32_t lost = cllm_lanes_count(step->control, CLLM_LANE_DONE) +
                    cllm_lanes_count(step->control, CLLM_LANE_FOLDED);
    const struct cllm_step_record *other = &step->control->record[(step->step - 1) & 1];
    struct cllm_step_record committed = *other;

    CLLM_ASSERT(committed.step + 1 == step->step);
    (void)atomic_fetch_add_explicit(&step->control->state->lanes_redone, lost,
                                    memory_order_relaxed);
    begin_record(step, &committed);
    cllm_lanes_reopen(step->control, step->step);
    cllm_fault(CLLM_FAULT_step_reopened);
    publish_folded(step, 0);
    enter(step, CLLM_PHASE_COMPUTE);
}

/* ---- turns: the step goes back, or aside ---- */

/* The newest of two turns is not always the one to take. */
static void want_turn(struct cllm_step *step, enum cllm_step_turn turn)
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
        if (work->kind == CLLM_WORK_EVAL)
            return true;
    return cllm_sweep_owed(step->control, slot);
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
    if (phase(step) == CLLM_PHASE_INIT) {
        struct cllm_assignment work = step->sweep.work;

        cllm_sweep_begin(&step->sweep, step->control, &work, step->workers);
    } else if (turn == CLLM_TURN_VERIFY) {
        begin_verify(step);
    } else if (turn == CLLM_TURN_REDO) {
        reopen(step);
    } else {
        enter(step, CLLM_PHASE_UPDATE);
    }
}

void cllm_step_suspect(struct cllm_step *step)
{
    if (phase(step) == CLLM_PHASE_NONE)
        return;
    cllm_store_relaxed(&step->control->state->distrust, 1);
    want_turn(step, CLLM_TURN_VERIFY);
}

static void skip(struct cllm_step *step, enum cllm_skip why)
{
    step->skip = why;
    want_turn(step, CLLM_TURN_SKIP);
}

int cllm_step_poisoned(struct cllm_step *step, uint32_t lane)
{
    int rc;

    if (step->config->run_on_poison == CLLM_POLICY_SKIP &&
        phase(step) != CLLM_PHASE_EVAL) {
        skip(step, CLLM_SKIP_POISON);
        return 0;
    }
    rc = cllm_err(-EFAULT,
                  "lane %u of step %" PRIu64 " kills every worker that computes it", lane,
                  step->step);
    cllm_err_detail("%u fault signals; its batch begins at sequence %" PRIu64
                    " of the training order",
                    step->control->lane[lane].crashes,
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
    if (ready == 0)
        return world->idle > 0;
    return cllm_lanes_free_buffer(control, geometry(step)->lanes) == CLLM_NONE;
}

static void begin_fold(struct cllm_step *step, uint32_t run)
{
    struct cllm_assignment work = blank(step, CLLM_WORK_FOLD);
    uint32_t front = folded(step);

    work.lane_lo = front;
    work.lane_hi = front + run;
    work.fold_from = step->group_fold;
    work.fold_to = step->group_fold == CLLM_NONE ? 0 : 1 - step->group_fold;
    for (uint32_t i = 0; i < run; i++)
        work.buffers[i] = (uint16_t)step->control->lane[front + i].buffer;
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

/* The present group's sum is complete and not in the total yet. */
static bool merge_due(const struct cllm_step *step)
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
        publish_folded(step, front);
        return;
    }
    step->group_fold = step->sweep.work.fold_to;
    cllm_fault(CLLM_FAULT_fold_complete);
    publish_folded(step, step->run_hi);
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
    if (merge_due(step)) {
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
    record->learning_rate = cllm_schedule_rate(
        (enum cllm_schedule_kind)config->train_schedule,
        (float)config->train_learning_rate, (float)config->train_min_learning_rate,
        config->train_warmup, config->train_steps, step->step);
    if (isfinite(record->loss) && isfinite(record->grad_norm))
        return 0;
    return cllm_err(CLLM_ENONFINITE, "step %" PRIu64 ": loss %g, gradient norm %g",
                    step->step, record->loss, record->grad_norm);
}

/* From here on the target does not hold the version before the committed one any more. */
static void begin_target(struct cllm_step *step, const struct cllm_assignment *work)
{
    step->control->record[work->target].sum = 0;
    cllm_fence_release();
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
    work.learning_rate = step->record.learning_rate;
    work.grad_scale = step->record.grad_scale;
    begin_target(step, &work);
    return true;
}

/* The new version is complete; what its record says so far outlives Node Zero. */
static void begin_eval(struct cllm_step *step)
{
    struct cllm_step_record *open = &step->control->record[CLLM_RECORD_OPEN];

    cllm_step_seal(step);
    open->sum = 0;
    cllm_fence_release();
    cllm_fault(CLLM_FAULT_eval_cleared);
    *open = step->record;
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

static enum cllm_step_outcome advance_verify(struct cllm_step *step)
{
    if (!cllm_sweep_done(&step->sweep, step->control))
        return CLLM_STEP_GOING;
    step->sweep.active = false;
    if (step->sweep.damaged == CLLM_NONE) {
        cllm_store_relaxed(&step->control->state->distrust, 0);
        if (step->skip != CLLM_SKIP_NO)
            enter(step, CLLM_PHASE_UPDATE);
        else
            reopen(step);
        return CLLM_STEP_GOING;
    }
    (void)cllm_err(CLLM_EDATA,
                   "version %" PRIu64 " of the parameters is damaged in memory",
                   step->step - 1);
    cllm_err_detail("chunk %u is not what was committed", step->sweep.damaged);
    cllm_err_hint("the newest checkpoint counts; --resume goes on from it");
    return CLLM_STEP_DAMAGED;
}

enum cllm_step_outcome cllm_step_advance(struct cllm_step *step,
                                         const struct cllm_step_world *world)
{
    enum cllm_phase before;
    enum cllm_step_outcome outcome;

    do {
        before = phase(step);
        if (step->turn != CLLM_TURN_NO) {
            if (turn_held_up(step))
                return CLLM_STEP_GOING;
            take_turn(step);
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
            outcome = advance_verify(step);
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

/* ---- work out, reports in ---- */

bool cllm_step_plenty(const struct cllm_step *step)
{
    return !step->sweep.active &&
           cllm_lanes_count(step->control, CLLM_LANE_READY) >= step->workers;
}

bool cllm_step_assign(struct cllm_step *step, uint32_t slot, uint64_t overdue_ns)
{
    bool saver = slot == geometry(step)->n_worker_slots + 1;

    if (step->turn != CLLM_TURN_NO)
        return false;
    if (step->sweep.active && (step->sweep.work.kind == CLLM_WORK_LOAD) == saver &&
        cllm_sweep_assign(&step->sweep, step->control, slot))
        return true;
    if (saver)
        return false;
    if (phase(step) == CLLM_PHASE_COMPUTE)
        return cllm_lanes_assign(step->control, slot, CLLM_WORK_LANE, step->step,
                                 (uint32_t)((step->step - 1) & 1), overdue_ns);
    if (phase(step) == CLLM_PHASE_EVAL)
        return cllm_lanes_assign(step->control, slot, CLLM_WORK_EVAL, step->step,
                                 (uint32_t)(step->step & 1), overdue_ns);
    return false;
}

/* Two workers agree that the lane of @report is not finite: the policy decides. */
static int on_nonfinite(struct cllm_step *step, const struct cllm_report *report,
                        struct cllm_step_news *news)
{
    bool lane = report->kind == CLLM_WORK_LANE;
    int rc;

    if (lane && step->config->run_on_nonfinite == CLLM_POLICY_SKIP) {
        skip(step, CLLM_SKIP_NONFINITE);
        news->skipping = CLLM_SKIP_NONFINITE;
        return 0;
    }
    rc = cllm_err(CLLM_ENONFINITE, "step %" PRIu64 ", lane %u: the %s is not finite",
                  report->step, report->lane, lane ? "loss or gradient" : "loss");
    cllm_err_detail("loss sum %g over %" PRIu64 " tokens; computed twice, the same bits",
                    report->loss, report->tokens);
    cllm_err_hint(
        "lower [train] learning_rate or clip, or lengthen warmup; go on from the "
        "last checkpoint with --resume; [run] on_nonfinite = skip leaves such steps "
        "out");
    return rc;
}

static int take_lane(struct cllm_step *step, uint32_t slot,
                     const struct cllm_report *report, struct cllm_step_news *news)
{
    struct cllm_lane_judgement found = cllm_lanes_take(step->control, slot, report);
    int rc;

    news->lane = report->lane;
    news->odd[0] = found.odd[0];
    news->odd[1] = found.odd[1];
    switch (found.verdict) {
    case CLLM_VERDICT_LATE:
        news->late = true;
        return 0;
    case CLLM_VERDICT_BAD_BATCH:
        news->refetch = true;
        return 0;
    case CLLM_VERDICT_MORE:
        news->confirm = report->lane;
        return 0;
    case CLLM_VERDICT_NONFINITE:
        return on_nonfinite(step, report, news);
    case CLLM_VERDICT_DISAGREES:
        news->redo = true;
        want_turn(step, CLLM_TURN_REDO);
        return 0;
    case CLLM_VERDICT_THREE_WAYS:
        rc = cllm_err(
            -EIO, "lane %u of step %" PRIu64 ": three results from three computations",
            report->lane, report->step);
        cllm_err_hint("memory or processor of this machine cannot be trusted; what was "
                      "saved before is intact");
        return rc;
    case CLLM_VERDICT_DONE:
    default:
        return 0;
    }
}

int cllm_step_take(struct cllm_step *step, uint32_t slot,
                   const struct cllm_assignment *asked, const struct cllm_report *report,
                   struct cllm_step_news *news)
{
    *news = (struct cllm_step_news){
        .confirm = CLLM_NONE, .lane = CLLM_NONE, .odd = {CLLM_NONE, CLLM_NONE}};
    if (report->kind == CLLM_WORK_LANE || report->kind == CLLM_WORK_EVAL)
        return take_lane(step, slot, report, news);
    news->late = !cllm_sweep_take(&step->sweep, step->control, slot,
                                  cllm_load_relaxed(&asked->seq), report);
    return 0;
}

/* ---- taken over ---- */

/* Reports that the dead have left about lanes of the table as it is. */
static void take_last_reports(struct cllm_step *step)
{
    for (uint32_t slot = 0; slot < geometry(step)->n_worker_slots; slot++) {
        struct cllm_assignment asked;
        struct cllm_report report;
        uint32_t generation =
            cllm_load_relaxed(&step->control->slots[slot].command.generation);

        while (cllm_slot_harvest(step->control, slot, &report, &asked) ==
               CLLM_HARVEST_REPORT) {
            bool lane = report.kind == CLLM_WORK_LANE || report.kind == CLLM_WORK_EVAL;

            if (lane && report.generation == generation &&
                (report.flags & CLLM_REPORT_FINITE) &&
                step->control->lane[report.lane].state == CLLM_LANE_EMPTY)
                (void)cllm_lanes_take(step->control, slot, &report);
        }
    }
}

/* Are the sums of squares in the table those of this step? */
static bool norms_intact(const struct cllm_step *step)
{
    for (uint32_t c = 0; c < geometry(step)->n_chunks; c++)
        if (step->control->chunk[c].check !=
            cllm_chunk_check(&step->control->chunk[c], step->step, c))
            return false;
    return true;
}

static bool adopt_training(struct cllm_step *step)
{
    uint64_t word = cllm_load_acquire(&step->control->state->folded);
    struct cllm_folded now;

    if (!cllm_folded_decode(word, step->step, &now))
        return false;
    if ((now.group != CLLM_NONE && now.group >= geometry(step)->n_folds) ||
        (now.total != CLLM_NONE && now.total >= geometry(step)->n_folds))
        return false;
    if (!cllm_lanes_adopt(step->control, step->step, false, now.lanes))
        return false;
    step->group_fold = now.group;
    step->total_fold = now.total;
    if (now.lanes == geometry(step)->lanes && !merge_due(step) && !norms_intact(step))
        return false;
    take_last_reports(step);
    enter(step, CLLM_PHASE_COMPUTE);
    return true;
}

static bool adopt_eval(struct cllm_step *step)
{
    struct cllm_step_record open = step->control->record[CLLM_RECORD_OPEN];
    uint64_t root = cllm_chunk_root(step->control->chunk, geometry(step)->n_chunks,
                                    (uint32_t)(step->step & 1));

    if (open.sum != cllm_step_record_sum(&open) || open.step != step->step ||
        open.root != root || !cllm_lanes_adopt(step->control, step->step, true, 0))
        return false;
    step->record = open;
    take_last_reports(step);
    enter(step, CLLM_PHASE_EVAL);
    return true;
}

uint32_t cllm_step_adopt(struct cllm_step *step, const struct cllm_step_record *committed,
                         bool suspect)
{
    bool kept;

    begin_record(step, committed);
    suspect |= cllm_load_relaxed(&step->control->state->distrust) != 0;
    kept = !suspect && (adopt_training(step) || adopt_eval(step));
    cllm_fault(CLLM_FAULT_adopt_judged);
    for (uint32_t slot = 0; slot < geometry(step)->n_slots; slot++)
        cllm_slot_void(step->control, slot);
    cllm_fault(CLLM_FAULT_adopt_voided);
    if (kept) {
        (void)cllm_lanes_settle(step->control);
        return cllm_lanes_count(step->control, CLLM_LANE_DONE) +
               cllm_lanes_count(step->control, CLLM_LANE_FOLDED);
    }
    cllm_step_open(step, committed);
    if (suspect)
        cllm_step_suspect(step);
    return 0;
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
    struct cllm_step_record *place = &step->control->record[record->step & 1];

    CLLM_ASSERT(record->sum == cllm_step_record_sum(record));
    step->sweep.active = false;
    /* A torn record has a wrong sum; the other one still stands for the step before. */
    place->sum = 0;
    cllm_fence_release();
    cllm_fault(CLLM_FAULT_commit_cleared);
    *place = *record;
    cllm_fault(CLLM_FAULT_commit_recorded);
    /* release: pairs with the acquire of the loader and of tools */
    cllm_store_release(&step->control->state->committed, record->step);
    cllm_fault(CLLM_FAULT_commit_stored);
    enter(step, CLLM_PHASE_NONE);
}
