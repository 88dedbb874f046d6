/*
 * compute/opencl/cache.c - see compute/opencl/cache.h. With tuning.c the only file in
 * compute/ that opens files.
 */
#include "compute/opencl/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"

#define MAGIC     UINT64_C(0x314e49424d4c4c43) /* "CLLMBIN1" */
#define MOST      (256u << 20)                 /* no program is that long */
#define HASH_SEED 1

/* What a file begins with; as it lies in memory, because binaries do not travel. */
struct header {
    uint64_t magic, key, bytes, hash;
};

/* ---- the directory ---- */

/* mkdir -p; the last directory is this user's alone. */
static bool make_directories(char *path)
{
    for (char *end = path + 1; (end = strchr(end, '/')) != NULL; end++) {
        *end = '\0';
        if (mkdir(path, 0777) != 0 && errno != EEXIST) {
            *end = '/';
            return false;
        }
        *end = '/';
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

bool cllm_cl_cache_directory(char path[CLLM_CL_CACHE_PATH], const char *name)
{
    const char *ours = getenv("CLLM_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    int n;

    if (ours && ours[0])
        n = snprintf(path, CLLM_CL_CACHE_PATH, "%s/%s", ours, name);
    else if (xdg && xdg[0] == '/')
        n = snprintf(path, CLLM_CL_CACHE_PATH, "%s/cllm/%s", xdg, name);
    else if (home && home[0] == '/')
        n = snprintf(path, CLLM_CL_CACHE_PATH, "%s/.cache/cllm/%s", home, name);
    else
        return false;
    return n < CLLM_CL_CACHE_PATH && make_directories(path);
}

bool cllm_cl_cache_path(char path[CLLM_CL_CACHE_FILE], uint64_t key, const char *suffix)
{
    char directory[CLLM_CL_CACHE_PATH];

    if (!cllm_cl_cache_directory(directory, "opencl"))
        return false;
    (void)snprintf(path, CLLM_CL_CACHE_FILE, "%s/%016" PRIx64 "%s", directory, key,
                   suffix);
    return true;
}

/* ---- files ---- */

static bool read_all(int fd, void *to, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = read(fd, (char *)to + done, bytes - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

static bool write_all(int fd, const void *from, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = write(fd, (const char *)from + done, bytes - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

/* What @fd holds for @key, or NULL. */
static unsigned char *read_binary(int fd, uint64_t key, size_t *bytes)
{
    unsigned char *binary;
    struct header header;
    struct stat status;

    if (fstat(fd, &status) != 0 || !read_all(fd, &header, sizeof header) ||
        header.magic != MAGIC || header.key != key || header.bytes == 0 ||
        header.bytes > MOST || (uint64_t)status.st_size != sizeof header + header.bytes)
        return NULL;
    *bytes = header.bytes;
    binary = malloc(*bytes);
    if (binary && read_all(fd, binary, *bytes) &&
        cllm_hash(binary, *bytes, HASH_SEED) == header.hash)
        return binary;
    free(binary);
    return NULL;
}

unsigned char *cllm_cl_cache_load(uint64_t key, size_t *bytes)
{
    char path[CLLM_CL_CACHE_FILE];
    unsigned char *binary;
    int fd;

    if (!cllm_cl_cache_path(path, key, ".bin"))
        return NULL;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    binary = read_binary(fd, key, bytes);
    if (!binary)
        cllm_debug("%s is damaged: compiled again", path);
    (void)close(fd); /* read only */
    return binary;
}

static bool write_binary(int fd, uint64_t key, const unsigned char *binary, size_t bytes)
{
    const struct header header = {.magic = MAGIC,
                                  .key = key,
                                  .bytes = bytes,
                                  .hash = cllm_hash(binary, bytes, HASH_SEED)};

    return write_all(fd, &header, sizeof header) && write_all(fd, binary, bytes);
}

void cllm_cl_cache_store(uint64_t key, const unsigned char *binary, size_t bytes)
{
    char path[CLLM_CL_CACHE_FILE], temporary[CLLM_CL_CACHE_PATH + 64];
    bool done;
    int fd;

    if (bytes == 0 || bytes > MOST || !cllm_cl_cache_path(path, key, ".bin"))
        return;
    (void)snprintf(temporary, sizeof temporary, "%s.%ld", path, (long)getpid());
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    done = write_binary(fd, key, binary, bytes);
    done = close(fd) == 0 && done;
    if (!done || rename(temporary, path) != 0) {
        cllm_debug("cannot keep %s: %s", path, strerror(errno));
        (void)unlink(temporary);
    }
}
