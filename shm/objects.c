/*
 * shm/objects.c - the tensor objects of a run: their names, their making and their end.
 *
 * Node Zero makes them and never maps them. What is frozen beneath adapters it makes and
 * fills in one go (shm/frozen.h). Each
 * is made at full size at once, so that a machine without the memory says so before the
 * first step.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "shm/control.h"
#include "shm/frozen.h"

void cllm_run_id_of(char out[CLLM_RUN_ID_BYTES], const char *run_dir)
{
    const char *base = strrchr(run_dir, '/');
    char stem[33];
    size_t n = 0;

    base = base ? base + 1 : run_dir;
    for (; *base && n + 1 < sizeof stem; base++)
        stem[n++] = isalnum((unsigned char)*base) ? *base : '_';
    stem[n] = '\0';
    (void)snprintf(out, CLLM_RUN_ID_BYTES, "%s-%08x", n ? stem : "run",
                   (unsigned)cllm_hash(run_dir, strlen(run_dir), 0));
}

static void part_name(char out[CLLM_REGION_NAME_BYTES], const char *run_id,
                      const char *part, uint32_t index)
{
    char text[32];

    (void)snprintf(text, sizeof text, "%s%u", part, index);
    cllm_region_name(out, run_id, text);
}

void cllm_params_name(char out[CLLM_REGION_NAME_BYTES], const char *run_id,
                      uint32_t version)
{
    part_name(out, run_id, "params", version);
}

void cllm_buffer_name(char out[CLLM_REGION_NAME_BYTES], const char *run_id,
                      uint32_t buffer)
{
    part_name(out, run_id, "lane", buffer);
}

void cllm_fold_name(char out[CLLM_REGION_NAME_BYTES], const char *run_id, uint32_t fold)
{
    part_name(out, run_id, "fold", fold);
}

void cllm_ring_name(char out[CLLM_REGION_NAME_BYTES], const char *run_id)
{
    cllm_region_name(out, run_id, "ring");
}

/* What is done to an object of @bytes. */
typedef int (*object_fn)(const char *name, uint64_t bytes);

/* All that Node Zero makes empty, until @visit returns other than 0. */
static int for_each(const char *run_id, const struct cllm_geometry *geometry,
                    object_fn visit)
{
    char name[CLLM_REGION_NAME_BYTES];
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < 2; i++) {
        cllm_params_name(name, run_id, i);
        rc = visit(name, cllm_params_bytes(geometry));
    }
    for (uint32_t i = 0; rc == 0 && i < geometry->n_folds; i++) {
        cllm_fold_name(name, run_id, i);
        rc = visit(name, cllm_vector_bytes(geometry));
    }
    for (uint32_t i = 0; rc == 0 && i < geometry->n_buffers; i++) {
        cllm_buffer_name(name, run_id, i);
        rc = visit(name, cllm_vector_bytes(geometry));
    }
    if (rc == 0) {
        cllm_ring_name(name, run_id);
        rc = visit(name, cllm_ring_bytes(geometry));
    }
    return rc;
}

static int create_one(const char *name, uint64_t bytes)
{
    return cllm_region_create(NULL, name, bytes);
}

int cllm_objects_create(const char *run_id, const struct cllm_geometry *geometry)
{
    return for_each(run_id, geometry, create_one);
}

static int check_one(const char *name, uint64_t bytes)
{
    struct cllm_region region = {0};
    int rc = cllm_region_open(&region, name, bytes, CLLM_REGION_READ);

    cllm_region_close(&region);
    return rc;
}

int cllm_objects_check(const char *run_id, const struct cllm_geometry *geometry)
{
    char name[CLLM_REGION_NAME_BYTES];
    int rc = for_each(run_id, geometry, check_one);

    cllm_frozen_name(name, run_id);
    if (rc == 0 && cllm_frozen_bytes(geometry) > 0)
        rc = check_one(name, cllm_frozen_bytes(geometry));
    return rc;
}

static int unlink_one(const char *name, uint64_t bytes)
{
    (void)bytes;
    if (cllm_region_unlink(name) != 0)
        cllm_warn("%s", cllm_err_text());
    return 0; /* the others all the same */
}

void cllm_objects_unlink(const char *run_id, const struct cllm_geometry *geometry)
{
    char name[CLLM_REGION_NAME_BYTES];

    (void)for_each(run_id, geometry, unlink_one);
    cllm_frozen_name(name, run_id);
    if (cllm_frozen_bytes(geometry) > 0)
        (void)unlink_one(name, 0);
    cllm_region_name(name, run_id, "control");
    (void)unlink_one(name, 0);
}
