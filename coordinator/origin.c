/*
 * coordinator/origin.c - from somebody's model to the run's checkpoint of step 0.
 */
#include "coordinator/origin.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/pulse.h"
#include "formats/checkpoint.h"
#include "formats/config_json.h"
#include "formats/json.h"
#include "formats/source.h"
#include "formats/tokenizer_files.h"
#include "shm/chunk.h"

#define FILE_NAME "origin.json"
#define FILE_CAP  (1u << 20)
#define NONE      "none"

#define DIRTY_BYTES (64u << 20) /* written, not yet on the disk */

bool cllm_origin_is_set(const struct cllm_config *config)
{
    return strcmp(config->train_from, NONE) != 0;
}

/* ---- origin.json ---- */

/*
 * What @run_dir keeps of the model @from. 1: into @model and @hash; 0: it keeps nothing,
 * or of another model; negative: error with text.
 */
static int recall(const char *run_dir, const char *from, struct cllm_model_config *model,
                  uint64_t *hash)
{
    char path[CLLM_FILE_PATH_BYTES];
    const char *kept = NULL, *hex = NULL;
    json_t *json = NULL, *config = NULL;
    double init_range;
    int rc = cllm_file_join(path, run_dir, FILE_NAME);

    if (rc != 0 || access(path, F_OK) != 0)
        return rc;
    rc = cllm_json_load(path, FILE_CAP, &json);
    if (rc == 0)
        rc = cllm_json_get_text(json, path, "from", &kept);
    if (rc == 0)
        rc = cllm_json_get_text(json, path, "hash", &hex);
    if (rc == 0)
        rc = cllm_json_get_object(json, path, "config", &config);
    if (rc == 0)
        rc = cllm_config_json_parse(config, path, model, &init_range);
    if (rc == 0) {
        *hash = strtoull(hex, NULL, 16);
        rc = strcmp(kept, from) == 0;
    }
    json_decref(json);
    return rc;
}

static int keep(const char *run_dir, const char *from,
                const struct cllm_model_config *model, uint64_t hash)
{
    char hex[17];

    (void)snprintf(hex, sizeof hex, "%016" PRIx64, hash);
    return cllm_json_put(run_dir, FILE_NAME,
                         json_pack("{s:s, s:s, s:o}", "from", from, "hash", hex, "config",
                                   cllm_config_json_pack(model, 0.02)));
}

/* ---- [model] ---- */

/* The numbers of the model that [train] from names. */
static int find_model(const struct cllm_config *config, struct cllm_model_config *model)
{
    struct cllm_source source;
    uint64_t hash;
    int rc = recall(config->run_dir, config->train_from, model, &hash);

    if (rc != 0)
        return rc < 0 ? rc : 0;
    rc = cllm_source_open(&source, config->train_from);
    if (rc != 0)
        return rc;
    *model = source.parameters.config;
    cllm_source_close(&source);
    return 0;
}

/* Set "model.NAME=VALUE" unless it was given. */
static int adopt(struct cllm_config *config, const char *name, const char *value)
{
    char assignment[128];

    (void)snprintf(assignment, sizeof assignment, "model.%s", name);
    if (cllm_config_given(config, assignment))
        return 0;
    (void)snprintf(assignment, sizeof assignment, "model.%s=%s", name, value);
    return cllm_config_set(config, assignment);
}

static int adopt_u32(struct cllm_config *config, const char *name, uint32_t value)
{
    char text[16];

    (void)snprintf(text, sizeof text, "%u", value);
    return adopt(config, name, text);
}

static int adopt_f64(struct cllm_config *config, const char *name, double value)
{
    char text[32];

    (void)snprintf(text, sizeof text, "%.17g", value);
    return adopt(config, name, text);
}

static int adopt_rope(struct cllm_config *config, const struct cllm_model_config *model)
{
    int rc = adopt_f64(config, "rope_theta", model->rope_theta);

    if (rc == 0)
        rc = adopt(config, "rope_scaling", cllm_rope_scaling_names[model->rope_scaling]);
    if (rc != 0 || model->rope_scaling == CLLM_ROPE_NONE)
        return rc;
    rc = adopt_f64(config, "rope_factor", model->rope_factor);
    if (rc != 0 || model->rope_scaling == CLLM_ROPE_LINEAR)
        return rc; /* which has no other number */
    rc = adopt_u32(config, "rope_original", model->rope_original);
    if (rc == 0)
        rc = adopt_f64(config, "rope_low", model->rope_low);
    return rc == 0 ? adopt_f64(config, "rope_high", model->rope_high) : rc;
}

