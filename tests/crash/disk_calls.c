/*
 * tests/crash/disk_calls.c - the calls between a program and its disk: each may fail, and
 * what it does is noted.
 */
#include "tests/crash/disk_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "tests/crash/disk_inside.h"

/* Of stderr, while it is captured. */
static struct {
    bool capturing;
    char captured[1u << 16];
    size_t n_captured;
} self;

/* ---- open and close ---- */

int __wrap_open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list ap;
    bool was_there;
    int fd;

    if ((flags & O_CREAT) != 0) {
        va_start(ap, flags);
        mode = va_arg(ap, mode_t);
        va_end(ap);
    }
    if (!disk_below_root(path))
        return __real_open(path, flags, mode);
    if (disk_fails())
        return -1;
    was_there = __real_access(path, F_OK) == 0;
    if ((flags & O_CREAT) != 0 && !was_there && disk_no_room())
        return -1;
    fd = __real_open(path, flags, mode);
    if (fd < 0)
        return fd;
    if (!was_there)
        disk_note_created(path);
    /* Nobody empties a file in place that a crash could leave half empty. */
    CLLM_ASSERT(!was_there || (flags & O_TRUNC) == 0);
    disk_remember_fd(fd);
    return fd;
}

int __wrap_openat(int dir_fd, const char *name, int flags, ...)
{
    int fd;

    CLLM_ASSERT((flags & O_CREAT) == 0);
    if (disk_object_of_fd(dir_fd) == DISK_NOTHING && !disk_below_root(name))
        return __real_openat(dir_fd, name, flags);
    if (disk_fails())
        return -1;
    fd = __real_openat(dir_fd, name, flags);
    if (fd >= 0)
        disk_remember_fd(fd);
    return fd;
}

int __wrap_close(int fd)
{
    uint32_t object = disk_object_of_fd(fd);
    bool failed;
    int rc;

    if (object == DISK_NOTHING)
        return __real_close(fd);
    failed = disk_fails();
    rc = __real_close(fd); /* Linux closes also when it complains */
    disk_forget_fd(fd);
    if (failed)
        errno = disk_fault_now()->error;
    return failed ? -1 : rc;
}

DIR *__wrap_opendir(const char *path)
{
    return disk_below_root(path) && disk_fails() ? NULL : __real_opendir(path);
}

int __wrap_closedir(DIR *dir)
{
    disk_forget_fd(dirfd(dir));
    return __real_closedir(dir);
}

/* ---- reading ---- */

ssize_t __wrap_read(int fd, void *data, size_t bytes)
{
    if (disk_object_of_fd(fd) == DISK_NOTHING)
        return __real_read(fd, data, bytes);
    return disk_fails() ? -1 : __real_read(fd, data, disk_transferred(bytes));
}

ssize_t __wrap_pread(int fd, void *data, size_t bytes, off_t off)
{
    if (disk_object_of_fd(fd) == DISK_NOTHING)
        return __real_pread(fd, data, bytes, off);
    return disk_fails() ? -1 : __real_pread(fd, data, disk_transferred(bytes), off);
}

int __wrap_stat(const char *path, struct stat *st)
{
    return disk_below_root(path) && disk_fails() ? -1 : __real_stat(path, st);
}

int __wrap_lstat(const char *path, struct stat *st)
{
    return disk_below_root(path) && disk_fails() ? -1 : __real_lstat(path, st);
}

int __wrap_fstat(int fd, struct stat *st)
{
    return disk_object_of_fd(fd) != DISK_NOTHING && disk_fails() ? -1
                                                                 : __real_fstat(fd, st);
}

int __wrap_access(const char *path, int mode)
{
    return disk_below_root(path) && disk_fails() ? -1 : __real_access(path, mode);
}

ssize_t __wrap_readlink(const char *path, char *target, size_t bytes)
{
    return disk_below_root(path) && disk_fails() ? -1
                                                 : __real_readlink(path, target, bytes);
}

/* ---- writing ---- */

static uint64_t size_of(int fd)
{
    struct stat st;

    CLLM_ASSERT(__real_fstat(fd, &st) == 0);
    return (uint64_t)st.st_size;
}

/* How much of a write of @bytes at @off comes to pass; -1 with errno for none. */
static ssize_t allowed_write(int fd, size_t bytes, uint64_t off)
{
    uint64_t size, grows;

    if (disk_fails())
        return -1;
    bytes = disk_transferred(bytes);
    size = size_of(fd);
    grows = off + bytes - cllm_min_u64(off + bytes, size);
    bytes -= grows - disk_take_room(grows);
    if (bytes > 0)
        return (ssize_t)bytes;
    errno = ENOSPC;
    return -1;
}

ssize_t __wrap_pwrite(int fd, const void *data, size_t bytes, off_t off)
{
    uint32_t object = disk_object_of_fd(fd);
    ssize_t n;

    if (object == DISK_NOTHING)
        return __real_pwrite(fd, data, bytes, off);
    n = allowed_write(fd, bytes, (uint64_t)off);
    if (n > 0)
        n = __real_pwrite(fd, data, (size_t)n, off);
    if (n > 0)
        disk_note_write(object, data, (size_t)n, (uint64_t)off);
    return n;
}

static bool capture(const void *data, size_t bytes)
{
    if (!self.capturing)
        return false;
    bytes = cllm_min_u64(bytes, sizeof self.captured - 1 - self.n_captured);
    memcpy(self.captured + self.n_captured, data, bytes);
    self.n_captured += bytes;
    self.captured[self.n_captured] = '\0';
    return true;
}

