/*
 * formats/output.c - NAME.tmp, fsync, rename.
 */
#include "formats/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fault.h"

#define COPY_BYTES (1u << 20)

/* Remove what an earlier attempt left under the temporary name. */
static int remove_temp(const char *temp)
{
    struct stat st;

    if (lstat(temp, &st) != 0)
        return errno == ENOENT ? 0 : cllm_err(-errno, "cannot look at %s", temp);
    if (S_ISDIR(st.st_mode))
        return cllm_file_remove_tree(temp);
    return unlink(temp) == 0 ? 0 : cllm_err(-errno, "cannot remove %s", temp);
}

static int make_parent(const char *path)
{
    char parent[CLLM_FILE_PATH_BYTES];
    const char *slash = strrchr(path, '/');

    if (slash == NULL || slash == path)
        return 0;
    (void)snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
    return cllm_file_mkdirs(parent);
}

/* Names, and what stands in the way. */
static int prepare(struct cllm_output *output, const char *path, bool replace)
{
    size_t len = strlen(path);
    struct stat st;
    int rc;

    *output = (struct cllm_output){.fd = -1, .replace = replace};
    while (len > 1 && path[len - 1] == '/')
        len--;
    if (len == 0 || len + 5 > sizeof output->path)
        return cllm_err(len == 0 ? -ENOENT : -ENAMETOOLONG, "cannot write \"%.200s\"",
                        path);
    memcpy(output->path, path, len);
    memcpy(output->temp, path, len);
    memcpy(output->temp + len, ".tmp", 5);
    if (!replace && lstat(output->path, &st) == 0) {
        rc = cllm_err(CLLM_EREFUSED, "%s exists", output->path);
        cllm_err_hint("choose another name, or --force to replace it");
    } else {
        rc = make_parent(output->path);
    }
    if (rc == 0)
        rc = remove_temp(output->temp);
    if (rc != 0)
        output->path[0] = '\0';
    return rc;
}

int cllm_output_file(struct cllm_output *output, const char *path, uint64_t bytes,
                     bool replace)
{
    int rc = prepare(output, path, replace);

    if (rc != 0)
        return rc;
    output->fd =
        open(output->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (output->fd < 0) {
        rc = cllm_err(-errno, "cannot create %s", output->temp);
        output->path[0] = '\0';
        return rc;
    }
    do
        rc = bytes == 0 ? 0 : posix_fallocate(output->fd, 0, (off_t)bytes);
    while (rc == EINTR);
    if (rc != 0) {
        rc = cllm_err(-rc, "cannot reserve room for %s", output->temp);
        cllm_err_detail("posix_fallocate of %llu bytes", (unsigned long long)bytes);
        cllm_output_abort(output);
    }
    return rc;
}

int cllm_output_directory(struct cllm_output *output, const char *path, bool replace)
{
    int rc = prepare(output, path, replace);

    if (rc != 0)
        return rc;
    rc = cllm_fault_error(CLLM_FAULT_output_create);
    if (rc == 0 && mkdir(output->temp, 0777) != 0)
        rc = -errno;
    if (rc != 0) {
        rc = cllm_err(rc, "cannot make the directory %s", output->temp);
        output->path[0] = '\0';
    }
    return rc;
}

/* Give @output its name; what had it is gone afterwards. */
static int rename_over(const struct cllm_output *output)
{
    struct stat st;

    if (lstat(output->path, &st) != 0 || (!S_ISDIR(st.st_mode) && output->fd >= 0))
        return cllm_file_rename(output->temp, output->path);
    if (!output->replace) {
        int rc = cllm_err(CLLM_EREFUSED, "%s exists", output->path);
        cllm_err_detail("it was made in the meantime");
        return rc;
    }
    int rc = cllm_fault_error(CLLM_FAULT_output_exchange);
    if (rc == 0 &&
        renameat2(AT_FDCWD, output->temp, AT_FDCWD, output->path, RENAME_EXCHANGE) != 0)
        rc = -errno;
    if (rc != 0)
        return cllm_err(rc, "cannot exchange %s and %s", output->temp, output->path);
    cllm_fault(CLLM_FAULT_output_exchanged);
    rc = cllm_file_sync_parent(output->path);
    return rc == 0 ? remove_temp(output->temp) : rc;
}

int cllm_output_finish(struct cllm_output *output)
{
    int rc = 0;

    CLLM_ASSERT(output->path[0] != '\0');
    if (output->fd < 0)
        rc = cllm_file_sync_dir(output->temp);
    else if (fsync(output->fd) != 0)
        rc = cllm_err(-errno, "cannot fsync %s", output->temp);
    if (rc == 0)
        rc = rename_over(output);
    if (rc != 0) {
        cllm_output_abort(output);
        return rc;
    }
    if (output->fd >= 0 && close(output->fd) != 0)
        rc = cllm_err(-errno, "cannot close %s", output->path);
    *output = (struct cllm_output){.fd = -1};
    return rc;
}

void cllm_output_abort(struct cllm_output *output)
{
    struct stat st;

    if (output->path[0] == '\0')
        return;
    if (output->fd >= 0)
        (void)close(output->fd);
    /* What fails here stays under a name that says what it is; the error to report is the
     * one that led here. */
    if (lstat(output->temp, &st) == 0 && !S_ISDIR(st.st_mode))
        (void)unlink(output->temp);
    else if (S_ISDIR(st.st_mode))
        (void)cllm_file_remove_tree(output->temp);
    *output = (struct cllm_output){.fd = -1};
}

static int sync_copy(int fd, const char *path)
{
    int rc = cllm_fault_error(CLLM_FAULT_output_fsync);

    if (rc == 0 && fsync(fd) != 0)
        rc = -errno;
    return rc == 0 ? 0 : cllm_err(rc, "cannot fsync %s", path);
}

int cllm_output_copy(const char *from, const char *to)
{
    uint8_t *buffer = malloc(COPY_BYTES);
    int in = open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    struct stat st = {0};
    ssize_t n = 1;
    int rc = 0;

    if (in < 0 || out < 0 || fstat(in, &st) != 0)
        rc = -errno;
    else
        rc = cllm_fault_error(CLLM_FAULT_output_copy);
    if (rc != 0)
        rc = cllm_err(rc, "cannot copy %s to %s", from, to);
    else if (!S_ISREG(st.st_mode))
        rc = cllm_err(-EINVAL, "cannot copy %s, it is not a regular file", from);
    else if (buffer == NULL)
        rc = cllm_err(-ENOMEM, "cannot copy %s", from);
    while (rc == 0 && n > 0) {
        do
            n = read(in, buffer, COPY_BYTES);
        while (n < 0 && errno == EINTR);
        if (n < 0)
            rc = cllm_err(-errno, "cannot read %s", from);
        else
            rc = cllm_file_write_all(out, buffer, (size_t)n, to);
    }
    cllm_fault(CLLM_FAULT_output_copied);
    if (rc == 0)
        rc = sync_copy(out, to);
    if (in >= 0)
        (void)close(in); /* opened for reading */
    if (out >= 0 && close(out) != 0 && rc == 0)
        rc = cllm_err(-errno, "cannot close %s", to);
    free(buffer);
    return rc;
}
