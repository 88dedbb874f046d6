/*
 * formats/checkpoint.c - is a checkpoint whole, which one is the newest, and its tensors.
 */
#include "formats/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/log.h"
#include "formats/adapter.h"
#include "formats/checkpoint_json.h"
#include "formats/checkpoint_list.h"

const char *cllm_checkpoint_weights(const struct cllm_lora *lora)
{
    return lora->rank > 0 ? CLLM_ADAPTER_MODEL : CLLM_CHECKPOINT_MODEL;
}

/* ---- verify ---- */

/* Tensor number @i of @st must be "@prefix@desc->name" in F32 with desc's shape. */
static int check_tensor(const struct cllm_safetensors *st, uint32_t i, const char *prefix,
                        const struct cllm_tensor *desc)
{
    const struct cllm_safetensors_tensor *tensor = &st->tensor[i];
    size_t len = strlen(prefix);

    if (strncmp(tensor->name, prefix, len) != 0 ||
        strcmp(tensor->name + len, desc->name) != 0)
        return cllm_err(CLLM_EDATA, "%s: tensor %u: expected \"%s%s\", found \"%s\"",
                        st->path, i, prefix, desc->name, tensor->name);
    if (tensor->dtype != CLLM_DTYPE_F32)
        return cllm_err(CLLM_EDATA, "%s: tensor \"%s\": expected dtype F32, found %s",
                        st->path, tensor->name, cllm_dtype_name(tensor->dtype));
    if (tensor->rank != desc->rank || tensor->shape[0] != desc->shape[0] ||
        (desc->rank == 2 && tensor->shape[1] != desc->shape[1])) {
        int rc = cllm_err(CLLM_EDATA,
                          "%s: tensor \"%s\": its shape is not that of config.json",
                          st->path, tensor->name);
        cllm_err_detail("expected rank %u, (%" PRIu64 ", %" PRIu64 "); found rank %u, "
                        "(%" PRIu64 ", %" PRIu64 ")",
                        desc->rank, desc->shape[0], desc->shape[1], tensor->rank,
                        tensor->rank > 0 ? tensor->shape[0] : 1,
                        tensor->rank > 1 ? tensor->shape[1] : 1);
        return rc;
    }
    return 0;
}

/* The file @name of @dir must hold exactly @plan's tensors, once for each prefix. */
static int check_tensors(const char *dir, const char *name, const char *const *prefixes,
                         uint32_t n_prefixes, const struct cllm_parameters *plan)
{
    uint32_t n = plan->n_tensors;
    char path[CLLM_FILE_PATH_BYTES];
    struct cllm_safetensors st = {.fd = -1};
    int rc = cllm_file_join(path, dir, name);

    if (rc == 0)
        rc = cllm_safetensors_open(&st, path);
    if (rc < 0)
        return rc;
    if (st.n_tensors != n_prefixes * n)
        rc = cllm_err(CLLM_EDATA, "%s: expected %u tensors, found %u", path,
                      n_prefixes * n, st.n_tensors);
    for (uint32_t i = 0; rc == 0 && i < st.n_tensors; i++)
        rc = check_tensor(&st, i, prefixes[i / n], &plan->tensors[i % n]);
    cllm_safetensors_close(&st);
    return rc;
}

/* Both tensor files against the configuration in @info. */
static int check_model(const char *dir, const struct cllm_checkpoint_info *info)
{
    static const char *const none[] = {""};
    static const char *const moments[] = {"m.", "v."};
    struct cllm_parameters plan;
    int rc = cllm_lora_trained(&plan, &info->model, &info->lora);

    if (rc != 0)
        return rc;
    rc = check_tensors(dir, cllm_checkpoint_weights(&info->lora), none, 1, &plan);
    if (rc == 0)
        rc = check_tensors(dir, CLLM_CHECKPOINT_OPTIMIZER, moments, 2, &plan);
    cllm_parameters_fini(&plan);
    return rc;
}

/* A directory named after a step must hold that step. */
static int check_name(const char *dir, uint64_t step)
{
    char path[CLLM_FILE_PATH_BYTES];
    size_t len = strlen(dir);
    uint64_t named = 0;

    if (len >= sizeof path)
        return cllm_err(-ENAMETOOLONG, "cannot use the path %.200s...", dir);
    memcpy(path, dir, len + 1);
    while (len > 1 && path[len - 1] == '/')
        path[--len] = '\0';
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    if ((cllm_checkpoint_parse_name(name, false, &named) ||
         cllm_checkpoint_parse_name(name, true, &named)) &&
        named != step)
        return cllm_err(CLLM_EDATA, "%s: run.json is of step %" PRIu64, dir, step);
    return 0;
}

int cllm_checkpoint_verify(const char *dir, bool deep, struct cllm_checkpoint_info *info)
{
    struct cllm_checkpoint_info found = {0};
    struct stat st;

    if (stat(dir, &st) != 0)
        return cllm_err(-errno, "cannot open the checkpoint %s", dir);
    if (!S_ISDIR(st.st_mode))
        return cllm_err(-ENOTDIR, "cannot open the checkpoint %s", dir);
    int rc = cllm_checkpoint_check_manifest(dir, deep);
    if (rc == 0)
        rc = cllm_checkpoint_read_config(dir, &found);
    if (rc == 0)
        rc = cllm_checkpoint_read_run(dir, &found);
    if (rc == 0 && found.lora.rank > 0) /* to be read: run.json says that it has some */
        rc = cllm_adapter_read_config(dir, &found.model, &found.lora);
    if (rc == 0)
        rc = check_name(dir, found.step);
    if (rc == 0)
        rc = check_model(dir, &found);
    if (rc == 0 && info != NULL)
        *info = found;
    return rc;
}