ssize_t __wrap_write(int fd, const void *data, size_t bytes)
{
    uint32_t object = disk_object_of_fd(fd);
    uint64_t off;
    ssize_t n;

    if (fd == STDERR_FILENO && capture(data, bytes))
        return (ssize_t)bytes;
    if (object == DISK_NOTHING)
        return __real_write(fd, data, bytes);
    off = (uint64_t)lseek(fd, 0, SEEK_CUR);
    n = allowed_write(fd, bytes, off);
    if (n > 0)
        n = __real_write(fd, data, (size_t)n);
    if (n > 0)
        disk_note_write(object, data, (size_t)n, off);
    return n;
}

int __wrap_posix_fallocate(int fd, off_t off, off_t bytes)
{
    uint32_t object = disk_object_of_fd(fd);
    uint64_t grows;
    struct disk_op *op;
    int rc;

    if (object == DISK_NOTHING)
        return __real_posix_fallocate(fd, off, bytes);
    if (disk_fails())
        return disk_fault_now()->error;
    grows = (uint64_t)(off + bytes) - cllm_min_u64((uint64_t)(off + bytes), size_of(fd));
    if (disk_take_room(grows) != grows)
        return ENOSPC;
    rc = __real_posix_fallocate(fd, off, bytes);
    if (rc != 0)
        return rc;
    op = disk_note(DISK_SIZE);
    op->object = object;
    op->bytes = (uint64_t)(off + bytes);
    return 0;
}

int __wrap_fsync(int fd)
{
    uint32_t id = disk_object_of_fd(fd);
    struct disk_object *object;

    if (id == DISK_NOTHING)
        return __real_fsync(fd);
    object = disk_object(id);
    /* The watched directory itself cannot be made anew; everything below it can. */
    if (object->sync_failed && id != 0)
        disk_sync_repeated();
    if (disk_fails()) {
        object->sync_failed = true;
        disk_note(DISK_SYNC_FAILED)->object = id;
        errno = disk_fault_now()->error;
        return -1;
    }
    disk_note(DISK_SYNC)->object = id;
    return 0;
}

/* ---- names ---- */

int __wrap_rename(const char *from, const char *to)
{
    struct disk_op *op;
    uint32_t object;

    if (!disk_below_root(from) && !disk_below_root(to))
        return __real_rename(from, to);
    if (disk_fails())
        return -1;
    object = disk_object_at(from);
    if (__real_rename(from, to) != 0)
        return -1;
    op = disk_note(DISK_RENAME);
    op->dir = disk_parent_of(from, op->name);
    op->object = object;
    CLLM_ASSERT(disk_parent_of(to, op->to) == op->dir); /* all of ours are */
    return 0;
}

int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to,
                     unsigned flags)
{
    struct disk_op *op;
    uint32_t object, other;

    if (!disk_below_root(from) && !disk_below_root(to))
        return __real_renameat2(from_fd, from, to_fd, to, flags);
    CLLM_ASSERT(flags == RENAME_EXCHANGE);
    if (disk_fails())
        return -1;
    if (disk_fault_now()->no_exchange) {
        errno = EINVAL;
        return -1;
    }
    object = disk_object_at(from);
    other = disk_object_at(to);
    if (__real_renameat2(from_fd, from, to_fd, to, flags) != 0)
        return -1;
    op = disk_note(DISK_EXCHANGE);
    op->dir = disk_parent_of(from, op->name);
    op->object = object;
    op->other = other;
    CLLM_ASSERT(disk_parent_of(to, op->to) == op->dir);
    return 0;
}

int __wrap_unlink(const char *path)
{
    struct disk_op *op;

    if (!disk_below_root(path))
        return __real_unlink(path);
    if (disk_fails() || __real_unlink(path) != 0)
        return -1;
    op = disk_note(DISK_REMOVE);
    op->dir = disk_parent_of(path, op->name);
    return 0;
}

int __wrap_unlinkat(int dir_fd, const char *name, int flags)
{
    uint32_t dir = disk_object_of_fd(dir_fd);
    struct disk_op *op;

    if (dir == DISK_NOTHING && !disk_below_root(name))
        return __real_unlinkat(dir_fd, name, flags);
    if (disk_fails() || __real_unlinkat(dir_fd, name, flags) != 0)
        return -1;
    op = disk_note(DISK_REMOVE);
    op->dir = dir;
    if (dir == DISK_NOTHING)
        op->dir = disk_parent_of(name, op->name);
    else
        disk_set_name(op->name, name);
    return 0;
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    struct stat st;
    int rc;

    if (!disk_below_root(path))
        return __real_mkdir(path, mode);
    if (disk_fails())
        return -1;
    if (__real_lstat(path, &st) != 0 && disk_no_room())
        return -1;
    rc = __real_mkdir(path, mode);
    if (rc == 0)
        disk_note_created(path);
    return rc;
}

int __wrap_symlink(const char *target, const char *path)
{
    int rc;

    if (!disk_below_root(path))
        return __real_symlink(target, path);
    if (disk_fails() || disk_no_room())
        return -1;
    rc = __real_symlink(target, path);
    if (rc == 0)
        disk_note_created(path);
    return rc;
}

/* ---- stderr ---- */

void disk_capture(bool on)
{
    self.capturing = on;
    disk_captured_clear();
}

const char *disk_captured(void)
{
    return self.captured;
}

void disk_captured_clear(void)
{
    self.n_captured = 0;
    self.captured[0] = '\0';
}
