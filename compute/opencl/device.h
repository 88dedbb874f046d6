/*
 * compute/opencl/device.h - a device, its context, its two queues.
 *
 * Two queues in order: one for kernels, one for transfers, so that both run at once;
 * queues that reorder are supported so differently that nobody can rely on them. One
 * context for each process: drivers serialise devices that share one.
 */
#ifndef CLLM_COMPUTE_OPENCL_DEVICE_H
#define CLLM_COMPUTE_OPENCL_DEVICE_H

#include "compute/opencl/api.h"
#include "compute/opencl/opencl.h"

struct cllm_cl_device {
    struct cllm_opencl_device info;
    cl_platform_id platform;
    cl_device_id id;
    cl_context context;
    cl_command_queue compute, copy;
};

/*
 * Choose by @text, as in struct cllm_opencl_options, and open. Returns 0 or a negative
 * code with text, and then there is nothing to close.
 */
int cllm_cl_device_open(struct cllm_cl_device *device, const char *text, bool profile);

/* Waits for what runs. Safe on a device that is zero. */
void cllm_cl_device_close(struct cllm_cl_device *device);

/*
 * What a driver finds in its environment: one thread, no processors of its own, its cache
 * beside ours. What the user has set stays. Before the library is first used.
 */
void cllm_cl_device_environment(void);

/* Of @n devices the one that @text means, as in struct cllm_opencl_options; @n: none. */
uint32_t cllm_cl_device_choose(const struct cllm_opencl_device *devices, uint32_t n,
                               const char *text);

#endif /* CLLM_COMPUTE_OPENCL_DEVICE_H */
