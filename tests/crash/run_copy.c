/*
 * tests/crash/run_copy.c - objects and files into memory, and out of it under another id.
 */
#include "tests/crash/run_copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/hash.h"
#include "formats/file.h"

#define FILE_CAP (256u << 20)

/* As coordinator/plan.c names runs; a copy under another name would not be found there.
 */
void run_copy_free(struct run_copy *copy)
{
    for (uint32_t i = 0; i < copy->n_objects; i++)
        free(copy->object[i].data);
    for (uint32_t i = 0; i < copy->n_files; i++) {
        free(copy->file[i].path);
        free(copy->file[i].data);
    }
    free(copy->object);
    free(copy->file);
    *copy = (struct run_copy){0};
}

const struct run_copy_object *run_copy_find(const struct run_copy *copy, const char *part)
{
    for (uint32_t i = 0; i < copy->n_objects; i++)
        if (strcmp(copy->object[i].part, part) == 0)
            return &copy->object[i];
    return NULL;
}

/* ---- take: objects ---- */

struct taking {
    struct run_copy *copy;
    char prefix[CLLM_REGION_NAME_BYTES]; /* with the slash that names begin with */
};

static int take_object(const char *name, uint64_t bytes, void *ctx)
{
    struct taking *taking = ctx;
    struct run_copy *copy = taking->copy;
    struct run_copy_object *grown, *object;
    struct cllm_region region;
    char path[CLLM_REGION_NAME_BYTES];
    int rc;

    (void)bytes; /* allocated; the size is what counts */
    (void)snprintf(path, sizeof path, "/%.150s", name);
    if (strncmp(path, taking->prefix, strlen(taking->prefix)) != 0)
        return 0;
    grown = realloc(copy->object, (copy->n_objects + 1) * sizeof *grown);
    if (!grown)
        return cllm_err(-ENOMEM, "cannot keep %s", path);
    copy->object = grown;
    rc = cllm_region_open(&region, path, 1, CLLM_REGION_READ);
    if (rc != 0)
        return rc;
    object = &copy->object[copy->n_objects];
    *object =
        (struct run_copy_object){.bytes = region.bytes, .data = malloc(region.bytes)};
    (void)snprintf(object->part, sizeof object->part, "%.31s",
                   path + strlen(taking->prefix));
    if (object->data) {
        memcpy(object->data, region.base, region.bytes);
        copy->n_objects++;
    } else {
        rc = cllm_err(-ENOMEM, "cannot keep %s (%zu bytes)", path, region.bytes);
    }
    cllm_region_close(&region);
    return rc;
}

/* ---- take: files ---- */

static int add_file(struct run_copy *copy, const char *path, uint32_t mode, char *data,
                    size_t bytes)
{
    struct run_copy_file *grown =
        realloc(copy->file, (copy->n_files + 1) * sizeof *grown);
    char *name = strdup(path);

    if (grown)
        copy->file = grown;
    if (!grown || !name) {
        free(name);
        free(data);
        return cllm_err(-ENOMEM, "cannot keep %s", path);
    }
    copy->file[copy->n_files++] =
        (struct run_copy_file){.path = name, .mode = mode, .bytes = bytes, .data = data};
    return 0;
}

static int take_file(struct run_copy *copy, const char *full, const char *path,
                     const struct stat *st)
{
    char target[CLLM_FILE_PATH_BYTES];
    size_t bytes = 0;
    char *data = NULL;
    ssize_t n;
    int rc;

    if (S_ISREG(st->st_mode)) {
        rc = cllm_file_read(full, FILE_CAP, &data, &bytes);
        return rc != 0 ? rc : add_file(copy, path, st->st_mode, data, bytes);
    }
    n = readlink(full, target, sizeof target - 1);
    if (n < 0)
        return cllm_err(-errno, "cannot read link %s", full);
    target[n] = '\0';
    data = strdup(target);
    if (!data)
        return cllm_err(-ENOMEM, "cannot keep %s", full);
    return add_file(copy, path, st->st_mode, data, (size_t)n);
}

/* Everything in directory @top/@path; "" = @top itself. */
static int take_directory(struct run_copy *copy, const char *top, const char *path)
{
    char dir[CLLM_FILE_PATH_BYTES], full[CLLM_FILE_PATH_BYTES];
    char below[CLLM_FILE_PATH_BYTES];
    struct dirent *entry;
    DIR *stream;
    int rc = cllm_file_join(dir, top, path);

    if (rc != 0)
        return rc;
    stream = opendir(dir);
    if (!stream)
        return cllm_err(-errno, "cannot list %s", dir);
    while (rc == 0 && (entry = readdir(stream)) != NULL) {
        struct stat st;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        rc = cllm_file_join(full, dir, entry->d_name);
        if (rc == 0 && path[0] != '\0')
            rc = cllm_file_join(below, path, entry->d_name);
        else
            (void)snprintf(below, sizeof below, "%s", entry->d_name);
        if (rc != 0 || lstat(full, &st) != 0)
            continue; /* gone since it was listed */
        if (S_ISDIR(st.st_mode)) {
            rc = add_file(copy, below, st.st_mode, NULL, 0);
            if (rc == 0)
                rc = take_directory(copy, top, below);
        } else if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)) {
            rc = take_file(copy, full, below, &st);
        }
    }
    (void)closedir(stream); /* read only */
    return rc;
}

