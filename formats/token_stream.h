/*
 * formats/token_stream.h - tokens to text as they are generated, in whole characters.
 *
 * A token may end in the middle of a UTF-8 character; a terminal should not be shown
 * half of one. What may still become a character is held back, at most three bytes.
 * Bytes that cannot are passed on as they are: nothing is lost or replaced.
 */
#ifndef CLLM_FORMATS_TOKEN_STREAM_H
#define CLLM_FORMATS_TOKEN_STREAM_H

#include "formats/tokenizer.h"

/* Room that a put or an end may need. */
#define CLLM_TOKEN_STREAM_ROOM (CLLM_TOKEN_MAX_BYTES + 4)

struct cllm_token_stream {
    const struct cllm_tokenizer *tokenizer;
    uint8_t held[4];
    size_t n_held;
};

/* @tokenizer must outlive the stream. Needs no end. */
void cllm_token_stream_init(struct cllm_token_stream *stream,
                            const struct cllm_tokenizer *tokenizer);

/* The text that token @id completes, into @out; returns its length, 0 is possible. @id is
 * below the tokenizer's size. */
size_t cllm_token_stream_put(struct cllm_token_stream *stream, uint32_t id,
                             char out[CLLM_TOKEN_STREAM_ROOM]);

/* The same of @bytes (at most CLLM_TOKEN_MAX_BYTES) of text that come from elsewhere; the
 * stream needs no tokenizer. */
size_t cllm_token_stream_put_text(struct cllm_token_stream *stream, const void *text,
                                  size_t bytes, char out[CLLM_TOKEN_STREAM_ROOM]);

/* What is still held, at the end of the text; puts may follow. */
size_t cllm_token_stream_end(struct cllm_token_stream *stream,
                             char out[CLLM_TOKEN_STREAM_ROOM]);

#endif /* CLLM_FORMATS_TOKEN_STREAM_H */
