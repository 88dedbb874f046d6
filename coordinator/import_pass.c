/*
 * coordinator/import_pass.c - tensor by tensor through one buffer, hashed and written as
 * it goes by.
 */
#include "coordinator/import_pass.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fault.h"
#include "base/hash.h"
#include "base/pulse.h"
#include "coordinator/adapted.h"
#include "coordinator/origin.h"
#include "formats/file.h"
#include "formats/peft.h"

#define DIRTY_BYTES (64u << 20) /* written, not yet on the disk */

void cllm_pass_end(struct cllm_pass *pass)
{
    cllm_source_close(&pass->source);
    cllm_parameters_fini(&pass->parameters);
    cllm_hasher_free(&pass->hasher);
    free(pass->adapted);
    free(pass->data);
    free(pass->room);
}

int cllm_pass_begin(struct cllm_pass *pass, const struct cllm_config *config)
{
    const struct cllm_model_config model = cllm_model_config_from(config);
    uint64_t most;
    int rc;

    *pass = (struct cllm_pass){0};
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

int cllm_pass_begin_adapter(struct cllm_pass *pass, const struct cllm_config *config)
{
    const struct cllm_model_config model = cllm_model_config_from(config);
    struct cllm_parameters base;
    struct cllm_lora lora;
    uint64_t most = 1;
    int rc;

    *pass = (struct cllm_pass){.source.init_range = 0.02};
    rc = cllm_adapted_directory(config, pass->source.path);
    if (rc == 0)
        rc = cllm_parameters_init(&base, &model);
    if (rc != 0)
        return rc;
    rc = cllm_peft_read(pass->source.path, &base, &lora, &pass->parameters,
                        &pass->adapted);
    cllm_parameters_fini(&base);
    if (rc != 0)
        return rc;
    for (uint32_t i = 0; i < pass->parameters.n_tensors; i++)
        most = cllm_max_u64(most, pass->parameters.tensors[i].count);
    pass->data = malloc(most * sizeof *pass->data);
    pass->hasher = cllm_hasher_new();
    if (pass->data == NULL || pass->hasher == NULL)
        return cllm_err(-ENOMEM, "cannot hold a tensor of %" PRIu64 " numbers", most);
    cllm_hasher_begin(pass->hasher, 0);
    return 0;
}

/* Between two pieces of work: 0, or CLLM_ESTOPPED with text. */
static int go_on(const struct cllm_pass *pass)
{
    return cllm_pulse_stopped()
               ? cllm_err(CLLM_ESTOPPED, "stopped while %s was read", pass->source.path)
               : 0;
}

int cllm_pass_take(struct cllm_pass *pass, uint32_t index)
{
    const struct cllm_tensor *want = &pass->parameters.tensors[index];
    const struct cllm_tensor *have;
    int rc;

    if (pass->adapted != NULL) {
        memcpy(pass->data, pass->adapted + want->off, want->count * sizeof *pass->data);
        cllm_hasher_add(pass->hasher, pass->data, want->count * sizeof *pass->data);
        return go_on(pass);
    }
    have = &pass->source.parameters.tensors[index];
    if (strcmp(want->name, have->name) != 0 || want->shape[1] != have->shape[1] ||
        want->count > have->count ||
        (want->count < have->count && want->kind != CLLM_TENSOR_POSITIONS))
        return cllm_err(CLLM_EDATA, "%s: tensor %s is not that of [model]",
                        pass->source.path, have->name);
    rc = cllm_source_read(&pass->source, index, pass->data, pass->room);
    if (rc == 0)
        cllm_hasher_add(pass->hasher, pass->data, want->count * sizeof *pass->data);
    cllm_pulse();
    return rc == 0 ? go_on(pass) : rc;
}

/* Write @tensor; what is not on the disk yet stays so little that no later fsync is long
 * enough to look like a hang. */
static int put(const struct cllm_pass *pass, int fd, const char *path,
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
        if (rc == 0)
            rc = go_on(pass);
    }
    cllm_fault(CLLM_FAULT_import_tensor);
    return rc;
}

int cllm_pass_write(struct cllm_pass *pass, const struct cllm_safetensors_plan *file,
                    int fd, const char *path, cllm_pass_fn visit, void *ctx)
{
    uint64_t behind = 0;
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < pass->parameters.n_tensors; i++) {
        const struct cllm_tensor *tensor = &pass->parameters.tensors[i];

        rc = cllm_pass_take(pass, i);
        if (rc == 0)
            rc = put(pass, fd, path, tensor, file->data_off[i], &behind);
        if (rc == 0 && visit != NULL)
            visit(ctx, tensor, pass->data);
    }
    return rc;
}

int cllm_pass_close(int fd, const char *path, int rc)
{
    int failed = cllm_fault_error(CLLM_FAULT_import_fsync);

    if (rc == 0 && failed == 0 && fsync(fd) != 0)
        failed = -errno;
    if (rc == 0 && failed != 0)
        rc = cllm_err(failed, "cannot fsync %s", path);
    if (close(fd) != 0 && rc == 0)
        rc = cllm_err(-errno, "cannot close %s", path);
    return rc;
}

int cllm_pass_check(const struct cllm_pass *pass, const struct cllm_config *config,
                    const struct cllm_plan *plan)
{
    bool adapter = pass->adapted != NULL;
    int rc;

    if (cllm_hasher_end(pass->hasher) ==
        (adapter ? plan->adapter_hash : plan->origin_hash))
        return 0;
    rc = cllm_err(CLLM_EDATA, "%s changed while the run began",
                  adapter ? config->lora_from : config->train_from);
    cllm_err_hint("remove %s/%s and begin again", plan->run_dir,
                  adapter ? CLLM_ADAPTED_FILE : CLLM_ORIGIN_FILE);
    return rc;
}
