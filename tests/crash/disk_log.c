/*
 * tests/crash/disk_log.c - the calls between a program and its disk.
 */
#include "tests/crash/disk_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "tests/crash/disk_calls.h"

#define MAX_FDS       1024
#define CAPTURE_BYTES (1u << 16)

static struct {
    bool watching;
    char root[1024];
    size_t root_bytes;
    struct disk_log log;
    uint32_t fd_object[MAX_FDS]; /* object + 1 of an open descriptor; 0 = not ours */

    struct disk_fault fault;
    uint64_t calls, room_used;
    uint32_t hits, syncs_repeated;

    bool capturing;
    char captured[CAPTURE_BYTES];
    size_t n_captured;
} self = {.fault = {.at = UINT64_MAX, .room = UINT64_MAX}};

/* ---- the log ---- */

static void *must(void *memory)
{
    CLLM_ASSERT(memory != NULL);
    return memory;
}

static struct disk_op *note(enum disk_kind kind)
{
    struct disk_log *log = &self.log;

    if (log->n_ops == log->room) {
        log->room = log->room * 2 + 64;
        log->op = must(realloc(log->op, log->room * sizeof *log->op));
    }
    log->op[log->n_ops] = (struct disk_op){
        .kind = kind, .dir = DISK_NOTHING, .object = DISK_NOTHING, .other = DISK_NOTHING};
    return &log->op[log->n_ops++];
}

static void set_name(char out[DISK_NAME_BYTES], const char *name)
{
    size_t n = strlen(name);

    CLLM_ASSERT(n < DISK_NAME_BYTES);
    memcpy(out, name, n + 1);
}

/* An inode number is used again when its file is gone: the newest object has it. */
static uint32_t object_of(uint64_t inode)
{
    for (uint32_t i = self.log.n_objects; i-- > 0;)
        if (self.log.object[i].inode == inode)
            return i;
    return DISK_NOTHING;
}

static uint32_t add_object(const struct stat *st)
{
    struct disk_log *log = &self.log;

    CLLM_ASSERT(log->n_objects < DISK_MAX_OBJECTS);
    log->object[log->n_objects] =
        (struct disk_object){.type = S_ISDIR(st->st_mode)   ? DISK_DIRECTORY
                                     : S_ISLNK(st->st_mode) ? DISK_LINK
                                                            : DISK_FILE,
                             .inode = (uint64_t)st->st_ino};
    return log->n_objects++;
}

static void read_object(struct disk_object *object, const char *path,
                        const struct stat *st)
{
    size_t room = (size_t)st->st_size + 1;
    ssize_t n;

    object->data = must(malloc(room));
    if (object->type == DISK_LINK) {
        n = __real_readlink(path, (char *)object->data, room);
    } else {
        int fd = __real_open(path, O_RDONLY | O_CLOEXEC);

        CLLM_ASSERT(fd >= 0);
        n = __real_pread(fd, object->data, room, 0);
        (void)__real_close(fd);
    }
    CLLM_ASSERT(n == st->st_size);
    object->bytes = (uint64_t)n;
}

/* What is at @path, with all below it. */
static uint32_t scan(const char *path)
{
    const struct dirent *entry;
    struct stat st;
    char below[2048];
    uint32_t id;
    DIR *dir;

    CLLM_ASSERT(__real_lstat(path, &st) == 0);
    id = add_object(&st);
    if (!S_ISDIR(st.st_mode)) {
        read_object(&self.log.object[id], path, &st);
        return id;
    }
    dir = __real_opendir(path);
    CLLM_ASSERT(dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        struct disk_object *object = &self.log.object[id];
        uint32_t n = object->n_entries;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        object->entry = must(realloc(object->entry, (n + 1) * sizeof *object->entry));
        set_name(object->entry[n].name, entry->d_name);
        (void)snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        object->n_entries = n + 1;
        object->entry[n].object = scan(below);
    }
    (void)closedir(dir); /* read only */
    return id;
}

static void forget(void)
{
    struct disk_log *log = &self.log;

    for (uint32_t i = 0; i < log->n_ops; i++)
        free(log->op[i].data);
    for (uint32_t i = 0; i < log->n_objects; i++) {
        free(log->object[i].data);
        free(log->object[i].entry);
    }
    free(log->op);
    memset(log, 0, sizeof *log);
}

