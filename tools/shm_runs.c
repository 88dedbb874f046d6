/*
 * tools/shm_runs.c - see tools/shm_runs.h.
 */
#include "tools/shm_runs.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "shm/control.h"

struct gathering {
    struct cllm_shm_object *object;
    uint32_t n, capacity;
};

/* A name that is not of the form cllm-<uid>-<run id>-<part> is not ours to speak of. */
static int add_object(const char *name, uint64_t bytes, void *ctx)
{
    struct gathering *all = ctx;
    const char *id = strchr(name, '-');
    const char *part = strrchr(name, '-');
    struct cllm_shm_object *object;

    id = id ? strchr(id + 1, '-') : NULL;
    if (!id || part <= id + 1 || part[1] == '\0' ||
        strlen(name) >= CLLM_REGION_NAME_BYTES)
        return 0;
    if (all->n == all->capacity) {
        uint32_t more = all->capacity ? 2 * all->capacity : 64;
        void *grown = realloc(all->object, more * sizeof *all->object);

        if (!grown)
            return cllm_err(-ENOMEM, "cannot list shared memory");
        all->object = grown;
        all->capacity = more;
    }
    object = &all->object[all->n++];
    (void)snprintf(object->name, sizeof object->name, "%s", name);
    object->id_off = (uint32_t)(id + 1 - name);
    object->part_off = (uint32_t)(part + 1 - name);
    object->bytes = bytes;
    return 0;
}

/* By run, then part, with lane2 before lane10; control comes first. */
static int compare_objects(const void *left, const void *right)
{
    const struct cllm_shm_object *a = left, *b = right;
    size_t a_id = a->part_off - a->id_off, b_id = b->part_off - b->id_off;
    size_t shorter = a_id < b_id ? a_id : b_id;
    int order = strncmp(a->name + a->id_off, b->name + b->id_off, shorter);

    if (order == 0 && a_id != b_id)
        order = a_id < b_id ? -1 : 1;
    return order != 0 ? order : strverscmp(a->name + a->part_off, b->name + b->part_off);
}

static int64_t changed_unix_s(const char *name)
{
    char path[CLLM_REGION_NAME_BYTES + 16];
    struct stat st;

    (void)snprintf(path, sizeof path, "/dev/shm/%s", name);
    return stat(path, &st) == 0 ? (int64_t)st.st_ctim.tv_sec : 0;
}

static bool same_run(const struct cllm_shm_object *a, const struct cllm_shm_object *b)
{
    return a->part_off == b->part_off && memcmp(a->name, b->name, a->part_off) == 0;
}

static void group_objects(struct cllm_shm_runs *runs)
{
    struct cllm_shm_run *run = NULL;

    for (uint32_t i = 0; i < runs->n_objects; i++) {
        const struct cllm_shm_object *object = &runs->object[i];
        int64_t changed = changed_unix_s(object->name);

        if (i == 0 || !same_run(object, object - 1)) {
            run = &runs->run[runs->n_runs++];
            *run = (struct cllm_shm_run){.object = object};
            (void)snprintf(run->id, sizeof run->id, "%.*s",
                           (int)(object->part_off - object->id_off) - 1,
                           object->name + object->id_off);
        }
        run->n_objects++;
        run->bytes += object->bytes;
        if (changed > run->newest_unix_s)
            run->newest_unix_s = changed;
        if (strcmp(object->name + object->part_off, "control") == 0)
            run->has_control = true;
    }
}

int cllm_shm_runs_scan(struct cllm_shm_runs *runs)
{
    struct gathering all = {0};
    struct cllm_shm_run *run = NULL;
    int rc = cllm_region_list(add_object, &all);

    if (rc == 0 && all.n > 0) {
        run = calloc(all.n, sizeof *run);
        if (run == NULL)
            rc = cllm_err(-ENOMEM, "cannot list shared memory");
    }
    *runs = (struct cllm_shm_runs){.object = all.object, .n_objects = all.n, .run = run};
    if (rc != 0) {
        cllm_shm_runs_fini(runs);
    } else if (run != NULL) {
        qsort(runs->object, runs->n_objects, sizeof *runs->object, compare_objects);
        group_objects(runs);
    }
    return rc;
}

