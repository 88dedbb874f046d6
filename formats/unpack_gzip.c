/*
 * formats/unpack_gzip.c - gzip members, by zlib. The only place that uses it.
 */
#include "formats/unpack.h"

#include <errno.h>
#include <stdlib.h>

#include <zlib.h>

#include "base/err.h"

#define GZIP_ONLY 16 /* added to the window bits: no zlib streams, no guessing */

int cllm_unpack_gzip_begin(struct cllm_unpack *unpack)
{
    z_stream *stream = calloc(1, sizeof *stream);

    if (stream == NULL || inflateInit2(stream, MAX_WBITS + GZIP_ONLY) != Z_OK) {
        free(stream);
        return cllm_err(-ENOMEM, "cannot unpack %s", unpack->name);
    }
    unpack->state = stream;
    return 0;
}

void cllm_unpack_gzip_end(struct cllm_unpack *unpack)
{
    (void)inflateEnd(unpack->state);
    free(unpack->state);
    unpack->state = NULL;
}

/* Behind a member: zeros are padding, and another member begins with its magic. */
static int begin_member(struct cllm_unpack *unpack)
{
    z_stream *stream = unpack->state;

    if (unpack->given > 0 || unpack->taken > 0) {
        while (unpack->at < unpack->used && unpack->buffer[unpack->at] == 0)
            unpack->at++;
    }
    if (unpack->at == unpack->used)
        return 0;
    if (unpack->buffer[unpack->at] != 0x1f) {
        return cllm_err(CLLM_EDATA,
                        "%s: behind the gzip stream, expected the end or another member "
                        "(byte 0x1f), found byte 0x%02x",
                        unpack->name, unpack->buffer[unpack->at]);
    }
    (void)inflateReset(stream); /* fails for a state that is none alone */
    unpack->between = false;
    return 0;
}

int cllm_unpack_gzip_step(struct cllm_unpack *unpack, uint8_t *out, size_t bytes,
                          size_t *n)
{
    z_stream *stream = unpack->state;
    uInt room = (uInt)cllm_min_u64(bytes, 1u << 30);
    int rc = unpack->between ? begin_member(unpack) : 0;

    if (rc < 0 || unpack->between)
        return rc;
    stream->next_in = unpack->buffer + unpack->at;
    stream->avail_in = (uInt)(unpack->used - unpack->at);
    stream->next_out = out;
    stream->avail_out = room;
    int status = inflate(stream, Z_NO_FLUSH);
    unpack->at = unpack->used - stream->avail_in;
    *n = room - stream->avail_out;
    switch (status) {
    case Z_STREAM_END:
        unpack->between = true;
        return 0;
    case Z_OK:
    case Z_BUF_ERROR: /* it needs more input */
        return 0;
    case Z_MEM_ERROR:
        return cllm_err(-ENOMEM, "cannot unpack %s", unpack->name);
    default:
        return cllm_err(CLLM_EDATA, "%s: the gzip stream is damaged: %s", unpack->name,
                        stream->msg != NULL ? stream->msg : "unknown reason");
    }
}
