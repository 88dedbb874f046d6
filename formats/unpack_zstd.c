/*
 * formats/unpack_zstd.c - zstd frames, by libzstd. The only place that uses it.
 */
#include "formats/unpack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>
#include <zstd_errors.h>

#include "base/err.h"

#define WINDOW_LOG_MAX 27 /* 128 MiB of memory, the library's own limit */

/*
 * Given room for all of a small frame the library unpacks it at once, and then notices
 * damage that it lets pass otherwise (a size in the header that the blocks do not have).
 * What is damaged must not depend on how much the caller wants, so it always gets the
 * same room.
 */
#define ROOM (128u << 10) /* a block */

struct zstd_state {
    ZSTD_DStream *stream;
    size_t at, n; /* bytes [at, n) of out are not given yet */
    uint8_t out[ROOM];
};

int cllm_unpack_zstd_begin(struct cllm_unpack *unpack)
{
    struct zstd_state *state = malloc(sizeof *state);
    ZSTD_DStream *stream = state == NULL ? NULL : ZSTD_createDStream();

    if (stream == NULL || ZSTD_isError(ZSTD_DCtx_setParameter(stream, ZSTD_d_windowLogMax,
                                                              WINDOW_LOG_MAX))) {
        (void)ZSTD_freeDStream(stream); /* of nothing is nothing */
        free(state);
        return cllm_err(-ENOMEM, "cannot unpack %s", unpack->name);
    }
    state->stream = stream;
    state->at = state->n = 0;
    unpack->state = state;
    return 0;
}

void cllm_unpack_zstd_end(struct cllm_unpack *unpack)
{
    struct zstd_state *state = unpack->state;

    (void)ZSTD_freeDStream(state->stream);
    free(state);
    unpack->state = NULL;
}

/* Unpack the next bytes; state->out is empty. */
static int unpack_more(struct cllm_unpack *unpack, struct zstd_state *state)
{
    ZSTD_inBuffer in = {unpack->buffer, unpack->used, unpack->at};
    ZSTD_outBuffer to = {state->out, sizeof state->out, 0};

    if (unpack->between && unpack->at == unpack->used)
        return 0;
    size_t status = ZSTD_decompressStream(state->stream, &to, &in);
    unpack->at = in.pos;
    if (ZSTD_isError(status)) {
        int rc = cllm_err(CLLM_EDATA, "%s: the zstd stream is damaged: %s", unpack->name,
                          ZSTD_getErrorName(status));
        if (ZSTD_getErrorCode(status) == ZSTD_error_frameParameter_windowTooLarge)
            cllm_err_hint(
                "unpack it outside: zstd -d --long=31 -c FILE | cllm-prep ... -");
        return rc;
    }
    state->at = 0;
    state->n = to.pos;
    unpack->between = status == 0;
    return 0;
}

int cllm_unpack_zstd_step(struct cllm_unpack *unpack, uint8_t *out, size_t bytes,
                          size_t *n)
{
    struct zstd_state *state = unpack->state;
    int rc = state->at == state->n ? unpack_more(unpack, state) : 0;

    if (rc < 0)
        return rc;
    *n = (size_t)cllm_min_u64(bytes, state->n - state->at);
    memcpy(out, state->out + state->at, *n);
    state->at += *n;
    return 0;
}