int cllm_checkpoint_newest(const char *checkpoints, char dir[CLLM_FILE_PATH_BYTES])
{
    struct cllm_checkpoint_list list;
    char name[32];
    int rc = cllm_checkpoint_list(checkpoints, false, &list);

    if (rc < 0)
        return rc;
    if (list.n == 0)
        rc = cllm_err(-ENOENT, "there is no checkpoint in %s", checkpoints);
    for (uint32_t i = 0; i < list.n; i++) {
        cllm_checkpoint_name(name, list.step[i], false);
        rc = cllm_file_join(dir, checkpoints, name);
        if (rc == 0)
            rc = cllm_checkpoint_verify(dir, true, NULL);
        if (rc == 0)
            break;
        cllm_warn("checkpoint %s is passed over: %s", name, cllm_err_text());
    }
    if (rc < 0 && list.n == 1)
        rc = cllm_err(CLLM_EDATA, "the only checkpoint in %s is not sound", checkpoints);
    else if (rc < 0 && list.n > 0)
        rc = cllm_err(CLLM_EDATA, "none of the %u checkpoints in %s is sound", list.n,
                      checkpoints);
    free(list.step);
    return rc;
}

/* ---- open ---- */

static bool is_directory(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Does @path hold checkpoints, rather than being one? */
static bool holds_checkpoints(const char *path)
{
    struct cllm_checkpoint_list list;
    uint64_t step;
    bool some = cllm_checkpoint_linked(path, "last", &step) > 0;

    if (cllm_checkpoint_list(path, false, &list) == 0) {
        some = some || list.n > 0;
        free(list.step);
    }
    return some;
}

/* The checkpoint to take out of the directory @checkpoints: `last`, or the newest sound
 * one. */
static int choose(const char *checkpoints, char dir[CLLM_FILE_PATH_BYTES],
                  struct cllm_checkpoint_info *info)
{
    uint64_t step = 0;
    char name[32];
    int rc;

    if (cllm_checkpoint_linked(checkpoints, "last", &step) > 0) {
        cllm_checkpoint_name(name, step, false);
        rc = cllm_file_join(dir, checkpoints, name);
        if (rc == 0)
            rc = cllm_checkpoint_verify(dir, true, info);
        if (rc == 0)
            return 0;
        cllm_warn("checkpoint %s, the last, is passed over: %s", name, cllm_err_text());
    }
    rc = cllm_checkpoint_newest(checkpoints, dir);
    return rc < 0 ? rc : cllm_checkpoint_verify(dir, false, info);
}

/* From what the user named to a verified checkpoint. */
static int resolve(const char *path, char dir[CLLM_FILE_PATH_BYTES],
                   struct cllm_checkpoint_info *info)
{
    char inner[CLLM_FILE_PATH_BYTES];
    int rc = cllm_file_join(inner, path, "checkpoints");

    if (rc < 0)
        return rc;
    if (is_directory(inner))
        return choose(inner, dir, info);
    if (is_directory(path) && holds_checkpoints(path))
        return choose(path, dir, info);
    (void)snprintf(dir, CLLM_FILE_PATH_BYTES, "%s",
                   path); /* join has checked the length */
    return cllm_checkpoint_verify(dir, true, info);
}

int cllm_checkpoint_open(struct cllm_checkpoint *checkpoint, const char *path)
{
    char file[CLLM_FILE_PATH_BYTES];
    int rc;

    memset(checkpoint, 0, sizeof *checkpoint);
    checkpoint->model.fd = -1;
    checkpoint->optimizer.fd = -1;
    rc = resolve(path, checkpoint->dir, &checkpoint->info);
    if (rc == 0)
        rc = cllm_file_join(file, checkpoint->dir,
                            cllm_checkpoint_weights(&checkpoint->info.lora));
    if (rc == 0)
        rc = cllm_safetensors_open(&checkpoint->model, file);
    if (rc == 0)
        rc = cllm_file_join(file, checkpoint->dir, CLLM_CHECKPOINT_OPTIMIZER);
    if (rc == 0)
        rc = cllm_safetensors_open(&checkpoint->optimizer, file);
    if (rc < 0)
        cllm_checkpoint_close(checkpoint);
    return rc;
}

void cllm_checkpoint_close(struct cllm_checkpoint *checkpoint)
{
    cllm_safetensors_close(&checkpoint->model);
    cllm_safetensors_close(&checkpoint->optimizer);
}

int cllm_checkpoint_read(const struct cllm_checkpoint *checkpoint, const char *name,
                         float *out, uint64_t count)
{
    bool moment = strncmp(name, "m.", 2) == 0 || strncmp(name, "v.", 2) == 0;
    const struct cllm_safetensors *st =
        moment ? &checkpoint->optimizer : &checkpoint->model;
    const struct cllm_safetensors_tensor *tensor = cllm_safetensors_find(st, name);

    if (tensor == NULL)
        return cllm_err(CLLM_EDATA, "%s: there is no tensor \"%s\"", st->path, name);
    if (tensor->n_elements != count)
        return cllm_err(CLLM_EDATA,
                        "%s: tensor \"%s\": expected %" PRIu64
                        " elements, found %" PRIu64,
                        st->path, name, count, tensor->n_elements);
    return cllm_safetensors_read(st, tensor, 0, count, out);
}
