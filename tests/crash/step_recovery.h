/*
 * tests/crash/step_recovery.h - copies of a run are put down and resumed, a few at a
 * time; each must end with the bits of the run to which nothing happened.
 */
#ifndef CLLM_TESTS_CRASH_STEP_RECOVERY_H
#define CLLM_TESTS_CRASH_STEP_RECOVERY_H

#include <signal.h>

#include "tests/crash/nano.h"
#include "tests/crash/run_copy.h"

#define STEP_RECOVERY_JOBS 16

/* Where a copy was taken, for whoever must find the place again. */
struct step_point {
    uint64_t boundary; /* 1, 2, 3 ... of the role */
    uint64_t instruction;
    uint64_t state;  /* hash */
    uint64_t sample; /* 0: a boundary; else the number of an instant behind one */
    char place[64];  /* function */
};

struct step_job {
    struct nano nano;
    struct run_copy copy;
    struct step_point point;
    uint64_t began_ns;
    bool busy;
};

/* Set by a signal handler: end at the next occasion. */
extern volatile sig_atomic_t step_interrupted;

struct step_recovery {
    struct nano_plan plan; /* dir unused */
    const char *base;      /* directory for the copies */
    const char *role;      /* for messages */
    const char *again;     /* command that does the role again; point is added */
    uint32_t n_jobs;       /* at a time */
    char golden[CLLM_SHA256_HEX_BYTES];
    struct step_job job[STEP_RECOVERY_JOBS];
    uint64_t n_done, n_bad, n_kept;
    uint64_t total_ns, longest_ns;
};

/*
 * Resume @copy, which is taken over. Waits for a job that is free, not for the end.
 * Returns 0, or a negative code with error text when it cannot be put down or started.
 */
int step_recovery_start(struct step_recovery *recovery, struct run_copy *copy,
                        const struct step_point *point);

/* Take what has ended; does not wait. */
void step_recovery_tend(struct step_recovery *recovery);

/* Wait until all have ended. */
void step_recovery_finish(struct step_recovery *recovery);

#endif /* CLLM_TESTS_CRASH_STEP_RECOVERY_H */
