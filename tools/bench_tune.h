/*
 * tools/bench_tune.h - which variant of the matrix product is the fastest on an OpenCL
 * device, for each shape of a configuration's model; kept for the workers that open the
 * device next. A matter of time alone: variants give the same bits.
 */
#ifndef CLLM_TOOLS_BENCH_TUNE_H
#define CLLM_TOOLS_BENCH_TUNE_H

#include "base/config.h"

/* Rounds that have to agree before something counts as faster. */
#define CLLM_BENCH_TUNE_ROUNDS 5

/*
 * Measure in this process, on each device that [compute] device of @config names, in
 * @rounds rounds (CLLM_BENCH_TUNE_ROUNDS to CLLM_BENCH_REPEATS) in which variants take
 * turns; print a table to stdout, and store what is best, unless @dry_run. Returns 0 or a
 * negative code with text.
 */
int cllm_bench_tune(const struct cllm_config *config, uint32_t rounds, bool dry_run);

#endif /* CLLM_TOOLS_BENCH_TUNE_H */
