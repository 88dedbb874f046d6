/*
 * formats/file_scan.c - blocks of a file, with a sign of life after each.
 */
#include "formats/file_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/pulse.h"

#define SCAN_BYTES (256u << 10)

/* All of @fd from its begin. */
static int scan(int fd, const char *path, uint8_t *block, cllm_file_take_fn take,
                void *arg, uint64_t *bytes)
{
    *bytes = 0;
    for (;;) {
        ssize_t n = pread(fd, block, SCAN_BYTES, (off_t)*bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int rc = cllm_err(-errno, "cannot read %s", path);
            cllm_err_detail("at offset %" PRIu64, *bytes);
            return rc;
        }
        if (n == 0)
            return 0;
        take(arg, block, (size_t)n);
        cllm_pulse();
        if (cllm_pulse_stopped())
            return cllm_err(CLLM_ESTOPPED, "stopped while %s was read", path);
        *bytes += (uint64_t)n;
    }
}

int cllm_file_scan(const char *path, cllm_file_take_fn take, void *arg, uint64_t *bytes)
{
    uint64_t total = 0;
    uint8_t *block;
    struct stat st;
    int rc;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return cllm_err(-errno, "cannot open %s", path);
    block = malloc(SCAN_BYTES);
    if (block == NULL)
        rc = cllm_err(-ENOMEM, "cannot read %s", path);
    else if (fstat(fd, &st) != 0)
        rc = cllm_err(-errno, "cannot read %s", path);
    else if (!S_ISREG(st.st_mode))
        rc = cllm_err(-EINVAL, "cannot read %s, it is not a regular file", path);
    else
        rc = scan(fd, path, block, take, arg, &total);
    if (rc == 0 && bytes != NULL)
        *bytes = total;
    free(block);
    (void)close(fd); /* read only */
    return rc;
}

static void take_hash128(void *arg, const void *data, size_t bytes)
{
    cllm_hasher_add128(arg, data, bytes);
}

int cllm_file_hash128(const char *path, char hex[CLLM_HASH128_HEX_BYTES], uint64_t *bytes)
{
    struct cllm_hasher *hasher = cllm_hasher_new();
    int rc;

    if (hasher == NULL)
        return cllm_err(-ENOMEM, "cannot read %s", path);
    cllm_hasher_begin128(hasher);
    rc = cllm_file_scan(path, take_hash128, hasher, bytes);
    if (rc == 0)
        cllm_hasher_end128(hasher, hex);
    cllm_hasher_free(&hasher);
    return rc;
}
