/*
 * coordinator/origin.c - whose model the run begins from, and what the run takes from it.
 */
#include "coordinator/origin.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/pulse.h"
#include "base/units.h"
#include "coordinator/frozen.h"
#include "coordinator/import.h"
#include "coordinator/kept.h"
#include "formats/config_json.h"
#include "formats/file.h"
#include "formats/json.h"
#include "formats/source.h"

#define NONE "none"

bool cllm_origin_is_set(const struct cllm_config *config)
{
    return strcmp(config->train_from, NONE) != 0;
}

/* ---- origin.json ---- */

/* What @run_dir keeps of the model @from, into @model and @hash; without *@found it keeps
 * nothing, or of another one. Returns 0 or a negative code with text. */
static int recall(const char *run_dir, const char *from, struct cllm_model_config *model,
                  uint64_t *hash, bool *found)
{
    struct cllm_kept kept;
    json_t *config = NULL;
    double init_range;
    int rc = cllm_kept_load(&kept, run_dir, CLLM_ORIGIN_FILE, from);

    *found = false;
    if (rc == 0 && kept.json != NULL)
        rc = cllm_json_get_object(kept.json, kept.path, "config", &config);
    if (rc == 0 && kept.json != NULL)
        rc = cllm_config_json_parse(config, kept.path, model, &init_range);
    if (rc == 0 && kept.json != NULL) {
        *hash = kept.hash;
        *found = kept.same;
    }
    cllm_kept_fini(&kept);
    return rc;
}

int cllm_origin_keep(const char *run_dir, const char *from,
                     const struct cllm_model_config *model, uint64_t hash)
{
    char hex[17];

    (void)snprintf(hex, sizeof hex, "%016" PRIx64, hash);
    return cllm_json_put(run_dir, CLLM_ORIGIN_FILE,
                         json_pack("{s:s, s:s, s:o}", "from", from, "hash", hex, "config",
                                   cllm_config_json_pack(model, 0.02)));
}

/* ---- [model] ---- */

/* The numbers of the model that [train] from names. */
static int find_model(const struct cllm_config *config, struct cllm_model_config *model)
{
    struct cllm_source source;
    uint64_t hash;
    bool found;
    int rc = recall(config->run_dir, config->train_from, model, &hash, &found);

    if (rc != 0 || found)
        return rc;
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
        rc = adopt(config, "crystalline_bias", model->crystalline_bias ? "yes" : "no");
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
        {"crystalline_bias", own.crystalline_bias, model->crystalline_bias},
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
    rc = cllm_err(CLLM_ECONFIG, "[model] context is %u, but %s has %u position%s",
                  own.context, config->train_from, model->context,
                  cllm_plural(model->context));
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

/* Has somebody asked to stop? Both signals are blocked until the loop begins. */
static bool stop_is_pending(void)
{
    sigset_t set;

    return sigpending(&set) == 0 &&
           (sigismember(&set, SIGINT) == 1 || sigismember(&set, SIGTERM) == 1);
}

/* What @rc says of work on the weights. */
static int end_work(int rc)
{
    cllm_pulse_set_stopped(NULL);
    if (rc == CLLM_ESTOPPED)
        cllm_err_add("the run had not begun; --resume begins it");
    else if (rc < 0)
        cllm_err_add("[train] from");
    return rc;
}

int cllm_origin_hash(const struct cllm_config *config, const char *run_dir,
                     uint64_t *hash)
{
    struct cllm_model_config model;
    bool found;
    int rc;

    *hash = 0;
    if (!cllm_origin_is_set(config))
        return 0;
    rc = recall(run_dir, config->train_from, &model, hash, &found);
    if (rc != 0 || found)
        return rc;
    cllm_pulse_set_stopped(stop_is_pending);
    return end_work(cllm_import_hash(config, hash));
}

int cllm_origin_import(const struct cllm_config *config, const struct cllm_plan *plan)
{
    int rc;

    if (!cllm_origin_is_set(config))
        return 0;
    cllm_pulse_set_stopped(stop_is_pending);
    if (plan->geometry.lora.rank == 0)
        rc = cllm_import_checkpoint(config, plan);
    else
        rc = cllm_frozen_import(config, plan);
    if (rc == 0 && plan->adapter_hash != 0)
        rc = cllm_import_adapter(config, plan);
    rc = end_work(rc);
    return rc == 0 && (plan->geometry.lora.rank == 0 || plan->adapter_hash != 0) ? 1 : rc;
}
