/*
 * formats/hf.c - find each tensor of a model in the files of a directory.
 */
#include "formats/hf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "formats/config_json.h"
#include "formats/json.h"

#define CONFIG_CAP (1u << 20)
#define INDEX_CAP  (64u << 20)
#define NOWHERE    UINT32_MAX

/* Prefixes that a base model's files do not have. */
static const char *const prefixes[CLLM_N_ARCHS] = {
    [CLLM_ARCH_GPT2] = "transformer.", [CLLM_ARCH_LLAMA] = "model."};

/* Ends of names that mean nothing: masks, tables that follow from the configuration. */
static const char *const ignored[] = {".attn.bias", ".attn.masked_bias",
                                      ".rotary_emb.inv_freq"};

static bool exists(const char *dir, const char *name)
{
    char path[CLLM_FILE_PATH_BYTES];
    struct stat st;

    return cllm_file_join(path, dir, name) == 0 && stat(path, &st) == 0;
}

bool cllm_hf_is(const char *dir)
{
    return exists(dir, CLLM_HF_CONFIG) &&
           (exists(dir, CLLM_HF_MODEL) || exists(dir, CLLM_HF_INDEX));
}

int cllm_hf_read_config(const char *dir, struct cllm_model_config *config,
                        double *init_range)
{
    char path[CLLM_FILE_PATH_BYTES];
    json_t *json = NULL;
    int rc = cllm_file_join(path, dir, CLLM_HF_CONFIG);

    if (rc == 0)
        rc = cllm_json_load(path, CONFIG_CAP, &json);
    if (rc == 0)
        rc = cllm_config_json_parse(json, path, config, init_range);
    json_decref(json);
    return rc;
}

/* ---- the index ---- */

/* One of the files that an index names, unless it is there already. */
static int add_file(const char *where, const char *tensor, const char *file,
                    char ***files, uint32_t *n)
{
    char **larger;

    if (file == NULL || file[0] == '\0' || file[0] == '.' || strchr(file, '/') != NULL)
        return cllm_err(CLLM_EDATA,
                        "%s: weight_map: \"%s\": expected the name of a file beside it, "
                        "found \"%s\"",
                        where, tensor, file == NULL ? "" : file);
    for (uint32_t i = 0; i < *n; i++)
        if (strcmp((*files)[i], file) == 0)
            return 0;
    if (*n == CLLM_HF_FILES_MAX)
        return cllm_err(CLLM_EDATA, "%s: weight_map: expected at most %d files", where,
                        CLLM_HF_FILES_MAX);
    larger = realloc(*files, (*n + (size_t)1) * sizeof *larger);
    if (larger == NULL)
        return cllm_err(-ENOMEM, "cannot read %s", where);
    *files = larger;
    larger[*n] = strdup(file);
    if (larger[*n] == NULL)
        return cllm_err(-ENOMEM, "cannot read %s", where);
    ++*n;
    return 0;
}

static void free_names(char **files, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        free(files[i]);
    free(files);
}

int cllm_hf_parse_index(const char *text, size_t bytes, const char *name, char ***files,
                        uint32_t *n_files)
{
    json_t *json = NULL, *map = NULL, *value;
    const char *key;
    int rc = cllm_json_parse(text, bytes, name, &json);

    *files = NULL;
    *n_files = 0;
    if (rc == 0)
        rc = cllm_json_get_object(json, name, "weight_map", &map);
    if (rc == 0)
        json_object_foreach(map, key, value)
        {
            if (json_is_string(value))
                rc = add_file(name, key, json_string_value(value), files, n_files);
            else
                rc = cllm_err(CLLM_EDATA,
                              "%s: weight_map: \"%s\": expected the name of a file "
                              "beside it, found something that is no text",
                              name, key);
            if (rc != 0)
                break;
        }
    if (rc == 0 && *n_files == 0)
        rc = cllm_err(CLLM_EDATA, "%s: its weight_map is empty", name);
    json_decref(json);
    if (rc != 0) {
        free_names(*files, *n_files);
        *files = NULL;
        *n_files = 0;
    }
    return rc;
}

