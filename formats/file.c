/*
 * formats/file.c - durable files out of open, write, fsync, rename and fsync again.
 */
#include "formats/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fault.h"

#define REMOVE_DEPTH_MAX 32

int cllm_file_join(char out[CLLM_FILE_PATH_BYTES], const char *dir, const char *name)
{
    size_t len = strlen(dir);
    const char *slash = len > 0 && dir[len - 1] == '/' ? "" : "/";
    int n = snprintf(out, CLLM_FILE_PATH_BYTES, "%s%s%s", dir, slash, name);

    if (n < 0 || n >= CLLM_FILE_PATH_BYTES)
        return cllm_err(-ENAMETOOLONG, "cannot use the path %.200s.../%s", dir, name);
    return 0;
}

/* The temporary name that stands beside @path. */
static int temp_name(char out[CLLM_FILE_PATH_BYTES], const char *path)
{
    int n = snprintf(out, CLLM_FILE_PATH_BYTES, "%s.tmp", path);

    if (n < 0 || n >= CLLM_FILE_PATH_BYTES)
        return cllm_err(-ENAMETOOLONG, "cannot use the path %.200s...", path);
    return 0;
}

/* One directory; 0 also when it was there. */
static int make_dir(const char *path)
{
    struct stat st;
    int rc = cllm_fault_error(CLLM_FAULT_file_mkdir);

    if (rc == 0 && mkdir(path, 0777) == 0)
        return cllm_file_sync_parent(path);
    if (rc != 0 || errno != EEXIST)
        return cllm_err(rc != 0 ? rc : -errno, "cannot make the directory %s", path);
    if (stat(path, &st) != 0)
        return cllm_err(-errno, "cannot make the directory %s", path);
    if (!S_ISDIR(st.st_mode))
        return cllm_err(-ENOTDIR, "cannot make the directory %s", path);
    return 0;
}

