/*
 * compute/opencl/transfer.h - bytes to the device and back, through pinned memory.
 *
 * Drivers copy from and to memory that they have made themselves in one piece and at
 * once; from any other they copy it first, or wait. So there is a block of it, made and
 * mapped once, in slots that take turns: while one is on its way the processor fills or
 * empties the next.
 */
#ifndef CLLM_COMPUTE_OPENCL_TRANSFER_H
#define CLLM_COMPUTE_OPENCL_TRANSFER_H

#include "compute/opencl/profile.h"
#include "compute/opencl/progress.h"

#define CLLM_CL_PIECE (2u << 20) /* of a slot; larger ones are no faster */

enum { CLLM_CL_SLOTS = 8 };

struct cllm_cl_transfer {
    const struct cllm_cl_device *device; /* these three must outlive this */
    struct cllm_cl_progress *progress;
    struct cllm_cl_profile *profile;
    cl_mem block;
    unsigned char *pinned;
    cl_event slot[CLLM_CL_SLOTS]; /* what uses it, or NULL */
    uint32_t next;                /* slot */
    uint32_t
        arriving; /* slot that went up last, no kernel waits yet; CLLM_CL_SLOTS: none */
    uint64_t ups, up_bytes, downs, down_bytes;
};

/* All that return int give 0 or a negative code with text. */
int cllm_cl_transfer_init(struct cllm_cl_transfer *transfer,
                          const struct cllm_cl_device *device,
                          struct cllm_cl_progress *progress,
                          struct cllm_cl_profile *profile);
void cllm_cl_transfer_fini(struct cllm_cl_transfer *transfer);

/* At most CLLM_CL_PIECE bytes from @from, which may change when this returns, to @offset
 * in @mem; not before @after (or NULL), an event of a queue that has been flushed. */
int cllm_cl_transfer_up(struct cllm_cl_transfer *transfer, cl_mem mem, size_t offset,
                        const void *from, size_t bytes, cl_event after);

/* Any number of bytes, likewise, but in the order of kernels: for small ones. Not before
 * @after (or NULL). */
int cllm_cl_transfer_write(struct cllm_cl_transfer *transfer, cl_mem mem, size_t offset,
                           const void *from, size_t bytes, cl_event after);

/* Any number of bytes, as the kernels enqueued until now leave them. Waits. */
int cllm_cl_transfer_down(struct cllm_cl_transfer *transfer, void *to, cl_mem mem,
                          size_t offset, size_t bytes);

/* What the next kernel must wait for, so that all that went up is there; NULL: nothing.
 * The event stays the transfer's. */
cl_event cllm_cl_transfer_arriving(struct cllm_cl_transfer *transfer);

#endif /* CLLM_COMPUTE_OPENCL_TRANSFER_H */
