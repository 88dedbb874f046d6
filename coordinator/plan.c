/*
 * coordinator/plan.c - from configuration and shards to geometry and identity.
 */
#include "coordinator/plan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/units.h"
#include "coordinator/adapted.h"
#include "coordinator/origin.h"
#include "formats/file.h"
#include "model/schedule.h"
#include "shm/frozen.h"

#define MICRO_BATCH_TOKENS 8192         /* micro_batch = auto: at most so many */
#define SMALL_BUFFERS      (256u << 20) /* lane_buffers = auto: one a lane up to here */
#define MORE_BUFFERS       4            /* else so many more than workers, to be folded */
#define KEPT_LANES         2            /* at most, until the update */
#define CHECKED_TOKENS \
    (UINT64_C(64) << 20) /* looked at before training; the loader checks all */

/* Private memory of a process beyond what it plans: its share of code and libraries,
 * stacks, heap; measured as PSS. */
#define WORKER_BASE_BYTES    (8u << 20)
#define THREAD_BASE_BYTES    (7u << 19)   /* each but the first: blocks of a product */
#define DRIVER_BYTES         (192u << 20) /* of a device, with its compiler; PoCL's */
#define LOADER_BASE_BYTES    (2u << 20)
#define SAVER_BASE_BYTES     (16u << 20) /* three windows of 4 MiB of what is saved */
#define NODE_ZERO_BASE_BYTES (3u << 20)  /* and its guardian */

/* ---- identity ---- */

static int find_run_directory(struct cllm_plan *plan, const struct cllm_config *config)
{
    char *absolute;
    int rc = cllm_file_mkdirs(config->run_dir);

    if (rc != 0)
        goto add_context;
    absolute = realpath(config->run_dir, NULL);
    if (!absolute) {
        rc = cllm_err(-errno, "cannot find %s", config->run_dir);
        goto add_context;
    }
    if (strlen(absolute) >= sizeof plan->run_dir)
        rc = cllm_err(-ENAMETOOLONG, "path of %zu bytes, at most %zu", strlen(absolute),
                      sizeof plan->run_dir - 1);
    else
        (void)snprintf(plan->run_dir, sizeof plan->run_dir, "%s", absolute);
    free(absolute);
    if (rc == 0)
        return 0;
add_context:
    cllm_err_add("run directory %s", config->run_dir);
    cllm_err_hint("[run] dir names a directory that this user may write");
    return rc;
}

/* What of a model the first five numbers do not say; nothing for a plain GPT-2. */
static void describe_model(char *text, size_t bytes, const struct cllm_model_config *m)
{
    int n;

    text[0] = '\0';
    if (m->arch == CLLM_ARCH_GPT2 && m->hidden == 4 * (uint64_t)m->width && !m->untied &&
        (float)m->norm_epsilon == (float)CLLM_NORM_EPSILON)
        return;
    n = snprintf(text, bytes,
                 " arch %u hidden %u untied %u kv_heads %u head_size %u epsilon %a theta "
                 "%a scaling %u original %u factor %a low %a high %a",
                 m->arch, m->hidden, m->untied, m->kv_heads, m->head_size,
                 m->norm_epsilon, m->rope_theta, m->rope_scaling, m->rope_original,
                 m->rope_factor, m->rope_low, m->rope_high);
    CLLM_ASSERT(n > 0 && (size_t)n < bytes);
}

/* Everything in the configuration that changes the weights, in one canonical text; what
 * an option's first choice does not look at is left out, so that new options leave old
 * runs what they are. */