int cllm_file_mkdirs(const char *path)
{
    char part[CLLM_FILE_PATH_BYTES];
    size_t len = strlen(path);

    if (len == 0)
        return cllm_err(-ENOENT, "cannot make a directory without a name");
    if (len >= sizeof part)
        return cllm_err(-ENAMETOOLONG, "cannot make the directory %.200s...", path);
    memcpy(part, path, len + 1);
    for (char *slash = strchr(part + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        int rc = make_dir(part);
        if (rc < 0)
            return rc;
        *slash = '/';
    }
    return make_dir(part);
}

int cllm_file_write_all(int fd, const void *data, size_t bytes, const char *path)
{
    const char *from = data;

    while (bytes > 0) {
        size_t part = bytes;
        int rc = cllm_fault_io(CLLM_FAULT_file_write, &part);
        ssize_t n = rc == 0 ? write(fd, from, part) : -1;
        if (n < 0 && rc == 0)
            rc = -errno;
        if (rc == -EINTR)
            continue;
        if (rc != 0)
            return cllm_err(rc, "cannot write %s", path);
        from += n;
        bytes -= (size_t)n;
    }
    return 0;
}

int cllm_file_pwrite_all(int fd, const void *data, size_t bytes, uint64_t off,
                         const char *path)
{
    const char *from = data;

    while (bytes > 0) {
        size_t part = bytes;
        int rc = cllm_fault_io(CLLM_FAULT_file_pwrite, &part);
        ssize_t n = rc == 0 ? pwrite(fd, from, part, (off_t)off) : -1;
        if (n < 0 && rc == 0)
            rc = -errno;
        if (rc == -EINTR)
            continue;
        if (rc != 0) {
            rc = cllm_err(rc, "cannot write %s", path);
            cllm_err_detail("%zu bytes at offset %llu", bytes, (unsigned long long)off);
            return rc;
        }
        from += n;
        off += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return 0;
}

int cllm_file_pread_all(int fd, void *data, size_t bytes, uint64_t off, const char *path)
{
    char *to = data;
    uint64_t start = off;
    size_t wanted = bytes;

    while (bytes > 0) {
        size_t part = bytes;
        int rc = cllm_fault_io(CLLM_FAULT_file_pread, &part);
        ssize_t n = rc == 0 ? pread(fd, to, part, (off_t)off) : -1;
        if (n < 0 && rc == 0)
            rc = -errno;
        if (rc == -EINTR)
            continue;
        if (n <= 0) {
            rc = rc != 0 ? cllm_err(rc, "cannot read %s", path)
                         : cllm_err(CLLM_EDATA, "%s ends too soon", path);
            cllm_err_detail("%zu bytes at offset %llu: expected %zu, found %zu", wanted,
                            (unsigned long long)start, wanted, wanted - bytes);
            return rc;
        }
        to += n;
        off += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return 0;
}

/* Read @fd to its end into a growing buffer; a file may grow or be a pipe's substitute,
 * so its size is only a first guess. */
static int read_to_end(int fd, const char *path, size_t cap, size_t guess, char **out,
                       size_t *bytes)
{
    size_t room = guess + 1;
    size_t used = 0;
    char *buffer = malloc(room + 1);

    if (buffer == NULL)
        return cllm_err(-ENOMEM, "cannot read %s", path);
    for (;;) {
        size_t part = room - used;
        int rc = cllm_fault_io(CLLM_FAULT_file_read, &part);
        ssize_t n = rc == 0 ? read(fd, buffer + used, part) : -1;
        if (n < 0 && rc == 0)
            rc = -errno;
        if (rc == -EINTR)
            continue;
        if (rc != 0) {
            free(buffer);
            return cllm_err(rc, "cannot read %s", path);
        }
        if (n == 0)
            break;
        used += (size_t)n;
        if (used > cap) {
            free(buffer);
            return cllm_err(-EFBIG, "cannot read %s, it is larger than %zu bytes", path,
                            cap);
        }
        if (used < room)
            continue;
        room = room * 2;
        char *larger = realloc(buffer, room + 1);
        if (larger == NULL) {
            free(buffer);
            return cllm_err(-ENOMEM, "cannot read %s", path);
        }
        buffer = larger;
    }
    buffer[used] = '\0';
    *out = buffer;
    *bytes = used;
    return 0;
}

int cllm_file_lock(int fd, const char *path)
{
    int rc = cllm_fault_error(CLLM_FAULT_file_lock);

    while (rc == 0 && flock(fd, LOCK_EX | LOCK_NB) != 0)
        if (errno != EINTR)
            rc = -errno;
    if (rc == 0 || rc == -EWOULDBLOCK)
        return rc;
    rc = cllm_err(rc, "cannot lock %s", path);
    cllm_err_hint("its file system must know flock(2)");
    return rc;
}

int cllm_file_open_begin(const char *path, void *begin, size_t cap, uint64_t *bytes)
{
    int fd =
        open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* no wait for a pipe's writer */
    struct stat st;
    int rc = 0;

    if (fd < 0)
        return cllm_err(-errno, "cannot open %s", path);
    if (fstat(fd, &st) != 0)
        rc = cllm_err(-errno, "cannot open %s", path);
    else if (!S_ISREG(st.st_mode))
        rc = cllm_err(CLLM_EDATA, "%s is not a regular file", path);
    if (rc == 0) {
        *bytes = (uint64_t)st.st_size;
        rc = cllm_file_pread_all(fd, begin, cllm_min_u64(cap, *bytes), 0, path);
    }
    if (rc == 0)
        return fd;
    (void)close(fd);
    return rc;
}

int cllm_file_read(const char *path, size_t cap, char **out, size_t *bytes)
{
    struct stat st;
    size_t used = 0;
    int rc;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return cllm_err(-errno, "cannot open %s", path);
    if (fstat(fd, &st) != 0) {
        rc = cllm_err(-errno, "cannot read %s", path);
    } else if (!S_ISREG(st.st_mode)) {
        rc = cllm_err(S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL,
                      "cannot read %s, it is not a regular file", path);
    } else if ((uint64_t)st.st_size > cap) {
        rc = cllm_err(-EFBIG, "cannot read %s, it has %lld bytes, more than %zu", path,
                      (long long)st.st_size, cap);
    } else {
        rc = read_to_end(fd, path, cap, (size_t)st.st_size, out, &used);
    }
    (void)close(fd); /* opened for reading: nothing can be lost */
    if (rc == 0 && bytes != NULL)
        *bytes = used;
    return rc;
}

int cllm_file_sync_dir(const char *path)
{
    int rc;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return cllm_err(-errno, "cannot open the directory %s", path);
    /* Some file systems cannot fsync directories and say EINVAL: nothing more can be done
     * there. */
    rc = cllm_fault_error(CLLM_FAULT_file_sync_dir);
    if (rc == 0 && fsync(fd) != 0 && errno != EINVAL)
        rc = -errno;
    if (rc != 0)
        rc = cllm_err(rc, "cannot fsync the directory %s", path);
    (void)close(fd);
    return rc;
}

int cllm_file_sync_parent(const char *path)
{
    char parent[CLLM_FILE_PATH_BYTES];
    size_t len = strlen(path);

    if (len >= sizeof parent)
        return cllm_err(-ENAMETOOLONG, "cannot use the path %.200s...", path);
    memcpy(parent, path, len + 1);
    while (len > 1 && parent[len - 1] == '/')
        parent[--len] = '\0';
    char *slash = strrchr(parent, '/');
    if (slash == NULL)
        return cllm_file_sync_dir(".");
    if (slash == parent)
        return cllm_file_sync_dir("/");
    *slash = '\0';
    return cllm_file_sync_dir(parent);
}

static int sync_file(int fd, const char *path)
{
    int rc = cllm_fault_error(CLLM_FAULT_file_fsync);

    if (rc == 0 && fsync(fd) != 0)
        rc = -errno;
    return rc == 0 ? 0 : cllm_err(rc, "cannot fsync %s", path);
}

int cllm_file_replace(const char *path, const void *data, size_t bytes)
{
    char temp[CLLM_FILE_PATH_BYTES];
    int rc = temp_name(temp, path);

    if (rc < 0)
        return rc;
    rc = cllm_fault_error(CLLM_FAULT_file_create);
    if (rc != 0)
        return cllm_err(rc, "cannot create %s", temp);
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return cllm_err(-errno, "cannot create %s", temp);
    rc = cllm_file_write_all(fd, data, bytes, temp);
    if (rc == 0)
        rc = sync_file(fd, temp);
    if (close(fd) != 0 && rc == 0)
        rc = cllm_err(-errno, "cannot close %s", temp);
    if (rc == 0)
        return cllm_file_rename(temp, path);
    (void)unlink(temp); /* the first failure is the one to report */
    return rc;
}

int cllm_file_rename(const char *from, const char *to)
{
    int rc = cllm_fault_error(CLLM_FAULT_file_rename);

    if (rc == 0 && rename(from, to) != 0)
        rc = -errno;
    if (rc != 0)
        return cllm_err(rc, "cannot rename %s to %s", from, to);
    cllm_fault(CLLM_FAULT_file_renamed);
    return cllm_file_sync_parent(to);
}

int cllm_file_set_aside(const char *path, char aside[CLLM_FILE_PATH_BYTES])
{
    struct stat st;
    int n, rc;

    if (lstat(path, &st) != 0)
        return errno == ENOENT ? 0 : cllm_err(-errno, "cannot look at %s", path);
    for (uint32_t i = 1;; i++) {
        n = snprintf(aside, CLLM_FILE_PATH_BYTES, i == 1 ? "%s.old" : "%s.old%u", path,
                     i);
        if (n < 0 || n >= CLLM_FILE_PATH_BYTES)
            return cllm_err(-ENAMETOOLONG, "cannot put %s aside", path);
        if (lstat(aside, &st) != 0)
            break; /* free, or the rename says what is wrong */
    }
    rc = cllm_file_rename(path, aside);
    return rc == 0 ? 1 : rc;
}

int cllm_file_symlink(const char *target, const char *link)
{
    char temp[CLLM_FILE_PATH_BYTES];
    struct stat st;
    int rc = temp_name(temp, link);

    if (rc < 0)
        return rc;
    if (lstat(link, &st) == 0 && !S_ISLNK(st.st_mode))
        return cllm_err(-EEXIST, "cannot make the link %s", link);
    if (unlink(temp) != 0 && errno != ENOENT)
        return cllm_err(-errno, "cannot remove %s", temp);
    rc = cllm_fault_error(CLLM_FAULT_file_symlink);
    if (rc == 0 && symlink(target, temp) != 0)
        rc = -errno;
    if (rc != 0)
        return cllm_err(rc, "cannot make the link %s", temp);
    rc = cllm_file_rename(temp, link);
    if (rc != 0)
        (void)unlink(temp); /* it serves nobody; the next attempt removes it otherwise */
    return rc;
}

static int remove_entries(int parent_fd, const char *name, const char *path, int depth);

/* Remove @name in the open directory @fd. @path is the tree's root, for messages. */
static int remove_entry(int fd, const char *name, const char *path, int depth)
{
    struct stat st;

    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return cllm_err(-errno, "cannot look at %s in %s", name, path);
    if (S_ISDIR(st.st_mode))
        return remove_entries(fd, name, path, depth);
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
        return cllm_err(-EINVAL, "cannot remove %s in %s, it is no regular file", name,
                        path);
    int rc = cllm_fault_error(CLLM_FAULT_file_unlink);
    if (rc == 0 && unlinkat(fd, name, 0) != 0)
        rc = -errno;
    return rc == 0 ? 0 : cllm_err(rc, "cannot remove %s in %s", name, path);
}

/* Remove directory @name of @parent_fd with all that is in it. */
static int remove_entries(int parent_fd, const char *name, const char *path, int depth)
{
    struct dirent *entry;
    int rc = 0;

    if (depth >= REMOVE_DEPTH_MAX)
        return cllm_err(-ELOOP, "cannot remove %s, it is too deep", path);
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return cllm_err(-errno, "cannot open the directory %s in %s", name, path);
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        rc = cllm_err(-errno, "cannot read the directory %s in %s", name, path);
        (void)close(fd);
        return rc;
    }
    while (rc == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = remove_entry(fd, entry->d_name, path, depth + 1);
    }
    if (rc == 0 && errno != 0)
        rc = cllm_err(-errno, "cannot read the directory %s in %s", name, path);
    (void)closedir(dir);
    if (rc != 0)
        return rc;
    rc = cllm_fault_error(CLLM_FAULT_file_rmdir);
    if (rc == 0 && unlinkat(parent_fd, name, AT_REMOVEDIR) != 0)
        rc = -errno;
    return rc == 0 ? 0 : cllm_err(rc, "cannot remove the directory %s in %s", name, path);
}

int cllm_file_remove_tree(const char *path)
{
    struct stat st;

    if (lstat(path, &st) != 0)
        return errno == ENOENT ? 0 : cllm_err(-errno, "cannot look at %s", path);
    if (!S_ISDIR(st.st_mode))
        return cllm_err(-ENOTDIR, "cannot remove the directory %s", path);
    return remove_entries(AT_FDCWD, path, path, 0);
}
