/*
 * coordinator/lanes.h - the lane table of the present step.
 *
 * EMPTY -> READY -> ASSIGNED -> DONE -> FOLDED; back from ASSIGNED to READY when the
 * worker is confirmed dead. All counts come from scanning. Lives in the control object,
 * so that it outlives Node Zero. The validation uses the same table after all lanes are
 * folded.
 */
#ifndef CLLM_COORDINATOR_LANES_H
#define CLLM_COORDINATOR_LANES_H

#include "shm/control.h"

/* All lanes EMPTY: a new step, or its validation. */
void cllm_lanes_open(struct cllm_control *control);

/* EMPTY lanes of step @step whose batches are all below @filled become READY. */
void cllm_lanes_fill(struct cllm_control *control, uint64_t step, uint64_t filled);

/* All EMPTY lanes become READY (validation batches are all there). */
void cllm_lanes_fill_all(struct cllm_control *control);

uint32_t cllm_lanes_count(const struct cllm_control *control, enum cllm_lane_state state);

/* Lanes from @front in a row in state DONE, at most to the end of @front's group. */
uint32_t cllm_lanes_done_run(const struct cllm_control *control, uint32_t front);

/*
 * A lane buffer that no lane holds, for @lane; CLLM_NONE when there is none. The last one
 * is kept for the lane at the front of the fold while that lane has none: only it frees
 * others.
 */
uint32_t cllm_lanes_free_buffer(const struct cllm_control *control, uint32_t lane);

/*
 * Give the lowest READY lane to @slot: LANE with a free buffer, or EVAL without one.
 * False when no lane is READY or (LANE) no buffer is free. The lowest lane always goes
 * first, so the front of the fold can never starve behind later lanes.
 */
bool cllm_lanes_assign(struct cllm_control *control, uint32_t slot, uint32_t kind,
                       uint64_t step, uint32_t version);

/* A valid report for @lane: ASSIGNED -> DONE. */
void cllm_lanes_done(struct cllm_control *control, const struct cllm_report *report);

/* The batch of @lane was damaged in the ring: ASSIGNED -> EMPTY. */
void cllm_lanes_refetch(struct cllm_control *control, uint32_t lane);

/*
 * @slot is confirmed dead: its ASSIGNED lanes are READY again. With @fault the crash is
 * counted against the lane it was computing (the oldest one). Returns a lane that has now
 * crashed three times on at least two slots, or CLLM_NONE. *@redone gets the number of
 * lanes given back.
 */
uint32_t cllm_lanes_revoke(struct cllm_control *control, uint32_t slot, bool fault,
                           uint32_t *redone);

#endif /* CLLM_COORDINATOR_LANES_H */
