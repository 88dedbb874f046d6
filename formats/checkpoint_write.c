/*
 * formats/checkpoint_write.c - from an empty temporary directory to a named checkpoint.
 *
 * At every instant a power cut leaves old checkpoints untouched and the new one either
 * under its temporary name or complete. Directories are also renamed to a temporary name
 * before they are removed, so a half removed one is never taken for a checkpoint.
 */
#include "formats/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fault.h"
#include "formats/adapter.h"
#include "formats/checkpoint_list.h"

int cllm_checkpoint_begin(const char *checkpoints, uint64_t step,
                          char temp[CLLM_FILE_PATH_BYTES])
{
    char name[32];
    int rc;

    CLLM_ASSERT(step <= CLLM_CHECKPOINT_STEP_MAX);
    cllm_checkpoint_name(name, step, true);
    rc = cllm_file_join(temp, checkpoints, name);
    if (rc == 0)
        rc = cllm_file_remove_tree(temp);
    if (rc == 0)
        rc = cllm_file_mkdirs(temp);
    return rc;
}

int cllm_checkpoint_create(const char *temp, const char *name,
                           const struct cllm_safetensors_plan *plan)
{
    char path[CLLM_FILE_PATH_BYTES];
    int rc = cllm_file_join(path, temp, name);

    if (rc < 0)
        return rc;
    rc = cllm_fault_error(CLLM_FAULT_checkpoint_create);
    if (rc != 0)
        return cllm_err(rc, "cannot create %s", path);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return cllm_err(-errno, "cannot create %s", path);
    do {
        rc = -cllm_fault_error(CLLM_FAULT_checkpoint_reserve);
        if (rc == 0)
            rc = posix_fallocate(fd, 0, (off_t)plan->file_bytes);
    } while (rc == EINTR);
    if (rc != 0) {
        rc = cllm_err(-rc, "cannot reserve room for %s", path);
        cllm_err_detail("posix_fallocate of %llu bytes",
                        (unsigned long long)plan->file_bytes);
        cllm_err_hint("df %s, or lower [checkpoint] keep", temp);
    } else {
        rc = cllm_file_pwrite_all(fd, plan->header, (size_t)plan->header_bytes, 0, path);
    }
    if (rc == 0)
        return fd;
    (void)close(fd);
    (void)unlink(path); /* room was not to be had: give back what there is of it */
    return rc;
}

int cllm_checkpoint_describe(const char *temp, const struct cllm_checkpoint_info *info,
                             const struct cllm_checkpoint_digest *known, uint32_t n_known)
{
    int rc = cllm_checkpoint_write_config(temp, info);

    if (rc == 0 && info->lora.rank > 0)
        rc = cllm_adapter_write_config(temp, &info->lora, &info->model);
    cllm_fault(CLLM_FAULT_checkpoint_config);
    if (rc == 0)
        rc = cllm_checkpoint_write_run(temp, info);
    if (rc == 0)
        rc = cllm_checkpoint_write_manifest(temp, known, n_known);
    cllm_fault(CLLM_FAULT_checkpoint_manifest);
    return rc == 0 ? cllm_file_sync_dir(temp) : rc;
}

/* @final exists: let it change places with @temp, then remove what it was. */
static int exchange(const char *temp, const char *final)
{
    int rc = cllm_fault_error(CLLM_FAULT_checkpoint_exchange);

    if (rc != 0)
        return cllm_err(rc, "cannot exchange %s and %s", temp, final);
    if (renameat2(AT_FDCWD, temp, AT_FDCWD, final, RENAME_EXCHANGE) == 0) {
        cllm_fault(CLLM_FAULT_checkpoint_swapped);
        rc = cllm_file_sync_parent(final);
        return rc < 0 ? rc : cllm_file_remove_tree(temp);
    }
    /* Not every file system can exchange. The older one is lost first then; it is of the
     * same step, and there are others. */
    if (errno != EINVAL && errno != ENOSYS)
        return cllm_err(-errno, "cannot exchange %s and %s", temp, final);
    rc = cllm_file_remove_tree(final);
    return rc < 0 ? rc : cllm_file_rename(temp, final);
}

