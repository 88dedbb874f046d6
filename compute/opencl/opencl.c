/*
 * compute/opencl/opencl.c - see compute/opencl/opencl.h.
 */
#include "compute/opencl/opencl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "compute/opencl/cache.h"
#include "compute/opencl/current.h"

/* For another process that launches the same for the first time. */
#define PATIENCE_NS (240 * CLLM_NS_PER_S)

/* ---- opening ---- */

/* What needs the device, in the order of need. */
static int prepare(struct cllm_cl_current *current)
{
    cl_int error;
    int rc;

    cllm_cl_progress_init(&current->progress, &current->device);
    cllm_cl_pool_init(&current->pool, &current->device);
    cllm_cl_programs_init(&current->programs, &current->device);
    rc = cllm_cl_transfer_init(&current->transfer, &current->device, &current->progress,
                               &current->profile);
    if (rc != 0)
        return rc;
    cllm_cl_memory_init(&current->memory, &current->device, &current->pool,
                        &current->transfer);
    current->nothing = cllm_cl.CreateBuffer(current->device.context, CL_MEM_READ_WRITE,
                                            CLLM_CL_POOL_LEAST, NULL, &error);
    if (error == CL_SUCCESS)
        return 0;
    current->nothing = NULL;
    return cllm_cl_fail(error, "get memory of the device");
}

int cllm_opencl_open(const struct cllm_opencl_options *options)
{
    struct cllm_cl_current *current = &cllm_cl_current;
    int rc;

    CLLM_ASSERT(!current->open);
    *current = (struct cllm_cl_current){.generation = current->generation + 1,
                                        .first = CLLM_CL_TURN_NONE};
    rc = cllm_cl_device_open(&current->device, options->device, options->profile);
    if (rc != 0)
        return rc;
    if (options->most_bytes > 0 && options->most_bytes < current->device.info.most_bytes)
        current->device.info.most_bytes = options->most_bytes;
    current->bf16 = options->bf16;
    cllm_cl_profile_init(&current->profile, options->profile);
    current->open = true;
    rc = prepare(current);
    if (rc != 0)
        cllm_opencl_close();
    return rc;
}

void cllm_opencl_close(void)
{
    struct cllm_cl_current *current = &cllm_cl_current;

    if (!current->open)
        return;
    cllm_opencl_first_end(false);
    (void)cllm_cl.Finish(current->device.compute); /* or it is lost, and nothing runs */
    (void)cllm_cl.Finish(current->device.copy);
    cllm_cl_programs_fini(&current->programs);
    cllm_cl_memory_fini(&current->memory);
    cllm_cl_transfer_fini(&current->transfer);
    cllm_cl_pool_fini(&current->pool);
    cllm_cl_progress_fini(&current->progress);
    cllm_cl_profile_fini(&current->profile);
    if (current->nothing)
        (void)cllm_cl.ReleaseMemObject(current->nothing);
    cllm_cl_device_close(&current->device);
    current->open = false;
}

int cllm_opencl_reopen(void)
{
    struct cllm_cl_current *current = &cllm_cl_current;
    const struct cllm_cl_progress progress = current->progress;
    char name[32];
    const struct cllm_opencl_options options = {
        .device = name,
        .most_bytes = current->device.info.most_bytes,
        .profile = current->profile.on,
        .bf16 = current->bf16,
    };
    int rc;

    CLLM_ASSERT(current->open);
    (void)snprintf(name, sizeof name, "%u:%u", current->device.info.platform,
                   current->device.info.device);
    cllm_opencl_close();
    rc = cllm_opencl_open(&options);
    if (rc == 0)
        cllm_opencl_on_progress(progress.fn, progress.ctx);
    return rc;
}

const struct cllm_opencl_device *cllm_opencl_device(void)
{
    CLLM_ASSERT(cllm_cl_current.open);
    return &cllm_cl_current.device.info;
}

bool cllm_opencl_bf16(void)
{
    CLLM_ASSERT(cllm_cl_current.open);
    return cllm_cl_current.bf16;
}

/* ---- the first time ---- */

/* Whether somebody has done it: a file in the cache says so. */
static bool was_done(uint64_t key)
{
    size_t bytes;
    unsigned char *record = cllm_cl_cache_load(key, &bytes);

    free(record);
    return record != NULL;
}

