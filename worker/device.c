/*
 * worker/device.c - see worker/device.h.
 */
#include "worker/device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/hash.h"
#include "compute/opencl/table.h"
#include "shm/frozen.h"
#include "worker/worker.h"

#define CONTENT_BITS \
    40 /* of a version's number: the step; above, how often steps turned */

/* The device failed: say it, and leave the rest to whoever comes next. Not by exit(),
 * which waits for the driver. */
CLLM_NORETURN static void give_up(struct cllm_worker *worker)
{
    struct cllm_err_text why;

    cllm_err_add("device %s",
                 worker->child.control.slots[worker->child.slot].command.device);
    cllm_err_save(&why);
    if (why.hint[0] == '\0')
        cllm_err_hint("the driver's own messages (dmesg) may say more; [compute] "
                      "on_device_loss says what follows when it fails again and again");
    _exit(cllm_child_fail(&worker->child, CLLM_EDEVICE));
}

static void must(struct cllm_worker *worker, int rc)
{
    if (rc != 0)
        give_up(worker);
}

static void bump(void *ctx)
{
    struct cllm_worker *worker = ctx;

    (void)atomic_fetch_add_explicit(&worker->child.control.own->status.progress, 1,
                                    memory_order_relaxed);
}

/* Workers that start together launch the same kernels for the first time, until they are
 * warm: one after the other. */
static void begin_first(const struct cllm_worker *worker)
{
    const struct cllm_geometry *g = worker->child.geometry;
    const struct cllm_config *config = &worker->child.config;
    const uint64_t what[] = {
        cllm_hash(&g->model, sizeof g->model, 0),
        g->lora.rank,
        g->sequences,
        config->train_dropout > 0,
        config->train_attention_dropout > 0,
        config->loss_crystalline > 0,
    };

    (void)cllm_opencl_first_begin(what, sizeof what);
}

int cllm_device_open(struct cllm_worker *worker)
{
    const struct cllm_child *child = &worker->child;
    const char *name = child->control.slots[child->slot].command.device;
    const struct cllm_opencl_options options = {.device = name,
                                                .bf16 = child->config.compute_precision ==
                                                        CLLM_PRECISION_BF16,
                                                .profile = child->config.compute_profile};
    int rc;

    if (name[0] == '\0')
        return 0;
    worker->device.opened_ns = cllm_now_ns();
    rc = cllm_fault_error(CLLM_FAULT_device_open);
    if (rc != 0)
        rc = cllm_err(rc, "cannot open it");
    if (rc == 0)
        rc = cllm_opencl_open(&options);
    if (rc == 0)
        /* Heads with a bias or dropout are built by the first step, when all is warmed.
         */
        rc = cllm_opencl_ops(&worker->device.ops, CLLM_OPENCL_STYLE_AUTO,
                             child->geometry->model.crystalline_bias ||
                                     child->config.train_attention_dropout > 0
                                 ? 0
                                 : child->geometry->model.head_size);
    if (rc != 0) {
        cllm_err_add("device %.60s", name);
        return CLLM_EDEVICE;
    }
    cllm_opencl_on_progress(bump, worker);
    begin_first(worker);
    return 0;
}

void cllm_device_close(struct cllm_worker *worker)
{
    if (worker->device.ops != NULL)
        cllm_opencl_close();
    worker->device = (struct cllm_device){0};
}

/* ---- arrays ---- */

/* A vector as the plan lays it out: no tensor is in two buffers. */
static int reserve_vector(float **vector, const struct cllm_parameters *plan,
                          uint64_t n_elements)
{
    size_t *cuts = calloc(plan->n_tensors, sizeof *cuts);
    void *address = NULL;
    int rc;

    if (cuts == NULL)
        return cllm_err(-ENOMEM, "cannot lay out the device's memory");
    for (uint32_t t = 0; t < plan->n_tensors; t++)
        cuts[t] = plan->tensors[t].off * sizeof(float);
    rc = cllm_opencl_reserve(&address, n_elements * sizeof(float), cuts + 1,
                             plan->n_tensors - 1);
    free(cuts);
    *vector = address;
    return rc;
}

static int reserve_model(void **address, const struct cllm_parameters *plan,
                         const struct cllm_model_shape *shape)
{
    size_t n = cllm_model_arrays(plan, shape, NULL);
    size_t *begin = calloc(n, sizeof *begin);
    int rc;

    if (begin == NULL)
        return cllm_err(-ENOMEM, "cannot lay out the device's memory");
    (void)cllm_model_arrays(plan, shape, begin);
    rc = cllm_opencl_reserve(address, cllm_model_array_bytes(plan, shape), begin + 1,
                             n - 1);
    free(begin);
    return rc;
}

int cllm_device_reserve(struct cllm_device_arrays *arrays,
                        const struct cllm_parameters *plan, uint64_t n_elements,
                        struct cllm_model_shape *shape)
{
    const struct cllm_parameters *learns = shape->adapters ? shape->adapters : plan;
    int rc = reserve_vector(&arrays->w, learns, n_elements);

    if (rc == 0)
        rc = reserve_vector(&arrays->dw, learns, n_elements);
    if (rc == 0 && shape->adapters != NULL)
        rc = reserve_vector(&arrays->frozen, plan, plan->n_elements);
    if (rc == 0)
        rc = reserve_model(&arrays->model, plan, shape);
    shape->arrays = arrays->model;
    return rc;
}

