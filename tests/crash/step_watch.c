/*
 * tests/crash/step_watch.c - areas, shadows, and the hash of a state.
 */
#include "tests/crash/step_watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/hash.h"

#define RANGE(type, member)                                                         \
    {                                                                               \
        (uint32_t) offsetof(type, member), (uint32_t)sizeof(((type *)NULL)->member) \
    }

static const struct step_range state_ignored[] = {
    RANGE(struct cllm_state, heartbeat_ns),      RANGE(struct cllm_state, started_ns),
    RANGE(struct cllm_state, tokens_per_s_bits), RANGE(struct cllm_state, eta_ns),
    RANGE(struct cllm_state, wait_data_ns),      RANGE(struct cllm_state, wait_saver_ns)};

static const struct step_range command_ignored[] = {
    RANGE(struct cllm_command, since_ns), RANGE(struct cllm_command, wait_data_ns)};

static const struct step_range own_ignored[] = {
    RANGE(struct cllm_own, status.progress), RANGE(struct cllm_own, status.lane_ns),
    RANGE(struct cllm_own, status.fold_ns),  RANGE(struct cllm_own, status.update_ns),
    RANGE(struct cllm_own, status.eval_ns),  RANGE(struct cllm_own, status.idle_ns),
    RANGE(struct cllm_own, status.busy_ns),  RANGE(struct cllm_own, status.save_ns)};

/* ---- areas ---- */

static int watch_area(struct step_watch *watch, const void *at, size_t bytes,
                      const struct step_range *ignored, uint32_t n_ignored)
{
    struct step_area *grown =
        realloc(watch->area, (watch->n_areas + 1) * sizeof *watch->area);
    uint8_t *shadow = malloc(bytes);

    if (grown)
        watch->area = grown;
    if (!grown || !shadow) {
        free(shadow);
        return cllm_err(-ENOMEM, "cannot watch %zu bytes", bytes);
    }
    memcpy(shadow, at, bytes);
    watch->area[watch->n_areas++] = (struct step_area){.at = at,
                                                       .shadow = shadow,
                                                       .bytes = bytes,
                                                       .ignored = ignored,
                                                       .n_ignored = n_ignored};
    return 0;
}

static int watch_object(struct step_watch *watch, const char *name)
{
    struct cllm_region *region = &watch->region[watch->n_regions];
    int rc;

    if (watch->n_regions == STEP_WATCH_REGIONS)
        return cllm_err(-ENOSPC, "too many objects to watch");
    rc = cllm_region_open(region, name, 1, CLLM_REGION_READ);
    if (rc != 0)
        return rc;
    watch->n_regions++;
    return watch_area(watch, region->base, region->bytes, NULL, 0);
}

/* Versions and folds; not the lane buffers. */
static int watch_tensors(struct step_watch *watch, const struct nano *nano)
{
    char name[CLLM_REGION_NAME_BYTES];
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < 2; i++) {
        cllm_params_name(name, nano->run_id, i);
        rc = watch_object(watch, name);
    }
    for (uint32_t i = 0; rc == 0 && i < nano->control.header->geometry.n_folds; i++) {
        cllm_fold_name(name, nano->run_id, i);
        rc = watch_object(watch, name);
    }
    return rc;
}

static int watch_control(struct step_watch *watch, const struct nano *nano)
{
    const struct cllm_control *control = &nano->control;
    const struct cllm_geometry *g = &control->header->geometry;
    int rc = watch_area(watch, control->state, sizeof *control->state, state_ignored,
                        CLLM_LEN(state_ignored));

    if (rc == 0) /* records, lanes, chunks and events lie in one piece */
        rc = watch_area(watch, control->record,
                        control->header->slots_off - control->header->records_off, NULL,
                        0);
    for (uint32_t i = 0; rc == 0 && i < g->n_slots; i++)
        rc = watch_area(watch, &control->slots[i].command,
                        sizeof control->slots[i].command, command_ignored,
                        CLLM_LEN(command_ignored));
    return rc;
}

static int watch_own(struct step_watch *watch, const struct nano *nano, uint32_t slot)
{
    const struct cllm_slot *pages = &nano->control.slots[slot];
    int rc = watch_area(watch, &pages->own, sizeof pages->own, own_ignored,
                        CLLM_LEN(own_ignored));

    return rc != 0 ? rc : watch_area(watch, &pages->crash, sizeof pages->crash, NULL, 0);
}

