/*
 * compute/opencl/pool.c - see compute/opencl/pool.h.
 */
#include "compute/opencl/pool.h"

#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/fault.h"
#include "base/units.h"

#define DOUBLING (1u << 20) /* up to here waste is nobody's concern */

struct cllm_cl_buffer {
    struct cllm_cl_buffer *next;
    cl_mem mem;
    size_t bytes; /* its class */
};

size_t cllm_cl_pool_class(size_t bytes, size_t most)
{
    size_t class = CLLM_CL_POOL_LEAST, quarter;

    while (class < bytes && class < DOUBLING)
        class *= 2;
    while (class <= bytes / 2)
        class *= 2;
    if (class < bytes) {
        quarter = class / 4;
        class = cllm_div_up(bytes, quarter) * quarter;
    }
    return bytes <= most && class > most ? most : class;
}

void cllm_cl_pool_init(struct cllm_cl_pool *pool, const struct cllm_cl_device *device)
{
    *pool = (struct cllm_cl_pool){.device = device};
}

void cllm_cl_pool_fini(struct cllm_cl_pool *pool)
{
    while (pool->free) {
        struct cllm_cl_buffer *buffer = pool->free;

        pool->free = buffer->next;
        (void)cllm_cl.ReleaseMemObject(buffer->mem); /* it may be lost with the device */
        free(buffer);
    }
}

static int create(struct cllm_cl_pool *pool, size_t class, cl_mem *mem)
{
    char size[CLLM_UNITS_BYTES], sum[CLLM_UNITS_BYTES], all[CLLM_UNITS_BYTES];
    cl_int error = CL_MEM_OBJECT_ALLOCATION_FAILURE;
    int rc;

    if (cllm_fault_error(CLLM_FAULT_device_memory) == 0)
        *mem = cllm_cl.CreateBuffer(pool->device->context, CL_MEM_READ_WRITE, class, NULL,
                                    &error);
    if (error == CL_SUCCESS) {
        pool->creates++;
        pool->bytes += class;
        return 0;
    }
    *mem = NULL;
    rc = cllm_cl_fail(error, "get %s of the device's memory",
                      cllm_format_bytes(size, class));
    cllm_err_hint("it has %s, of which this process holds %s: fewer sequences in a "
                  "micro-batch, or more recomputation, need less",
                  cllm_format_bytes(all, pool->device->info.memory_bytes),
                  cllm_format_bytes(sum, pool->bytes));
    return rc;
}

int cllm_cl_pool_acquire(struct cllm_cl_pool *pool, size_t bytes, cl_mem *mem)
{
    size_t class = cllm_cl_pool_class(bytes, pool->device->info.most_bytes);
    struct cllm_cl_buffer **link = &pool->free;

    pool->acquires++;
    while (*link && (*link)->bytes != class)
        link = &(*link)->next;
    if (*link) {
        struct cllm_cl_buffer *buffer = *link;

        *link = buffer->next;
        *mem = buffer->mem;
        free(buffer);
        pool->hits++;
        return 0;
    }
    return create(pool, class, mem);
}

void cllm_cl_pool_release(struct cllm_cl_pool *pool, size_t bytes, cl_mem mem)
{
    struct cllm_cl_buffer *buffer = malloc(sizeof *buffer);
    size_t class = cllm_cl_pool_class(bytes, pool->device->info.most_bytes);

    if (!buffer) { /* then it is not kept */
        (void)cllm_cl.ReleaseMemObject(mem);
        pool->bytes -= class;
        return;
    }
    *buffer = (struct cllm_cl_buffer){.next = pool->free, .mem = mem, .bytes = class};
    pool->free = buffer;
}