static uint64_t hash_config(const struct cllm_config *c, const struct cllm_geometry *g)
{
    const struct cllm_schedule schedule = cllm_schedule_of(c);
    static const char *const of_precision[CLLM_N_PRECISIONS] = {
        [CLLM_PRECISION_F32] = "",
        [CLLM_PRECISION_BF16] = " bf16",
        [CLLM_PRECISION_BF16_AMX] = " bf16-amx",
        [CLLM_PRECISION_F32_AMX] = " f32-amx"};
    char text[1536], model[512];
    int n;

    describe_model(model, sizeof model, &g->model);
    n = snprintf(
        text, sizeof text,
        "vocab %u context %u layers %u heads %u width %u lanes %u microbatches %u "
        "sequences %u eval %u chunk %" PRIu64 " steps %" PRIu64 " seed %" PRIu64
        " lr %a min %a warmup %" PRIu64 " schedule %u beta %a %a eps %a decay %a "
        "clip %a eval_every %" PRIu64 "%s%s",
        g->model.vocab, g->model.context, g->model.layers, g->model.heads, g->model.width,
        g->lanes, g->microbatches, g->sequences, g->eval_microbatches, g->chunk_elements,
        g->steps, g->seed, c->train_learning_rate, c->train_min_learning_rate,
        c->train_warmup, c->train_schedule, c->train_beta1, c->train_beta2,
        c->train_epsilon, c->train_weight_decay, c->train_clip, c->train_eval_every,
        of_precision[c->compute_precision], model);

    CLLM_ASSERT(n > 0);
    CLLM_ASSERT((size_t)n < sizeof text);
    if (c->train_dropout > 0)
        n += snprintf(text + n, sizeof text - (size_t)n, " dropout %a", c->train_dropout);
    CLLM_ASSERT((size_t)n < sizeof text);
    if (c->train_attention_dropout > 0)
        n += snprintf(text + n, sizeof text - (size_t)n, " attention_dropout %a",
                      c->train_attention_dropout);
    CLLM_ASSERT((size_t)n < sizeof text);
    if (c->loss_crystalline > 0)
        n += snprintf(text + n, sizeof text - (size_t)n, " crystalline %a",
                      c->loss_crystalline);
    CLLM_ASSERT((size_t)n < sizeof text);
    if (g->model.crystalline_bias)
        n += snprintf(text + n, sizeof text - (size_t)n, " crystalline_bias");
    CLLM_ASSERT((size_t)n < sizeof text);
    if (g->lora.rank > 0)
        n += snprintf(text + n, sizeof text - (size_t)n, " lora %u %#x %a", g->lora.rank,
                      g->lora.targets, g->lora.alpha);
    CLLM_ASSERT((size_t)n < sizeof text);
    return cllm_hash(text, (size_t)n,
                     schedule.kind == CLLM_SCHEDULE_WSD ? schedule.cooldown : 0);
}

/* ---- geometry ---- */

/* Largest micro-batch that divides a lane's share (and its validation share) and is not
 * big. */
static uint32_t choose_micro_batch(uint64_t share, uint64_t eval_share, uint64_t context)
{
    for (uint64_t n = share; n > 1; n--)
        if (share % n == 0 && eval_share % n == 0 && n * context <= MICRO_BATCH_TOKENS)
            return (uint32_t)n;
    return 1;
}

static int plan_batch(struct cllm_geometry *g, const struct cllm_config *config)
{
    uint64_t share = config->train_batch / g->lanes;
    uint64_t eval_share =
        config->data_valid.n > 0 ? config->train_eval_batch / g->lanes : 0;
    int rc;

    g->sequences = config->train_micro_batch == CLLM_CONFIG_AUTO
                       ? choose_micro_batch(share, eval_share, g->model.context)
                       : (uint32_t)config->train_micro_batch;
    g->microbatches = (uint32_t)(share / g->sequences);
    if (eval_share % g->sequences != 0) {
        rc = cllm_err(CLLM_ECONFIG,
                      "train.eval_batch = %" PRIu64
                      " is not a multiple of lanes x micro_batch = %u",
                      config->train_eval_batch, g->lanes * g->sequences);
        cllm_err_hint(
            "nearest: %" PRIu64,
            cllm_max_u64(config->train_eval_batch / (g->lanes * g->sequences), 1) *
                g->lanes * g->sequences);
        return rc;
    }
    g->eval_microbatches = (uint32_t)(eval_share / g->sequences);
    return 0;
}

/* One for each core; one for each device, which workers can only take turns with. */
static uint32_t auto_workers(const struct cllm_plan *plan, uint32_t lanes)
{
    uint32_t n =
        plan->devices.n > 0 ? plan->devices.n : cllm_placement_workers(&plan->placement);

    return (uint32_t)cllm_min_u64(n, lanes);
}