int cllm_checkpoint_commit(const char *checkpoints, uint64_t step)
{
    char temp[CLLM_FILE_PATH_BYTES], final[CLLM_FILE_PATH_BYTES], name[32];
    struct stat st;
    int rc;

    cllm_checkpoint_name(name, step, true);
    rc = cllm_file_join(temp, checkpoints, name);
    cllm_checkpoint_name(name, step, false);
    if (rc == 0)
        rc = cllm_file_join(final, checkpoints, name);
    if (rc == 0)
        rc = cllm_checkpoint_verify(temp, false, NULL);
    if (rc < 0)
        return rc;
    cllm_fault(CLLM_FAULT_checkpoint_commit);
    if (lstat(final, &st) == 0)
        return exchange(temp, final);
    return cllm_file_rename(temp, final);
}

int cllm_checkpoint_link(const char *checkpoints, const char *name, uint64_t step)
{
    char link[CLLM_FILE_PATH_BYTES], target[32];
    int rc = cllm_file_join(link, checkpoints, name);

    cllm_checkpoint_name(target, step, false);
    return rc < 0 ? rc : cllm_file_symlink(target, link);
}

/* Remove @checkpoints' directory of @step, by way of its temporary name. */
static int remove_step(const char *checkpoints, uint64_t step)
{
    char temp[CLLM_FILE_PATH_BYTES], path[CLLM_FILE_PATH_BYTES], name[32];
    int rc;

    cllm_checkpoint_name(name, step, true);
    rc = cllm_file_join(temp, checkpoints, name);
    cllm_checkpoint_name(name, step, false);
    if (rc == 0)
        rc = cllm_file_join(path, checkpoints, name);
    cllm_fault(CLLM_FAULT_checkpoint_retire);
    if (rc == 0)
        rc = cllm_file_rename(path, temp);
    return rc < 0 ? rc : cllm_file_remove_tree(temp);
}

/* Remove what dead processes left half written. */
static int remove_temps(const char *checkpoints)
{
    char temp[CLLM_FILE_PATH_BYTES], name[32];
    struct cllm_checkpoint_list list;
    int rc = cllm_checkpoint_list(checkpoints, true, &list);

    for (uint32_t i = 0; rc == 0 && i < list.n; i++) {
        cllm_checkpoint_name(name, list.step[i], true);
        rc = cllm_file_join(temp, checkpoints, name);
        if (rc == 0)
            rc = cllm_file_remove_tree(temp);
    }
    free(list.step);
    return rc;
}

int cllm_checkpoint_prune(const char *checkpoints, uint32_t keep, uint32_t *removed)
{
    struct cllm_checkpoint_list list;
    uint64_t best = 0;
    uint64_t last = 0;
    uint32_t n = 0;

    CLLM_ASSERT(keep > 0);
    /* A link that cannot be read protects something: then nothing goes. */
    int has_best = cllm_checkpoint_linked(checkpoints, "best", &best);
    int has_last =
        has_best < 0 ? has_best : cllm_checkpoint_linked(checkpoints, "last", &last);
    int rc = has_last < 0 ? has_last : remove_temps(checkpoints);
    if (rc < 0)
        return rc;
    rc = cllm_checkpoint_list(checkpoints, false, &list);
    for (uint32_t i = 0, kept = 0; rc == 0 && i < list.n; i++) {
        uint64_t step = list.step[i];
        if (has_last > 0 && step > last) /* of a future that was given up */
            continue;
        if (kept++ < keep || (has_best > 0 && step == best))
            continue;
        rc = remove_step(checkpoints, step);
        n++;
    }
    free(list.step);
    if (removed != NULL)
        *removed = n;
    return rc;
}
