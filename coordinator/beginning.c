/*
 * coordinator/beginning.c - adopt, load or begin.
 */
#include "coordinator/beginning.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/units.h"
#include "coordinator/frozen.h"
#include "coordinator/journal.h"
#include "coordinator/logout.h"
#include "coordinator/origin.h"
#include "coordinator/vocabulary.h"
#include "formats/checkpoint.h"
#include "shm/chunk.h"

#define CONFIG_CAP (1u << 20)

/* To the error at hand: which options differ from @text, the run's configuration as .ini
 * text. False when that does not tell. */
static bool name_options(const struct cllm_config *config, const char *text)
{
    struct cllm_config then;
    struct cllm_err_text why;
    char options[512];
    bool told;

    cllm_err_save(&why);
    cllm_config_init(&then);
    told = cllm_config_parse(&then, text, "config.ini") == 0 &&
           cllm_config_compare(config, &then, options, sizeof options) > 0;
    cllm_config_fini(&then);
    cllm_err_restore(&why);
    if (told)
        cllm_err_detail("%s", options);
    return told;
}

/* ---- shared memory that is there already ---- */

/* Does what is in shared memory belong to this configuration and these data? */
static int check_same_run(const struct cllm_control *control,
                          const struct cllm_config *config, const struct cllm_plan *plan)
{
    const struct cllm_header *header = control->header;
    int rc;

    if (header->config_hash == plan->config_hash &&
        header->manifest_hash == plan->manifest_hash)
        return 0;
    rc =
        cllm_err(CLLM_ECONFIG, "run %s in shared memory has another %s", plan->run_id,
                 header->config_hash == plan->config_hash ? "data set" : "configuration");
    if (header->config_hash != plan->config_hash)
        (void)name_options(config, control->config);
    cllm_err_hint(
        "resume with the configuration of %s/config.ini, or throw the run away with "
        "cllm-shm clean %s",
        plan->run_dir, plan->run_id);
    return rc;
}

static int adopt(struct cllm_beginning *beginning, struct cllm_control *control,
                 const struct cllm_config *config, const struct cllm_plan *plan)
{
    int rc = check_same_run(control, config, plan);

    if (rc != 0)
        return rc;
    if (plan->workers + plan->spares > control->header->geometry.n_worker_slots) {
        rc = cllm_err(
            CLLM_ECONFIG, "%u workers, but the run in shared memory has room for %u",
            plan->workers + plan->spares, control->header->geometry.n_worker_slots);
        cllm_err_hint("-n %u, or less", control->header->geometry.n_worker_slots);
        return rc;
    }
    beginning->kind = CLLM_BEGIN_ADOPTED;
    cllm_info("found step %" PRIu64 " of run %s in shared memory: going on from there",
              beginning->record.step, plan->run_id);
    return 0;
}

/* Does the chunk table say of the newest version what its record says? */
static bool root_intact(const struct cllm_control *control,
                        const struct cllm_step_record *record)
{
    return cllm_chunk_root(control->chunk, control->header->geometry.n_chunks,
                           (uint32_t)(record->step & 1)) == record->root;
}

/* Remove every object of the run by name, also when its header cannot be read. */
struct sweep_names {
    char prefix[CLLM_REGION_NAME_BYTES];
};

static int unlink_matching(const char *name, uint64_t bytes, void *ctx)
{
    const struct sweep_names *names = ctx;
    char path[CLLM_REGION_NAME_BYTES];

    (void)bytes;
    (void)snprintf(path, sizeof path, "/%.150s", name);
    if (strncmp(path, names->prefix, strlen(names->prefix)) == 0)
        (void)cllm_region_unlink(path);
    return 0;
}

static void unlink_all(const char *run_id)
{
    struct sweep_names names;

    cllm_region_name(names.prefix, run_id, "");
    (void)cllm_region_list(unlink_matching, &names);
}

/*
 * Look for the run in shared memory. 1: adopted; 0: nothing usable is there (any more);
 * negative: error with text.
 */
