/*
 * worker/mapping.c - map the objects of the run, read-only until an assignment says
 * otherwise.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "compute/opencl/opencl.h"
#include "shm/frozen.h"
#include "worker/worker.h"

static int map_params(struct cllm_worker *worker)
{
    char name[CLLM_REGION_NAME_BYTES];
    int rc = 0;

    for (uint32_t v = 0; rc == 0 && v < 2; v++) {
        cllm_params_name(name, worker->child.run_id, v);
        rc = cllm_region_open(&worker->params[v], name,
                              cllm_params_bytes(worker->child.geometry),
                              CLLM_REGION_GUARDED);
    }
    return rc;
}

/* What lies beneath adapters, where there are some. */
static int map_frozen(struct cllm_worker *worker)
{
    uint64_t bytes = cllm_frozen_bytes(worker->child.geometry);
    char name[CLLM_REGION_NAME_BYTES];

    if (bytes == 0)
        return 0;
    cllm_frozen_name(name, worker->child.run_id);
    return cllm_region_open(&worker->frozen, name, bytes, CLLM_REGION_READ);
}

static int map_gradients(struct cllm_worker *worker)
{
    const struct cllm_geometry *g = worker->child.geometry;
    char name[CLLM_REGION_NAME_BYTES];
    int rc = 0;

    CLLM_ASSERT(g->n_folds <= CLLM_MAX_FOLDS);
    for (uint32_t i = 0; rc == 0 && i < g->n_folds; i++) {
        cllm_fold_name(name, worker->child.run_id, i);
        rc = cllm_region_open(&worker->fold[i], name, cllm_vector_bytes(g),
                              CLLM_REGION_GUARDED);
    }
    worker->buffer = calloc(g->n_buffers, sizeof *worker->buffer);
    if (!worker->buffer)
        return cllm_err(-ENOMEM, "cannot keep %u lane buffers", g->n_buffers);
    for (uint32_t i = 0; rc == 0 && i < g->n_buffers; i++) {
        cllm_buffer_name(name, worker->child.run_id, i);
        rc = cllm_region_open(&worker->buffer[i], name, cllm_vector_bytes(g),
                              CLLM_REGION_GUARDED);
    }
    return rc;
}

static void bump_progress(void *ctx)
{
    struct cllm_worker *worker = ctx;

    (void)atomic_fetch_add_explicit(&worker->child.control.own->status.progress, 1,
                                    memory_order_relaxed);
}

static int plan_arena(struct cllm_worker *worker)
{
    const struct cllm_geometry *g = worker->child.geometry;
    size_t token_bytes = cllm_ring_batch_tokens(g) * sizeof *worker->tokens;
    bool adapted = g->lora.rank > 0;
    const struct cllm_parameters *plan = adapted ? &worker->base : &worker->plan;
    struct cllm_model_shape shape = {
        .adapters = adapted ? &worker->plan : NULL,
        .adapter_scale = adapted ? cllm_lora_scale(&g->lora) : 0,
        .B = g->sequences,
        .T = g->model.context,
        .train = true,
        .recompute = (enum cllm_model_recompute)worker->child.config.compute_recompute,
        .epsilon = (float)worker->child.config.loss_crystalline};
    const struct cllm_ops *device = worker->device.ops;
    size_t update_bytes = cllm_optimizer_arena_bytes(&worker->optimizer);
    int rc = device == NULL ? 0
                            : cllm_device_reserve(&worker->device.arrays, plan,
                                                  g->n_elements, &shape);

    if (rc == 0)
        rc = cllm_arena_init(&worker->arena, cllm_model_arena_bytes(plan, &shape) +
                                                 update_bytes + token_bytes +
                                                 CLLM_CACHELINE);
    if (rc != 0)
        return rc;
    cllm_region_note("arena", worker->arena.base, worker->arena.bytes, true);
    rc = cllm_model_init(&worker->model, plan, device ? device : worker->ops, &shape,
                         &worker->arena);
    if (rc != 0)
        return rc;
    if (device == NULL)
        worker->model.frozen = adapted ? cllm_frozen_weights(&worker->frozen) : NULL;
    else
        worker->model.frozen = worker->device.arrays.frozen;
    worker->model.progress = device ? cllm_opencl_mark : bump_progress;
    worker->model.progress_ctx = worker;
    worker->model.dropout = (float)worker->child.config.train_dropout;
    worker->model.attention_dropout = (float)worker->child.config.train_attention_dropout;
    cllm_optimizer_take(&worker->optimizer, &worker->arena);
    worker->optimizer.muon.progress = bump_progress;
    worker->optimizer.muon.progress_ctx = worker;
    worker->tokens = cllm_arena_take(&worker->arena, token_bytes);
    cllm_arena_seal(&worker->arena);
    if (device && adapted)
        rc = cllm_device_freeze(worker);
    return device && rc == 0 ? cllm_device_warm(worker) : rc;
}

