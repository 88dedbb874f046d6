/*
 * coordinator/lanes.h - the lane table of the present step; states in
 * coordinator/README.md.
 *
 * It lives in the control object and outlives Node Zero. All counts come from scanning.
 * Who computes a lane is not stored twice: the unanswered assignments of the slots say
 * it, and a process that may still live may still write. So a lane buffer is free when no
 * unanswered assignment names it and no finished lane keeps it, and a process that was
 * given up keeps its buffer out of use until it is confirmed dead or has answered. The
 * validation uses the same table after all lanes are folded.
 */
#ifndef CLLM_COORDINATOR_LANES_H
#define CLLM_COORDINATOR_LANES_H

#include "shm/control.h"

/* What a report about a lane came to. */
enum cllm_lane_verdict {
    CLLM_VERDICT_DONE = 0,  /* the lane is DONE */
    CLLM_VERDICT_LATE,      /* nobody waits for it (any more) */
    CLLM_VERDICT_BAD_BATCH, /* nothing computed; the batch must be fetched again */
    CLLM_VERDICT_MORE,      /* another worker must say the same */
    CLLM_VERDICT_NONFINITE, /* two agree that it is not finite */
    CLLM_VERDICT_DISAGREES, /* others finished it with other bits: do the step again */
    CLLM_VERDICT_THREE_WAYS /* three workers, three results */
};

struct cllm_lane_judgement {
    enum cllm_lane_verdict verdict;
    uint32_t odd[2]; /* slots that were outvoted; CLLM_NONE = none */
};

/*
 * All lanes EMPTY: a new step @step, or its validation. One lane in @audit (0 = none),
 * chosen by the seed, needs two workers that agree.
 */
void cllm_lanes_open(struct cllm_control *control, uint64_t step, bool eval,
                     uint64_t audit);

/* The same lanes once more: EMPTY, but crashes and opinions are kept. */
void cllm_lanes_reopen(struct cllm_control *control, uint64_t step);

/* EMPTY lanes of step @step whose batches are all below @filled become READY. */
void cllm_lanes_fill(struct cllm_control *control, uint64_t step, uint64_t filled);

/* All EMPTY lanes become READY (validation batches are all there). */
void cllm_lanes_fill_all(struct cllm_control *control);

uint32_t cllm_lanes_count(const struct cllm_control *control, enum cllm_lane_state state);

/* Lanes from @front in a row in state DONE, at most to the end of @front's group. */
uint32_t cllm_lanes_done_run(const struct cllm_control *control, uint32_t front);

/*
 * A free lane buffer for @lane; CLLM_NONE when there is none. The last one is kept for
 * the lane at the front of the fold while that lane has none: only it frees others.
 */
uint32_t cllm_lanes_free_buffer(const struct cllm_control *control, uint32_t lane);

/*
 * Give a lane of (@kind LANE or EVAL, @step) to @slot, LANE with a free buffer: the
 * lowest that is READY, or waits for another opinion than @slot's; else one whose holders
 * have all been given up; else one that was assigned before @overdue_ns (a straggler; 0 =
 * none). The lowest lane always goes first, so the front of the fold can never starve
 * behind later lanes. False when there is none, or no buffer.
 */
bool cllm_lanes_assign(struct cllm_control *control, uint32_t slot, uint32_t kind,
                       uint64_t step, uint32_t version, uint64_t overdue_ns);

/* A valid report of @slot about a lane of the open step. */
struct cllm_lane_judgement cllm_lanes_take(struct cllm_control *control, uint32_t slot,
                                           const struct cllm_report *report);

/* Is it a lane of the table as it is that @work computes? Neither one of another step is,
 * nor one of training while the step is validated. */
bool cllm_lanes_computed_by(const struct cllm_control *control,
                            const struct cllm_assignment *work);

/*
 * Lanes that somebody computed and nobody computes any more are READY (or RECHECK) again:
 * after a burial, and when a run is adopted. Returns how many.
 */
uint32_t cllm_lanes_settle(struct cllm_control *control);

/*
 * A fault signal ended @slot while it computed @lane. True when the lane has become
 * POISONED: three crashes on two slots, or twice as many where one worker does all.
 */
bool cllm_lanes_crash(struct cllm_control *control, uint32_t lane, uint32_t slot);

/*
 * A new Node Zero: lanes of @step below @folded are FOLDED, others that are DONE and
 * intact stay so. False when the table cannot be trusted: the step begins again.
 */
bool cllm_lanes_adopt(struct cllm_control *control, uint64_t step, bool eval,
                      uint32_t folded);

#endif /* CLLM_COORDINATOR_LANES_H */
