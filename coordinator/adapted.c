/*
 * coordinator/adapted.c - whose adapter the run begins from, and what it takes from it.
 */
#include "coordinator/adapted.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "coordinator/import.h"
#include "coordinator/kept.h"
#include "coordinator/origin.h"
#include "formats/json.h"
#include "formats/peft.h"

#define NONE "none"

bool cllm_adapted_is_set(const struct cllm_config *config)
{
    return strcmp(config->lora_from, NONE) != 0;
}

int cllm_adapted_directory(const struct cllm_config *config,
                           char dir[CLLM_FILE_PATH_BYTES])
{
    int rc = cllm_file_join(dir, config->lora_from, "checkpoints/last");

    if (rc == 0 && !cllm_peft_is(dir) &&
        snprintf(dir, CLLM_FILE_PATH_BYTES, "%s", config->lora_from) >=
            CLLM_FILE_PATH_BYTES)
        rc = cllm_err(-ENAMETOOLONG, "cannot use the path %.200s...", config->lora_from);
    return rc;
}

/* ---- adapter.json ---- */

/* What @run_dir keeps of the adapter @from, into @lora and @hash; without *@found it
 * keeps nothing, or of another one. Returns 0 or a negative code with text. */
static int recall(const char *run_dir, const char *from, struct cllm_lora *lora,
                  uint64_t *hash, bool *found)
{
    struct cllm_kept kept;
    uint64_t rank = 0, targets = 0;
    int rc = cllm_kept_load(&kept, run_dir, CLLM_ADAPTED_FILE, from);

    *found = false;
    if (rc == 0 && kept.json != NULL)
        rc = cllm_json_get_u64(kept.json, kept.path, "rank", &rank);
    if (rc == 0 && kept.json != NULL)
        rc = cllm_json_get_u64(kept.json, kept.path, "targets", &targets);
    if (rc == 0 && kept.json != NULL)
        rc = cllm_json_get_f64(kept.json, kept.path, "alpha", &lora->alpha);
    if (rc == 0 && kept.json != NULL) {
        lora->rank = (uint32_t)cllm_min_u64(rank, UINT32_MAX);
        lora->targets = (uint32_t)cllm_min_u64(targets, UINT32_MAX);
        *hash = kept.hash;
        *found = kept.same;
    }
    cllm_kept_fini(&kept);
    return rc;
}

int cllm_adapted_keep(const struct cllm_config *config, const struct cllm_plan *plan)
{
    const struct cllm_lora *lora = &plan->geometry.lora;
    char hex[17];

    (void)snprintf(hex, sizeof hex, "%016" PRIx64, plan->adapter_hash);
    return cllm_json_put(plan->run_dir, CLLM_ADAPTED_FILE,
                         json_pack("{s:s, s:s, s:I, s:I, s:f}", "from", config->lora_from,
                                   "hash", hex, "rank", (json_int_t)lora->rank, "targets",
                                   (json_int_t)lora->targets, "alpha", lora->alpha));
}

/* ---- [lora] ---- */

/* The numbers of the adapter that [lora] from names, for the model @base. */
static int find_adapter(const struct cllm_config *config,
                        const struct cllm_parameters *base, struct cllm_lora *lora)
{
    char dir[CLLM_FILE_PATH_BYTES];
    uint64_t hash;
    bool found;
    int rc = recall(config->run_dir, config->lora_from, lora, &hash, &found);

    if (rc == 0 && found)
        return cllm_lora_check(lora, base);
    if (rc == 0)
        rc = cllm_adapted_directory(config, dir);
    return rc == 0 ? cllm_peft_read(dir, base, lora, NULL, NULL) : rc;
}

/* Set "lora.NAME=VALUE" unless it was given. */
static int adopt(struct cllm_config *config, const char *name, const char *value)
{
    char assignment[CLLM_LORA_TEXT + 32];

    (void)snprintf(assignment, sizeof assignment, "lora.%s", name);
    if (cllm_config_given(config, assignment))
        return 0;
    (void)snprintf(assignment, sizeof assignment, "lora.%s=%s", name, value);
    return cllm_config_set(config, assignment);
}

static int adopt_all(struct cllm_config *config, const struct cllm_parameters *base,
                     const struct cllm_lora *lora)
{
    char rank[16], alpha[32], targets[CLLM_LORA_TEXT] = "";
    size_t used = 0;
    int rc;

    (void)snprintf(rank, sizeof rank, "%u", lora->rank);
    (void)snprintf(alpha, sizeof alpha, "%.17g", lora->alpha);
    for (uint32_t kind = 0; kind < CLLM_N_TENSOR_KINDS; kind++) {
        const char *name;
        size_t length;

        if ((lora->targets >> kind & 1) == 0)
            continue;
        length = cllm_lora_module(
            cllm_parameters_at(base, (enum cllm_tensor_kind)kind, 0), &name);
        used += (size_t)snprintf(targets + used, sizeof targets - used, "%s%.*s",
                                 used > 0 ? " " : "", (int)length, name);
        CLLM_ASSERT(used < sizeof targets);
    }
    rc = adopt(config, "rank", rank);
    if (rc == 0)
        rc = adopt(config, "alpha", alpha);
    return rc == 0 ? adopt(config, "targets", targets) : rc;
}

/* What the user gave and the adapter has otherwise. */
static int check_agree(const struct cllm_config *config,
                       const struct cllm_parameters *base, const struct cllm_lora *lora)
{
    struct cllm_lora own;
    int rc = cllm_lora_from(&own, config, base);

    if (rc != 0)
        return rc;
    if (own.rank != lora->rank)
        rc = cllm_err(CLLM_ECONFIG, "[lora] rank is %u, that of %s is %u", own.rank,
                      config->lora_from, lora->rank);
    else if (own.alpha < lora->alpha || own.alpha > lora->alpha)
        rc = cllm_err(CLLM_ECONFIG, "[lora] alpha is %g, that of %s is %g", own.alpha,
                      config->lora_from, lora->alpha);
    else if (own.targets != lora->targets)
        rc = cllm_err(CLLM_ECONFIG, "[lora] targets = %s are not those of %s",
                      config->lora_targets, config->lora_from);
    if (rc != 0)
        cllm_err_hint("leave the options of [lora] out: they are the adapter's own");
    return rc;
}

int cllm_adapted_complete(struct cllm_config *config)
{
    struct cllm_model_config model;
    struct cllm_parameters base;
    struct cllm_lora lora;
    int rc;

    if (!cllm_adapted_is_set(config) || !cllm_origin_is_set(config))
        return 0; /* the second is refused by cllm_config_check() */
    model = cllm_model_config_from(config);
    rc = cllm_parameters_init(&base, &model);
    if (rc != 0)
        return rc;
    rc = find_adapter(config, &base, &lora);
    if (rc == 0)
        rc = adopt_all(config, &base, &lora);
    if (rc == 0)
        rc = check_agree(config, &base, &lora);
    cllm_parameters_fini(&base);
    if (rc != 0)
        cllm_err_add("[lora] from");
    return rc;
}

int cllm_adapted_hash(const struct cllm_config *config, const char *run_dir,
                      uint64_t *hash)
{
    struct cllm_lora lora;
    bool found;
    int rc;

    *hash = 0;
    if (!cllm_adapted_is_set(config))
        return 0;
    rc = recall(run_dir, config->lora_from, &lora, hash, &found);
    if (rc != 0 || found)
        return rc;
    rc = cllm_import_adapter_hash(config, hash);
    if (rc != 0)
        cllm_err_add("[lora] from");
    return rc;
}
