/*
 * formats/hf_writer.c - model.safetensors, in one file or in several, and config.json.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/config_json.h"
#include "formats/half.h"
#include "formats/hf.h"
#include "formats/json.h"

static uint64_t tensor_bytes(const struct cllm_hf_writer *writer, uint32_t index)
{
    return writer->parameters->tensors[index].count *
           (writer->dtype == CLLM_DTYPE_F32 ? 4 : 2);
}

static void file_name(const struct cllm_hf_writer *writer, uint32_t file, char name[64])
{
    if (writer->n_files == 1)
        (void)snprintf(name, 64, "%s", CLLM_HF_MODEL);
    else
        (void)snprintf(name, 64, "model-%05u-of-%05u.safetensors", file + 1,
                       writer->n_files);
}

/* Which tensors go into which file: as many as there is room for, at least one. */
static void divide(struct cllm_hf_writer *writer, uint64_t max_shard)
{
    uint32_t n = writer->parameters->n_tensors;
    uint64_t used = 0;

    writer->first[0] = 0;
    writer->n_files = 1;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t bytes = tensor_bytes(writer, i);
        if (max_shard > 0 && used > 0 &&
            bytes > max_shard - cllm_min_u64(used, max_shard)) {
            writer->first[writer->n_files++] = i;
            used = 0;
        }
        used += bytes;
    }
    writer->first[writer->n_files] = n;
}

int cllm_hf_writer_begin(struct cllm_hf_writer *writer, const char *dir,
                         const struct cllm_parameters *parameters, enum cllm_dtype dtype,
                         uint64_t max_shard)
{
    *writer = (struct cllm_hf_writer){
        .parameters = parameters, .dtype = dtype, .fd = -1, .file = UINT32_MAX};
    (void)snprintf(writer->dir, sizeof writer->dir, "%s", dir);
    writer->first = calloc(parameters->n_tensors + (size_t)2, sizeof *writer->first);
    if (writer->first == NULL)
        return cllm_err(-ENOMEM, "cannot write %s", dir);
    divide(writer, max_shard);
    return 0;
}

/* The open file is complete. */
static int close_file(struct cllm_hf_writer *writer)
{
    int rc = 0;

    if (writer->fd < 0)
        return 0;
    if (fsync(writer->fd) != 0)
        rc = cllm_err(-errno, "cannot fsync %s", writer->path);
    if (close(writer->fd) != 0 && rc == 0)
        rc = cllm_err(-errno, "cannot close %s", writer->path);
    writer->fd = -1;
    cllm_safetensors_plan_fini(&writer->plan);
    return rc;
}