/* ---- opening ---- */

/* The names of the model's files: one, or those of the index. */
static int list_files(const struct cllm_hf *hf, char ***files, uint32_t *n)
{
    char path[CLLM_FILE_PATH_BYTES];
    char *text = NULL;
    size_t bytes = 0;
    int rc;

    if (exists(hf->dir, CLLM_HF_MODEL)) {
        *files = NULL;
        *n = 0;
        return add_file(hf->dir, "", CLLM_HF_MODEL, files, n);
    }
    rc = cllm_file_join(path, hf->dir, CLLM_HF_INDEX);
    if (rc == 0 && !exists(hf->dir, CLLM_HF_INDEX)) {
        rc = cllm_err(CLLM_EDATA, "%s has no %s and no %s", hf->dir, CLLM_HF_MODEL,
                      CLLM_HF_INDEX);
        if (exists(hf->dir, "pytorch_model.bin"))
            cllm_err_hint("pytorch_model.bin holds Python objects and is not read: save "
                          "the model with save_pretrained(safe_serialization=True)");
        return rc;
    }
    if (rc == 0)
        rc = cllm_file_read(path, INDEX_CAP, &text, &bytes);
    if (rc == 0)
        rc = cllm_hf_parse_index(text, bytes, path, files, n);
    free(text);
    return rc;
}

static int open_files(struct cllm_hf *hf)
{
    char path[CLLM_FILE_PATH_BYTES];
    char **files = NULL;
    uint32_t n = 0;
    int rc = list_files(hf, &files, &n);

    if (rc == 0) {
        hf->file = calloc(n, sizeof *hf->file);
        if (hf->file == NULL)
            rc = cllm_err(-ENOMEM, "cannot open %s", hf->dir);
    }
    for (; rc == 0 && hf->n_files < n; hf->n_files += rc == 0) {
        rc = cllm_file_join(path, hf->dir, files[hf->n_files]);
        if (rc == 0)
            rc = cllm_safetensors_open(&hf->file[hf->n_files], path);
    }
    free_names(files, n);
    return rc;
}

/* Which tensor of the model is @name? NOWHERE: none. */
static uint32_t identify(const struct cllm_hf *hf, const char *name)
{
    const char *prefix = prefixes[hf->config.arch];
    size_t len = strlen(prefix);

    for (uint32_t i = 0; i < hf->parameters.n_tensors; i++) {
        const char *known = hf->parameters.tensors[i].name;
        if (strcmp(known, name) == 0 ||
            (strncmp(known, prefix, len) == 0 && strcmp(known + len, name) == 0))
            return i;
    }
    return NOWHERE;
}

static bool is_ignored(const struct cllm_hf *hf, const char *name)
{
    size_t len = strlen(name);

    if (!hf->config.untied && strcmp(name, "lm_head.weight") == 0)
        return true; /* a copy of the embedding, by the configuration's word */
    for (size_t i = 0; i < CLLM_LEN(ignored); i++) {
        size_t end = strlen(ignored[i]);
        if (len > end && strcmp(name + len - end, ignored[i]) == 0)
            return true;
    }
    return false;
}

static int check_tensor(const struct cllm_safetensors *st,
                        const struct cllm_safetensors_tensor *found,
                        const struct cllm_tensor *known)
{
    int rc;

    if (found->dtype != CLLM_DTYPE_F32 && found->dtype != CLLM_DTYPE_F16 &&
        found->dtype != CLLM_DTYPE_BF16)
        return cllm_err(CLLM_EDATA,
                        "%s: tensor \"%s\": expected dtype F32, F16 or BF16, found %s",
                        st->path, found->name, cllm_dtype_name(found->dtype));
    if (found->rank == known->rank && found->shape[0] == known->shape[0] &&
        (known->rank == 1 || found->shape[1] == known->shape[1]))
        return 0;
    rc = cllm_err(CLLM_EDATA, "%s: tensor \"%s\": its shape is not that of config.json",
                  st->path, found->name);
    cllm_err_detail("expected rank %u, (%" PRIu64 ", %" PRIu64 "); found rank %u, "
                    "(%" PRIu64 ", %" PRIu64 ")",
                    known->rank, known->shape[0], known->shape[1], found->rank,
                    found->rank > 0 ? found->shape[0] : 1,
                    found->rank > 1 ? found->shape[1] : 1);
    return rc;
}

