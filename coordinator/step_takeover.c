/*
 * coordinator/step_takeover.c - a new Node Zero goes on with the open step.
 */
#include "coordinator/step_inside.h"

#include <errno.h>
#include <inttypes.h>

#include "base/err.h"
#include "base/fault.h"
#include "coordinator/lanes.h"
#include "shm/chunk.h"
#include "shm/slot.h"
#include "shm/takeover.h"

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
    if (now.lanes == geometry(step)->lanes && !cllm_step_merge_due(step) &&
        !norms_intact(step))
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

    cllm_step_begin_record(step, committed);
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
