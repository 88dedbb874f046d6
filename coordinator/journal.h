/*
 * coordinator/journal.h - what a run writes about itself, a line for each step.
 *
 * journal.jsonl holds what the bits determine: step, root hash, loss and norm as
 * hexadecimal floats. Two runs of the same bits have the same journal, byte for byte; a
 * step that is replayed after a resume must reproduce its recorded root. metrics.jsonl
 * holds what people plot: loss, rate, tokens/s, waits.
 */
#ifndef CLLM_COORDINATOR_JOURNAL_H
#define CLLM_COORDINATOR_JOURNAL_H

#include "shm/layout.h"

struct cllm_journal {
    int journal_fd, metrics_fd;
    uint64_t n_expected; /* recorded roots of steps after the one the run goes on from */
    uint64_t first_expected;
    uint64_t *expected; /* heap */
};

struct cllm_metrics {
    double step_s;       /* wall time of the step */
    double tokens_per_s; /* of the step */
    double wait_data_s;  /* summed over workers, in this step */
    double wait_saver_s;
    uint32_t workers;
    bool evaluated;
};

/*
 * Open both files of the run directory for a run that goes on after step @step (0:
 * begins). Lines of later steps are cut off; their roots are kept to be compared when the
 * steps are done again. Returns 0 or a negative code with text.
 */
int cllm_journal_open(struct cllm_journal *journal, const char *run_dir, uint64_t step);
void cllm_journal_close(struct cllm_journal *journal);

/*
 * Append the committed step. Returns 0; CLLM_EDATA with text when a replayed step has
 * another root than the first time; a negative errno with text when it cannot be written.
 */
int cllm_journal_append(struct cllm_journal *journal,
                        const struct cllm_step_record *record,
                        const struct cllm_metrics *metrics);

#endif /* CLLM_COORDINATOR_JOURNAL_H */
