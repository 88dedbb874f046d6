/*
 * tools/bench_result.h - what was measured of one setting (workers, checkpoints), and
 * the figures that follow from it.
 */
#ifndef CLLM_TOOLS_BENCH_RESULT_H
#define CLLM_TOOLS_BENCH_RESULT_H

#include "model/model.h"
#include "tools/bench_count.h"
#include "tools/bench_limits.h"
#include "tools/spread.h"

#define CLLM_BENCH_REPEATS 100

/* Bytes a second that a pass over memory moved, and that a copy moved just before and
 * after it; 0 = not measured. */
struct cllm_bench_moved {
    double pass, copy;
};

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
    struct cllm_bench_moved update[CLLM_BENCH_REPEATS], fold[CLLM_BENCH_REPEATS];
    uint32_t n_repeats;
    struct cllm_bench_count total;          /* sum over the repeats; cpu_ns too */
    uint64_t pss[CLLM_BENCH_MAX_PROCESSES]; /* bytes, at the end of the last repeat */
};

/* Add a repeat. @copy, @copy_alone: bytes a second of a copy around it, by as many
 * processes as the run has, and by one. Processes of another run of the same setting are
 * the same by their place. */
void cllm_bench_result_add(struct cllm_bench_result *result,
                           const struct cllm_bench_count *count, double copy,
                           double copy_alone);

/* Tokens a second. */
struct cllm_spread cllm_bench_result_speed(const struct cllm_bench_result *result);

/* Share of all workers' time; share of worker @w's time that was work. */
double cllm_bench_result_phase(const struct cllm_bench_result *result,
                               enum cllm_bench_phase phase);
double cllm_bench_result_busy(const struct cllm_bench_result *result, uint32_t w);

/* A pass over memory: bytes a second, those of a copy, and its share of that; medians
 * over the repeats, of which each has a copy of its own. */
struct cllm_bench_pass {
    double rate, copy, share;
};

/*
 * What the update moved: 28 bytes for each parameter (w, m, v read and written, the
 * gradient read, with lanes that are kept that of each), all workers together, who update
 * at the same time as copies run in as many processes.
 */
struct cllm_bench_pass cllm_bench_result_update(const struct cllm_bench_result *result);

/*
 * What one worker moved while it folded: each lane's gradient read once, and the sum read
 * and written once a run of lanes. Others may compute meanwhile: the copy is that of one
 * process.
 */
struct cllm_bench_pass cllm_bench_result_fold(const struct cllm_bench_result *result);

/* Share of a core that process @i had. */
double cllm_bench_result_cpu(const struct cllm_bench_result *result, uint32_t i);

/* Sum of pss. */
uint64_t cllm_bench_result_memory(const struct cllm_bench_result *result);

#endif /* CLLM_TOOLS_BENCH_RESULT_H */