static int look_in_memory(struct cllm_beginning *beginning, struct cllm_control *control,
                          const struct cllm_config *config, const struct cllm_plan *plan,
                          bool resume)
{
    enum cllm_attach found = cllm_control_adopt(control, plan->run_id);
    const char *why = "it had not begun";
    bool usable = false;
    int rc;

    if (found == CLLM_ATTACH_NONE) {
        unlink_all(plan->run_id);
        return 0;
    }
    if (found == CLLM_ATTACH_OK && cllm_control_alive(control)) {
        cllm_control_detach(control);
        rc = cllm_err(CLLM_EREFUSED, "run %s is alive in shared memory", plan->run_id);
        cllm_err_detail("its Node Zero lives, although the lock of %s is free",
                        plan->run_dir);
        cllm_err_hint(
            "was the directory removed or renamed under it? cllm-shm show %s names "
            "its processes",
            plan->run_id);
        return rc;
    }
    if (found == CLLM_ATTACH_OK)
        usable = cllm_control_newest_record(control, &beginning->record);
    if (usable && !root_intact(control, &beginning->record)) {
        cllm_warn("shared memory of run %s is damaged: the chunk table does not have the "
                  "root of step %" PRIu64,
                  plan->run_id, beginning->record.step);
        why = "it is damaged";
        usable = false;
    }
    rc = usable ? cllm_objects_check(plan->run_id, &control->header->geometry) : 0;
    if (rc == -ENOENT) {
        why = "somebody began to remove it";
        usable = false;
    } else if (rc != 0) {
        cllm_control_detach(control);
        return rc;
    }
    if (usable && !resume) {
        uint64_t step = beginning->record.step;

        cllm_control_detach(control);
        rc = cllm_err(CLLM_ECONFIG, "run %s is still in shared memory, at step %" PRIu64,
                      plan->run_id, step);
        cllm_err_hint("--resume goes on from there; cllm-shm clean %s throws it away",
                      plan->run_id);
        return rc;
    }
    if (usable) {
        rc = adopt(beginning, control, config, plan);
        if (rc == 0)
            return 1;
        cllm_control_detach(control);
        return rc;
    }
    if (found == CLLM_ATTACH_ERROR)
        return -EIO; /* text is there */
    cllm_warn("shared memory of run %s cannot be gone on from (%s): it is removed",
              plan->run_id, found == CLLM_ATTACH_OK ? why : cllm_err_text());
    cllm_control_detach(control);
    unlink_all(plan->run_id);
    return 0;
}

/* ---- checkpoints ---- */

/* The same of a run on the disk. */
static bool name_saved_options(const struct cllm_config *config, const char *run_dir)
{
    char path[CLLM_FILE_PATH_BYTES];
    struct cllm_err_text why;
    char *text = NULL;
    bool told;

    cllm_err_save(&why);
    told = cllm_file_join(path, run_dir, "config.ini") == 0 &&
           cllm_file_read(path, CONFIG_CAP, &text, NULL) == 0;
    cllm_err_restore(&why);
    told = told && name_options(config, text);
    free(text);
    return told;
}

static int record_from_checkpoint(struct cllm_step_record *record,
                                  const struct cllm_checkpoint_info *info,
                                  const struct cllm_config *config,
                                  const struct cllm_plan *plan, bool allow)
{
    uint64_t config_hash = 0, numerics = 0;
    char expected[40];
    int rc;

    if (strlen(info->fingerprint) == 32) {
        char half[17];

        (void)snprintf(half, sizeof half, "%.16s", info->fingerprint);
        numerics = strtoull(half, NULL, 16);
        config_hash = strtoull(info->fingerprint + 16, NULL, 16);
    }
    (void)snprintf(expected, sizeof expected, "%016" PRIx64, plan->manifest_hash);
    if ((config_hash != plan->config_hash || strcmp(info->data, expected) != 0) &&
        !allow) {
        rc = cllm_err(
            CLLM_EDATA, "the checkpoint of step %" PRIu64 " was trained with another %s",
            info->step, config_hash != plan->config_hash ? "configuration" : "data set");
        if (config_hash == plan->config_hash ||
            !name_saved_options(config, plan->run_dir))
            cllm_err_detail("fingerprint %s, data %s", info->fingerprint, info->data);
        cllm_err_hint("resume with %s/config.ini, or accept other bits with "
                      "--allow-numerics-change",
                      plan->run_dir);
        return rc;
    }
    *record = (struct cllm_step_record){.step = info->step,
                                        .root = strtoull(info->root, NULL, 16),
                                        .cursor = info->cursor,
                                        .tokens = info->tokens,
                                        .loss = info->train_loss,
                                        .valid_loss = info->valid_loss,
                                        .valid_step = info->valid_step,
                                        .best_loss = info->best_loss,
                                        .best_step = info->best_step,
                                        .numerics = numerics};
    return 0;
}

/* 1: found; 0: there is none; negative: error with text. */
static int look_on_disk(struct cllm_beginning *beginning,
                        const struct cllm_config *config, const struct cllm_plan *plan,
                        bool resume, bool allow)
{
    char checkpoints[CLLM_FILE_PATH_BYTES], dir[CLLM_FILE_PATH_BYTES];
    struct cllm_checkpoint_info info;
    int rc = cllm_file_join(checkpoints, plan->run_dir, "checkpoints");

    if (rc != 0 || access(checkpoints, F_OK) != 0)
        return rc;
    rc = cllm_checkpoint_newest(checkpoints, dir);
    if (rc == -ENOENT)
        return 0;
    if (rc == 0)
        rc = cllm_checkpoint_verify(dir, false, &info);
    if (rc != 0)
        return rc;
    if (!resume) {
        rc = cllm_err(CLLM_ECONFIG,
                      "%s already holds a run, with a checkpoint of step %" PRIu64,
                      plan->run_dir, info.step);
        cllm_err_hint("--resume goes on from there; or choose another [run] dir");
        return rc;
    }
    rc = record_from_checkpoint(&beginning->record, &info, config, plan, allow);
    if (rc != 0)
        return rc;
    beginning->kind = CLLM_BEGIN_CHECKPOINT;
    cllm_info("going on from checkpoint %s", dir);
    return 1;
}