static int adopt_all(struct cllm_config *config, const struct cllm_model_config *model)
{
    const struct {
        const char *name;
        uint32_t value;
    } sizes[] = {
        {"vocab", model->vocab},         {"context", model->context},
        {"layers", model->layers},       {"heads", model->heads},
        {"width", model->width},         {"kv_heads", model->kv_heads},
        {"head_size", model->head_size}, {"hidden", model->hidden},
    };
    int rc = adopt(config, "arch", cllm_arch_names[model->arch]);

    for (size_t i = 0; rc == 0 && i < CLLM_LEN(sizes); i++)
        rc = adopt_u32(config, sizes[i].name, sizes[i].value);
    if (rc == 0)
        rc = adopt(config, "tied", model->untied ? "no" : "yes");
    if (rc == 0)
        rc = adopt_f64(config, "norm_epsilon", model->norm_epsilon);
    return rc == 0 && model->arch == CLLM_ARCH_LLAMA ? adopt_rope(config, model) : rc;
}

/* What the user gave and the model has otherwise. */
static int check_agree(const struct cllm_config *config,
                       const struct cllm_model_config *model)
{
    struct cllm_model_config own = cllm_model_config_from(config);
    const struct {
        const char *name;
        uint32_t given, found;
    } sizes[] = {
        {"arch", own.arch, model->arch},
        {"vocab", own.vocab, model->vocab},
        {"layers", own.layers, model->layers},
        {"heads", own.heads, model->heads},
        {"width", own.width, model->width},
        {"kv_heads", own.kv_heads, model->kv_heads},
        {"head_size", own.head_size, model->head_size},
        {"hidden", own.hidden, model->hidden},
        {"tied (0) or not (1)", own.untied, model->untied},
    };
    int rc;

    cllm_model_config_complete(&own);
    for (size_t i = 0; i < CLLM_LEN(sizes); i++) {
        if (sizes[i].given == sizes[i].found)
            continue;
        rc = cllm_err(CLLM_ECONFIG, "[model] %s is %u, that of %s is %u", sizes[i].name,
                      sizes[i].given, config->train_from, sizes[i].found);
        cllm_err_hint("leave the options of [model] out: they are the model's own");
        return rc;
    }
    if (own.context <= model->context)
        return 0;
    if (model->arch == CLLM_ARCH_LLAMA) {
        cllm_warn("[model] context = %u, but %s was trained with %u", own.context,
                  config->train_from, model->context);
        return 0;
    }
    rc = cllm_err(CLLM_ECONFIG, "[model] context is %u, but %s has %u positions",
                  own.context, config->train_from, model->context);
    cllm_err_hint("set it to %u, or less", model->context);
    return rc;
}

int cllm_origin_complete(struct cllm_config *config)
{
    struct cllm_model_config model;
    int rc;

    if (!cllm_origin_is_set(config))
        return 0;
    rc = find_model(config, &model);
    if (rc == 0)
        rc = adopt_all(config, &model);
    if (rc == 0)
        rc = check_agree(config, &model);
    if (rc != 0)
        cllm_err_add("[train] from");
    return rc;
}

/* ---- weights ---- */

/* One pass over the weights that the run begins with. */
struct pass {
    struct cllm_source source;
    struct cllm_parameters parameters; /* of the run */
    float *data, *room;                // of the largest tensor
    struct cllm_hasher *hasher;
};

static void end_pass(struct pass *pass)
{
    cllm_source_close(&pass->source);
    cllm_parameters_fini(&pass->parameters);
    cllm_hasher_free(&pass->hasher);
    free(pass->data);
    free(pass->room);
}

static int begin_pass(struct pass *pass, const struct cllm_config *config)
{
    const struct cllm_model_config model = cllm_model_config_from(config);
    uint64_t most;
    int rc;

    *pass = (struct pass){0};
    rc = cllm_source_open(&pass->source, config->train_from);
    if (rc == 0)
        rc = cllm_parameters_init(&pass->parameters, &model);
    if (rc != 0)
        return rc;
    if (pass->parameters.n_tensors != pass->source.parameters.n_tensors)
        return cllm_err(CLLM_EDATA, "%s is not the model that [model] describes",
                        config->train_from);
    most = cllm_source_room(&pass->source);
    pass->data = malloc(most * sizeof *pass->data);
    pass->room = malloc(most * sizeof *pass->room);
    pass->hasher = cllm_hasher_new();
    if (pass->data == NULL || pass->room == NULL || pass->hasher == NULL)
        return cllm_err(-ENOMEM, "cannot hold a tensor of %" PRIu64 " numbers", most);
    cllm_hasher_begin(pass->hasher, 0);
    return 0;
}

