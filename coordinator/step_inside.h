/*
 * coordinator/step_inside.h - what the files of the step machine share; step.h is the
 * outside.
 *
 *   step.c           open, the phases in order, seal, commit
 *   step_turns.c     back to the beginning, verify first, or leave the step out
 *   step_reports.c   work given out, reports taken
 *   step_takeover.c  a new Node Zero goes on with the open step
 */
#ifndef CLLM_COORDINATOR_STEP_INSIDE_H
#define CLLM_COORDINATOR_STEP_INSIDE_H

#include "base/atomic.h"
#include "coordinator/step.h"
#include "shm/takeover.h"

static inline const struct cllm_geometry *geometry(const struct cllm_step *step)
{
    return &step->control->header->geometry;
}

static inline enum cllm_phase phase(const struct cllm_step *step)
{
    return (enum cllm_phase)cllm_load_relaxed(&step->control->state->phase);
}

static inline void enter(struct cllm_step *step, enum cllm_phase next)
{
    cllm_store_relaxed(&step->control->state->phase, (uint32_t)next);
}

static inline uint32_t folded(const struct cllm_step *step)
{
    return cllm_folded_lanes(cllm_load_relaxed(&step->control->state->folded));
}

/* An assignment of @kind for this step with everything else "none". */
static inline struct cllm_assignment blank(const struct cllm_step *step,
                                           enum cllm_work kind)
{
    return (struct cllm_assignment){.kind = (uint32_t)kind,
                                    .step = step->step,
                                    .lane = CLLM_NONE,
                                    .buffer = CLLM_NONE,
                                    .fold_from = CLLM_NONE,
                                    .fold_to = CLLM_NONE,
                                    .fold_add = CLLM_NONE};
}

/* ---- step.c ---- */

/* How far the fold is, with step->group_fold and step->total_fold: one store. */
void cllm_step_publish_folded(const struct cllm_step *step, uint32_t lanes);

/* The record of the step after @committed begins; nothing of it is computed. */
void cllm_step_begin_record(struct cllm_step *step,
                            const struct cllm_step_record *committed);

/* The present group's sum is complete and not in the total yet. */
bool cllm_step_merge_due(const struct cllm_step *step);

/* ---- step_turns.c ---- */

/* The step cannot go on as it is: @turn is taken as soon as nobody holds it up. */
void cllm_step_want_turn(struct cllm_step *step, enum cllm_step_turn turn);

/* A turn is wanted: take it if nobody holds it up any more. False: wait. */
bool cllm_step_try_turn(struct cllm_step *step);

/* Phase VERIFY. */
enum cllm_step_outcome cllm_step_advance_verify(struct cllm_step *step);

#endif /* CLLM_COORDINATOR_STEP_INSIDE_H */
