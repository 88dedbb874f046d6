/*
 * compute/opencl/memory.h - from addresses to buffers, and what is newer where.
 *
 * An array is a range of addresses with a buffer behind it, made when it is first used. A
 * reserved range has addresses that nobody may touch, and one array for as many of its
 * cuts as fit into a buffer. An array that has bytes on the host as well (a mirror, or a
 * reserved one that was given values) is cut into pieces, and each piece is valid on the
 * host, on the device, or on both:
 *
 *              put, wrote               a kernel reads: goes up
 *     ............> host ................................> both
 *                    ^                                     |  |
 *                    '.............. wrote ................'  | a kernel writes
 *                    ^                                        v
 *                    '.............. wrote ............... device .. fetch: comes down
 *                                                             ^         .> both
 *
 * Reading changes nothing. Transfers run in the copy queue, through pinned pieces of host
 * memory. What the queues owe each other:
 *
 *     a kernel that needs what goes up      waits for the last transfer up
 *     what goes up over values in use       waits for the kernels enqueued until then; a
 *                                           small mirror has two buffers and need not
 *     what comes down                       waits for the kernels enqueued until then
 */
#ifndef CLLM_COMPUTE_OPENCL_MEMORY_H
#define CLLM_COMPUTE_OPENCL_MEMORY_H

#include "compute/opencl/pool.h"
#include "compute/opencl/transfer.h"

enum cllm_cl_use { CLLM_CL_IN = 0, CLLM_CL_OUT, CLLM_CL_INOUT };

struct cllm_cl_memory {
    const struct cllm_cl_device *device; /* these three must outlive this */
    struct cllm_cl_pool *pool;
    struct cllm_cl_transfer *transfer;
    struct cllm_cl_array *arrays; /* sorted by address */
    size_t n, room, last;         /* @last: the one that was found last */
};

void cllm_cl_memory_init(struct cllm_cl_memory *memory,
                         const struct cllm_cl_device *device, struct cllm_cl_pool *pool,
                         struct cllm_cl_transfer *transfer);

/* Gives all buffers to the pool; nothing may run. */
void cllm_cl_memory_fini(struct cllm_cl_memory *memory);

/* As their namesakes in compute/opencl/opencl.h.
 * What returns int gives 0 or a negative code with text. */
int cllm_cl_memory_reserve(struct cllm_cl_memory *memory, void **address, size_t bytes,
                           const size_t *cuts, size_t n_cuts);
int cllm_cl_memory_mirror(struct cllm_cl_memory *memory, void *host, size_t bytes);
int cllm_cl_memory_put(struct cllm_cl_memory *memory, void *address, const void *host,
                       size_t bytes, uint64_t version);
int cllm_cl_memory_get(struct cllm_cl_memory *memory, void *to, const void *address,
                       size_t bytes);
void cllm_cl_memory_wrote(struct cllm_cl_memory *memory, const void *host);
int cllm_cl_memory_fetch(struct cllm_cl_memory *memory, void *host);
int cllm_cl_memory_forget(struct cllm_cl_memory *memory, const void *address);

/* Bytes from @address on to the end of its buffer. */
size_t cllm_cl_memory_room(struct cllm_cl_memory *memory, const void *address);

/*
 * The buffer behind @bytes at @address, for a kernel that is launched next, and how many
 * bytes into it they are. What it reads has been sent up.
 */
int cllm_cl_memory_use(struct cllm_cl_memory *memory, const void *address, size_t bytes,
                       enum cllm_cl_use use, cl_mem *mem, size_t *offset);

#endif /* CLLM_COMPUTE_OPENCL_MEMORY_H */