int step_watch_open(struct step_watch *watch, const struct nano *nano,
                    const struct nano_process *process)
{
    char name[CLLM_REGION_NAME_BYTES];
    int rc;

    *watch = (struct step_watch){0};
    if (process->role == NANO_NODE_ZERO)
        rc = watch_control(watch, nano);
    else
        rc = watch_own(watch, nano, process->slot);
    if (rc == 0 && process->role == NANO_WORKER)
        rc = watch_tensors(watch, nano);
    if (rc == 0 && process->role == NANO_LOADER) {
        cllm_ring_name(name, nano->run_id);
        rc = watch_object(watch, name);
    }
    if (rc != 0)
        step_watch_close(watch);
    return rc;
}

void step_watch_close(struct step_watch *watch)
{
    for (uint32_t i = 0; i < watch->n_areas; i++)
        free(watch->area[i].shadow);
    free(watch->area);
    for (uint32_t i = 0; i < watch->n_regions; i++)
        cllm_region_close(&watch->region[i]);
    *watch = (struct step_watch){0};
}

/* ---- look ---- */

static enum step_change look_at(const struct step_area *area)
{
    if (memcmp(area->at, area->shadow, area->bytes) == 0)
        return STEP_CHANGE_NONE;
    for (uint32_t i = 0; i < area->n_ignored; i++) {
        const struct step_range *range = &area->ignored[i];

        memcpy(area->shadow + range->off, area->at + range->off, range->bytes);
    }
    if (memcmp(area->at, area->shadow, area->bytes) == 0)
        return STEP_CHANGE_IGNORED;
    memcpy(area->shadow, area->at, area->bytes);
    return STEP_CHANGE_STATE;
}

enum step_change step_watch_look(struct step_watch *watch)
{
    enum step_change most = STEP_CHANGE_NONE;

    for (uint32_t i = 0; i < watch->n_areas; i++) {
        enum step_change change = look_at(&watch->area[i]);

        most = change > most ? change : most;
    }
    return most;
}

/* ---- state of a copy ---- */

static void forget(uint8_t *at, const struct step_range *range, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        memset(at + range[i].off, 0, range[i].bytes);
}

static uint64_t hash_control(const struct run_copy_object *object, uint64_t seed)
{
    const struct cllm_header *header = (const void *)object->data;
    uint8_t *bytes = malloc(object->bytes);
    uint64_t hash;

    CLLM_ASSERT(bytes);
    memcpy(bytes, object->data, object->bytes);
    forget(bytes + header->state_off, state_ignored, CLLM_LEN(state_ignored));
    for (uint32_t i = 0; i < header->geometry.n_slots; i++) {
        uint8_t *slot = bytes + header->slots_off + i * sizeof(struct cllm_slot);

        forget(slot, command_ignored, CLLM_LEN(command_ignored));
        forget(slot + offsetof(struct cllm_slot, own), own_ignored,
               CLLM_LEN(own_ignored));
        memset(slot + offsetof(struct cllm_slot, bell), 0, sizeof(struct cllm_bell));
    }
    hash = cllm_hash(bytes, object->bytes, seed);
    free(bytes);
    return hash;
}

/* What is said to people, and locks, whose content is a pid. */
static bool is_talk(const char *path)
{
    static const char *const name[] = {"log.txt", "run.lock", "generation.lock"};

    for (size_t i = 0; i < CLLM_LEN(name); i++)
        if (strcmp(path, name[i]) == 0)
            return true;
    return false;
}

/* A directory is listed in no order: its entries are added up. */
static uint64_t hash_file(const struct run_copy_file *file)
{
    uint64_t hash = cllm_hash(file->path, strlen(file->path), file->mode);

    return file->data ? cllm_hash(file->data, file->bytes, hash) : hash;
}

uint64_t step_watch_state(const struct run_copy *copy)
{
    uint64_t state = 0;

    for (uint32_t i = 0; i < copy->n_objects; i++) {
        const struct run_copy_object *object = &copy->object[i];
        uint64_t seed = cllm_hash(object->part, strlen(object->part), 0);

        if (strcmp(object->part, "control") == 0)
            state += hash_control(object, seed);
        else if (strncmp(object->part, "lane", 4) != 0)
            state += cllm_hash(object->data, object->bytes, seed);
    }
    for (uint32_t i = 0; i < copy->n_files; i++)
        if (!is_talk(copy->file[i].path))
            state += hash_file(&copy->file[i]);
    return state;
}