/*
 * More workers at once than cores only push each other out of the caches. Who waits for
 * a device needs no core; and who is pinned may have to share one with the next in turn.
 */
static uint32_t auto_active(const struct cllm_plan *plan)
{
    if (plan->devices.n > 0 || plan->placement.pin == CLLM_PIN_YES)
        return CLLM_MAX_WORKERS;
    return cllm_placement_workers(&plan->placement);
}

/*
 * Of one lane or two no sum is kept: to add them up again in the update reads no more
 * than a sum would have cost to write and read, and the sums' memory is saved. Muon needs
 * the gradient of a matrix as a whole.
 */
static uint32_t count_folds(const struct cllm_geometry *g,
                            const struct cllm_config *config)
{
    if (g->lanes <= KEPT_LANES && config->train_optimizer != CLLM_OPTIMIZER_MUON) {
        CLLM_ASSERT(g->n_buffers == g->lanes);
        return 0;
    }
    return g->n_groups > 1 ? 4 : 2;
}

static int plan_objects(struct cllm_plan *plan, const struct cllm_config *config)
{
    struct cllm_geometry *g = &plan->geometry;
    uint64_t ring_slots;

    g->chunk_elements = config->run_chunk;
    g->n_chunks = (uint32_t)cllm_div_up(g->n_elements, g->chunk_elements);
    g->n_groups = (uint32_t)cllm_div_up(g->lanes, CLLM_GROUP_LANES);
    cllm_placement_init(&plan->placement, config);
    plan->workers = config->run_workers == CLLM_CONFIG_AUTO
                        ? auto_workers(plan, g->lanes)
                        : (uint32_t)config->run_workers;
    plan->active = config->run_active == CLLM_CONFIG_AUTO ? auto_active(plan)
                                                          : (uint32_t)config->run_active;
    plan->spares = (uint32_t)config->run_spares;
    /* Room for as many workers as could ever have something to do. */
    g->n_worker_slots = (uint32_t)cllm_min_u64(
        cllm_max_u64(plan->workers, g->lanes) + plan->spares, CLLM_MAX_WORKERS);
    g->n_slots = g->n_worker_slots + 2;
    if (config->run_lane_buffers != CLLM_CONFIG_AUTO)
        g->n_buffers = (uint32_t)cllm_min_u64(config->run_lane_buffers, g->lanes);
    else if (g->lanes * cllm_vector_bytes(g) <= SMALL_BUFFERS)
        g->n_buffers = g->lanes;
    else
        g->n_buffers = (uint32_t)cllm_min_u64(
            g->lanes, cllm_min_u64(plan->workers, plan->active) + MORE_BUFFERS);
    g->n_folds = count_folds(g, config);
    g->ring_steps = (uint32_t)config->loader_steps_ahead + 1;
    ring_slots = (uint64_t)g->ring_steps * g->lanes * g->microbatches;
    if (ring_slots > (1u << 24)) {
        int rc = cllm_err(CLLM_ECONFIG, "the batch ring would have %" PRIu64 " slots",
                          ring_slots);

        cllm_err_hint("raise [train] micro_batch, or lower [loader] steps_ahead");
        return rc;
    }
    g->ring_slots = (uint32_t)ring_slots;
    g->ring_eval_slots = g->lanes * g->eval_microbatches;
    return 0;
}

static int plan_geometry(struct cllm_plan *plan, const struct cllm_config *config)
{
    const struct cllm_model_config model = cllm_model_config_from(config);
    const struct cllm_optimizer_settings settings = cllm_optimizer_settings(config);
    struct cllm_geometry *g = &plan->geometry;
    int rc = cllm_parameters_init(&plan->model, &model);

    if (rc == 0)
        rc = cllm_lora_from(&g->lora, config, &plan->model);
    if (rc == 0)
        rc = cllm_lora_trained(&plan->parameters, &model, &g->lora);
    if (rc != 0)
        goto fini;
    g->model = plan->model.config;
    if (g->lora.rank > 0)
        g->frozen_elements = cllm_vector_elements(plan->model.n_elements);
    g->n_params = plan->parameters.n_params;
    g->n_elements = cllm_vector_elements(plan->parameters.n_elements);
    g->lanes = (uint32_t)config->run_lanes;
    g->steps = config->train_steps;
    g->seed = config->train_seed;
    rc = plan_batch(g, config);
    if (rc == 0)
        rc = plan_objects(plan, config);
    if (rc == 0)
        rc = cllm_optimizer_init(&plan->optimizer, &plan->parameters, &settings,
                                 &config->train_group);
    if (rc == 0)
        return 0;
fini:
    cllm_parameters_fini(&plan->parameters);
    cllm_parameters_fini(&plan->model);
    return rc;
}