void cllm_device_forget(const struct cllm_device_arrays *arrays)
{
    cllm_opencl_forget(arrays->w);
    cllm_opencl_forget(arrays->dw);
    if (arrays->frozen != NULL)
        cllm_opencl_forget(arrays->frozen);
    cllm_opencl_forget(arrays->model);
}

int cllm_device_freeze(struct cllm_worker *worker)
{
    return cllm_opencl_put(worker->device.arrays.frozen,
                           cllm_frozen_weights(&worker->frozen),
                           worker->base.n_elements * sizeof(float), 1);
}

/* ---- lanes ---- */

const float *cllm_device_weights(struct cllm_worker *worker, const float *w,
                                 uint64_t step)
{
    const struct cllm_geometry *g = worker->child.geometry;
    uint64_t turns = cllm_load_relaxed(&worker->child.control.state->turns);
    uint64_t version = (turns << CONTENT_BITS) + step + 1;
    int rc = cllm_fault_error(CLLM_FAULT_device_lane);

    if (rc != 0)
        rc = cllm_err(rc, "cannot compute there");
    must(worker, rc);
    must(worker,
         cllm_opencl_put(worker->device.arrays.w, w, g->n_elements * sizeof *w, version));
    if (version != worker->device.version)
        (void)atomic_fetch_add_explicit(
            &worker->child.control.own->status.device.weights_put, 1,
            memory_order_relaxed);
    worker->device.version = version;
    return worker->device.arrays.w;
}

void cllm_device_fetch(struct cllm_worker *worker, float *dw)
{
    must(worker, cllm_opencl_get(dw, worker->device.arrays.dw,
                                 worker->child.geometry->n_elements * sizeof *dw));
}

void cllm_device_check(struct cllm_worker *worker)
{
    struct cllm_device_status *status = &worker->child.control.own->status.device;
    const struct cllm_opencl_counters *warm = &worker->device.warm;
    struct cllm_opencl_counters n;

    /* With a profile all has been reached, and is counted now. */
    must(worker,
         worker->child.config.compute_profile ? cllm_opencl_wait() : cllm_opencl_error());
    cllm_opencl_count(&n);
    cllm_store_relaxed(&status->up_bytes, n.up_bytes - warm->up_bytes);
    cllm_store_relaxed(&status->down_bytes, n.down_bytes - warm->down_bytes);
    cllm_store_relaxed(&status->launches, n.launches - warm->launches);
    cllm_store_relaxed(&status->acquires, n.acquires - warm->acquires);
    cllm_store_relaxed(&status->hits, n.hits - warm->hits);
    cllm_store_relaxed(&status->creates, n.creates - warm->creates);
    cllm_store_relaxed(&status->buffer_bytes, n.buffer_bytes);
    cllm_store_relaxed(&status->kernel_ns, n.kernel_ns - warm->kernel_ns);
    cllm_store_relaxed(&status->copy_ns, n.copy_ns - warm->copy_ns);
    cllm_store_relaxed(&status->overlap_ns, n.overlap_ns - warm->overlap_ns);
}

/* ---- the beginning ---- */

int cllm_device_warm(struct cllm_worker *worker)
{
    const struct cllm_geometry *g = worker->child.geometry;
    const float *w = worker->device.arrays.w;
    float *dw = worker->device.arrays.dw;
    int rc = 0;

    memset(worker->tokens, 0, cllm_ring_batch_tokens(g) * sizeof *worker->tokens);
    /* Twice: small vectors have two buffers, so that one goes up while one is in use; and
     * a lane's first gradient is written, those that follow are added. */
    for (uint64_t version = UINT64_MAX; rc == 0 && version > UINT64_MAX - 2; version--) {
        worker->model.overwrite = version == UINT64_MAX;
        rc = cllm_opencl_put(worker->device.arrays.w, cllm_worker_params(worker, 0, 0),
                             g->n_elements * sizeof *w, version);
        (void)cllm_model_forward_backward(&worker->model, w, dw, worker->tokens);
        (void)cllm_model_loss(&worker->model, w, worker->tokens);
    }
    if (rc == 0)
        rc = cllm_opencl_get(worker->tokens, dw, sizeof *worker->tokens);
    if (rc == 0)
        rc = cllm_opencl_wait();
    cllm_opencl_first_end(rc == 0);
    if (rc != 0) {
        cllm_err_add("device %.60s",
                     worker->child.control.slots[worker->child.slot].command.device);
        return CLLM_EDEVICE;
    }
    cllm_opencl_count(&worker->device.warm);
    return 0;
}

void cllm_device_introduce(struct cllm_worker *worker)
{
    char *name = worker->child.control.own->status.device.name;

    (void)snprintf(name, CLLM_DEVICE_BYTES, "%.63s",
                   worker->device.ops != NULL ? cllm_opencl_device()->name : "");
}

void cllm_device_tell_start(struct cllm_worker *worker)
{
    struct cllm_device_status *status = &worker->child.control.own->status.device;
    const struct cllm_opencl_counters *warm = &worker->device.warm;

    if (worker->device.ops == NULL)
        return;
    cllm_store_relaxed(&status->buffer_bytes, warm->buffer_bytes);
    cllm_store_relaxed(&status->builds, warm->builds);
    cllm_store_relaxed(&status->loads, warm->loads);
    cllm_store_relaxed(&status->program_ns, warm->program_ns);
    cllm_store_relaxed(&status->warm_ns, cllm_now_ns() - worker->device.opened_ns);
}
