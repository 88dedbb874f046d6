/*
 * tools/prep_stream.h - the whole stream of tokens, before it is cut into shards.
 *
 * How many tokens there are is known only when all text is encoded, so they lie in
 * DIR/.partial/tokens until then, 2 or 4 bytes each. DIR/.partial/index has an entry for
 * each document and for each piece of a long one: where it begins in the text and among
 * the tokens. With it the validation split is found.
 */
#ifndef CLLM_TOOLS_PREP_STREAM_H
#define CLLM_TOOLS_PREP_STREAM_H

#include "formats/tokenizer.h"
#include "tools/prep_piece.h"
#include "tools/prep_state.h"

#define CLLM_PREP_SEPARATOR_MAX 256 /* tokens between documents */

struct cllm_prep_file_buffer {
    char path[CLLM_FILE_PATH_BYTES];
    int fd;      /* -1 = not open */
    uint8_t *at; /* [CLLM_PREP_BUFFER]; heap */
    size_t n;
};

struct cllm_prep_stream {
    struct cllm_prep_state *state; /* counts what is put */
    const uint32_t *separator;     /* tokens between documents */
    size_t n_separator;
    uint32_t token_bytes; /* 2 or 4 */
    struct cllm_prep_file_buffer tokens, index;
};

/*
 * Open the stream in directory @partial at what @state counts; what lies behind that is
 * cut off. @state and @separator must outlive it. Returns 0, CLLM_EDATA with text when
 * the files are shorter, or a negative errno; fini in any case.
 */
int cllm_prep_stream_open(struct cllm_prep_stream *stream, const char *partial,
                          struct cllm_prep_state *state, const uint32_t *separator,
                          size_t n_separator, uint32_t token_bytes);
void cllm_prep_stream_fini(struct cllm_prep_stream *stream);

/* The tokens of the next piece. Counts in the state all but its place. */
int cllm_prep_stream_put(struct cllm_prep_stream *stream,
                         const struct cllm_prep_tokens *tokens);

/* All that was put is durable. */
int cllm_prep_stream_sync(struct cllm_prep_stream *stream);

/* Tokens [@first, @first + @count), after a sync. Returns 0 or a negative code with
 * text. */
int cllm_prep_stream_read(const struct cllm_prep_stream *stream, uint64_t first,
                          uint64_t count, uint32_t *tokens);

/* Where the stream is cut in two. */
struct cllm_prep_split {
    uint64_t token; /* the first one of the validation split */
    uint64_t bytes; /* of text before it */
    bool document;  /* it begins a document */
};

/*
 * Find the place where the last @fraction (0 < @fraction < 1) of the text begins: the
 * beginning of the document nearest to it, or, when that would make the validation split
 * smaller than half or larger than twice what was asked for, the token that begins at or
 * behind it. After a sync. Returns 0 or a negative code with text.
 */
int cllm_prep_stream_split(const struct cllm_prep_stream *stream,
                           const struct cllm_tokenizer *tokenizer, double fraction,
                           struct cllm_prep_split *split);

#endif /* CLLM_TOOLS_PREP_STREAM_H */
