/*
 * formats/adapter.c - adapter_config.json, and the weights beneath adapters by their
 * hash.
 */
#include "formats/adapter.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/pulse.h"
#include "formats/json.h"

#define CONFIG_CAP (1u << 20)
#define MOST_ALPHA 1e6

/* ---- adapter_config.json ---- */

/* The names of the targets: in every block the same, so without the block. */
static json_t *pack_targets(const struct cllm_lora *lora,
                            const struct cllm_parameters *base)
{
    json_t *list = json_array();

    for (uint32_t kind = 0; kind < CLLM_N_TENSOR_KINDS; kind++) {
        const char *name;
        size_t length;

        if ((lora->targets >> kind & 1) == 0)
            continue;
        length = cllm_lora_module(
            cllm_parameters_at(base, (enum cllm_tensor_kind)kind, 0), &name);
        if (json_array_append_new(list, json_stringn(name, length)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

int cllm_adapter_write_config(const char *dir, const struct cllm_lora *lora,
                              const struct cllm_model_config *model)
{
    struct cllm_parameters base;
    json_t *json;
    int rc = cllm_parameters_init(&base, model);

    if (rc != 0)
        return rc;
    json = json_pack(
        "{s:s, s:s, s:s, s:I, s:f, s:f, s:o, s:b, s:s, s:b, s:b, s:b, s:b, s:n}",
        "peft_type", "LORA", "task_type", "CAUSAL_LM", "base_model_name_or_path",
        CLLM_ADAPTER_ABOVE, "r", (json_int_t)lora->rank, "lora_alpha", lora->alpha,
        "lora_dropout", 0.0, "target_modules", pack_targets(lora, &base),
        "fan_in_fan_out", model->arch == CLLM_ARCH_GPT2, "bias", "none", "inference_mode",
        1, "init_lora_weights", 1, "use_rslora", 0, "use_dora", 0, "modules_to_save");
    cllm_parameters_fini(&base);
    return cllm_json_put(dir, CLLM_ADAPTER_CONFIG, json);
}

/* Absent, null, or empty: of the many options of peft most are so. */
static bool is_nothing(const json_t *value)
{
    return value == NULL || json_is_null(value) ||
           (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

/* What makes other outputs than ours, where it is said at all. */
static int refuse_others(const json_t *json, const char *name)
{
    static const char *const never[] = {"use_rslora", "use_dora", "use_qalora",
                                        "lora_bias"};
    static const char *const nothing[] = {
        "rank_pattern",      "alpha_pattern",          "layers_to_transform",
        "modules_to_save",   "layer_replication",      "trainable_token_indices",
        "target_parameters", "alora_invocation_tokens"};
    bool is;
    int rc = cllm_json_expect_text(json, name, "peft_type", "LORA");

    if (rc == 0)
        rc = cllm_json_expect_text(json, name, "bias", "none");
    for (size_t i = 0; rc == 0 && i < CLLM_LEN(never); i++) {
        if (is_nothing(json_object_get(json, never[i])))
            continue;
        rc = cllm_json_get_bool(json, name, never[i], &is);
        if (rc == 0 && is)
            rc = cllm_err(CLLM_EDATA, "%s: \"%s\": CLLM has no such adapters", name,
                          never[i]);
    }
    for (size_t i = 0; rc == 0 && i < CLLM_LEN(nothing); i++)
        if (!is_nothing(json_object_get(json, nothing[i])))
            rc = cllm_err(CLLM_EDATA,
                          "%s: \"%s\": CLLM has the same adapters on every block, and "
                          "nothing else that learns",
                          name, nothing[i]);
    return rc;
}

static int parse_targets(const json_t *json, const char *name,
                         const struct cllm_parameters *base, struct cllm_lora *lora)
{
    json_t *list = NULL;
    int rc;

    if (json_is_string(json_object_get(json, "target_modules"))) {
        rc = cllm_err(CLLM_EDATA,
                      "%s: \"target_modules\": expected a list of names, found the "
                      "pattern \"%s\"",
                      name, json_string_value(json_object_get(json, "target_modules")));
        cllm_err_hint("write the names of the modules that match down as a list");
        return rc;
    }
    rc = cllm_json_get_array(json, name, "target_modules", &list);

    for (size_t i = 0; rc == 0 && i < json_array_size(list); i++) {
        const char *word = json_string_value(json_array_get(list, i));

        rc = word == NULL ? cllm_err(CLLM_EDATA, "element %zu is not text", i)
                          : cllm_lora_target(&lora->targets, word, base);
        if (rc != 0)
            cllm_err_add("%s: \"target_modules\"", name);
    }
    return rc;
}

static int parse(const json_t *json, const char *name, const struct cllm_parameters *base,
                 struct cllm_lora *lora)
{
    uint64_t rank = 0;
    int rc = refuse_others(json, name);

    *lora = (struct cllm_lora){0};
    if (rc == 0)
        rc = cllm_json_get_u64(json, name, "r", &rank);
    if (rc == 0)
        rc = cllm_json_get_f64(json, name, "lora_alpha", &lora->alpha);
    if (rc == 0)
        rc = parse_targets(json, name, base, lora);
    lora->rank = (uint32_t)cllm_min_u64(rank, UINT32_MAX);
    if (rc == 0 && !(lora->alpha <= MOST_ALPHA))
        rc = cllm_err(CLLM_EDATA, "%s: \"lora_alpha\": expected at most %g, found %g",
                      name, MOST_ALPHA, lora->alpha);
    if (rc == 0) {
        rc = cllm_lora_check(lora, base);
        if (rc != 0)
            cllm_err_add("%s", name);
    }
    return rc;
}

int cllm_adapter_parse_config(const char *text, size_t bytes, const char *name,
                              const struct cllm_model_config *model,
                              struct cllm_lora *lora)
{
    struct cllm_parameters base;
    json_t *json = NULL;
    int rc = cllm_parameters_init(&base, model);

    if (rc != 0)
        return rc;
    rc = cllm_json_parse(text, bytes, name, &json);
    if (rc == 0)
        rc = parse(json, name, &base, lora);
    json_decref(json);
    cllm_parameters_fini(&base);
    return rc == CLLM_ECONFIG ? CLLM_EDATA : rc;
}

int cllm_adapter_read_config(const char *dir, const struct cllm_model_config *model,
                             struct cllm_lora *lora)
{
    char path[CLLM_FILE_PATH_BYTES];
    char *text = NULL;
    size_t bytes = 0;
    int rc = cllm_file_join(path, dir, CLLM_ADAPTER_CONFIG);

    if (rc == 0)
        rc = cllm_file_read(path, CONFIG_CAP, &text, &bytes);
    if (rc == 0)
        rc = cllm_adapter_parse_config(text, bytes, path, model, lora);
    free(text);
    return rc;
}

/* ---- the model beneath ---- */

/* Every tensor of @hf into @w, or one after the other into @room; their hash. */
static int read_all(const struct cllm_hf *hf, float *w, float *room, uint64_t *hash)
{
    struct cllm_hasher *hasher = cllm_hasher_new();
    int rc = 0;

    if (hasher == NULL)
        return cllm_err(-ENOMEM, "cannot hash %s", hf->dir);
    cllm_hasher_begin(hasher, 0);
    for (uint32_t i = 0; rc == 0 && i < hf->parameters.n_tensors; i++) {
        const struct cllm_tensor *tensor = &hf->parameters.tensors[i];
        float *to = w != NULL ? w + tensor->off : room;

        rc = cllm_hf_read(hf, i, to);
        if (rc == 0)
            cllm_hasher_add(hasher, to, tensor->count * sizeof *to);
        cllm_pulse();
    }
    *hash = cllm_hasher_end(hasher);
    cllm_hasher_free(&hasher);
    return rc;
}

static int read_base(const struct cllm_hf *hf, const struct cllm_parameters *parameters,
                     uint64_t expected, float *w)
{
    uint64_t hash = 0, most = 1;
    float *room = NULL;
    int rc;

    if (hf->parameters.n_tensors != parameters->n_tensors ||
        hf->parameters.n_elements != parameters->n_elements)
        return cllm_err(CLLM_EDATA, "%s is not the model that the adapters are for",
                        hf->dir);
    for (uint32_t i = 0; i < parameters->n_tensors; i++) {
        if (hf->parameters.tensors[i].count != parameters->tensors[i].count)
            return cllm_err(CLLM_EDATA, "%s: %s is not that of the adapters' model",
                            hf->dir, parameters->tensors[i].name);
        most = cllm_max_u64(most, parameters->tensors[i].count);
    }
    if (w == NULL && (room = malloc(most * sizeof *room)) == NULL)
        return cllm_err(-ENOMEM, "cannot hold a tensor of %" PRIu64 " numbers", most);
    rc = read_all(hf, w, room, &hash);
    free(room);
    if (rc != 0 || hash == expected)
        return rc;
    rc = cllm_err(CLLM_EDATA, "%s does not hold the weights that the adapters are for",
                  hf->dir);
    cllm_err_detail("hash %016" PRIx64 " expected, %016" PRIx64 " found", expected, hash);
    cllm_err_hint("it must not be changed while there are adapters for it");
    return rc;
}

int cllm_adapter_read_base(const char *dir, const struct cllm_parameters *parameters,
                           uint64_t expected, float *w)
{
    struct cllm_hf hf;
    int rc = cllm_hf_open(&hf, dir);

    if (rc == 0) {
        rc = read_base(&hf, parameters, expected, w);
        cllm_hf_close(&hf);
    }
    if (rc != 0)
        cllm_err_add("the model beneath the adapters");
    return rc;
}
