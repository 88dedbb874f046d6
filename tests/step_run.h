/*
 * tests/step_run.h - a run with nothing but the step machine: the test plays the workers,
 * who answer, err, or die at any moment.
 */
#ifndef CLLM_TESTS_STEP_RUN_H
#define CLLM_TESTS_STEP_RUN_H

#include "coordinator/step.h"
#include "tests/control_temp.h"

#define STEP_RUN_WORKERS 3

extern struct step_run {
    struct cllm_control control;
    struct cllm_config config;
    struct cllm_step step;
    struct cllm_step_news news; /* of the last report */
    uint32_t folds_of_lane[24]; /* how often, in the run that counts */
    bool adopts; /* step_run_play(): now and then a new Node Zero takes over */

    /* A processor that errs: added to the loss and to the hashes of chunks in answers. */
    double loss_error;
    uint64_t chunk_error;
} run;

/* A run of @geometry in shared memory, all workers there, ten steps to go. */
void step_run_begin(const struct cllm_geometry *geometry);
void step_run_end(void);

/* A process of slot @slot has said hello. */
void step_run_live(uint32_t slot);

/* Write the report that worker @slot owes for its oldest assignment, as a good worker
 * does: lane l has loss l + 1 over 48 tokens, a chunk's squares have the sum 4. Take it;
 * or both. */
void step_run_answer(uint32_t slot, uint32_t flags);
int step_run_take(uint32_t slot);
void step_run_complete(uint32_t slot, uint32_t flags);

/* Slot @slot is confirmed dead, and a new process takes its place; or it is given up:
 * stopped, and perhaps to be continued. */
void step_run_die(uint32_t slot);
void step_run_give_up(uint32_t slot);

/* No buffer may be written by two, or be written while a finished lane keeps it. */
void step_run_check_buffers(void);

/* Version 0, all of it; the step after the last one that was committed. */
void step_run_commit_initial(void);
void step_run_open_next(void);

/* The open step to its end, where of 100 turns so many are deaths; and commit it. */
void step_run_finish(uint64_t seed, uint32_t deaths_in_100);

#endif /* CLLM_TESTS_STEP_RUN_H */
