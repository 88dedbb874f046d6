/*
 * tools/bench_shapes.h - which matrix products a worker with a device computes for a
 * configuration: not listed here, but taken from the model itself, which runs once with
 * an operations table that notes them down.
 */
#ifndef CLLM_TOOLS_BENCH_SHAPES_H
#define CLLM_TOOLS_BENCH_SHAPES_H

#include "base/config.h"
#include "compute/ops.h"

enum { CLLM_BENCH_SHAPES = 64 };

struct cllm_bench_shapes {
    struct cllm_matmul shape[CLLM_BENCH_SHAPES]; /* no two of the same m, n, k, form */
    size_t calls[CLLM_BENCH_SHAPES];             /* of a micro-batch, both ways */
    size_t n;
    size_t left_out; /* shapes beyond those */
    uint32_t B, T;   /* sequences of a micro-batch, tokens of each */
};

/* Those of @config on the OpenCL device that is open, whose table is @ops. Returns 0 or a
 * negative code with text. */
int cllm_bench_shapes_find(struct cllm_bench_shapes *shapes,
                           const struct cllm_config *config, const struct cllm_ops *ops);

#endif /* CLLM_TOOLS_BENCH_SHAPES_H */
