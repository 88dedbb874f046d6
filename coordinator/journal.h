/*
 * coordinator/journal.h - what a run writes about itself, a line for each step.
 *
 * journal.jsonl holds what the bits determine: step, root hash, loss and norm as
 * hexadecimal floats. Two runs of the same bits have the same journal, byte for byte.
 * Lines are never taken back: a step that is done again after a resume must reproduce the
 * root that stands there; but a line that says "mixed" is of workers whose numbers
 * differ, and is never reproduced. metrics.jsonl holds what people plot: loss, rate,
 * tokens/s, waits.
 *
 * A full disk does not stop training: lines wait in memory until they can be written.
 */
#ifndef CLLM_COORDINATOR_JOURNAL_H
#define CLLM_COORDINATOR_JOURNAL_H

#include "coordinator/device_meter.h"
#include "shm/layout.h"

struct cllm_mixture;

/* A file of lines {"step":N,...}, appended to. */
struct cllm_journal_file {
    int fd;             /* -1 = none */
    const char *name;   /* for messages */
    uint64_t last_step; /* of the newest line, written or pending */
    char *pending;      /* lines that could not be written yet; heap */
    uint64_t pending_bytes;
    uint64_t room; /* in pending: from the beginning enough for a few lines */
    bool failing;  /* the last write failed; said once */
};

/* What a line that is there says of its step. */
struct cllm_journal_kept {
    uint64_t root;
    bool poison; /* left out, because a lane killed every worker */
};

struct cllm_journal {
    struct cllm_journal_file journal, metrics;
    uint64_t n_roots;               /* lines of the journal that were there */
    struct cllm_journal_kept *kept; /* of step i + 1; heap */
};

struct cllm_metrics {
    double step_s;       /* wall time of the step */
    double tokens_per_s; /* of the step */
    /* In this step, summed over workers: */
    double lane_s, fold_s, update_s, eval_s; /* at work, as they report it */
    double wait_data_s;                      /* idle, because the ring is behind */
    double wait_schedule_s; /* the rest: at the end of a phase, and who is missing */
    double wait_saver_s;    /* wall time of an update that waited for the saver */
    uint32_t workers;
    bool evaluated;
    const struct cllm_mixture *mixture; /* whose epochs are said; NULL: a plain list */
    const struct cllm_device_counts *devices; /* of this step; NULL: there are none */
};

/* A run begins: what an earlier one in this directory wrote is kept under other names
 * (cllm_file_set_aside()), so that its steps are not taken for this one's. Returns 0 or a
 * negative code with text. */
int cllm_journal_set_aside(const char *run_dir);

/*
 * Open both files of the run directory for a run that goes on after @step (0: begins).
 * With
 * @replay, lines of later steps stay and their steps must reproduce them, up to the first
 * that says it is mixed; without, the run is another one from here and they are cut off.
 * Returns 0 or a negative code with text.
 */
int cllm_journal_open(struct cllm_journal *journal, const char *run_dir, uint64_t step,
                      bool replay);
void cllm_journal_close(struct cllm_journal *journal);

/*
 * Was @step left out as poison when it was done first? Which processes die is no function
 * of the data: whoever does it again leaves it out again.
 */
bool cllm_journal_skipped(const struct cllm_journal *journal, uint64_t step);

/* May @record be committed? CLLM_EDATA with text when its step has another root already.
 */
int cllm_journal_check(const struct cllm_journal *journal,
                       const struct cllm_step_record *record);

/*
 * Append the committed step to the journal, and with @metrics (may be NULL) to the
 * metrics, unless its line is there. Never fails: what cannot be written waits and is
 * said once.
 */
void cllm_journal_append(struct cllm_journal *journal,
                         const struct cllm_step_record *record,
                         const struct cllm_metrics *metrics);

#endif /* CLLM_COORDINATOR_JOURNAL_H */