struct disk_log *disk_watch(const char *path)
{
    forget();
    memset(self.fd_object, 0, sizeof self.fd_object);
    self.root_bytes = strlen(path);
    CLLM_ASSERT(self.root_bytes < sizeof self.root);
    memcpy(self.root, path, self.root_bytes + 1);
    (void)scan(path);
    self.watching = true;
    disk_set_fault(NULL);
    return &self.log;
}

void disk_unwatch(void)
{
    self.watching = false;
    disk_set_fault(NULL);
}

void disk_mark_durable(uint64_t step)
{
    note(DISK_DURABLE)->off = step;
}

/* ---- faults ---- */

void disk_set_fault(const struct disk_fault *fault)
{
    self.fault = (struct disk_fault){.at = UINT64_MAX, .room = UINT64_MAX};
    if (fault != NULL)
        self.fault = *fault;
    self.calls = self.room_used = 0;
    self.hits = self.syncs_repeated = 0;
}

uint64_t disk_calls(void)
{
    return self.calls;
}

uint64_t disk_room_used(void)
{
    return self.room_used;
}

uint32_t disk_faults_hit(void)
{
    return self.hits;
}

uint32_t disk_syncs_repeated(void)
{
    return self.syncs_repeated;
}

int disk_open_files(void)
{
    int n = 0;

    for (size_t i = 0; i < MAX_FDS; i++)
        n += self.fd_object[i] != 0;
    return n;
}

/* Number this call. True: it is to fail, errno is set. */
static bool fails(void)
{
    uint64_t number = self.calls++;

    if (number < self.fault.at || (number > self.fault.at && !self.fault.lasting) ||
        self.fault.error == 0)
        return false;
    self.hits++;
    errno = self.fault.error;
    return true;
}

/* How much of @bytes is transferred by the call that was numbered last. */
static size_t transferred(size_t bytes)
{
    if (self.calls - 1 != self.fault.at || self.fault.error != 0 || bytes < 2)
        return bytes;
    self.hits++;
    return bytes / 2;
}

/* Take @bytes of room; how much of it there was. */
static uint64_t take_room(uint64_t bytes)
{
    uint64_t there = self.fault.room - cllm_min_u64(self.fault.room, self.room_used);

    self.room_used += bytes;
    if (bytes > there)
        self.hits++;
    return cllm_min_u64(bytes, there);
}

/* Room for a new name of any kind. */
static bool no_room(void)
{
    if (take_room(CLLM_PAGE) == CLLM_PAGE)
        return false;
    errno = ENOSPC;
    return true;
}

/* ---- which object a call means ---- */

static bool below_root(const char *path)
{
    return self.watching && strncmp(path, self.root, self.root_bytes) == 0 &&
           (path[self.root_bytes] == '/' || path[self.root_bytes] == '\0');
}

static uint32_t object_of_fd(int fd)
{
    if (!self.watching || fd < 0 || fd >= MAX_FDS || self.fd_object[fd] == 0)
        return DISK_NOTHING;
    return self.fd_object[fd] - 1;
}

/* The object at @path; DISK_NOTHING when there is none. */
uint32_t disk_object_at(const char *path)
{
    struct stat st;

    if (__real_lstat(path, &st) != 0)
        return DISK_NOTHING;
    return object_of((uint64_t)st.st_ino);
}

/* The directory that holds @path, and the last part of its name. */
static uint32_t parent_of(const char *path, char name[DISK_NAME_BYTES])
{
    char parent[2048];
    const char *slash = strrchr(path, '/');

    CLLM_ASSERT(slash != NULL && slash > path);
    CLLM_ASSERT((size_t)(slash - path) < sizeof parent);
    memcpy(parent, path, (size_t)(slash - path));
    parent[slash - path] = '\0';
    set_name(name, slash + 1);
    return disk_object_at(parent);
}

/* @path has been made: a new object of that name. */
static void note_created(const char *path)
{
    struct disk_op *op;
    struct stat st;
    uint32_t id;

    CLLM_ASSERT(__real_lstat(path, &st) == 0);
    id = add_object(&st);
    if (S_ISLNK(st.st_mode))
        read_object(&self.log.object[id], path, &st);
    op = note(DISK_CREATE);
    op->dir = parent_of(path, op->name);
    op->object = id;
}

/* ---- open and close ---- */