/* Tensor @tensor of file @file: it is one of the model's, or means nothing. */
static int place_tensor(struct cllm_hf *hf, uint32_t file, uint32_t tensor)
{
    const struct cllm_safetensors *st = &hf->file[file];
    const struct cllm_safetensors_tensor *found = &st->tensor[tensor];
    uint32_t i = identify(hf, found->name);
    int rc;

    if (i == NOWHERE && is_ignored(hf, found->name))
        return 0;
    if (i == NOWHERE) {
        rc =
            cllm_err(CLLM_EDATA, "%s: tensor \"%s\" is none of a %s model of config.json",
                     st->path, found->name, cllm_arch_names[hf->config.arch]);
        cllm_err_hint("CLLM would leave it out, and the model would be another");
        return rc;
    }
    if (hf->place[i].file != NOWHERE)
        return cllm_err(CLLM_EDATA, "%s: tensor \"%s\" is there twice", st->path,
                        found->name);
    hf->place[i].file = file;
    hf->place[i].tensor = tensor;
    return check_tensor(st, found, &hf->parameters.tensors[i]);
}

static int place_tensors(struct cllm_hf *hf)
{
    uint32_t n = hf->parameters.n_tensors;
    int rc = 0;

    hf->place = malloc(n * sizeof *hf->place);
    if (hf->place == NULL)
        return cllm_err(-ENOMEM, "cannot open %s", hf->dir);
    memset(hf->place, 0xff, n * sizeof *hf->place);
    for (uint32_t file = 0; file < hf->n_files; file++)
        for (uint32_t i = 0; rc == 0 && i < hf->file[file].n_tensors; i++)
            rc = place_tensor(hf, file, i);
    for (uint32_t i = 0; rc == 0 && i < n; i++)
        if (hf->place[i].file == NOWHERE)
            rc = cllm_err(CLLM_EDATA, "%s: there is no tensor \"%s\"", hf->dir,
                          hf->parameters.tensors[i].name);
    if (rc == 0)
        hf->dtype = hf->file[hf->place[0].file].tensor[hf->place[0].tensor].dtype;
    return rc;
}

int cllm_hf_open(struct cllm_hf *hf, const char *dir)
{
    int rc;

    *hf = (struct cllm_hf){0};
    (void)snprintf(hf->dir, sizeof hf->dir, "%s", dir);
    rc = cllm_hf_read_config(dir, &hf->config, &hf->init_range);
    if (rc == 0)
        rc = cllm_parameters_init(&hf->parameters, &hf->config);
    if (rc == 0)
        rc = open_files(hf);
    if (rc == 0)
        rc = place_tensors(hf);
    if (rc != 0)
        cllm_hf_close(hf);
    return rc;
}

void cllm_hf_close(struct cllm_hf *hf)
{
    for (uint32_t i = 0; i < hf->n_files; i++)
        cllm_safetensors_close(&hf->file[i]);
    free(hf->file);
    free(hf->place);
    cllm_parameters_fini(&hf->parameters);
    *hf = (struct cllm_hf){0};
}

int cllm_hf_read(const struct cllm_hf *hf, uint32_t index, float *out)
{
    const struct cllm_safetensors *st = &hf->file[hf->place[index].file];
    const struct cllm_safetensors_tensor *tensor = &st->tensor[hf->place[index].tensor];

    return cllm_safetensors_read(st, tensor, 0, tensor->n_elements, out);
}