/* ---- all together ---- */

/* Memory that can be had without swapping, from /proc/meminfo; UINT64_MAX when unknown.
 */
static uint64_t memory_available(void)
{
    FILE *file = fopen("/proc/meminfo", "re");
    uint64_t kib = 0;
    bool found = false;
    char line[128];

    if (!file)
        return UINT64_MAX;
    while (!found && fgets(line, sizeof line, file))
        found = sscanf(line, "MemAvailable: %" SCNu64 " kB", &kib) == 1;
    (void)fclose(file); /* read only */
    return found ? kib * 1024 : UINT64_MAX;
}

/* /dev/shm is too small, memory is not: the guardian holds the objects. */
static bool do_without_names(const struct cllm_plan *plan, uint64_t shm)
{
    char need[CLLM_UNITS_BYTES], have[CLLM_UNITS_BYTES];

    if (!cllm_region_avoid_names())
        return false;
    cllm_warn(
        "/dev/shm has %s free and the run needs %s: it lives in memory that the "
        "guardian holds (memfd) and that ends with it; after that the newest "
        "checkpoint counts. mount -o remount,size=... /dev/shm (docker: --shm-size) "
        "makes it outlive that",
        cllm_format_bytes(have, shm), cllm_format_bytes(need, plan->shared_bytes));
    return true;
}

/*
 * Does the run fit? Asked before the first object is made: a machine that runs out of
 * memory while it is allocated ends processes at random.
 */
static int check_memory(const struct cllm_plan *plan)
{
    uint64_t shm = cllm_region_space(), memory = memory_available();
    char need[CLLM_UNITS_BYTES], have[CLLM_UNITS_BYTES];
    int rc;

    if (plan->shared_bytes > shm && plan->total_bytes <= memory &&
        do_without_names(plan, shm))
        return 0;
    if (plan->shared_bytes > shm)
        rc = cllm_err(
            CLLM_EREFUSED, "the run needs %s of shared memory, %s are free in /dev/shm",
            cllm_format_bytes(need, plan->shared_bytes), cllm_format_bytes(have, shm));
    else if (plan->total_bytes > memory)
        rc = cllm_err(CLLM_EREFUSED, "the run needs %s of memory, %s are available",
                      cllm_format_bytes(need, plan->total_bytes),
                      cllm_format_bytes(have, memory));
    else
        return 0;
    cllm_err_hint(
        "--dry-run shows what takes how much; lower [run] workers or lane_buffers, "
        "or set [compute] recompute; cllm-shm list shows runs that hold memory");
    return rc;
}

static int make_objects(struct cllm_control *control, const struct cllm_plan *plan)
{
    struct cllm_control_plan what = cllm_plan_control(plan);
    int rc = check_memory(plan);

    if (rc == 0)
        rc = cllm_control_create(control, &what);
    if (rc != 0)
        return rc;
    rc = cllm_objects_create(plan->run_id, &plan->geometry);
    if (rc == 0 && plan->frozen_bytes > 0)
        rc = cllm_frozen_share(plan);
    if (rc != 0) {
        cllm_objects_unlink(plan->run_id, &plan->geometry);
        cllm_control_detach(control);
        return rc;
    }
    cllm_control_publish(control);
    if (!control->region.nameless)
        cllm_logout_warn();
    return 0;
}

/* ---- a model to begin from ---- */

/* Finetuning: the weights of somebody's model are the checkpoint to go on from. 1: they
 * are; 0: the run has none; negative: error with text. */
static int begin_from_origin(struct cllm_beginning *beginning,
                             const struct cllm_config *config,
                             const struct cllm_plan *plan)
{
    int rc = 0;

    if (cllm_origin_is_set(config))
        rc = check_memory(plan); /* rather than after gigabytes were written */
    if (rc == 0)
        rc = cllm_origin_import(config, plan);
    if (rc > 0)
        rc = look_on_disk(beginning, config, plan, true, false);
    beginning->imported = rc > 0;
    return rc;
}

int cllm_beginning_find(struct cllm_beginning *beginning, struct cllm_control *control,
                        const struct cllm_config *config, const struct cllm_plan *plan,
                        bool resume, bool allow_numerics_change)
{
    int found;

    *beginning = (struct cllm_beginning){.kind = CLLM_BEGIN_FRESH};
    found = look_in_memory(beginning, control, config, plan, resume);
    if (found != 0)
        return found < 0 ? found : 0;
    found = look_on_disk(beginning, config, plan, resume, allow_numerics_change);
    if (found < 0)
        return found;
    if (found == 0 && resume)
        cllm_warn("nothing to resume in %s: the run begins", plan->run_dir);
    if (found == 0)
        found = cllm_journal_set_aside(plan->run_dir);
    if (found == 0)
        found = cllm_vocabulary_keep(config, plan);
    if (found == 0)
        found = begin_from_origin(beginning, config, plan);
    return found < 0 ? found : make_objects(control, plan);
}
