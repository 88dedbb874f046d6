/*
 * compute/opencl/table.h - the operations (compute/ops.h) of the device that is open.
 *
 * What is asked for is enqueued and returns at once; sum_losses() alone waits. Results
 * are functions of inputs, device, driver and style: the same bits whenever repeated
 * there, and others than a CPU's tables have.
 *
 * Not there, and NULL, so that a call of one ends the process: adamw, lion, sgd, fold,
 * is_finite, stream, sumsq, softmax (updates and decoders are the CPU's).
 */
#ifndef CLLM_COMPUTE_OPENCL_TABLE_H
#define CLLM_COMPUTE_OPENCL_TABLE_H

#include "compute/ops.h"

/* How kernels are made: one item to a group, with vectors, or groups that share local
 * memory. Either runs on any device. */
enum cllm_opencl_style {
    CLLM_OPENCL_STYLE_AUTO = 0, /* as suits the device */
    CLLM_OPENCL_STYLE_ITEMS,
    CLLM_OPENCL_STYLE_GROUPS
};

/*
 * The table of the device that is open, which is good until that is closed. @D: elements
 * of an attention head that kernels are built for, 0: none yet; with others they are
 * built when first used. Before any array is reserved: tensor cores that fail in their
 * test may take the device's context with them, which is made anew. Returns 0, or a
 * negative code with text: something cannot be built.
 */
int cllm_opencl_ops(const struct cllm_ops **ops, enum cllm_opencl_style style, size_t D);

#endif /* CLLM_COMPUTE_OPENCL_TABLE_H */