/* The tables, and whether they are those that the run was made with. */
static int plan_vectors(struct cllm_worker *worker)
{
    const struct cllm_geometry *g = worker->child.geometry;
    int rc = cllm_lora_trained(&worker->plan, &g->model, &g->lora);

    if (rc == 0 && g->lora.rank > 0)
        rc = cllm_parameters_init(&worker->base, &g->model);
    if (rc != 0)
        return rc;
    if (cllm_vector_elements(worker->plan.n_elements) != g->n_elements ||
        (g->lora.rank > 0 &&
         cllm_vector_elements(worker->base.n_elements) != g->frozen_elements))
        return cllm_err(-EPROTO,
                        "the run's parameter vector has another length than ours");
    return 0;
}

int cllm_worker_map(struct cllm_worker *worker)
{
    const struct cllm_geometry *g = worker->child.geometry;
    struct cllm_optimizer_settings settings;
    int rc = plan_vectors(worker);

    if (rc != 0)
        return rc;
    settings = cllm_optimizer_settings(&worker->child.config);
    rc = cllm_optimizer_init(&worker->optimizer, &worker->plan, &settings,
                             &worker->child.config.train_group);
    if (rc == 0)
        rc = map_params(worker);
    if (rc == 0)
        rc = map_frozen(worker);
    if (rc == 0)
        rc = map_gradients(worker);
    if (rc == 0)
        rc = cllm_ring_open(&worker->ring, worker->child.run_id, g, false);
    if (rc == 0)
        rc = plan_arena(worker);
    return rc;
}

void cllm_worker_unmap(struct cllm_worker *worker)
{
    const struct cllm_geometry *g = worker->child.geometry;

    cllm_region_forget(worker->arena.base);
    cllm_arena_fini(&worker->arena);
    cllm_ring_close(&worker->ring);
    for (uint32_t i = 0; worker->buffer && i < g->n_buffers; i++)
        cllm_region_close(&worker->buffer[i]);
    free(worker->buffer);
    worker->buffer = NULL;
    for (uint32_t i = 0; i < CLLM_MAX_FOLDS; i++)
        cllm_region_close(&worker->fold[i]);
    for (uint32_t v = 0; v < 2; v++)
        cllm_region_close(&worker->params[v]);
    cllm_region_close(&worker->frozen);
    cllm_optimizer_fini(&worker->optimizer);
    cllm_parameters_fini(&worker->plan);
    cllm_parameters_fini(&worker->base);
}

float *cllm_worker_params(const struct cllm_worker *worker, uint32_t version,
                          uint32_t part)
{
    CLLM_ASSERT(version < 2);
    CLLM_ASSERT(part < 3);
    return (float *)(void *)(worker->params[version].base +
                             part * cllm_vector_bytes(worker->child.geometry));
}

float *cllm_worker_fold(const struct cllm_worker *worker, uint32_t fold)
{
    CLLM_ASSERT(fold < worker->child.geometry->n_folds);
    return (float *)(void *)worker->fold[fold].base;
}
