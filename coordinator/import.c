/*
 * coordinator/import.c - the checkpoint of step 0, hashed as its tensors go by.
 */
#include "coordinator/import.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fault.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/pulse.h"
#include "coordinator/adapted.h"
#include "coordinator/import_pass.h"
#include "coordinator/origin.h"
#include "formats/checkpoint.h"
#include "formats/source.h"
#include "formats/tokenizer_files.h"
#include "shm/chunk.h"

/* ---- weights ---- */

/* Of all tensors of @pass, whose beginning gave @rc; ends it. */
static int hash_all(struct cllm_pass *pass, int rc, uint64_t *hash)
{
    for (uint32_t i = 0; rc == 0 && i < pass->parameters.n_tensors; i++)
        rc = cllm_pass_take(pass, i);
    if (rc == 0)
        *hash = cllm_hasher_end(pass->hasher);
    cllm_pass_end(pass);
    return rc;
}

int cllm_import_hash(const struct cllm_config *config, uint64_t *hash)
{
    struct cllm_pass pass = {0};

    return hash_all(&pass, cllm_pass_begin(&pass, config), hash);
}

int cllm_import_adapter_hash(const struct cllm_config *config, uint64_t *hash)
{
    struct cllm_pass pass = {0};

    return hash_all(&pass, cllm_pass_begin_adapter(&pass, config), hash);
}

/* ---- hashes of chunks, as tensors go by ---- */

struct chunks {
    const struct cllm_geometry *geometry;
    struct cllm_chunk *chunk; /* [n_chunks] only sum[0] is used */
    float *w, *zero;          // (chunk_elements) each
    uint32_t current;
    uint64_t filled; /* elements of the current chunk */
    uint64_t at;     /* behind the last tensor */
};

static int begin_chunks(struct chunks *chunks, const struct cllm_geometry *geometry)
{
    *chunks = (struct chunks){.geometry = geometry};
    chunks->chunk = calloc(geometry->n_chunks, sizeof *chunks->chunk);
    chunks->w = calloc(geometry->chunk_elements, sizeof *chunks->w);
    chunks->zero = calloc(geometry->chunk_elements, sizeof *chunks->zero);
    return chunks->chunk != NULL && chunks->w != NULL && chunks->zero != NULL
               ? 0
               : cllm_err(-ENOMEM, "cannot hold a chunk");
}

static void end_chunks(struct chunks *chunks)
{
    free(chunks->chunk);
    free(chunks->w);
    free(chunks->zero);
}

/* The next @n elements of the vector; @data NULL: zeros. */
static void feed(struct chunks *chunks, const float *data, uint64_t n)
{
    while (n > 0) {
        uint32_t c = chunks->current;
        uint64_t size =
            cllm_chunk_hi(chunks->geometry, c) - cllm_chunk_lo(chunks->geometry, c);
        uint64_t part = cllm_min_u64(n, size - chunks->filled);

        if (data != NULL) {
            memcpy(chunks->w + chunks->filled, data, part * sizeof *data);
            data += part;
        } else {
            memset(chunks->w + chunks->filled, 0, part * sizeof *chunks->w);
        }
        chunks->filled += part;
        n -= part;
        if (chunks->filled < size)
            continue;
        chunks->chunk[c].sum[0] =
            cllm_chunk_sum(chunks->w, chunks->zero, chunks->zero, size, c);
        chunks->current++;
        chunks->filled = 0;
    }
}

/* ---- the checkpoint ---- */

/* The next tensor of the vector. */
static void feed_tensor(void *ctx, const struct cllm_tensor *tensor, const float *data)
{
    struct chunks *chunks = ctx;

    feed(chunks, NULL, tensor->off - chunks->at);
    feed(chunks, data, tensor->count);
    chunks->at = tensor->off + tensor->count;
}

/* The weights into model.safetensors, which is @fd; their root into @root. */
static int write_model(struct cllm_pass *pass, const struct cllm_plan *plan,
                       const struct cllm_safetensors_plan *file, int fd, const char *path,
                       uint64_t *root)
{
    struct chunks chunks;
    int rc = begin_chunks(&chunks, &plan->geometry);

    if (rc == 0)
        rc = cllm_pass_write(pass, file, fd, path, feed_tensor, &chunks);
    if (rc == 0) {
        feed(&chunks, NULL, plan->geometry.n_elements - chunks.at);
        *root = cllm_chunk_root(chunks.chunk, plan->geometry.n_chunks, 0);
    }
    end_chunks(&chunks);
    return rc;
}

