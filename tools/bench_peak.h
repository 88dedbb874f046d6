/*
 * tools/bench_peak.h - multiply-adds in registers: what a core could do if data cost
 * nothing.
 *
 * Compiled once for each instruction set (the Makefile's PEAK_ISAS); every loop keeps as
 * many independent sums as the registers hold, so that neither latency nor memory is
 * seen.
 */
#ifndef CLLM_TOOLS_BENCH_PEAK_H
#define CLLM_TOOLS_BENCH_PEAK_H

#include "compute/ops.h"

struct cllm_bench_peak {
    const char *name; /* "f32 avx2" */
    /* Multiply-adds for about @rounds passes; returns the FLOP done (an addition and a
     * multiplication are two). Results go to @sink, so that nothing is left out. */
    double (*run)(uint64_t rounds, float *sink);
};

/* One for each instruction set; run is NULL where the compiler offers none. */
extern const struct cllm_bench_peak cllm_bench_peak_ref, cllm_bench_peak_avx2,
    cllm_bench_peak_avx512, cllm_bench_peak_bf16, cllm_bench_peak_amx,
    cllm_bench_peak_split;

/* The fastest that this CPU has for products of @precision: what has no instructions of
 * its own, or slower ones than f32, is computed as f32 is. */
const struct cllm_bench_peak *cllm_bench_peak_of(enum cllm_precision precision);

#endif /* CLLM_TOOLS_BENCH_PEAK_H */
