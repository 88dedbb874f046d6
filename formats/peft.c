/*
 * formats/peft.c - every tensor of the adapter, each once, and no other.
 */
#include "formats/peft.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "formats/adapter.h"
#include "formats/json.h"
#include "formats/safetensors.h"

#define CONFIG_CAP (1u << 20)
#define NAME       "base_model_name_or_path"

static bool is_there(const char *dir, const char *name, char path[CLLM_FILE_PATH_BYTES])
{
    struct stat st;

    return cllm_file_join(path, dir, name) == 0 && stat(path, &st) == 0;
}

bool cllm_peft_is(const char *dir)
{
    char path[CLLM_FILE_PATH_BYTES];

    return is_there(dir, CLLM_ADAPTER_CONFIG, path);
}

/* ---- the model beneath ---- */

/* @name as a path, in the order of the header. */
static bool find_base(const char *dir, const char *name, char base[CLLM_FILE_PATH_BYTES])
{
    char config[CLLM_FILE_PATH_BYTES];

    if (name[0] != '/' && cllm_file_join(base, dir, name) == 0 &&
        is_there(base, CLLM_HF_CONFIG, config))
        return true;
    return snprintf(base, CLLM_FILE_PATH_BYTES, "%s", name) < CLLM_FILE_PATH_BYTES &&
           is_there(base, CLLM_HF_CONFIG, config);
}

int cllm_peft_base(const char *dir, char base[CLLM_FILE_PATH_BYTES])
{
    char path[CLLM_FILE_PATH_BYTES];
    const char *name = NULL;
    json_t *json = NULL;
    int rc = cllm_file_join(path, dir, CLLM_ADAPTER_CONFIG);

    if (rc == 0)
        rc = cllm_json_load(path, CONFIG_CAP, &json);
    if (rc == 0)
        rc = cllm_json_get_text(json, path, NAME, &name);
    if (rc == 0 && !find_base(dir, name, base)) {
        rc = cllm_err(CLLM_EDATA, "%s: the model beneath the adapter is not here", path);
        cllm_err_detail("\"" NAME "\" is \"%s\", expected a directory with %s", name,
                        CLLM_HF_CONFIG);
        cllm_err_hint("cllm-convert --base=DIR names it; a run has it as [train] from, "
                      "and the adapter as [lora] from");
    }
    json_decref(json);
    return rc;
}

/* ---- the tensors ---- */

/* The tensor of @file that @want is. */
static int find(const struct cllm_safetensors *file, const struct cllm_tensor *want,
                const struct cllm_safetensors_tensor **out)
{
    const struct cllm_safetensors_tensor *tensor =
        cllm_safetensors_find(file, want->name);

    if (tensor == NULL)
        return cllm_err(CLLM_EDATA, "%s: tensor %s is missing", file->path, want->name);
    if (tensor->rank != 2 || tensor->shape[0] != want->shape[0] ||
        tensor->shape[1] != want->shape[1])
        return cllm_err(CLLM_EDATA,
                        "%s: tensor %s at offset %" PRIu64 ": expected %" PRIu64
                        " x %" PRIu64 ", found %" PRIu64 " x %" PRIu64
                        " (of %u dimensions)",
                        file->path, want->name, tensor->data_off, want->shape[0],
                        want->shape[1], tensor->rank > 0 ? tensor->shape[0] : 1,
                        tensor->rank > 1 ? tensor->shape[1] : 1, tensor->rank);
    *out = tensor;
    return 0;
}

/* As many tensors are there as there must be, and all of those are: which one is too
 * many? */
static int refuse_more(const struct cllm_safetensors *file,
                       const struct cllm_parameters *tensors)
{
    for (uint32_t i = 0; i < file->n_tensors; i++) {
        bool known = false;

        for (uint32_t t = 0; !known && t < tensors->n_tensors; t++)
            known = strcmp(file->tensor[i].name, tensors->tensors[t].name) == 0;
        if (known)
            continue;
        int rc = cllm_err(CLLM_EDATA,
                          "%s: tensor %s at offset %" PRIu64 " is no adapter "
                          "that the configuration tells of",
                          file->path, file->tensor[i].name, file->tensor[i].data_off);
        cllm_err_hint("CLLM has A and B of target_modules alone, in every block the "
                      "same: no modules_to_save, no embeddings");
        return rc;
    }
    return 0;
}

static int read_tensors(const char *dir, const struct cllm_parameters *tensors, float *w)
{
    const struct cllm_safetensors_tensor *tensor = NULL;
    char path[CLLM_FILE_PATH_BYTES];
    struct cllm_safetensors file;
    int rc = cllm_file_join(path, dir, CLLM_ADAPTER_MODEL);

    if (rc == 0)
        rc = cllm_safetensors_open(&file, path);
    if (rc != 0)
        return rc;
    for (uint32_t t = 0; rc == 0 && t < tensors->n_tensors; t++) {
        const struct cllm_tensor *want = &tensors->tensors[t];

        rc = find(&file, want, &tensor);
        if (rc == 0)
            rc = cllm_safetensors_read(&file, tensor, 0, want->count, w + want->off);
    }
    if (rc == 0 && file.n_tensors > tensors->n_tensors)
        rc = refuse_more(&file, tensors);
    cllm_safetensors_close(&file);
    return rc;
}

int cllm_peft_read(const char *dir, const struct cllm_parameters *base,
                   struct cllm_lora *lora, struct cllm_parameters *tensors, float **w)
{
    int rc = cllm_adapter_read_config(dir, &base->config, lora);

    if (rc != 0 || tensors == NULL)
        return rc;
    rc = cllm_lora_parameters(tensors, base, lora);
    if (rc != 0)
        return rc;
    *w = calloc(tensors->n_elements, sizeof **w);
    rc = *w == NULL ? cllm_err(-ENOMEM, "cannot hold the adapter in %s", dir)
                    : read_tensors(dir, tensors, *w);
    if (rc != 0) {
        cllm_parameters_fini(tensors);
        free(*w);
        *w = NULL;
    }
    return rc;
}
