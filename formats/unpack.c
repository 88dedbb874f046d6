/*
 * formats/unpack.c - read a file in blocks and hand them to the library that knows them.
 */
#include "formats/unpack.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

static const struct {
    const char *name;
    const char *magic;
    size_t bytes;
    int (*begin)(struct cllm_unpack *);
    int (*step)(struct cllm_unpack *, uint8_t *, size_t, size_t *);
    void (*end)(struct cllm_unpack *);
} kinds[] = {
    [CLLM_UNPACK_PLAIN] = {"plain", "", 0, NULL, NULL, NULL},
    [CLLM_UNPACK_GZIP] = {"gzip", "\x1f\x8b", 2, cllm_unpack_gzip_begin,
                          cllm_unpack_gzip_step, cllm_unpack_gzip_end},
    [CLLM_UNPACK_ZSTD] = {"zstd", "\x28\xb5\x2f\xfd", 4, cllm_unpack_zstd_begin,
                          cllm_unpack_zstd_step, cllm_unpack_zstd_end},
};

const char *cllm_unpack_kind_name(enum cllm_unpack_kind kind)
{
    return kinds[kind].name;
}

/* Move what is left to the front and read more, until the buffer is full or the file
 * ends. */
static int fill(struct cllm_unpack *unpack)
{
    memmove(unpack->buffer, unpack->buffer + unpack->at, unpack->used - unpack->at);
    unpack->used -= unpack->at;
    unpack->at = 0;
    while (!unpack->ended && unpack->used < CLLM_UNPACK_BUFFER) {
        ssize_t n = read(unpack->fd, unpack->buffer + unpack->used,
                         CLLM_UNPACK_BUFFER - unpack->used);
        if (n < 0)
            return cllm_err(-errno, "cannot read %s", unpack->name);
        unpack->ended = n == 0;
        unpack->used += (size_t)n;
    }
    return 0;
}

int cllm_unpack_open(struct cllm_unpack *unpack, int fd, const char *name)
{
    int rc;

    memset(unpack, 0, sizeof *unpack);
    unpack->name = name;
    unpack->fd = fd;
    unpack->between = true;
    unpack->buffer = malloc(CLLM_UNPACK_BUFFER);
    if (unpack->buffer == NULL)
        return cllm_err(-ENOMEM, "cannot read %s", name);
    rc = fill(unpack);
    for (size_t i = CLLM_UNPACK_GZIP; rc == 0 && i < CLLM_LEN(kinds); i++) {
        if (unpack->used < kinds[i].bytes ||
            memcmp(unpack->buffer, kinds[i].magic, kinds[i].bytes) != 0)
            continue;
        rc = kinds[i].begin(unpack);
        unpack->kind = (enum cllm_unpack_kind)i;
    }
    if (rc < 0) {
        free(unpack->buffer);
        memset(unpack, 0, sizeof *unpack);
    }
    return rc;
}

void cllm_unpack_close(struct cllm_unpack *unpack)
{
    if (unpack->state != NULL)
        kinds[unpack->kind].end(unpack);
    free(unpack->buffer);
    memset(unpack, 0, sizeof *unpack);
}

/* What is in the buffer, as it is. */
static size_t copy(struct cllm_unpack *unpack, uint8_t *out, size_t bytes)
{
    size_t n = (size_t)cllm_min_u64(bytes, unpack->used - unpack->at);

    memcpy(out, unpack->buffer + unpack->at, n);
    unpack->at += n;
    return n;
}

/* The file has ended and all of it is unpacked: was it all there? */
static int check_end(const struct cllm_unpack *unpack)
{
    if (unpack->between)
        return 0;
    int rc = cllm_err(CLLM_EDATA, "%s: the %s stream is cut short", unpack->name,
                      kinds[unpack->kind].name);
    cllm_err_detail("the file ends at offset %" PRIu64 " in the middle of it, after "
                    "%" PRIu64 " unpacked bytes",
                    unpack->taken, unpack->given);
    cllm_err_hint("fetch the file again; its size tells whether it is whole");
    return rc;
}

int cllm_unpack_read(struct cllm_unpack *unpack, void *out, size_t bytes, size_t *n)
{
    int rc = 0;

    *n = 0;
    CLLM_ASSERT(bytes > 0);
    while (rc == 0 && *n == 0) {
        if (unpack->at == unpack->used && !unpack->ended)
            rc = fill(unpack);
        if (rc < 0)
            break;
        size_t before = unpack->at;
        if (unpack->kind == CLLM_UNPACK_PLAIN)
            *n = copy(unpack, out, bytes);
        else
            rc = kinds[unpack->kind].step(unpack, out, bytes, n);
        unpack->taken += unpack->at - before;
        unpack->given += *n;
        if (rc == CLLM_EDATA)
            cllm_err_detail("at offset %" PRIu64 " of the file, after %" PRIu64
                            " unpacked bytes",
                            unpack->taken, unpack->given);
        if (rc == 0 && *n == 0 && unpack->at == unpack->used && unpack->ended) {
            rc = check_end(unpack);
            break;
        }
    }
    return rc;
}
