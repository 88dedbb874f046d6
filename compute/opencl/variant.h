/*
 * compute/opencl/variant.h - in how many ways a matrix product can be computed on the
 * device that is open, and which of them a shape gets.
 *
 * Those of a family sum every element in the same order, so that they give the same bits:
 * which one computes is a matter of time alone. The families are the two styles of
 * kernels and tensor cores; never is one of another family chosen. Three things decide,
 * the first that has an answer:
 *
 *     fix        what a measurement or a test has asked for
 *     tuning     what was measured for this shape on this device (tuning.h)
 *     rule       the largest blocks that fill the device
 *
 * Variants are numbered from 0 as long as the table (table.h) is in use.
 */
#ifndef CLLM_COMPUTE_OPENCL_VARIANT_H
#define CLLM_COMPUTE_OPENCL_VARIANT_H

#include "compute/opencl/tuning.h"
#include "compute/ops.h"

/* How many there are on this device, and what one is called: its block of C, and what
 * else makes it different. */
size_t cllm_opencl_variants(void);
const char *cllm_opencl_variant_name(size_t variant);

/* Build it now. Returns 0, or a negative code with text: this device cannot, which is no
 * failure of the device. Those that the rule or the tuning choose are built already. */
int cllm_opencl_variant_prepare(size_t variant);

/* The variant for the shape, by the rule; by all three. */
size_t cllm_opencl_variant_rule(const struct cllm_matmul *shape);
size_t cllm_opencl_variant_choose(const struct cllm_matmul *shape);

/* All products by @variant, which is built, from here on; CLLM_OPENCL_VARIANT_ANY: by the
 * shape again, as it is after opening. */
#define CLLM_OPENCL_VARIANT_ANY SIZE_MAX
void cllm_opencl_variant_fix(size_t variant);

/* Shapes that have a variant of their own by measurement; 0: the rule for all. */
size_t cllm_opencl_tuned(void);

/* Keep @n choices, at most CLLM_CL_TUNED, for the next who opens this device, in a file
 * whose name is written to @path. Returns 0 or a negative code with text. */
struct cllm_opencl_choice {
    struct cllm_matmul shape;
    size_t variant;
};
int cllm_opencl_tune(const struct cllm_opencl_choice *choices, size_t n,
                     char path[CLLM_CL_CACHE_FILE]);

#endif /* CLLM_COMPUTE_OPENCL_VARIANT_H */