/* Tensor @index of the run into pass->data; of a shorter context the first positions. */
static int take(struct pass *pass, uint32_t index)
{
    const struct cllm_tensor *want = &pass->parameters.tensors[index];
    const struct cllm_tensor *have = &pass->source.parameters.tensors[index];
    int rc;

    if (strcmp(want->name, have->name) != 0 || want->shape[1] != have->shape[1] ||
        want->count > have->count ||
        (want->count < have->count && want->kind != CLLM_TENSOR_POSITIONS))
        return cllm_err(CLLM_EDATA, "%s: tensor %s is not that of [model]",
                        pass->source.path, have->name);
    rc = cllm_source_read(&pass->source, index, pass->data, pass->room);
    if (rc == 0)
        cllm_hasher_add(pass->hasher, pass->data, want->count * sizeof *pass->data);
    cllm_pulse();
    return rc;
}

int cllm_origin_hash(const struct cllm_config *config, const char *run_dir,
                     uint64_t *hash)
{
    struct cllm_model_config model;
    struct pass pass;
    int rc;

    *hash = 0;
    if (!cllm_origin_is_set(config))
        return 0;
    rc = recall(run_dir, config->train_from, &model, hash);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    rc = begin_pass(&pass, config);
    for (uint32_t i = 0; rc == 0 && i < pass.parameters.n_tensors; i++)
        rc = take(&pass, i);
    if (rc == 0)
        *hash = cllm_hasher_end(pass.hasher);
    end_pass(&pass);
    if (rc != 0)
        cllm_err_add("[train] from");
    return rc;
}

/* ---- hashes of chunks, as tensors go by ---- */

