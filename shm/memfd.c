/*
 * shm/memfd.c - the only caller of memfd_create(), and the search through /proc.
 */
#include "shm/memfd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

#define SEALS      (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define LINK_BYTES 256 /* "/memfd:<name> (deleted)"; longer ones are not ours */

static const char link_head[] = "/memfd:", link_tail[] = " (deleted)";

int cllm_memfd_create(const char *name)
{
    int fd = memfd_create(name + 1, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int rc;

    if (fd < 0)
        return cllm_err(-errno, "cannot create shared memory %s (memfd)", name);
    if (fchmod(fd, 0600) == 0)
        return fd;
    rc = cllm_err(-errno, "cannot make %s private", name);
    (void)close(fd);
    return rc;
}

int cllm_memfd_seal(int fd, const char *name)
{
    if (fcntl(fd, F_ADD_SEALS, SEALS) == 0)
        return 0;
    return cllm_err(-errno, "cannot seal the size of %s", name);
}

/* ---- looking for them ---- */

/* The name of what entry @at of @dir points to, in @link; NULL when it is no memfd. */
static char *name_of(int dir, const char *at, char link[LINK_BYTES])
{
    const size_t head = sizeof link_head - 1, tail = sizeof link_tail - 1;
    ssize_t n = readlinkat(dir, at, link, LINK_BYTES - 1);

    if (n < (ssize_t)(head + tail) || memcmp(link, link_head, head) != 0 ||
        memcmp(link + n - tail, link_tail, tail) != 0)
        return NULL;
    link[(size_t)n - tail] = '\0';
    return link + head;
}

/* Between the look and the opening the number may have come to mean another file. */
static bool is_what_it_was(int fd, const char *name)
{
    char link[LINK_BYTES], path[32];
    const char *found;
    int seals = fcntl(fd, F_GET_SEALS);

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    found = name_of(AT_FDCWD, path, link);
    return seals >= 0 && (seals & SEALS) == SEALS && found && strcmp(found, name) == 0;
}

static DIR *descriptors_of(const char *pid)
{
    char path[64];

    (void)snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
    return opendir(path);
}

/* A descriptor, or -ENOENT. What may not be looked at is none of ours. */
static int open_in(const char *pid, const char *name, int flags)
{
    DIR *dir = descriptors_of(pid);
    struct dirent *entry;
    int fd = -1;

    while (dir && fd < 0 && (entry = readdir(dir)) != NULL) {
        char link[LINK_BYTES];
        const char *found = name_of(dirfd(dir), entry->d_name, link);

        if (!found || strcmp(found, name) != 0)
            continue;
        fd = openat(dirfd(dir), entry->d_name, flags | O_CLOEXEC | O_NONBLOCK);
        if (fd >= 0 && !is_what_it_was(fd, name)) {
            (void)close(fd);
            fd = -1;
        }
    }
    if (dir)
        (void)closedir(dir);
    return fd < 0 ? -ENOENT : fd;
}

/* Parent of process @pid; 0 when it cannot be told. */
static long parent_of(long pid)
{
    char path[64], text[512];
    const char *after;
    long parent = 0;
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    file = fopen(path, "re");
    if (!file)
        return 0;
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    (void)fclose(file);         /* read only */
    after = strrchr(text, ')'); /* the program's name may hold anything */
    if (!after || sscanf(after + 1, " %*c %ld", &parent) != 1)
        return 0;
    return parent;
}

/* Entries of /proc that are processes of this user. */
static struct dirent *next_process(DIR *proc)
{
    struct dirent *entry;
    struct stat st;

    while ((entry = readdir(proc)) != NULL)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' &&
            fstatat(dirfd(proc), entry->d_name, &st, 0) == 0 && st.st_uid == geteuid())
            return entry;
    return NULL;
}

int cllm_memfd_open(const char *name, int flags)
{
    long pid = (long)getppid();
    struct dirent *entry;
    int fd = -ENOENT;
    DIR *proc;

    for (uint32_t i = 0; i < 2 && pid > 0 && fd < 0; i++, pid = parent_of(pid)) {
        char text[24];

        (void)snprintf(text, sizeof text, "%ld", pid);
        fd = open_in(text, name + 1, flags);
    }
    proc = fd < 0 ? opendir("/proc") : NULL;
    while (proc && fd < 0 && (entry = next_process(proc)) != NULL)
        fd = open_in(entry->d_name, name + 1, flags);
    if (proc)
        (void)closedir(proc);
    return fd;
}

/* ---- all of them ---- */

struct listing {
    const char *prefix;
    int (*visit)(const char *name, uint64_t bytes, void *ctx);
    void *ctx;
    char (*seen)[LINK_BYTES];
    uint32_t n_seen, capacity;
};

static int visit_once(struct listing *all, const char *name, uint64_t bytes)
{
    for (uint32_t i = 0; i < all->n_seen; i++)
        if (strcmp(all->seen[i], name) == 0)
            return 0;
    if (all->n_seen == all->capacity) {
        uint32_t more = all->capacity ? 2 * all->capacity : 64;
        void *grown = realloc(all->seen, more * sizeof *all->seen);

        if (!grown)
            return cllm_err(-ENOMEM, "cannot list shared memory");
        all->seen = grown;
        all->capacity = more;
    }
    (void)snprintf(all->seen[all->n_seen++], LINK_BYTES, "%s", name);
    return all->visit(name, bytes, all->ctx);
}

static int list_in(struct listing *all, const char *pid)
{
    DIR *dir = descriptors_of(pid);
    struct dirent *entry;
    int rc = 0;

    while (dir && rc == 0 && (entry = readdir(dir)) != NULL) {
        char link[LINK_BYTES];
        const char *name = name_of(dirfd(dir), entry->d_name, link);
        struct stat st;

        if (name && strncmp(name, all->prefix, strlen(all->prefix)) == 0 &&
            fstatat(dirfd(dir), entry->d_name, &st, 0) == 0)
            rc = visit_once(all, name, (uint64_t)st.st_blocks * 512);
    }
    if (dir)
        (void)closedir(dir);
    return rc;
}

int cllm_memfd_list(const char *prefix,
                    int (*visit)(const char *name, uint64_t bytes, void *ctx), void *ctx)
{
    struct listing all = {.prefix = prefix, .visit = visit, .ctx = ctx};
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    int rc = 0;

    while (proc && rc == 0 && (entry = next_process(proc)) != NULL)
        rc = list_in(&all, entry->d_name);
    if (proc)
        (void)closedir(proc);
    free(all.seen);
    return rc;
}