/* ---- data ---- */

/* Say what the shards are, where nobody said it in the configuration: a wrong guess must
 * be seen. */
static void say_formats(const struct cllm_dataset *data, const char *section)
{
    for (uint32_t format = CLLM_SHARD_LLMC + 1; format < CLLM_N_SHARD_FORMATS; format++) {
        const struct cllm_shard *first = NULL;
        uint32_t n = 0;
        char text[CLLM_SHARD_TEXT];

        for (uint32_t i = 0; i < data->n_shards; i++) {
            if (data->shard[i].format != (enum cllm_shard_format)format)
                continue;
            first = first ? first : &data->shard[i];
            n++;
        }
        if (n == 1)
            cllm_info("[data] %s: %s is %s", section, first->path,
                      cllm_shard_describe(text, first));
        else if (n > 1)
            cllm_info("[data] %s: %s and %u more are %s", section, first->path, n - 1,
                      cllm_shard_describe(text, first));
    }
}

/* Shards of one list or mixture: opened, checked, counted, their manifest to @out. */
static int plan_train(struct cllm_plan *plan, const struct cllm_config *config, FILE *out)
{
    const struct cllm_config_list *mix = &config->data_mix, *list = &config->data_train;
    enum cllm_shard_format format = (enum cllm_shard_format)config->data_format;
    uint32_t context = plan->geometry.model.context;
    struct cllm_mixture mixture;
    char *text = NULL;
    uint64_t hash = 0;
    int rc;

    rc = mix->n > 0
             ? cllm_mixture_open(&mixture, mix->item, mix->n, context, format)
             : cllm_mixture_open_plain(&mixture, list->item, list->n, context, format);
    if (rc != 0) {
        cllm_err_add("[data] %s", mix->n > 0 ? "mix" : "train");
        return rc;
    }
    for (uint32_t i = 0; i < mixture.mix.n; i++) {
        plan->train_tokens += mixture.part[i].n_tokens;
        plan->train_windows += mixture.part[i].n_windows;
        plan->train_shards += mixture.part[i].n_shards;
        if (format == CLLM_SHARD_AUTO)
            say_formats(&mixture.part[i].data, mix->n > 0 ? "mix" : "train");
    }
    rc = cllm_mixture_check_tokens(&mixture, plan->geometry.model.vocab,
                                   CHECKED_TOKENS / plan->train_shards + 1);
    if (rc == 0)
        rc = cllm_mixture_hash(&mixture, &hash);
    if (rc == 0 && (text = cllm_mixture_manifest(&mixture)) == NULL)
        rc = cllm_err(-ENOMEM, "cannot keep the list of shards");
    if (rc == 0)
        (void)fputs(text, out);
    plan->manifest_hash = cllm_hash(&hash, sizeof hash, plan->manifest_hash);
    free(text);
    plan->train = mixture;
    for (uint32_t i = 0; i < mixture.mix.n; i++)
        plan->train.part[i].data = (struct cllm_dataset){0};
    cllm_mixture_close(&mixture);
    return rc;
}