static void remember_fd(int fd)
{
    struct stat st;
    uint32_t id;

    CLLM_ASSERT(fd < MAX_FDS && __real_fstat(fd, &st) == 0);
    id = object_of((uint64_t)st.st_ino);
    CLLM_ASSERT(id != DISK_NOTHING);
    self.fd_object[fd] = id + 1;
}

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
    if (!below_root(path))
        return __real_open(path, flags, mode);
    if (fails())
        return -1;
    was_there = __real_access(path, F_OK) == 0;
    if ((flags & O_CREAT) != 0 && !was_there && no_room())
        return -1;
    fd = __real_open(path, flags, mode);
    if (fd < 0)
        return fd;
    if (!was_there)
        note_created(path);
    /* Nobody empties a file in place that a crash could leave half empty. */
    CLLM_ASSERT(!was_there || (flags & O_TRUNC) == 0);
    remember_fd(fd);
    return fd;
}

int __wrap_openat(int dir_fd, const char *name, int flags, ...)
{
    int fd;

    CLLM_ASSERT((flags & O_CREAT) == 0);
    if (object_of_fd(dir_fd) == DISK_NOTHING && !below_root(name))
        return __real_openat(dir_fd, name, flags);
    if (fails())
        return -1;
    fd = __real_openat(dir_fd, name, flags);
    if (fd >= 0)
        remember_fd(fd);
    return fd;
}

int __wrap_close(int fd)
{
    uint32_t object = object_of_fd(fd);
    bool failed;
    int rc;

    if (object == DISK_NOTHING)
        return __real_close(fd);
    failed = fails();
    rc = __real_close(fd); /* Linux closes also when it complains */
    self.fd_object[fd] = 0;
    if (failed)
        errno = self.fault.error;
    return failed ? -1 : rc;
}

DIR *__wrap_opendir(const char *path)
{
    return below_root(path) && fails() ? NULL : __real_opendir(path);
}

int __wrap_closedir(DIR *dir)
{
    int fd = dirfd(dir);

    if (fd >= 0 && fd < MAX_FDS)
        self.fd_object[fd] = 0;
    return __real_closedir(dir);
}

/* ---- reading ---- */

ssize_t __wrap_read(int fd, void *data, size_t bytes)
{
    if (object_of_fd(fd) == DISK_NOTHING)
        return __real_read(fd, data, bytes);
    return fails() ? -1 : __real_read(fd, data, transferred(bytes));
}

ssize_t __wrap_pread(int fd, void *data, size_t bytes, off_t off)
{
    if (object_of_fd(fd) == DISK_NOTHING)
        return __real_pread(fd, data, bytes, off);
    return fails() ? -1 : __real_pread(fd, data, transferred(bytes), off);
}

int __wrap_stat(const char *path, struct stat *st)
{
    return below_root(path) && fails() ? -1 : __real_stat(path, st);
}

int __wrap_lstat(const char *path, struct stat *st)
{
    return below_root(path) && fails() ? -1 : __real_lstat(path, st);
}

int __wrap_fstat(int fd, struct stat *st)
{
    return object_of_fd(fd) != DISK_NOTHING && fails() ? -1 : __real_fstat(fd, st);
}

int __wrap_access(const char *path, int mode)
{
    return below_root(path) && fails() ? -1 : __real_access(path, mode);
}

ssize_t __wrap_readlink(const char *path, char *target, size_t bytes)
{
    return below_root(path) && fails() ? -1 : __real_readlink(path, target, bytes);
}

/* ---- writing ---- */

static uint64_t size_of(int fd)
{
    struct stat st;

    CLLM_ASSERT(__real_fstat(fd, &st) == 0);
    return (uint64_t)st.st_size;
}

static void note_write(uint32_t object, const void *data, size_t bytes, uint64_t off)
{
    struct disk_op *op = note(DISK_WRITE);

    op->object = object;
    op->off = off;
    op->bytes = bytes;
    op->data = must(malloc(bytes));
    memcpy(op->data, data, bytes);
}

/* How much of a write of @bytes at @off comes to pass; -1 with errno for none. */
static ssize_t allowed_write(int fd, size_t bytes, uint64_t off)
{
    uint64_t size, grows;

    if (fails())
        return -1;
    bytes = transferred(bytes);
    size = size_of(fd);
    grows = off + bytes - cllm_min_u64(off + bytes, size);
    bytes -= grows - take_room(grows);
    if (bytes > 0)
        return (ssize_t)bytes;
    errno = ENOSPC;
    return -1;
}

ssize_t __wrap_pwrite(int fd, const void *data, size_t bytes, off_t off)
{
    uint32_t object = object_of_fd(fd);
    ssize_t n;

    if (object == DISK_NOTHING)
        return __real_pwrite(fd, data, bytes, off);
    n = allowed_write(fd, bytes, (uint64_t)off);
    if (n > 0)
        n = __real_pwrite(fd, data, (size_t)n, off);
    if (n > 0)
        note_write(object, data, (size_t)n, (uint64_t)off);
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
    uint32_t object = object_of_fd(fd);
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
        note_write(object, data, (size_t)n, off);
    return n;
}