void cllm_shm_runs_fini(struct cllm_shm_runs *runs)
{
    for (uint32_t i = 0; i < runs->n_runs; i++)
        free(runs->run[i].directory);
    free(runs->object);
    free(runs->run);
    *runs = (struct cllm_shm_runs){0};
}

/* By what its control object says; one that says nothing (any more) by its id. */
static bool lies_in(const struct cllm_shm_run *run, const char *directory)
{
    struct cllm_control control;
    char id[CLLM_RUN_ID_BYTES];
    bool same;

    if (!run->has_control ||
        cllm_control_attach(&control, run->id, CLLM_NONE) != CLLM_ATTACH_OK) {
        cllm_run_id_of(id, directory);
        return strcmp(run->id, id) == 0;
    }
    same = strncmp(control.header->run_dir, directory, CLLM_PATH_BYTES) == 0;
    cllm_control_detach(&control);
    return same;
}

/* Ids of all runs as one line, for messages. */
static void name_runs(const struct cllm_shm_runs *runs, char *out, size_t bytes)
{
    size_t used = 0;

    out[0] = '\0';
    for (uint32_t i = 0; i < runs->n_runs && used + 1 < bytes; i++) {
        int n =
            snprintf(out + used, bytes - used, "%s%s", i ? ", " : "", runs->run[i].id);

        if (n < 0)
            break;
        used += (size_t)n;
    }
}

/* Say how far the run in @directory is on disk; false when no run was ever there. */
static bool tell_ended(const char *directory)
{
    char path[PATH_MAX + 32], newest[PATH_MAX];
    const char *name;
    bool journal;

    (void)snprintf(path, sizeof path, "%s/journal.jsonl", directory);
    journal = access(path, F_OK) == 0;
    (void)snprintf(path, sizeof path, "%s/checkpoints/last", directory);
    name = realpath(path, newest) ? strstr(newest, "/step-") : NULL;
    if (name)
        (void)cllm_err(
            CLLM_ECONFIG,
            "the run in %s has ended, or is not in memory; it is at step %llu, "
            "newest checkpoint: %s",
            directory, strtoull(strrchr(newest, '-') + 1, NULL, 10), newest);
    else if (journal)
        (void)cllm_err(CLLM_ECONFIG,
                       "the run in %s has ended, or is not in memory; it has no "
                       "checkpoint",
                       directory);
    return name || journal;
}

const struct cllm_shm_run *cllm_shm_runs_find(const struct cllm_shm_runs *runs,
                                              const char *text)
{
    struct cllm_shm_run *found = NULL;
    uint32_t n_found = 0;
    char directory[PATH_MAX], ids[512];

    for (uint32_t i = 0; i < runs->n_runs; i++) {
        if (text && strcmp(runs->run[i].id, text) == 0)
            return &runs->run[i];
        if (!text ||
            (text[0] != '\0' && strncmp(runs->run[i].id, text, strlen(text)) == 0)) {
            found = &runs->run[i];
            n_found++;
        }
    }
    if (n_found == 0 && text && realpath(text, directory)) {
        for (uint32_t i = 0; i < runs->n_runs; i++)
            if (lies_in(&runs->run[i], directory)) {
                found = &runs->run[i];
                n_found++;
            }
        if (n_found == 1 && found->directory == NULL)
            found->directory = strdup(directory); /* NULL: as if by its id */
    }
    if (n_found == 1)
        return found;

    if (n_found == 0 && text && realpath(text, directory) && tell_ended(directory))
        return NULL;
    name_runs(runs, ids, sizeof ids);
    if (runs->n_runs == 0) {
        (void)cllm_err(CLLM_ECONFIG, "no run of user %u is in shared memory",
                       (unsigned)geteuid());
        cllm_err_hint("a run that ended has left nothing behind; its checkpoints are in "
                      "its run directory");
    } else if (n_found == 0) {
        (void)cllm_err(CLLM_ECONFIG, "no run \"%s\" is in shared memory", text);
        cllm_err_hint("there are: %s", ids);
    } else {
        if (text)
            (void)cllm_err(CLLM_ECONFIG, "%u runs fit \"%s\"", n_found, text);
        else
            (void)cllm_err(CLLM_ECONFIG,
                           "%u runs are in shared memory: say which one is meant",
                           n_found);
        cllm_err_hint("name one of: %s", ids);
    }
    return NULL;
}
