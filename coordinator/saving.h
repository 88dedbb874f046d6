/*
 * coordinator/saving.h - which steps become checkpoints, and which version must wait for
 * that.
 *
 * A step that is due is pinned: the update that would overwrite its version waits until
 * the saver has read it. At most two steps can be pinned, one for each version.
 */
#ifndef CLLM_COORDINATOR_SAVING_H
#define CLLM_COORDINATOR_SAVING_H

#include "shm/control.h"

struct cllm_saving {
    struct cllm_control *control;
    uint32_t slot;   /* the saver's */
    uint64_t due[2]; /* step due in params[v], not yet posted; 0 = none */
    uint64_t posted; /* step being saved; 0 = none */
    uint64_t
        hurry_since;   /* CLOCK_MONOTONIC when an update began to wait; 0 = none waits */
    uint32_t failures; /* in a row */
    uint64_t retry_ns; /* after a failure: CLOCK_MONOTONIC from when to try again */
    char failure[320]; /* text of the last one */
};

/* Failures in a row after which a run that wants to end gives up. */
#define CLLM_SAVING_FAILURES 3

void cllm_saving_init(struct cllm_saving *saving, struct cllm_control *control,
                      uint32_t slot);

/* Step @step has just been committed and is to be saved. */
void cllm_saving_request(struct cllm_saving *saving, uint64_t step);

/* Post what is due when the saver is free (@ready: it may be given work). */
void cllm_saving_tend(struct cllm_saving *saving, bool ready);

/* May params[@version] not be written yet? */
bool cllm_saving_pins(const struct cllm_saving *saving, uint32_t version);

/* An update waits for @version: the saver copies the rest aside. Counts the wait. */
void cllm_saving_hurry(struct cllm_saving *saving, uint32_t version);
void cllm_saving_hurry_over(struct cllm_saving *saving);

/* The saver's report. A failure is said and tried again later; training goes on. */
void cllm_saving_take(struct cllm_saving *saving, const struct cllm_report *report);

/* A save has failed and it is time for another one. */
bool cllm_saving_retry(const struct cllm_saving *saving, uint64_t now_ns);

/*
 * The saver is confirmed dead; @intact: the version it was saving still holds that step,
 * which is due again. Otherwise the next step that is committed should be saved: true.
 */
bool cllm_saving_revoke(struct cllm_saving *saving, bool intact);

/* Nothing is due and nothing is being saved. */
bool cllm_saving_idle(const struct cllm_saving *saving);

#endif /* CLLM_COORDINATOR_SAVING_H */
