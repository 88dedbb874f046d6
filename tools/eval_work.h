/*
 * tools/eval_work.h - many items of the same kind through a model, by several threads,
 * their results kept in order (tools/tally.h), with progress on a terminal.
 *
 * Each item is computed whole by one thread, so how many there are is no part of the
 * bits.
 */
#ifndef CLLM_TOOLS_EVAL_WORK_H
#define CLLM_TOOLS_EVAL_WORK_H

#include "tools/lm.h"
#include "tools/tally.h"

#define CLLM_EVAL_BLOCK_MOST 512 /* items of a block */

struct cllm_eval {
    const struct cllm_lm *lm;
    const char *state; /* file of results; NULL: none */
    uint32_t threads;  /* at least 1 */
};

struct cllm_eval_work {
    void *ctx;
    enum cllm_lm_use use;
    const char *what; /* "windows", for the progress line */
    uint32_t shown;   /* value whose mean is shown; divided by @per_item */
    double per_item;
    /* Get items [@first, @first + @n) ready, in the main thread. Returns 0 or a negative
     * code with text. */
    int (*prepare)(void *ctx, uint64_t first, uint32_t n);
    /* Item @i of those, in any thread: @values (tally->n_values). */
    void (*item)(void *ctx, uint32_t i, struct cllm_lm_reader *reader, double *values);
};

/* Do all items that @tally does not have yet. Returns 0 or a negative code with text. */
int cllm_eval_run(const struct cllm_eval *eval, struct cllm_tally *tally,
                  const struct cllm_eval_work *work);

#endif /* CLLM_TOOLS_EVAL_WORK_H */