int run_copy_take(struct run_copy *copy, const char *run_dir)
{
    struct taking taking = {.copy = copy};
    char id[CLLM_RUN_ID_BYTES];
    int rc;

    CLLM_ASSERT(copy->n_objects == 0 && copy->n_files == 0);
    cllm_run_id_of(id, run_dir);
    cllm_region_name(taking.prefix, id, "");
    rc = cllm_region_list(take_object, &taking);
    if (rc == 0)
        rc = take_directory(copy, run_dir, "");
    if (rc != 0) {
        cllm_err_add("cannot copy run %s", id);
        run_copy_free(copy);
    }
    return rc;
}

/* ---- put ---- */

/*
 * The header of the copy names its own directory. Processes are named by pid and start
 * time; no process starts at tick 1, so those named here are dead whoever has their pid.
 */
static void rename_control(struct cllm_region *region, const char *id,
                           const char *run_dir)
{
    struct cllm_header *header = (struct cllm_header *)(void *)region->base;
    struct cllm_state *state;

    memset(header->run_id, 0, sizeof header->run_id);
    memset(header->run_dir, 0, sizeof header->run_dir);
    (void)snprintf(header->run_id, sizeof header->run_id, "%s", id);
    (void)snprintf(header->run_dir, sizeof header->run_dir, "%s", run_dir);
    header->creator_start_ticks = 1;
    header->sum = cllm_hash(header, offsetof(struct cllm_header, sum), CLLM_LAYOUT_MAGIC);
    if (header->state_off > region->bytes - sizeof *state)
        return; /* half made */
    state = (struct cllm_state *)(void *)(region->base + header->state_off);
    state->node_zero_start_ticks = 1;
    state->guardian_start_ticks = 1;
}

static int put_object(const struct run_copy_object *object, const char *id,
                      const char *run_dir)
{
    char name[CLLM_REGION_NAME_BYTES];
    struct cllm_region region;
    int rc;

    cllm_region_name(name, id, object->part);
    rc = cllm_region_create(&region, name, object->bytes);
    if (rc != 0)
        return rc;
    memcpy(region.base, object->data, object->bytes);
    if (strcmp(object->part, "control") == 0 &&
        object->bytes >= sizeof(struct cllm_header))
        rename_control(&region, id, run_dir);
    cllm_region_close(&region);
    return 0;
}

static int put_file(const struct run_copy_file *file, const char *run_dir)
{
    char path[CLLM_FILE_PATH_BYTES];
    int rc = cllm_file_join(path, run_dir, file->path);
    int fd;

    if (rc != 0)
        return rc;
    if (S_ISDIR(file->mode))
        return mkdir(path, file->mode & 07777) == 0
                   ? 0
                   : cllm_err(-errno, "cannot make %s", path);
    if (S_ISLNK(file->mode))
        return symlink(file->data, path) == 0 ? 0
                                              : cllm_err(-errno, "cannot link %s", path);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, file->mode & 07777);
    if (fd < 0)
        return cllm_err(-errno, "cannot create %s", path);
    rc = cllm_file_write_all(fd, file->data, file->bytes, path);
    (void)close(fd); /* nobody relies on its durability */
    return rc;
}

int run_copy_put(const struct run_copy *copy, const char *run_dir)
{
    char id[CLLM_RUN_ID_BYTES];
    int rc = 0;

    cllm_run_id_of(id, run_dir);
    if (mkdir(run_dir, 0777) != 0)
        return cllm_err(-errno, "cannot make %s", run_dir);
    for (uint32_t i = 0; rc == 0 && i < copy->n_files; i++)
        rc = put_file(&copy->file[i], run_dir);
    for (uint32_t i = 0; rc == 0 && i < copy->n_objects; i++)
        rc = put_object(&copy->object[i], id, run_dir);
    if (rc != 0) {
        cllm_err_add("cannot put a copy into %s", run_dir);
        (void)run_copy_remove(run_dir);
    }
    return rc;
}

/* ---- remove ---- */

static int unlink_matching(const char *name, uint64_t bytes, void *ctx)
{
    const char *prefix = ctx;
    char path[CLLM_REGION_NAME_BYTES];

    (void)bytes;
    (void)snprintf(path, sizeof path, "/%.150s", name);
    return strncmp(path, prefix, strlen(prefix)) == 0 ? cllm_region_unlink(path) : 0;
}

/* A socket is nothing that a removal of trees takes away by itself. */
static void remove_socket(const char *run_dir)
{
    char path[CLLM_FILE_PATH_BYTES];

    if (cllm_file_join(path, run_dir, CLLM_CONTROL_SOCKET_NAME) == 0)
        (void)unlink(path);
}

int run_copy_remove(const char *run_dir)
{
    char id[CLLM_RUN_ID_BYTES], prefix[CLLM_REGION_NAME_BYTES];
    int rc;

    cllm_run_id_of(id, run_dir);
    cllm_region_name(prefix, id, "");
    rc = cllm_region_list(unlink_matching, prefix);
    remove_socket(run_dir);
    return rc != 0 ? rc : cllm_file_remove_tree(run_dir);
}
