/*
 * tools/bench_limits.h - what this machine can do: multiply-adds in registers, and a copy
 * through memory, in as many processes at once as the run has workers at once.
 */
#ifndef CLLM_TOOLS_BENCH_LIMITS_H
#define CLLM_TOOLS_BENCH_LIMITS_H

#include "compute/ops.h"

struct cllm_bench_limits {
    uint32_t processes;
    const char *peak; /* instructions used: "f32 avx2" */
    double flops;     /* a second, all processes together */
    double copy;      /* bytes read and written a second, likewise; of the last call */
};

/* What @workers workers can use: never more processes than cores, at least one. */
uint32_t cllm_bench_processes(uint32_t workers);

/*
 * Measure for about a second. Of the peak the best of all calls so far stays in @limits,
 * because a limit is what can be reached; of a copy the median of this call: a virtual
 * machine's memory may be twice as fast in one second as in the next. @limits begins with
 * processes set and the rest zero. The peak is that of products of @precision; one of
 * another kind is forgotten. Returns 0 or a negative code with text.
 */
int cllm_bench_limits_measure(struct cllm_bench_limits *limits,
                              enum cllm_precision precision);

/* Bytes read and written a second by one process that copies between two arrays of half
 * of @bytes each again and again: the limit of what works on @bytes, in a cache or not.
 * 0 when memory is out. */
double cllm_bench_copy_within(size_t bytes);

#endif /* CLLM_TOOLS_BENCH_LIMITS_H */
