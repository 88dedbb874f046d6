/*
 * formats/encoder.h - text to tokens, exactly and fast: the state of one thread.
 *
 * Any bytes are encoded, and the tokens' bytes in a row are the text again. Stretches of
 * valid UTF-8 are split by the tokenizer's pattern, each as if it were a text of its own;
 * every byte that belongs to no valid UTF-8 character is a piece of its own.
 *
 * Pieces seen before come out of a cache of fixed size; it changes times, never tokens.
 */
#ifndef CLLM_FORMATS_ENCODER_H
#define CLLM_FORMATS_ENCODER_H

#include "formats/tokenizer.h"

struct cllm_encoder; /* opaque, heap, about 4 MiB */

enum {
    CLLM_ENCODE_PLAIN = 0,
    CLLM_ENCODE_SPECIAL = 1 /* special tokens in the text become themselves; without
                               this flag they are text like any other */
};

/* @tokenizer must outlive the encoder. Returns 0, or -ENOMEM with text. */
int cllm_encoder_new(struct cllm_encoder **out, const struct cllm_tokenizer *tokenizer);

/* NULL in @*encoder is fine; NULL afterwards. */
void cllm_encoder_free(struct cllm_encoder **encoder);

/*
 * Encode @bytes bytes of @text into @ids, which has room for @bytes ids (a token is at
 * least one byte); @*n_ids is how many there are. Returns 0; -ENOMEM when a very long
 * piece found no memory; CLLM_EDATA when the pattern of a tokenizer.json gave up on the
 * text. Both without text through base/err.h, since several threads may encode at once.
 */
int cllm_encoder_encode(struct cllm_encoder *encoder, const void *text, size_t bytes,
                        unsigned flags, uint32_t *ids, size_t *n_ids);

#endif /* CLLM_FORMATS_ENCODER_H */
