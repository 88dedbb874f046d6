/*
 * compute/onednn.h - matrix products through oneDNN.
 */
#ifndef CLLM_COMPUTE_ONEDNN_H
#define CLLM_COMPUTE_ONEDNN_H

#include "compute/ops.h"

/*
 * The matmul of struct cllm_ops. The bits depend on the number of threads and on the
 * instruction sets that oneDNN finds: processes of one run must agree on both (one
 * thread: OMP_NUM_THREADS=1 in the environment before the process starts).
 */
void cllm_matmul_onednn(float *c, const float *a, const float *b,
                        const struct cllm_matmul *shape);

/* Let products use nothing beyond @isa. Works before the first product only. */
void cllm_onednn_limit(enum cllm_isa isa);

#endif /* CLLM_COMPUTE_ONEDNN_H */
