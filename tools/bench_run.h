/*
 * tools/bench_run.h - one training run that is measured: the real coordinator, started,
 * watched from outside through shared memory, and ended when enough has been seen.
 */
#ifndef CLLM_TOOLS_BENCH_RUN_H
#define CLLM_TOOLS_BENCH_RUN_H

#include "tools/bench_child.h"
#include "tools/bench_count.h"
#include "tools/bench_data.h"

#define CLLM_BENCH_SETS 64 /* --set options at most */

/* What is trained; the same for all runs of a benchmark. */
struct cllm_bench_job {
    const char *config_path;
    const char *set[CLLM_BENCH_SETS]; /* "section.key=value" */
    uint32_t n_sets;
    const struct cllm_bench_data *data;
};

struct cllm_bench_run {
    char dir[CLLM_FILE_PATH_BYTES]; /* of the run; "" = not started */
    char log[CLLM_FILE_PATH_BYTES];
    struct cllm_bench_child coordinator;
    struct cllm_control control; /* mapped read-only when attached */
    bool attached;
    uint64_t step_ns; /* what a step took of late; 0 = not known yet */
    char kernels[64]; /* what the first worker says that it computes with */
};

/*
 * Start training with @workers workers (0 = as many as
 * the coordinator chooses), a checkpoint every @checkpoint_every steps (0 =
 * none), and wait until all workers are there and @warmup steps are done. Returns 0 or a
 * negative code with text, the end of the coordinator's log among it. Pair with end in
 * any case.
 */
int cllm_bench_run_start(struct cllm_bench_run *run, const struct cllm_bench_job *job,
                         uint32_t workers, uint64_t checkpoint_every, uint64_t warmup);

/*
 * Measure @steps steps, or a few more, into @count, right after start, another measure or
 * going on: it begins and ends just after a commit. Returns 0 or a negative code with
 * text.
 */
int cllm_bench_run_measure(struct cllm_bench_run *run, uint64_t steps,
                           struct cllm_bench_count *count);

/*
 * Let the run pause after this step, as cllm-ctl does, and wait until it does; let it go
 * on, and wait for one step, so that no measure has the pause in it. Return 0 or a
 * negative code with text.
 */
int cllm_bench_run_hold(struct cllm_bench_run *run);
int cllm_bench_run_go_on(struct cllm_bench_run *run);

/*
 * End the run at once and remove its memory and its directory; safe on a zeroed struct.
 * Forgets the text of an earlier error, which is to be printed before. Returns 0 or a
 * negative code with text.
 */
int cllm_bench_run_end(struct cllm_bench_run *run);

#endif /* CLLM_TOOLS_BENCH_RUN_H */