static int plan_valid(struct cllm_plan *plan, const struct cllm_config *config, FILE *out)
{
    enum cllm_shard_format format = (enum cllm_shard_format)config->data_format;
    const struct cllm_config_list *list = &config->data_valid;
    struct cllm_dataset dataset;
    char *text = NULL;
    uint64_t hash = 0;
    int rc;

    (void)fprintf(out, "[valid]\n");
    if (list->n == 0)
        return 0;
    rc = cllm_dataset_open_as(&dataset, list->item, list->n, plan->geometry.model.context,
                              format);
    if (rc != 0) {
        cllm_err_add("[data] valid");
        return rc;
    }
    if (format == CLLM_SHARD_AUTO)
        say_formats(&dataset, "valid");
    rc = cllm_dataset_check_tokens(&dataset, plan->geometry.model.vocab,
                                   CHECKED_TOKENS / dataset.n_shards + 1);
    if (rc == 0)
        rc = cllm_dataset_hash(&dataset, &hash);
    if (rc == 0 && (text = cllm_dataset_manifest(&dataset, NULL)) == NULL)
        rc = cllm_err(-ENOMEM, "cannot keep the list of shards");
    if (rc == 0)
        (void)fputs(text, out);
    plan->manifest_hash = cllm_hash(&hash, sizeof hash, plan->manifest_hash);
    plan->valid_tokens = dataset.n_tokens;
    plan->valid_windows = dataset.n_windows;
    free(text);
    cllm_dataset_close(&dataset);
    return rc;
}

static int plan_data(struct cllm_plan *plan, const struct cllm_config *config)
{
    size_t bytes;
    FILE *out = open_memstream(&plan->manifest_text, &bytes);
    int rc;

    if (!out)
        return cllm_err(-errno, "cannot keep the list of shards");
    rc = plan_train(plan, config, out);
    if (rc == 0)
        rc = plan_valid(plan, config, out);
    if (fclose(out) != 0 && rc == 0)
        rc = cllm_err(-ENOMEM, "cannot keep the list of shards");
    if (rc == 0 && config->data_valid.n > 0 &&
        plan->valid_windows < config->train_eval_batch) {
        rc = cllm_err(CLLM_ECONFIG,
                      "train.eval_batch = %" PRIu64
                      ", but the validation data has %" PRIu64 " window%s of %u tokens",
                      config->train_eval_batch, plan->valid_windows,
                      cllm_plural(plan->valid_windows), plan->geometry.model.context);
        cllm_err_hint("lower [train] eval_batch, or give more validation data");
    }
    if (rc != 0) {
        free(plan->manifest_text);
        plan->manifest_text = NULL;
    }
    return rc;
}

/* The fingerprint with names and weights of a mixture, which the manifest's heads say. */
static uint64_t hash_shares(const struct cllm_plan *plan)
{
    uint64_t hash = plan->config_hash;

    for (const char *at = plan->manifest_text; strncmp(at, "[valid]", 7) != 0;) {
        size_t len = strcspn(at, "\n");

        if (at[0] == '[')
            hash = cllm_hash(at, len, hash);
        at += len + 1;
    }
    return hash;
}

/* ---- memory ---- */

static void plan_memory(struct cllm_plan *plan, const struct cllm_config *config)
{
    const struct cllm_geometry *g = &plan->geometry;
    struct cllm_model_shape shape = {
        .adapters = g->lora.rank > 0 ? &plan->parameters : NULL,
        .B = g->sequences,
        .T = g->model.context,
        .train = true,
        .recompute = (enum cllm_model_recompute)config->compute_recompute,
        .epsilon = (float)config->loss_crystalline};
    struct cllm_control_plan control = cllm_plan_control(plan);

    plan->control_bytes = cllm_control_bytes(&control);
    plan->params_bytes = 2 * cllm_params_bytes(g);
    plan->frozen_bytes = cllm_frozen_bytes(g);
    plan->buffers_bytes = g->n_buffers * cllm_vector_bytes(g);
    plan->folds_bytes = g->n_folds * cllm_vector_bytes(g);
    plan->ring_bytes = cllm_ring_bytes(g);
    if (plan->devices.n > 0) {
        plan->device_bytes = cllm_model_array_bytes(&plan->model, &shape) +
                             2 * cllm_vector_bytes(g) + plan->frozen_bytes;
        shape.arrays = plan; /* not in the worker's own memory */
    }
    plan->worker_bytes =
        cllm_model_arena_bytes(&plan->model, &shape) +
        cllm_optimizer_arena_bytes(&plan->optimizer) +
        cllm_ring_batch_tokens(g) * sizeof(uint32_t) + WORKER_BASE_BYTES +
        (plan->devices.n > 0 ? DRIVER_BYTES : 0) +
        (config->compute_threads - 1) *
            (cllm_model_thread_bytes(g->model.context) + THREAD_BASE_BYTES);
    plan->loader_bytes = LOADER_BASE_BYTES;
    plan->saver_bytes = SAVER_BASE_BYTES;
    plan->node_zero_bytes = NODE_ZERO_BASE_BYTES;
    plan->shared_bytes = plan->control_bytes + plan->params_bytes + plan->frozen_bytes +
                         plan->buffers_bytes + plan->folds_bytes + plan->ring_bytes;
    plan->total_bytes = plan->shared_bytes +
                        (plan->workers + plan->spares) * plan->worker_bytes +
                        plan->loader_bytes + plan->saver_bytes + plan->node_zero_bytes;
    plan->checkpoint_bytes = 3 * g->n_params * sizeof(float);
}

