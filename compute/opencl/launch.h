/*
 * compute/opencl/launch.h - a kernel, its arguments, and the queue that runs it.
 *
 *     static struct cllm_cl_kernel kernel = {"common.cl elementwise.cl", "gelu"};
 *     struct cllm_cl_launch launch;
 *
 *     cllm_cl_begin(&launch, &kernel);
 *     cllm_cl_out(&launch, out, n * sizeof *out);
 *     cllm_cl_in(&launch, x, n * sizeof *x);
 *     cllm_cl_u32(&launch, (uint32_t)n);
 *     cllm_cl_run(&launch, 1, (size_t[]){global}, (size_t[]){local});
 *
 * In the order of the kernel's parameters. Each array is two of them, because pointers
 * into the middle of arrays are usual and sub-buffers have to be aligned:
 *
 *     __kernel void gelu(__global float *out, ulong out_at, __global const float *x,
 *                        ulong x_at, uint n)
 *     { out += out_at; x += x_at; ...
 *
 * Launches are enqueued and return at once; they run one after the other. All of this is
 * for the device that is open (compute/opencl/opencl.h) and has no context of its own,
 * as the operations table has none.
 *
 * Operations return nothing, so the first failure is kept, with its text, and makes every
 * later launch a no-op: cllm_opencl_error() tells. Nothing knows <CL/cl.h> but this
 * folder, and nothing in this header does.
 */
#ifndef CLLM_COMPUTE_OPENCL_LAUNCH_H
#define CLLM_COMPUTE_OPENCL_LAUNCH_H

#include "base/base.h"

/* A kernel of the .cl files; of static lifetime, built when it is first used. */
struct cllm_cl_kernel {
    const char *sources; /* .cl files of this folder, in order, separated by a blank */
    const char *name;
    const char *options; /* of the compiler, "-DTILE=64"; NULL: none */
    void *handle;        /* private, as is what follows: of the device opened ... */
    uint32_t generation; /* ... as this one */
};

struct cllm_cl_launch {
    struct cllm_cl_kernel *kernel;
    uint32_t n_args;
    bool skip; /* something has failed before */
};

/* Begin to launch @kernel. One launch at a time. */
void cllm_cl_begin(struct cllm_cl_launch *launch, struct cllm_cl_kernel *kernel);

/*
 * Array arguments: @bytes from @address on, which lie within one array that the device
 * has (asserted); 4-byte aligned. The kernel gets the buffer and, as ulong, how many
 * elements of 4 bytes into it @address is. What is read is brought to the device first if
 * it is newer on the host.
 *
 * out: all of it is overwritten; inout: read, and some of it written. NULL is allowed:
 * the kernel gets a small buffer that it must not use, and the offset CLLM_CL_NO_ARRAY.
 */
#define CLLM_CL_NO_ARRAY UINT64_MAX
void cllm_cl_in(struct cllm_cl_launch *launch, const void *address, size_t bytes);
void cllm_cl_out(struct cllm_cl_launch *launch, void *address, size_t bytes);
void cllm_cl_inout(struct cllm_cl_launch *launch, void *address, size_t bytes);

/* Scalars: uint, ulong, int, float; any other by its bytes. */
void cllm_cl_u32(struct cllm_cl_launch *launch, uint32_t x);
void cllm_cl_u64(struct cllm_cl_launch *launch, uint64_t x);
void cllm_cl_i32(struct cllm_cl_launch *launch, int32_t x);
void cllm_cl_f32(struct cllm_cl_launch *launch, float x);
void cllm_cl_value(struct cllm_cl_launch *launch, const void *value, size_t bytes);

/* A __local array of @bytes. */
void cllm_cl_local(struct cllm_cl_launch *launch, size_t bytes);

/*
 * Enqueue over @dims dimensions, 1 to 3: work-items of each, all multiples of @local's;
 * @local NULL: the driver's choice. A global size of 0 launches nothing.
 */
void cllm_cl_run(struct cllm_cl_launch *launch, uint32_t dims, const size_t *global,
                 const size_t *local);

/* Fill @bytes with zeros, a multiple of 4: on the device, in the order of launches. They
 * may be of several buffers. */
void cllm_cl_zero(void *address, size_t bytes);

/* Copy @bytes of the host, at @from, which may change when this returns, into an array of
 * the device, in the order of launches: for small ones. */
void cllm_cl_write(void *to, const void *from, size_t bytes);

/*
 * Build @kernel now, so that its first launch does not. Returns 0, or a negative code
 * with text: a failure here is not kept, so a variant that a device cannot build may be
 * tried and left. @most: NULL, or the work-group size that it can be launched with.
 */
int cllm_cl_prepare(struct cllm_cl_kernel *kernel, size_t *most);

#endif /* CLLM_COMPUTE_OPENCL_LAUNCH_H */
