/*
 * tools/history.h - the losses of a run by step, for a small picture.
 */
#ifndef CLLM_TOOLS_HISTORY_H
#define CLLM_TOOLS_HISTORY_H

#include "base/base.h"

#define CLLM_HISTORY_MAX 4096

struct cllm_history {
    uint32_t n;
    uint64_t step[CLLM_HISTORY_MAX]; /* ascending */
    double loss[CLLM_HISTORY_MAX];   /* finite */
};

/* Add the loss of @step; not if it is not finite, or @step is not beyond the last. When
 * full, neighbours are joined, so that the whole run stays in the picture. */
void cllm_history_add(struct cllm_history *history, uint64_t step, double loss);

/* Add what the end of @run_dir/metrics.jsonl says; a missing or odd file adds nothing. */
void cllm_history_load(struct cllm_history *history, const char *run_dir);

/* The same of @bytes of its text; a last line without its newline is left out. */
void cllm_history_parse(struct cllm_history *history, const char *text, size_t bytes);

/*
 * Mean loss in each of @width columns of equal numbers of steps, first to last step, into
 * @out; a column without a step repeats the one before. Returns the columns filled:
 * @width, or fewer when there are fewer losses, with the least and greatest value in
 * @low, @high.
 */
uint32_t cllm_history_columns(const struct cllm_history *history, double *out,
                              uint32_t width, double *low, double *high);

#endif /* CLLM_TOOLS_HISTORY_H */
