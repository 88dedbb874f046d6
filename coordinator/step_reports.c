/*
 * coordinator/step_reports.c - work given out, reports taken.
 */
#include "coordinator/step_inside.h"

#include <errno.h>
#include <inttypes.h>

#include "base/err.h"
#include "base/fault.h"
#include "coordinator/lanes.h"
#include "shm/slot.h"

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
        cllm_step_skip(step, CLLM_SKIP_NONFINITE);
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

/* Does it retire a worker, end the run, or leave the step out? */
static bool blames(const struct cllm_lane_judgement *found)
{
    return found->odd[0] != CLLM_NONE || found->verdict == CLLM_VERDICT_NONFINITE ||
           found->verdict == CLLM_VERDICT_THREE_WAYS;
}

/*
 * Results differ, or are not finite, when weights have changed under the workers, too:
 * who damaged them has died, but the reports may be read before his death is seen. So
 * nobody is blamed before what is committed was verified; then the lane is computed
 * again, and opinions about it still count. What was computed from weights that are not
 * trusted counts for nothing.
 */
static int take_lane(struct cllm_step *step, uint32_t slot,
                     const struct cllm_report *report, struct cllm_step_news *news)
{
    struct cllm_lane_judgement found = {.verdict = CLLM_VERDICT_LATE,
                                        .odd = {CLLM_NONE, CLLM_NONE}};
    bool trusted = step->turn != CLLM_TURN_VERIFY && phase(step) != CLLM_PHASE_VERIFY;
    int rc;

    if (trusted)
        found = cllm_lanes_take(step->control, slot, report);
    if (blames(&found) && !step->verified)
        found = (struct cllm_lane_judgement){.verdict = CLLM_VERDICT_DISAGREES,
                                             .odd = {CLLM_NONE, CLLM_NONE}};
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
        cllm_step_suspect(step);
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