bool cllm_opencl_first_begin(const void *what, size_t bytes)
{
    struct cllm_cl_current *current = &cllm_cl_current;
    uint64_t key = cllm_hash(what, bytes, cllm_cl_programs_key(&current->programs));

    CLLM_ASSERT(current->open && current->first.fd < 0);
    if (was_done(key))
        return false;
    (void)cllm_cl_turn_begin(&current->first, key, PATIENCE_NS);
    if (!was_done(key))
        return true;
    cllm_cl_turn_end(&current->first);
    return false;
}

void cllm_opencl_first_end(bool done)
{
    struct cllm_cl_turn *first = &cllm_cl_current.first;

    CLLM_ASSERT(cllm_cl_current.open);
    if (done && first->fd >= 0)
        cllm_cl_cache_store(first->key, (const unsigned char *)"done", 4);
    cllm_cl_turn_end(first);
}

/* ---- errors ---- */

int cllm_opencl_error(void)
{
    if (cllm_cl_current.rc != 0)
        cllm_err_restore(&cllm_cl_current.why);
    return cllm_cl_current.rc;
}

/* May something be done? The first failure, or 0. */
static int check(void)
{
    CLLM_ASSERT(cllm_cl_current.open);
    return cllm_opencl_error();
}

/* ---- arrays ---- */

int cllm_opencl_reserve(void **address, size_t bytes, const size_t *cuts, size_t n_cuts)
{
    int rc = check();

    return rc != 0 ? rc
                   : cllm_cl_memory_reserve(&cllm_cl_current.memory, address, bytes, cuts,
                                            n_cuts);
}

int cllm_opencl_put(void *address, const void *host, size_t bytes, uint64_t version)
{
    int rc = check();

    return rc != 0 ? rc
                   : cllm_cl_memory_put(&cllm_cl_current.memory, address, host, bytes,
                                        version);
}

int cllm_opencl_get(void *to, const void *address, size_t bytes)
{
    int rc = check();

    return rc != 0 ? rc
                   : cllm_cl_keep_error(
                         cllm_cl_memory_get(&cllm_cl_current.memory, to, address, bytes));
}

int cllm_opencl_mirror(void *host, size_t bytes)
{
    int rc = check();

    return rc != 0 ? rc : cllm_cl_memory_mirror(&cllm_cl_current.memory, host, bytes);
}

void cllm_opencl_wrote(const void *host)
{
    CLLM_ASSERT(cllm_cl_current.open);
    cllm_cl_memory_wrote(&cllm_cl_current.memory, host);
}

int cllm_opencl_fetch(void *host)
{
    int rc = check();

    return rc != 0
               ? rc
               : cllm_cl_keep_error(cllm_cl_memory_fetch(&cllm_cl_current.memory, host));
}

void cllm_opencl_forget(const void *address)
{
    CLLM_ASSERT(cllm_cl_current.open);
    (void)cllm_cl_keep_error(cllm_cl_memory_forget(&cllm_cl_current.memory, address));
}

/* ---- time ---- */

void cllm_opencl_on_progress(cllm_opencl_progress_fn progress, void *ctx)
{
    cllm_cl_current.progress.fn = progress;
    cllm_cl_current.progress.ctx = ctx;
}

void cllm_opencl_mark(void *ctx)
{
    (void)ctx;
    CLLM_ASSERT(cllm_cl_current.open);
    if (cllm_cl_current.rc == 0)
        (void)cllm_cl_keep_error(cllm_cl_progress_mark(&cllm_cl_current.progress));
}

int cllm_opencl_wait(void)
{
    struct cllm_cl_current *current = &cllm_cl_current;
    int rc = check();

    if (rc == 0)
        rc = cllm_cl_keep_error(cllm_cl_progress_finish(&current->progress));
    if (rc == 0)
        cllm_cl_profile_sum(&current->profile);
    return rc;
}

/* ---- counters ---- */

void cllm_opencl_count(struct cllm_opencl_counters *out)
{
    const struct cllm_cl_current *current = &cllm_cl_current;

    *out = (struct cllm_opencl_counters){
        .acquires = current->pool.acquires,
        .hits = current->pool.hits,
        .creates = current->pool.creates,
        .buffer_bytes = current->pool.bytes,
        .ups = current->transfer.ups,
        .up_bytes = current->transfer.up_bytes,
        .downs = current->transfer.downs,
        .down_bytes = current->transfer.down_bytes,
        .launches = current->launches,
        .builds = current->programs.builds,
        .loads = current->programs.loads,
        .program_ns = current->program_ns,
        .kernel_ns = current->profile.kernel_ns,
        .copy_ns = current->profile.copy_ns,
        .overlap_ns = current->profile.overlap_ns,
    };
}
