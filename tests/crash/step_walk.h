/*
 * tests/crash/step_walk.h - one process of a run goes through one whole step an
 * instruction at a time; whatever it changes in shared memory or in the run's directory
 * is an instant at which everybody may be killed.
 *
 * At each such boundary all processes are held, the run is copied, and the copy is
 * resumed (tests/crash/step_boundary.h). A state that was seen before is not resumed
 * again.
 *
 * What cannot write anything shared runs at full speed up to its return: functions of
 * libraries that are given no address of an object of the run, sums, and gradients, which
 * write the lane's own buffer and are sampled at random instants. Each system call in
 * them is looked after, and so is each of them: a change would show, and fail the walk.
 */
#ifndef CLLM_TESTS_CRASH_STEP_WALK_H
#define CLLM_TESTS_CRASH_STEP_WALK_H

#include "tests/crash/step_boundary.h"
#include "tests/crash/step_code.h"
#include "tests/crash/step_watch.h"

struct step_walk_plan {
    enum nano_role role;
    uint64_t step; /* walked through: the one after step - 1 is committed */
    uint32_t workers;
    struct step_pick pick;
};

struct step_walk {
    struct step_walk_plan plan;
    struct nano nano;
    struct nano_process process;
    struct step_trace trace;
    struct step_code code;
    struct step_watch watch;
    struct step_boundaries boundaries;
    bool counting;        /* false on the way to the step */
    uint64_t gradient_ns; /* that one takes */
    uint64_t filled;      /* loader: batches when the walk began */
    uint64_t seq;         /* saver: of the assignment that is walked through */

    /* what was covered */
    uint64_t n_instructions, n_changes, n_bodies, n_unseen;
    uint64_t committed_from, committed_to;
};

/*
 * Start a run in @dir as recovery->plan says, walk, and let the run go on to its end,
 * which must be golden too. Returns 0, or a negative code with error text when the walk
 * could not be made; mismatches are counted in @recovery alone.
 */
int step_walk(struct step_walk *walk, const struct step_walk_plan *plan,
              struct step_recovery *recovery, const char *dir);

#endif /* CLLM_TESTS_CRASH_STEP_WALK_H */
