/*
 * formats/token_stream.c - what is held, the new bytes behind it, and what is whole.
 */
#include "formats/token_stream.h"

#include <string.h>

#include "formats/utf8.h"

void cllm_token_stream_init(struct cllm_token_stream *stream,
                            const struct cllm_tokenizer *tokenizer)
{
    *stream = (struct cllm_token_stream){.tokenizer = tokenizer};
}

size_t cllm_token_stream_put_text(struct cllm_token_stream *stream, const void *text,
                                  size_t bytes, char out[CLLM_TOKEN_STREAM_ROOM])
{
    size_t n_held = stream->n_held;

    CLLM_ASSERT(n_held + bytes <= CLLM_TOKEN_STREAM_ROOM);
    memcpy(out, stream->held, n_held);
    memcpy(out + n_held, text, bytes);
    bytes += n_held;
    stream->n_held = cllm_utf8_open((const uint8_t *)out, bytes);
    bytes -= stream->n_held;
    memcpy(stream->held, out + bytes, stream->n_held);
    return bytes;
}

size_t cllm_token_stream_put(struct cllm_token_stream *stream, uint32_t id,
                             char out[CLLM_TOKEN_STREAM_ROOM])
{
    size_t bytes;
    const uint8_t *token = cllm_tokenizer_token(stream->tokenizer, id, &bytes);

    return cllm_token_stream_put_text(stream, token, bytes, out);
}

size_t cllm_token_stream_end(struct cllm_token_stream *stream,
                             char out[CLLM_TOKEN_STREAM_ROOM])
{
    size_t bytes = stream->n_held;

    memcpy(out, stream->held, bytes);
    stream->n_held = 0;
    return bytes;
}
