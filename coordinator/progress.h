/*
 * coordinator/progress.h - what a person sees while a run goes on.
 *
 * A line every [run] log_every steps and at each validation; on a terminal also a status
 * line that shows what every process does right now.
 */
#ifndef CLLM_COORDINATOR_PROGRESS_H
#define CLLM_COORDINATOR_PROGRESS_H

#include "base/config.h"
#include "coordinator/journal.h"
#include "shm/control.h"

struct cllm_progress {
    const struct cllm_config *config;
    uint64_t began_ns;     /* of this process's training */
    uint64_t began_step;   /* committed before it */
    uint64_t began_tokens; /* likewise */
    uint64_t began_wait_ns, began_deaths,
        began_redone; /* what memory counted till then */
    uint64_t line_ns; /* of the last line */
    uint64_t line_tokens;
    uint64_t status_ns;  /* of the last status line */
    double tokens_per_s; /* since the last line */
};

/* From @record on. What @control has counted by now is not this process's. */
void cllm_progress_init(struct cllm_progress *progress, const struct cllm_config *config,
                        const struct cllm_control *control,
                        const struct cllm_step_record *record, uint64_t now_ns);

/* A step was committed: print a line if one is due; publish rate and ETA in the state
 * page. */
void cllm_progress_step(struct cllm_progress *progress, struct cllm_control *control,
                        const struct cllm_step_record *record,
                        const struct cllm_metrics *metrics, uint64_t now_ns);

/* Redraw the status line, at most a few times a second. */
void cllm_progress_status(struct cllm_progress *progress,
                          const struct cllm_control *control, uint32_t workers,
                          uint64_t now_ns);

/* The last word: how long, how fast, how much waiting, how many deaths. */
void cllm_progress_summary(const struct cllm_progress *progress,
                           const struct cllm_control *control, uint32_t workers,
                           uint64_t now_ns);

#endif /* CLLM_COORDINATOR_PROGRESS_H */
