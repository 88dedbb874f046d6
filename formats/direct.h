/*
 * formats/direct.h - a file past the page cache.
 *
 * What is written once, and read once to see whether it is there, gains nothing from the
 * page cache and pays for its copies and pages. Here the whole pages of a transfer go
 * straight between the caller's memory and the disk (O_DIRECT); the ends that are no
 * whole pages, and everything where the file system refuses, go through the cache.
 *
 * Both ways see each other's bytes, as long as nobody has the file mapped. Nothing is
 * durable before fsync() of @fd, as ever.
 */
#ifndef CLLM_FORMATS_DIRECT_H
#define CLLM_FORMATS_DIRECT_H

#include "base/base.h"

struct cllm_direct {
    int fd;           /* through the page cache; the caller's */
    int direct_fd;    /* past it; -1: refused */
    const char *path; /* for messages; the caller's */
};

/* The file @path, which is open as @fd, for what @fd is open for. It cannot fail: where
 * O_DIRECT is refused all goes through the cache. */
void cllm_direct_begin(struct cllm_direct *direct, int fd, const char *path);
void cllm_direct_end(struct cllm_direct *direct); /* @fd stays open */

/*
 * All of @bytes at @off, or a negative errno with text; a file that ends before that is
 * CLLM_EDATA. Direct where @data lies in its page as the bytes lie in the file's: modulo
 * CLLM_PAGE, @data and @off are the same.
 */
int cllm_direct_pwrite(struct cllm_direct *direct, const void *data, size_t bytes,
                       uint64_t off);
int cllm_direct_pread(struct cllm_direct *direct, void *data, size_t bytes, uint64_t off);

#endif /* CLLM_FORMATS_DIRECT_H */
