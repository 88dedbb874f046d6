/*
 * formats/direct.c - whole pages one way, what is left the other.
 */
#include "formats/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "formats/file.h"

void cllm_direct_begin(struct cllm_direct *direct, int fd, const char *path)
{
    int mode = fcntl(fd, F_GETFL) & O_ACCMODE;

    *direct = (struct cllm_direct){.fd = fd, .path = path};
    direct->direct_fd = open(path, mode | O_DIRECT | O_CLOEXEC | O_NOFOLLOW);
}

void cllm_direct_end(struct cllm_direct *direct)
{
    /* What was written is durable by @fd's fsync, which tells of what failed. */
    if (direct->direct_fd >= 0)
        (void)close(direct->direct_fd);
    direct->direct_fd = -1;
}

/* How a transfer is cut: bytes before the first whole page, in whole pages, behind. */
struct cut {
    size_t before, pages, behind;
};

static struct cut cut_of(const struct cllm_direct *direct, const void *data, size_t bytes,
                         uint64_t off)
{
    size_t before = (size_t)(cllm_align_up(off, CLLM_PAGE) - off);
    size_t pages = bytes > before ? (bytes - before) & ~(size_t)(CLLM_PAGE - 1) : 0;

    if (direct->direct_fd < 0 || (uintptr_t)data % CLLM_PAGE != off % CLLM_PAGE ||
        pages == 0)
        return (struct cut){.before = bytes};
    return (struct cut){before, pages, bytes - before - pages};
}

typedef int (*move_fn)(int fd, void *data, size_t bytes, uint64_t off, const char *path);

static int put(int fd, void *data, size_t bytes, uint64_t off, const char *path)
{
    return cllm_file_pwrite_all(fd, data, bytes, off, path);
}

static int transfer(struct cllm_direct *direct, move_fn move, char *data, size_t bytes,
                    uint64_t off)
{
    const struct cut cut = cut_of(direct, data, bytes, off);
    int rc = move(direct->fd, data, cut.before, off, direct->path);

    if (rc != 0 || cut.pages == 0)
        return rc;
    data += cut.before;
    off += cut.before;
    rc = move(direct->direct_fd, data, cut.pages, off, direct->path);
    /* Refused; also one that stopped within a page and cannot go on there. */
    if (rc == -EINVAL) {
        cllm_direct_end(direct);
        rc = move(direct->fd, data, cut.pages, off, direct->path);
    }
    return rc != 0 ? rc
                   : move(direct->fd, data + cut.pages, cut.behind, off + cut.pages,
                          direct->path);
}

int cllm_direct_pwrite(struct cllm_direct *direct, const void *data, size_t bytes,
                       uint64_t off)
{
    return transfer(direct, put, (char *)(uintptr_t)data /* read only */, bytes, off);
}

int cllm_direct_pread(struct cllm_direct *direct, void *data, size_t bytes, uint64_t off)
{
    return transfer(direct, cllm_file_pread_all, data, bytes, off);
}
