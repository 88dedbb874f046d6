/*
 * tests/crash/sim_memory.c - shm/region.h over an array: objects by name, mapped by
 * everybody at the same place, writable for whom the open mode and cllm_region_allow()
 * say. Every store is held against that.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "shm/region.h"
#include "tests/crash/sim.h"

void *__real_memset(void *to, int byte, size_t n);

void sim_memory_wipe(void)
{
    (void)__real_memset(sim.arena, 0, sim.arena_used);
    memset(sim.page_object, 0, sizeof sim.page_object);
    memset(sim.object, 0, sizeof sim.object);
    sim.arena_used = 0;
    sim_check_attach();
}

void sim_memory_reset(void)
{
    sim_memory_wipe();
}

struct sim_object *sim_object_at(uint64_t off)
{
    return &sim.object[sim.page_object[off / CLLM_PAGE]];
}

uint8_t *sim_object_base(enum sim_object_kind kind, uint32_t index)
{
    for (uint32_t i = 1; i < SIM_OBJECTS; i++)
        if (sim.object[i].named && sim.object[i].kind == kind &&
            sim.object[i].index == index)
            return sim.arena + sim.object[i].off;
    return NULL;
}

bool sim_may_write(const struct sim_process *process, uint64_t off, uint32_t bytes)
{
    const struct sim_object *object = sim_object_at(off);
    uint64_t own;

    if (object->kind == SIM_OBJECT_CONTROL) {
        if (process->role == SIM_NODE_ZERO)
            return true;
        own = object->off + sim.view.header->slots_off +
              process->slot * sizeof(struct cllm_slot) + offsetof(struct cllm_slot, own);
        return off >= own && off + bytes <= own + sizeof(struct cllm_slot) -
                                                offsetof(struct cllm_slot, own);
    }
    if (object->kind == SIM_OBJECT_RING)
        return process->role == SIM_LOADER;
    for (uint32_t i = 0; i < SIM_ALLOWED; i++)
        if (off >= process->allowed[i].off &&
            off + bytes <= process->allowed[i].off + process->allowed[i].bytes)
            return true;
    return false;
}

/* ---- shm/region.h ---- */

void cllm_region_name(char out[CLLM_REGION_NAME_BYTES], const char *run_id,
                      const char *part)
{
    (void)snprintf(out, CLLM_REGION_NAME_BYTES, "/cllm-0-%s-%s", run_id, part);
}

static struct sim_object *find(const char *name)
{
    for (uint32_t i = 1; i < SIM_OBJECTS; i++)
        if (sim.object[i].named && strcmp(sim.object[i].name, name) == 0)
            return &sim.object[i];
    return NULL;
}

static enum sim_object_kind kind_of(const char *name, uint32_t *index)
{
    static const struct {
        const char *part;
        enum sim_object_kind kind;
    } table[] = {{"params", SIM_OBJECT_PARAMS},
                 {"lane", SIM_OBJECT_LANE},
                 {"fold", SIM_OBJECT_FOLD},
                 {"ring", SIM_OBJECT_RING},
                 {"control", SIM_OBJECT_CONTROL}};
    const char *part = strrchr(name, '-') + 1;

    for (uint32_t i = 0; i < CLLM_LEN(table); i++)
        if (strncmp(part, table[i].part, strlen(table[i].part)) == 0) {
            *index = (uint32_t)strtoul(part + strlen(table[i].part), NULL, 10);
            return table[i].kind;
        }
    return SIM_OBJECT_NONE;
}

/* The bytes of an object that was unlinked are used again: a new one of that name. */
static struct sim_object *make(const char *name, size_t bytes)
{
    struct sim_object *object = NULL;
    uint64_t pages = cllm_align_up(bytes, CLLM_PAGE) / CLLM_PAGE;

