/*
 * formats/unpack_zstd.c - zstd frames, by libzstd. The only place that uses it.
 */
#include "formats/unpack.h"

#include <errno.h>

#include <zstd.h>
#include <zstd_errors.h>

#include "base/err.h"

#define WINDOW_LOG_MAX 27 /* 128 MiB of memory, the library's own limit */

int cllm_unpack_zstd_begin(struct cllm_unpack *unpack)
{
    ZSTD_DStream *stream = ZSTD_createDStream();

    if (stream == NULL || ZSTD_isError(ZSTD_DCtx_setParameter(stream, ZSTD_d_windowLogMax,
                                                              WINDOW_LOG_MAX))) {
        (void)ZSTD_freeDStream(stream); /* of nothing is nothing */
        return cllm_err(-ENOMEM, "cannot unpack %s", unpack->name);
    }
    unpack->state = stream;
    return 0;
}

void cllm_unpack_zstd_end(struct cllm_unpack *unpack)
{
    (void)ZSTD_freeDStream(unpack->state);
    unpack->state = NULL;
}

int cllm_unpack_zstd_step(struct cllm_unpack *unpack, uint8_t *out, size_t bytes,
                          size_t *n)
{
    ZSTD_inBuffer in = {unpack->buffer, unpack->used, unpack->at};
    ZSTD_outBuffer to = {out, bytes, 0};

    if (unpack->between && unpack->at == unpack->used)
        return 0;
    size_t status = ZSTD_decompressStream(unpack->state, &to, &in);
    unpack->at = in.pos;
    *n = to.pos;
    if (ZSTD_isError(status)) {
        int rc = cllm_err(CLLM_EDATA, "%s: the zstd stream is damaged: %s", unpack->name,
                          ZSTD_getErrorName(status));
        if (ZSTD_getErrorCode(status) == ZSTD_error_frameParameter_windowTooLarge)
            cllm_err_hint(
                "unpack it outside: zstd -d --long=31 -c FILE | cllm-prep ... -");
        return rc;
    }
    unpack->between = status == 0;
    return 0;
}
