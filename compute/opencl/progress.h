/*
 * compute/opencl/progress.h - waiting for the device, and seeing it get on.
 *
 * Marks are events in the queue of kernels. Whoever waits here looks at them and tells
 * the owner of each that is reached: a worker whose progress stands still is taken for
 * hung. Waiting is looking and sleeping in turns, because the waits of drivers keep a
 * processor busy.
 */
#ifndef CLLM_COMPUTE_OPENCL_PROGRESS_H
#define CLLM_COMPUTE_OPENCL_PROGRESS_H

#include "compute/opencl/device.h"

/* Marks that are not reached: how far launches may be ahead of the device. */
enum { CLLM_CL_MARKS = 64 };

struct cllm_cl_progress {
    const struct cllm_cl_device *device; /* must outlive this */
    cl_event mark[CLLM_CL_MARKS];        /* a ring: the oldest is mark[first] */
    uint32_t first, n;
    cllm_opencl_progress_fn fn; /* may be NULL */
    void *ctx;
};

void cllm_cl_progress_init(struct cllm_cl_progress *progress,
                           const struct cllm_cl_device *device);

/* Releases the marks. */
void cllm_cl_progress_fini(struct cllm_cl_progress *progress);

/* All of these return 0 or a negative code with text. */

/* A mark behind all that is in the queue of kernels; waits for the first one when there
 * are too many. */
int cllm_cl_progress_mark(struct cllm_cl_progress *progress);

/* Until @event, whose queue has been flushed, is reached. The event stays the caller's.
 */
int cllm_cl_progress_wait(struct cllm_cl_progress *progress, cl_event event);

/* Until both queues are empty. */
int cllm_cl_progress_finish(struct cllm_cl_progress *progress);

/* Tell that something else has got on. */
void cllm_cl_progress_tell(const struct cllm_cl_progress *progress);

#endif /* CLLM_COMPUTE_OPENCL_PROGRESS_H */
