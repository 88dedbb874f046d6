/*
 * compute/opencl/pool.h - buffers of a device, in classes of size.
 *
 * What is given back is kept and found again by its class, so a run makes no buffers once
 * it has warmed up. The rounded size is what is allocated, or a buffer could not be
 * reused for what belongs to its class. Nothing is freed before the end.
 */
#ifndef CLLM_COMPUTE_OPENCL_POOL_H
#define CLLM_COMPUTE_OPENCL_POOL_H

#include "compute/opencl/device.h"

#define CLLM_CL_POOL_LEAST 256u

struct cllm_cl_pool {
    const struct cllm_cl_device *device; /* must outlive this */
    struct cllm_cl_buffer *free;
    uint64_t acquires, hits, creates, bytes;
};

/*
 * The class of @bytes, in bytes: powers of two up to 1 MiB, above in quarters of the
 * power of two below it; but not above @most, the device's largest buffer, as long as
 * @bytes is not.
 */
size_t cllm_cl_pool_class(size_t bytes, size_t most);

void cllm_cl_pool_init(struct cllm_cl_pool *pool, const struct cllm_cl_device *device);

/* Frees what was given back. */
void cllm_cl_pool_fini(struct cllm_cl_pool *pool);

/* A buffer of at least @bytes, of undefined content. Returns 0 or a negative code with
 * text. */
int cllm_cl_pool_acquire(struct cllm_cl_pool *pool, size_t bytes, cl_mem *mem);

/* @bytes as when it was acquired. No command that uses it may be unfinished, but those
 * of the compute queue when the next owner's first is there too. */
void cllm_cl_pool_release(struct cllm_cl_pool *pool, size_t bytes, cl_mem mem);

#endif /* CLLM_COMPUTE_OPENCL_POOL_H */
