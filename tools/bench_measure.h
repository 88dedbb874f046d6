/*
 * tools/bench_measure.h - settings of one model, measured one after the other again and
 * again, so that whatever else the machine does meets all of them alike.
 */
#ifndef CLLM_TOOLS_BENCH_MEASURE_H
#define CLLM_TOOLS_BENCH_MEASURE_H

#include "tools/bench_result.h"
#include "tools/bench_run.h"

struct cllm_bench_measure {
    struct cllm_bench_job job;
    uint64_t steps;                /* in a repeat; 0 = about two seconds' worth */
    uint64_t warmup;               /* steps of each run that are not counted */
    uint32_t repeats;              /* at most CLLM_BENCH_REPEATS */
    uint32_t threads;              /* of each worker */
    enum cllm_precision precision; /* whose peak counts */
    bool limits;                   /* measure them too, in pauses around each repeat */
    bool verbose;                  /* a line to stderr for each repeat */
};

/*
 * Fill @results [@n], of which workers (0 = the coordinator chooses) and
 * checkpoint_every are set and the rest is zero.
 * One setting has one run; several have a run of their own for each repeat, in turns.
 * Returns 0, or a negative code whose text has been printed; nothing is left behind in
 * any case.
 */
int cllm_bench_measure(const struct cllm_bench_measure *measure,
                       struct cllm_bench_result *results, uint32_t n);

/*
 * One run of one setting: add @repeats repeats to @result, and fill in what does not
 * change from repeat to repeat; with 0 that alone. @interval: every repeat has whole ones
 * of so many steps (0 = any). Returns 0, or a negative code whose text has been printed;
 * nothing is left behind in any case.
 */
int cllm_bench_measure_run(const struct cllm_bench_measure *measure,
                           struct cllm_bench_result *result, uint32_t repeats,
                           uint64_t interval);

#endif /* CLLM_TOOLS_BENCH_MEASURE_H */