int cllm_plan_init(struct cllm_plan *plan, const struct cllm_config *config)
{
    struct cllm_config again;
    int rc;

    *plan = (struct cllm_plan){0};
    rc = find_run_directory(plan, config);
    if (rc != 0)
        return rc;
    cllm_run_id_of(plan->run_id, plan->run_dir);
    rc = cllm_devices_choose(&plan->devices, config);
    if (rc == 0)
        rc = plan_geometry(plan, config);
    if (rc != 0)
        return rc;
    rc = plan_data(plan, config);
    if (rc != 0)
        goto fini;
    rc = cllm_origin_hash(config, plan->run_dir, &plan->origin_hash);
    if (rc == 0)
        rc = cllm_adapted_hash(config, plan->run_dir, &plan->adapter_hash);
    if (rc != 0)
        goto fini;
    if (plan->geometry.lora.rank > 0)
        plan->geometry.frozen_hash = plan->origin_hash;
    plan->config_hash =
        cllm_optimizer_hash(&plan->optimizer, hash_config(config, &plan->geometry));
    if (plan->origin_hash != 0)
        plan->config_hash =
            cllm_hash(&plan->origin_hash, sizeof plan->origin_hash, plan->config_hash);
    if (plan->adapter_hash != 0)
        plan->config_hash =
            cllm_hash(&plan->adapter_hash, sizeof plan->adapter_hash, plan->config_hash);
    if (config->data_mix.n > 0)
        plan->config_hash = hash_shares(plan);
    plan->config_text = cllm_config_text(config);
    if (!plan->config_text) {
        rc = cllm_err(-ENOMEM, "cannot keep the configuration");
        goto fini;
    }
    /* Children will read this text: whatever it cannot carry must show here. */
    cllm_config_init(&again);
    rc = cllm_config_parse(&again, plan->config_text, "effective configuration");
    cllm_config_fini(&again);
    if (rc != 0)
        goto fini;
    plan_memory(plan, config);
    if (plan->workers > plan->geometry.lanes)
        cllm_warn("%u workers, but a step has %u lane%s: at most %u worker%s at once",
                  plan->workers, plan->geometry.lanes, cllm_plural(plan->geometry.lanes),
                  plan->geometry.lanes, cllm_plural(plan->geometry.lanes));
    return 0;
fini:
    cllm_plan_fini(plan);
    return rc;
}

void cllm_plan_fini(struct cllm_plan *plan)
{
    cllm_optimizer_fini(&plan->optimizer);
    cllm_parameters_fini(&plan->parameters);
    cllm_parameters_fini(&plan->model);
    free(plan->config_text);
    free(plan->manifest_text);
    *plan = (struct cllm_plan){0};
}

struct cllm_control_plan cllm_plan_control(const struct cllm_plan *plan)
{
    return (struct cllm_control_plan){.run_id = plan->run_id,
                                      .run_dir = plan->run_dir,
                                      .config = plan->config_text,
                                      .manifest = plan->manifest_text,
                                      .config_hash = plan->config_hash,
                                      .manifest_hash = plan->manifest_hash,
                                      .geometry = plan->geometry};
}