/* Both files of tensors in @temp. */
static int write_tensors(struct cllm_pass *pass, const struct cllm_plan *plan,
                         const char *temp, uint64_t *root)
{
    struct cllm_safetensors_plan model = {0}, moments = {0};
    const struct cllm_tensor *tensors = pass->parameters.tensors;
    uint32_t n = pass->parameters.n_tensors;
    int fd, rc = cllm_safetensors_plan_init(&model, "", tensors, n, NULL, 0);

    if (rc == 0)
        rc = cllm_safetensors_plan_moments(&moments, tensors, n);
    if (rc == 0) {
        fd = cllm_checkpoint_create(temp, cllm_checkpoint_weights(&plan->geometry.lora),
                                    &model);
        rc = fd < 0 ? fd
                    : cllm_pass_close(fd, temp,
                                      write_model(pass, plan, &model, fd, temp, root));
    }
    cllm_pulse();
    if (rc == 0) { /* all zero, as it was reserved */
        fd = cllm_checkpoint_create(temp, CLLM_CHECKPOINT_OPTIMIZER, &moments);
        rc = fd < 0 ? fd : cllm_pass_close(fd, temp, 0);
    }
    cllm_safetensors_plan_fini(&model);
    cllm_safetensors_plan_fini(&moments);
    return rc;
}

/* What the checkpoint says of itself: nothing has been trained yet. */
static void fill_info(struct cllm_checkpoint_info *info, const struct cllm_pass *pass,
                      const struct cllm_plan *plan, uint64_t root)
{
    *info = (struct cllm_checkpoint_info){.train_loss = (double)NAN,
                                          .valid_loss = (double)NAN,
                                          .best_loss = (double)NAN,
                                          .model = pass->parameters.config,
                                          .init_range = pass->source.init_range,
                                          .lora = plan->geometry.lora,
                                          .base = plan->geometry.frozen_hash};
    (void)snprintf(info->fingerprint, sizeof info->fingerprint, "%016x%016" PRIx64, 0u,
                   plan->config_hash);
    (void)snprintf(info->root, sizeof info->root, "%016" PRIx64, root);
    (void)snprintf(info->data, sizeof info->data, "%016" PRIx64, plan->manifest_hash);
}

/* All of the checkpoint of step 0 but its name, in @temp. */
static int fill_checkpoint(struct cllm_pass *pass, const struct cllm_config *config,
                           const struct cllm_plan *plan, const char *temp)
{
    char tokenizer[CLLM_FILE_PATH_BYTES];
    struct cllm_checkpoint_info info;
    uint64_t root = 0;
    int rc = write_tensors(pass, plan, temp, &root);

    cllm_fault(CLLM_FAULT_import_tensors);
    if (rc == 0)
        rc = cllm_pass_check(pass, config, plan);
    if (rc != 0)
        return rc;
    fill_info(&info, pass, plan, root);
    rc = cllm_file_join(tokenizer, plan->run_dir, CLLM_TOKENIZER_DIR);
    if (rc == 0)
        rc = cllm_tokenizer_files_copy(tokenizer, temp);
    if (rc >= 0)
        rc = cllm_checkpoint_describe(temp, &info, NULL, 0);
    cllm_fault(CLLM_FAULT_import_described);
    if (rc == 0)
        rc = pass->adapted != NULL
                 ? cllm_adapted_keep(config, plan)
                 : cllm_origin_keep(plan->run_dir, config->train_from,
                                    &pass->parameters.config, plan->origin_hash);
    cllm_fault(CLLM_FAULT_import_kept);
    return rc;
}

static int make_checkpoint(struct cllm_pass *pass, const struct cllm_config *config,
                           const struct cllm_plan *plan)
{
    char checkpoints[CLLM_FILE_PATH_BYTES], temp[CLLM_FILE_PATH_BYTES];
    struct cllm_err_text why;
    int rc = cllm_file_join(checkpoints, plan->run_dir, "checkpoints");

    if (rc == 0)
        rc = cllm_checkpoint_begin(checkpoints, 0, temp);
    if (rc != 0)
        return rc;
    cllm_fault(CLLM_FAULT_import_begun);
    rc = fill_checkpoint(pass, config, plan, temp);
    if (rc == 0)
        rc = cllm_checkpoint_commit(checkpoints, 0);
    cllm_fault(CLLM_FAULT_import_committed);
    if (rc < 0) { /* and the disk is as it was */
        cllm_err_save(&why);
        (void)cllm_file_remove_tree(temp);
        cllm_err_restore(&why);
        return rc;
    }
    rc = cllm_checkpoint_link(checkpoints, "last", 0);
    cllm_fault(CLLM_FAULT_import_linked);
    return rc;
}

int cllm_import_checkpoint(const struct cllm_config *config, const struct cllm_plan *plan)
{
    struct cllm_pass pass;
    int rc = cllm_pass_begin(&pass, config);

    if (rc == 0)
        rc = make_checkpoint(&pass, config, plan);
    if (rc == 0)
        cllm_info("version 0 is %s (%s, %s)", config->train_from,
                  cllm_source_kind_name(pass.source.kind), pass.source.dtype);
    cllm_pass_end(&pass);
    return rc;
}

int cllm_import_adapter(const struct cllm_config *config, const struct cllm_plan *plan)
{
    struct cllm_pass pass;
    int rc = cllm_pass_begin_adapter(&pass, config);

    if (rc == 0)
        rc = make_checkpoint(&pass, config, plan);
    if (rc == 0)
        cllm_info("version 0 of the adapters is %s", pass.source.path);
    cllm_pass_end(&pass);
    return rc;
}
