/*
 * tools/eval_work.c - blocks of items over a pool of threads, one reader for each.
 */
#include "tools/eval_work.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/units.h"
#include "compute/threads.h"

#define ITEMS_A_THREAD 8 /* of a block */
#define STATUS_NS      (250 * CLLM_NS_PER_MS)
#define LINE_NS        (30 * CLLM_NS_PER_S) /* where there is no terminal */

struct run {
    const struct cllm_eval_work *work;
    struct cllm_lm_reader *reader; /* [threads] */
    double *values;                /* [block][n_values] */
    uint32_t n_values;
    uint64_t began_ns, shown_ns, began_done;
};

static void do_item(void *ctx, uint32_t part, uint32_t thread)
{
    struct run *run = ctx;

    run->work->item(run->work->ctx, part, &run->reader[thread],
                    run->values + (size_t)part * run->n_values);
}

/* How far, how well, how long still. */
static void show(struct run *run, const struct cllm_tally *tally)
{
    uint64_t now = cllm_now_ns(), done = tally->n_done - run->began_done;
    uint64_t left = tally->n_items - tally->n_done;
    bool terminal = cllm_log_is_terminal();
    char eta[CLLM_UNITS_BYTES];
    double mean;

    if (now - run->shown_ns < (terminal ? STATUS_NS : LINE_NS) || done == 0)
        return;
    run->shown_ns = now;
    mean = cllm_tally_sum(tally, run->work->shown) /
           ((double)tally->n_done * run->work->per_item);
    (void)cllm_format_duration(
        eta, (uint64_t)((double)(now - run->began_ns) / (double)done * (double)left));
    if (terminal)
        cllm_log_status("%" PRIu64 " of %" PRIu64 " %s (%.0f %%)  loss %.4f  eta %s",
                        tally->n_done, tally->n_items, run->work->what,
                        100.0 * (double)tally->n_done / (double)tally->n_items, mean,
                        eta);
    else
        cllm_info("%" PRIu64 " of %" PRIu64 " %s  loss %.4f  eta %s", tally->n_done,
                  tally->n_items, run->work->what, mean, eta);
}

static int do_blocks(struct run *run, struct cllm_tally *tally, uint32_t block)
{
    int rc = 0;

    while (rc == 0 && tally->n_done < tally->n_items) {
        uint32_t n = (uint32_t)cllm_min_u64(block, tally->n_items - tally->n_done);

        rc = run->work->prepare(run->work->ctx, tally->n_done, n);
        if (rc != 0)
            break;
        cllm_threads_run(do_item, run, n);
        rc = cllm_tally_add(tally, run->values, n);
        show(run, tally);
    }
    cllm_log_status("%s", "");
    return rc;
}

int cllm_eval_run(const struct cllm_eval *eval, struct cllm_tally *tally,
                  const struct cllm_eval_work *work)
{
    uint32_t block = (uint32_t)cllm_min_u64((uint64_t)eval->threads * ITEMS_A_THREAD,
                                            CLLM_EVAL_BLOCK_MOST);
    struct run run = {.work = work,
                      .n_values = tally->n_values,
                      .began_ns = cllm_now_ns(),
                      .shown_ns = cllm_now_ns(),
                      .began_done = tally->n_done};
    const struct cllm_ops *ops = cllm_ops_select();
    uint32_t n_readers = 0;
    int rc = 0;

    if (tally->n_done > 0)
        cllm_info("%" PRIu64 " of %" PRIu64 " %s are known from %s", tally->n_done,
                  tally->n_items, work->what, eval->state);
    if (tally->n_done == tally->n_items)
        return 0;
    run.reader = calloc(eval->threads, sizeof *run.reader);
    run.values = calloc((size_t)block * tally->n_values, sizeof *run.values);
    if (run.reader == NULL || run.values == NULL)
        rc = cllm_err(-ENOMEM, "cannot evaluate %" PRIu64 " %s", tally->n_items,
                      work->what);
    for (; rc == 0 && n_readers < eval->threads; n_readers++)
        rc = cllm_lm_reader_init(&run.reader[n_readers], eval->lm, ops, work->use);
    if (rc == 0)
        rc = cllm_threads_start(eval->threads, 16);
    if (rc == 0) {
        rc = do_blocks(&run, tally, block);
        cllm_threads_stop();
    }
    for (uint32_t i = 0; i < n_readers; i++)
        cllm_lm_reader_fini(&run.reader[i]);
    free(run.reader);
    free(run.values);
    return rc;
}