int __wrap_posix_fallocate(int fd, off_t off, off_t bytes)
{
    uint32_t object = object_of_fd(fd);
    uint64_t grows;
    struct disk_op *op;
    int rc;

    if (object == DISK_NOTHING)
        return __real_posix_fallocate(fd, off, bytes);
    if (fails())
        return self.fault.error;
    grows = (uint64_t)(off + bytes) - cllm_min_u64((uint64_t)(off + bytes), size_of(fd));
    if (take_room(grows) != grows)
        return ENOSPC;
    rc = __real_posix_fallocate(fd, off, bytes);
    if (rc != 0)
        return rc;
    op = note(DISK_SIZE);
    op->object = object;
    op->bytes = (uint64_t)(off + bytes);
    return 0;
}

int __wrap_fsync(int fd)
{
    uint32_t id = object_of_fd(fd);
    struct disk_object *object;

    if (id == DISK_NOTHING)
        return __real_fsync(fd);
    object = &self.log.object[id];
    /* The watched directory itself cannot be made anew; everything below it can. */
    if (object->sync_failed && id != 0)
        self.syncs_repeated++;
    if (fails()) {
        object->sync_failed = true;
        note(DISK_SYNC_FAILED)->object = id;
        errno = self.fault.error;
        return -1;
    }
    note(DISK_SYNC)->object = id;
    return 0;
}

/* ---- names ---- */

int __wrap_rename(const char *from, const char *to)
{
    struct disk_op *op;
    uint32_t object;

    if (!below_root(from) && !below_root(to))
        return __real_rename(from, to);
    if (fails())
        return -1;
    object = disk_object_at(from);
    if (__real_rename(from, to) != 0)
        return -1;
    op = note(DISK_RENAME);
    op->dir = parent_of(from, op->name);
    op->object = object;
    CLLM_ASSERT(parent_of(to, op->to) == op->dir); /* all of ours are */
    return 0;
}

int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to,
                     unsigned flags)
{
    struct disk_op *op;
    uint32_t object, other;

    if (!below_root(from) && !below_root(to))
        return __real_renameat2(from_fd, from, to_fd, to, flags);
    CLLM_ASSERT(flags == RENAME_EXCHANGE);
    if (fails())
        return -1;
    if (self.fault.no_exchange) {
        errno = EINVAL;
        return -1;
    }
    object = disk_object_at(from);
    other = disk_object_at(to);
    if (__real_renameat2(from_fd, from, to_fd, to, flags) != 0)
        return -1;
    op = note(DISK_EXCHANGE);
    op->dir = parent_of(from, op->name);
    op->object = object;
    op->other = other;
    CLLM_ASSERT(parent_of(to, op->to) == op->dir);
    return 0;
}

int __wrap_unlink(const char *path)
{
    struct disk_op *op;

    if (!below_root(path))
        return __real_unlink(path);
    if (fails() || __real_unlink(path) != 0)
        return -1;
    op = note(DISK_REMOVE);
    op->dir = parent_of(path, op->name);
    return 0;
}

int __wrap_unlinkat(int dir_fd, const char *name, int flags)
{
    uint32_t dir = object_of_fd(dir_fd);
    struct disk_op *op;

    if (dir == DISK_NOTHING && !below_root(name))
        return __real_unlinkat(dir_fd, name, flags);
    if (fails() || __real_unlinkat(dir_fd, name, flags) != 0)
        return -1;
    op = note(DISK_REMOVE);
    op->dir = dir;
    if (dir == DISK_NOTHING)
        op->dir = parent_of(name, op->name);
    else
        set_name(op->name, name);
    return 0;
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    struct stat st;
    int rc;

    if (!below_root(path))
        return __real_mkdir(path, mode);
    if (fails())
        return -1;
    if (__real_lstat(path, &st) != 0 && no_room())
        return -1;
    rc = __real_mkdir(path, mode);
    if (rc == 0)
        note_created(path);
    return rc;
}

int __wrap_symlink(const char *target, const char *path)
{
    int rc;

    if (!below_root(path))
        return __real_symlink(target, path);
    if (fails() || no_room())
        return -1;
    rc = __real_symlink(target, path);
    if (rc == 0)
        note_created(path);
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
