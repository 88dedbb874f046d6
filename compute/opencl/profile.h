/*
 * compute/opencl/profile.h - when each queue ran, and when both did.
 *
 * Only for a device that was opened to be profiled: then every launch and transfer has an
 * event, which is read when all are done. Both queues run in order, so their times are
 * sorted, and one pass over both finds what they share.
 */
#ifndef CLLM_COMPUTE_OPENCL_PROFILE_H
#define CLLM_COMPUTE_OPENCL_PROFILE_H

#include "compute/opencl/api.h"

struct cllm_cl_track {
    cl_event *event;
    size_t n, room;
};

struct cllm_cl_profile {
    bool on;
    struct cllm_cl_track kernels, copies;
    uint64_t kernel_ns, copy_ns, overlap_ns;
};

void cllm_cl_profile_init(struct cllm_cl_profile *profile, bool on);
void cllm_cl_profile_fini(struct cllm_cl_profile *profile);

/* Keep @event, retained, unless the profile is off. Without memory it is not counted. */
void cllm_cl_profile_add(struct cllm_cl_profile *profile, struct cllm_cl_track *track,
                         cl_event event);

/* All events are reached: count and release them. */
void cllm_cl_profile_sum(struct cllm_cl_profile *profile);

#endif /* CLLM_COMPUTE_OPENCL_PROFILE_H */
