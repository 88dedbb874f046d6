/*
 * tools/bench_result.h - what was measured of one setting (workers, checkpoints), and
 * the figures that follow from it.
 */
#ifndef CLLM_TOOLS_BENCH_RESULT_H
#define CLLM_TOOLS_BENCH_RESULT_H

#include "model/model.h"
#include "tools/bench_count.h"
#include "tools/bench_limits.h"

#define CLLM_BENCH_REPEATS 100

struct cllm_bench_result {
    uint32_t workers, active;  /* of them at once */
    uint64_t checkpoint_every; /* 0 = none */
    struct cllm_bench_limits limits;
    struct cllm_bench_limits alone; /* of one process */

    /* of the run */
    struct cllm_geometry geometry;
    char kernels[64];
    double flop_full, flop_causal; /* to train on a token */

    /* of the repeats */
    double tokens_per_s[CLLM_BENCH_REPEATS];
    uint32_t n_repeats;
    struct cllm_bench_count total;          /* sum over the repeats; cpu_ns too */
    uint64_t pss[CLLM_BENCH_MAX_PROCESSES]; /* bytes, at the end of the last repeat */
};

/* Add a repeat. Processes of another run of the same setting are the same by their
 * place. */
void cllm_bench_result_add(struct cllm_bench_result *result,
                           const struct cllm_bench_count *count);

/* Tokens a second: median, least, most. */
struct cllm_bench_spread {
    double median, least, most;
};
struct cllm_bench_spread cllm_bench_result_speed(const struct cllm_bench_result *result);

/* Share of all workers' time; share of worker @w's time that was work. */
double cllm_bench_result_phase(const struct cllm_bench_result *result,
                               enum cllm_bench_phase phase);
double cllm_bench_result_busy(const struct cllm_bench_result *result, uint32_t w);

/*
 * Bytes a second that the update moved: 28 for each parameter (w, m, v read and written,
 * the gradient read), all workers together, who update at the same time. Its limit is
 * limits.copy.
 */
double cllm_bench_result_update_rate(const struct cllm_bench_result *result);

/*
 * Bytes a second that one worker moved while it folded: each lane's gradient read once,
 * and the sum read and written once a run of lanes. Others may compute meanwhile: its
 * limit is alone.copy.
 */
double cllm_bench_result_fold_rate(const struct cllm_bench_result *result);

/* Share of a core that process @i had. */
double cllm_bench_result_cpu(const struct cllm_bench_result *result, uint32_t i);

/* Sum of pss. */
uint64_t cllm_bench_result_memory(const struct cllm_bench_result *result);

#endif /* CLLM_TOOLS_BENCH_RESULT_H */
