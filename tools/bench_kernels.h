/*
 * tools/bench_kernels.h - each operation of a model alone, in the sizes of that model,
 * against its own limit: multiply-adds in registers, or a copy of as many bytes.
 */
#ifndef CLLM_TOOLS_BENCH_KERNELS_H
#define CLLM_TOOLS_BENCH_KERNELS_H

#include "base/config.h"

/* Measure in this process and print to stdout. Returns 0 or a negative code with text. */
int cllm_bench_kernels(const struct cllm_config *config, bool json);

#endif /* CLLM_TOOLS_BENCH_KERNELS_H */