/* Close one file, create the next with room for all of it. */
static int next_file(struct cllm_hf_writer *writer)
{
    uint32_t file = writer->file + 1; /* from UINT32_MAX to 0 */
    uint32_t first = writer->first[file];
    char name[64];
    int rc = close_file(writer);

    if (rc != 0)
        return rc;
    writer->file = file;
    file_name(writer, file, name);
    rc = cllm_file_join(writer->path, writer->dir, name);
    if (rc == 0)
        rc = cllm_safetensors_plan_typed(&writer->plan,
                                         writer->parameters->tensors + first,
                                         writer->first[file + 1] - first, writer->dtype);
    if (rc != 0)
        return rc;
    writer->fd =
        open(writer->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (writer->fd < 0)
        return cllm_err(-errno, "cannot create %s", writer->path);
    do
        rc = posix_fallocate(writer->fd, 0, (off_t)writer->plan.file_bytes);
    while (rc == EINTR);
    if (rc != 0) {
        rc = cllm_err(-rc, "cannot reserve room for %s", writer->path);
        cllm_err_detail("posix_fallocate of %" PRIu64 " bytes", writer->plan.file_bytes);
        return rc;
    }
    return cllm_file_pwrite_all(writer->fd, writer->plan.header,
                                (size_t)writer->plan.header_bytes, 0, writer->path);
}

/* Numbers in place: the 16-bit ones lie in the first half of @data afterwards. */
static int encode(const struct cllm_hf_writer *writer, uint32_t index, float *data)
{
    const struct cllm_tensor *tensor = &writer->parameters->tensors[index];
    uint16_t stage[4096];
    uint64_t n;
    int rc;

    for (uint64_t done = 0; done < tensor->count; done += n) {
        n = cllm_min_u64(CLLM_LEN(stage), tensor->count - done);
        if (writer->dtype == CLLM_DTYPE_BF16) {
            cllm_half_bf16_encode(stage, data + done, (size_t)n);
        } else {
            size_t fits = cllm_half_f16_fits(data + done, (size_t)n);
            if (fits < n) {
                rc = cllm_err(
                    CLLM_EREFUSED,
                    "%s: tensor \"%s\": element %" PRIu64 ", %g, does not fit f16",
                    writer->path, tensor->name, done + fits, (double)data[done + fits]);
                cllm_err_hint("f32 and bf16 hold every number");
                return rc;
            }
            cllm_half_f16_encode(stage, data + done, (size_t)n);
        }
        memcpy((uint8_t *)data + done * sizeof *stage, stage, (size_t)n * sizeof *stage);
    }
    return 0;
}

int cllm_hf_writer_put(struct cllm_hf_writer *writer, uint32_t index, float *data)
{
    uint32_t next = writer->file + 1;
    int rc = 0;

    if (next < writer->n_files && writer->first[next] == index)
        rc = next_file(writer);
    if (rc == 0 && writer->dtype != CLLM_DTYPE_F32)
        rc = encode(writer, index, data);
    return rc == 0 ? cllm_file_pwrite_all(
                         writer->fd, data, (size_t)tensor_bytes(writer, index),
                         writer->plan.data_off[index - writer->first[writer->file]],
                         writer->path)
                   : rc;
}

static json_t *make_index(const struct cllm_hf_writer *writer)
{
    json_t *map = json_object();
    uint64_t total = 0;
    char name[64];

    for (uint32_t file = 0; file < writer->n_files; file++) {
        file_name(writer, file, name);
        for (uint32_t i = writer->first[file]; i < writer->first[file + 1]; i++) {
            total += tensor_bytes(writer, i);
            if (json_object_set_new(map, writer->parameters->tensors[i].name,
                                    json_string(name)) != 0) {
                json_decref(map);
                return NULL;
            }
        }
    }
    return json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)total,
                     "weight_map", map);
}

static json_t *token_number(uint32_t token)
{
    return token == UINT32_MAX ? json_null() : json_integer(token);
}

static json_t *make_config(const struct cllm_hf_writer *writer, double init_range,
                           uint32_t bos, uint32_t eos)
{
    json_t *config = cllm_config_json_pack(&writer->parameters->config, init_range);
    const char *dtype = writer->dtype == CLLM_DTYPE_F32   ? "float32"
                        : writer->dtype == CLLM_DTYPE_F16 ? "float16"
                                                          : "bfloat16";

    if (config == NULL ||
        json_object_set_new(config, "torch_dtype", json_string(dtype)) != 0 ||
        json_object_set_new(config, "bos_token_id", token_number(bos)) != 0 ||
        json_object_set_new(config, "eos_token_id", token_number(eos)) != 0) {
        json_decref(config);
        return NULL;
    }
    return config;
}

int cllm_hf_writer_finish(struct cllm_hf_writer *writer, double init_range, uint32_t bos,
                          uint32_t eos)
{
    int rc = close_file(writer);

    if (rc == 0 && writer->n_files > 1)
        rc = cllm_json_put(writer->dir, CLLM_HF_INDEX, make_index(writer));
    if (rc == 0)
        rc = cllm_json_put(writer->dir, CLLM_HF_CONFIG,
                           make_config(writer, init_range, bos, eos));
    cllm_hf_writer_abort(writer);
    return rc;
}

void cllm_hf_writer_abort(struct cllm_hf_writer *writer)
{
    if (writer->first == NULL)
        return;
    if (writer->fd >= 0)
        (void)close(writer->fd);
    cllm_safetensors_plan_fini(&writer->plan);
    free(writer->first);
    *writer = (struct cllm_hf_writer){.fd = -1};
}
