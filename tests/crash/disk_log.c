/*
 * tests/crash/disk_log.c - what is below the watched directory, and what was done to it.
 */
#include "tests/crash/disk_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "tests/crash/disk_calls.h"
#include "tests/crash/disk_inside.h"

#define MAX_FDS 1024

static struct {
    bool watching;
    char root[1024];
    size_t root_bytes;
    struct disk_log log;
    uint32_t fd_object[MAX_FDS]; /* object + 1 of an open descriptor; 0 = not ours */
} self;

/* ---- the log ---- */

static void *must(void *memory)
{
    CLLM_ASSERT(memory != NULL);
    return memory;
}

struct disk_op *disk_note(enum disk_kind kind)
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

void disk_set_name(char out[DISK_NAME_BYTES], const char *name)
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
        disk_set_name(object->entry[n].name, entry->d_name);
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
    disk_note(DISK_DURABLE)->off = step;
}

/* ---- which object a call means ---- */

struct disk_object *disk_object(uint32_t id)
{
    return &self.log.object[id];
}

bool disk_below_root(const char *path)
{
    return self.watching && strncmp(path, self.root, self.root_bytes) == 0 &&
           (path[self.root_bytes] == '/' || path[self.root_bytes] == '\0');
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
uint32_t disk_parent_of(const char *path, char name[DISK_NAME_BYTES])
{
    char parent[2048];
    const char *slash = strrchr(path, '/');

    CLLM_ASSERT(slash != NULL && slash > path);
    CLLM_ASSERT((size_t)(slash - path) < sizeof parent);
    memcpy(parent, path, (size_t)(slash - path));
    parent[slash - path] = '\0';
    disk_set_name(name, slash + 1);
    return disk_object_at(parent);
}

/* @path has been made: a new object of that name. */
void disk_note_created(const char *path)
{
    struct disk_op *op;
    struct stat st;
    uint32_t id;

    CLLM_ASSERT(__real_lstat(path, &st) == 0);
    id = add_object(&st);
    if (S_ISLNK(st.st_mode))
        read_object(&self.log.object[id], path, &st);
    op = disk_note(DISK_CREATE);
    op->dir = disk_parent_of(path, op->name);
    op->object = id;
}

void disk_note_write(uint32_t object, const void *data, size_t bytes, uint64_t off)
{
    struct disk_op *op = disk_note(DISK_WRITE);

    op->object = object;
    op->off = off;
    op->bytes = bytes;
    op->data = must(malloc(bytes));
    memcpy(op->data, data, bytes);
}

/* ---- descriptors ---- */

uint32_t disk_object_of_fd(int fd)
{
    if (!self.watching || fd < 0 || fd >= MAX_FDS || self.fd_object[fd] == 0)
        return DISK_NOTHING;
    return self.fd_object[fd] - 1;
}

void disk_remember_fd(int fd)
{
    struct stat st;
    uint32_t id;

    CLLM_ASSERT(fd < MAX_FDS && __real_fstat(fd, &st) == 0);
    id = object_of((uint64_t)st.st_ino);
    CLLM_ASSERT(id != DISK_NOTHING);
    self.fd_object[fd] = id + 1;
}

void disk_forget_fd(int fd)
{
    if (fd >= 0 && fd < MAX_FDS)
        self.fd_object[fd] = 0;
}

int disk_open_files(void)
{
    int n = 0;

    for (size_t i = 0; i < MAX_FDS; i++)
        n += self.fd_object[i] != 0;
    return n;
}
