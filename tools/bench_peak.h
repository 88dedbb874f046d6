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

#include "base/base.h"

struct cllm_bench_peak {
    const char *name; /* "f32 avx2" */
    /* Multiply-adds for about @rounds passes; returns the FLOP done (an addition and a
     * multiplication are two). Results go to @sink, so that nothing is left out. */
    double (*run)(uint64_t rounds, float *sink);
};

/* One for each instruction set; run is NULL where the compiler offers none. */
extern const struct cllm_bench_peak cllm_bench_peak_ref, cllm_bench_peak_avx2,
    cllm_bench_peak_avx512, cllm_bench_peak_bf16;

/* The fastest that this CPU has for f32, and for bf16 products with f32 sums; the latter
 * is NULL where there are no such instructions. */
const struct cllm_bench_peak *cllm_bench_peak_f32(void);
const struct cllm_bench_peak *cllm_bench_peak_of_bf16(void);

#endif /* CLLM_TOOLS_BENCH_PEAK_H */