    for (uint32_t i = 1; i < SIM_OBJECTS && !object; i++)
        if (sim.object[i].kind != SIM_OBJECT_NONE && !sim.object[i].named &&
            sim.object[i].bytes == pages * CLLM_PAGE)
            object = &sim.object[i];
    for (uint32_t i = 1; i < SIM_OBJECTS && !object; i++)
        if (sim.object[i].kind == SIM_OBJECT_NONE) {
            object = &sim.object[i];
            object->off = sim.arena_used;
            object->bytes = pages * CLLM_PAGE;
            sim.arena_used += object->bytes;
            CLLM_ASSERT(sim.arena_used <= SIM_ARENA_BYTES);
            for (uint64_t p = 0; p < pages; p++)
                sim.page_object[object->off / CLLM_PAGE + p] = (uint8_t)i;
        }
    CLLM_ASSERT(object != NULL);
    object->kind = kind_of(name, &object->index);
    object->named = true;
    (void)snprintf(object->name, sizeof object->name, "%s", name);
    (void)__real_memset(sim.arena + object->off, 0, object->bytes);
    return object;
}

static void map(struct cllm_region *region, const struct sim_object *object)
{
    *region =
        (struct cllm_region){.base = sim.arena + object->off, .bytes = object->bytes};
    (void)snprintf(region->name, sizeof region->name, "%s", object->name);
}

int cllm_region_create(struct cllm_region *region, const char *name, size_t bytes)
{
    struct sim_object *object;

    sim_message("create", bytes);
    if (find(name))
        return cllm_err(-EEXIST, "%s is there", name);
    object = make(name, bytes);
    if (region)
        map(region, object);
    if (object->kind == SIM_OBJECT_CONTROL)
        sim_check_attach();
    return 0;
}

int cllm_region_open(struct cllm_region *region, const char *name, size_t min_bytes,
                     enum cllm_region_mode mode)
{
    const struct sim_object *object = find(name);

    (void)mode;
    *region = (struct cllm_region){0};
    if (!object)
        return cllm_err(-ENOENT, "there is no %s", name);
    if (object->bytes < min_bytes)
        return cllm_err(-EINVAL, "%s is too small", name);
    map(region, object);
    return 0;
}

int cllm_region_open_window(struct cllm_region *region, const char *name, size_t off,
                            size_t bytes, const char *note)
{
    const struct sim_object *object = find(name);

    (void)note;
    if (!object)
        return cllm_err(-ENOENT, "there is no %s", name);
    map(region, object);
    region->base += off;
    region->bytes = bytes;
    return 0;
}

void cllm_region_allow(struct cllm_region *region, size_t off, size_t bytes,
                       bool writable)
{
    struct sim_process *self = sim.current;
    uint64_t begin = (uint64_t)((uintptr_t)region->base - (uintptr_t)sim.arena) + off;

    for (uint32_t i = 0; i < SIM_ALLOWED; i++) {
        struct sim_range *range = &self->allowed[i];

        if (writable && range->bytes == 0) {
            *range = (struct sim_range){.off = begin, .bytes = bytes};
            return;
        }
        if (!writable && range->off == begin && range->bytes == bytes) {
            *range = (struct sim_range){0};
            return;
        }
    }
    if (writable)
        sim_violation("memory", "%s has too many writable ranges",
                      sim_process_name(self));
}

void cllm_region_close(struct cllm_region *region)
{
    *region = (struct cllm_region){0};
}

int cllm_region_unlink(const char *name)
{
    struct sim_object *object = find(name);

    sim_message("unlink", 0);
    if (object) {
        if (object->kind == SIM_OBJECT_CONTROL)
            sim_check_removal();
        object->named = false;
        if (object->kind == SIM_OBJECT_CONTROL)
            sim_check_attach();
    }
    return 0;
}

void cllm_region_note(const char *name, const void *base, size_t bytes, bool writable)
{
    (void)name;
    (void)base;
    (void)bytes;
    (void)writable;
}

void cllm_region_forget(const void *base)
{
    (void)base;
}

const struct cllm_region_note *cllm_region_find(uint64_t address)
{
    (void)address;
    return NULL;
}

uint64_t cllm_region_space(void)
{
    return UINT64_MAX;
}

void cllm_region_set_keeper(int socket)
{
    (void)socket;
}

bool cllm_region_avoid_names(void)
{
    return false;
}

int cllm_region_list(int (*visit)(const char *name, uint64_t bytes, void *ctx), void *ctx)
{
    int rc = 0;

    for (uint32_t i = 1; rc == 0 && i < SIM_OBJECTS; i++)
        if (sim.object[i].named)
            rc = visit(sim.object[i].name + 1, sim.object[i].bytes, ctx);
    return rc;
}