struct chunks {
    const struct cllm_geometry *geometry;
    struct cllm_chunk *chunk; /* [n_chunks] only sum[0] is used */
    float *w, *zero;          // (chunk_elements) each
    uint32_t current;
    uint64_t filled; /* elements of the current chunk */
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

/* Write @tensor; what is not on the disk yet stays so little that no later fsync is long
 * enough to look like a hang. */
static int put(const struct pass *pass, int fd, const char *path,
               const struct cllm_tensor *tensor, uint64_t at, uint64_t *behind)
{
    uint64_t bytes = tensor->count * sizeof *pass->data;
    int rc = 0;

    for (uint64_t done = 0; rc == 0 && done < bytes;) {
        uint64_t n = cllm_min_u64(bytes - done, DIRTY_BYTES);

        rc = cllm_file_pwrite_all(fd, (const uint8_t *)pass->data + done, n, at + done,
                                  path);
        done += n;
        *behind += n;
        if (rc == 0 && *behind >= DIRTY_BYTES) {
            if (fdatasync(fd) != 0)
                rc = cllm_err(-errno, "cannot fdatasync %s", path);
            *behind = 0;
        }
        cllm_pulse();
    }
    return rc;
}

/* The weights into model.safetensors, which is @fd; their root into @root. */
static int write_model(struct pass *pass, const struct cllm_plan *plan,
                       const struct cllm_safetensors_plan *file, int fd, const char *path,
                       uint64_t *root)
{
    uint64_t at = 0, behind = 0;
    struct chunks chunks;
    int rc = begin_chunks(&chunks, &plan->geometry);

    for (uint32_t i = 0; rc == 0 && i < pass->parameters.n_tensors; i++) {
        const struct cllm_tensor *tensor = &pass->parameters.tensors[i];

        rc = take(pass, i);
        if (rc != 0)
            break;
        rc = put(pass, fd, path, tensor, file->data_off[i], &behind);
        feed(&chunks, NULL, tensor->off - at);
        feed(&chunks, pass->data, tensor->count);
        at = tensor->off + tensor->count;
    }
    if (rc == 0) {
        feed(&chunks, NULL, plan->geometry.n_elements - at);
        *root = cllm_chunk_root(chunks.chunk, plan->geometry.n_chunks, 0);
    }
    end_chunks(&chunks);
    return rc;
}

/* Durable, and closed in any case. */
static int close_file(int fd, const char *path, int rc)
{
    if (rc == 0 && fsync(fd) != 0)
        rc = cllm_err(-errno, "cannot fsync %s", path);
    if (close(fd) != 0 && rc == 0)
        rc = cllm_err(-errno, "cannot close %s", path);
    return rc;
}

/* Both files of tensors in @temp. */
static int write_tensors(struct pass *pass, const struct cllm_plan *plan,
                         const char *temp, uint64_t *root)
{
    struct cllm_safetensors_plan model = {0}, moments = {0};
    const struct cllm_tensor *tensors = pass->parameters.tensors;
    uint32_t n = pass->parameters.n_tensors;
    int fd, rc = cllm_safetensors_plan_init(&model, "", tensors, n, NULL, 0);

    if (rc == 0)
        rc = cllm_safetensors_plan_moments(&moments, tensors, n);
    if (rc == 0) {
        fd = cllm_checkpoint_create(temp, CLLM_CHECKPOINT_MODEL, &model);
        rc = fd < 0
                 ? fd
                 : close_file(fd, temp, write_model(pass, plan, &model, fd, temp, root));
    }
    cllm_pulse();
    if (rc == 0) { /* all zero, as it was reserved */
        fd = cllm_checkpoint_create(temp, CLLM_CHECKPOINT_OPTIMIZER, &moments);
        rc = fd < 0 ? fd : close_file(fd, temp, 0);
    }
    cllm_safetensors_plan_fini(&model);
    cllm_safetensors_plan_fini(&moments);
    return rc;
}

/* What the checkpoint says of itself: nothing has been trained yet. */
static void fill_info(struct cllm_checkpoint_info *info, const struct pass *pass,
                      const struct cllm_plan *plan, uint64_t root)
{
    *info = (struct cllm_checkpoint_info){.train_loss = (double)NAN,
                                          .valid_loss = (double)NAN,
                                          .best_loss = (double)NAN,
                                          .model = pass->parameters.config,
                                          .init_range = pass->source.init_range};
    (void)snprintf(info->fingerprint, sizeof info->fingerprint, "%016x%016" PRIx64, 0u,
                   plan->config_hash);
    (void)snprintf(info->root, sizeof info->root, "%016" PRIx64, root);
    (void)snprintf(info->data, sizeof info->data, "%016" PRIx64, plan->manifest_hash);
}

/* All of the checkpoint of step 0 but its name, in @temp. */
static int fill_checkpoint(struct pass *pass, const struct cllm_config *config,
                           const struct cllm_plan *plan, const char *temp)
{
    char tokenizer[CLLM_FILE_PATH_BYTES];
    struct cllm_checkpoint_info info;
    uint64_t root = 0;
    int rc = write_tensors(pass, plan, temp, &root);

    if (rc == 0 && cllm_hasher_end(pass->hasher) != plan->origin_hash) {
        rc = cllm_err(CLLM_EDATA, "%s changed while the run began", config->train_from);
        cllm_err_hint("remove %s/" FILE_NAME " and begin again", plan->run_dir);
    }
    if (rc != 0)
        return rc;
    fill_info(&info, pass, plan, root);
    rc = cllm_file_join(tokenizer, plan->run_dir, CLLM_TOKENIZER_DIR);
    if (rc == 0)
        rc = cllm_tokenizer_files_copy(tokenizer, temp);
    if (rc >= 0)
        rc = cllm_checkpoint_describe(temp, &info);
    if (rc == 0)
        rc = keep(plan->run_dir, config->train_from, &pass->parameters.config,
                  plan->origin_hash);
    return rc;
}

static int make_checkpoint(struct pass *pass, const struct cllm_config *config,
                           const struct cllm_plan *plan)
{
    char checkpoints[CLLM_FILE_PATH_BYTES], temp[CLLM_FILE_PATH_BYTES];
    struct cllm_err_text why;
    int rc = cllm_file_join(checkpoints, plan->run_dir, "checkpoints");

    if (rc == 0)
        rc = cllm_checkpoint_begin(checkpoints, 0, temp);
    if (rc != 0)
        return rc;
    rc = fill_checkpoint(pass, config, plan, temp);
    if (rc == 0)
        rc = cllm_checkpoint_commit(checkpoints, 0);
    if (rc < 0) { /* and the disk is as it was */
        cllm_err_save(&why);
        (void)cllm_file_remove_tree(temp);
        cllm_err_restore(&why);
        return rc;
    }
    return cllm_checkpoint_link(checkpoints, "last", 0);
}

int cllm_origin_import(const struct cllm_config *config, const struct cllm_plan *plan)
{
    struct pass pass;
    int rc;

    if (!cllm_origin_is_set(config))
        return 0;
    rc = begin_pass(&pass, config);
    if (rc == 0)
        rc = make_checkpoint(&pass, config, plan);
    if (rc == 0)
        cllm_info("version 0 is %s (%s, %s)", config->train_from,
                  cllm_source_kind_name(pass.source.kind), pass.source.dtype);
    end_pass(&pass);
    if (rc != 0)
        cllm_err_add("[train] from");
    return rc == 0 ? 1 : rc;
}
