/*
 * worker/mapping.c - map the objects of the run, read-only until an assignment says
 * otherwise.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
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
    const struct cllm_model_shape shape = {
        .B = g->sequences,
        .T = g->model.context,
        .train = true,
        .recompute = (enum cllm_model_recompute)worker->child.config.compute_recompute,
        .epsilon = (float)worker->child.config.loss_crystalline};
    size_t gpt_bytes = cllm_model_arena_bytes(&worker->plan, &shape);
    size_t update_bytes = cllm_optimizer_arena_bytes(&worker->optimizer);
    int rc = cllm_arena_init(&worker->arena,
                             gpt_bytes + update_bytes + token_bytes + CLLM_CACHELINE);

    if (rc != 0)
        return rc;
    cllm_region_note("arena", worker->arena.base, worker->arena.bytes, true);
    rc = cllm_model_init(&worker->model, &worker->plan, worker->ops, &shape,
                         &worker->arena);
    if (rc != 0)
        return rc;
    worker->model.progress = bump_progress;
    worker->model.progress_ctx = worker;
    worker->model.dropout = (float)worker->child.config.train_dropout;
    cllm_optimizer_take(&worker->optimizer, &worker->arena);
    worker->optimizer.muon.progress = bump_progress;
    worker->optimizer.muon.progress_ctx = worker;
    worker->tokens = cllm_arena_take(&worker->arena, token_bytes);
    cllm_arena_seal(&worker->arena);
    return 0;
}

int cllm_worker_map(struct cllm_worker *worker)
{
    const struct cllm_geometry *g = worker->child.geometry;
    struct cllm_optimizer_settings settings;
    int rc = cllm_parameters_init(&worker->plan, &g->model);

    if (rc != 0)
        return rc;
    if (cllm_vector_elements(worker->plan.n_elements) != g->n_elements)
        return cllm_err(-EPROTO,
                        "the run's parameter vector has another length than ours");
    settings = cllm_optimizer_settings(&worker->child.config);
    rc = cllm_optimizer_init(&worker->optimizer, &worker->plan, &settings,
                             &worker->child.config.train_group);
    if (rc == 0)
        rc = map_params(worker);
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
    cllm_optimizer_fini(&worker->optimizer);
    cllm_parameters_fini(&worker->plan);
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
