/*
 * tools/prep_renumber.h - ids by frequency, for the whole of a data set.
 *
 * Tokens that come often then lie together in the embedding, and ids count along the
 * spiral of base/crystal.h, the most frequent in its middle. Which id a token gets is a
 * function of the stream of tokens alone, so a process that goes on with another's work
 * finds the same.
 */
#ifndef CLLM_TOOLS_PREP_RENUMBER_H
#define CLLM_TOOLS_PREP_RENUMBER_H

#include "tools/prep_stream.h"

struct cllm_prep_renumbering {
    uint32_t *place;                  /* [ids before] the id of each token; heap */
    struct cllm_tokenizer *tokenizer; /* with the new ids; heap */
};

/* By the first @n_tokens of @stream, the training part, which @tokenizer made. Returns 0
 * or a negative code with text; cllm_prep_renumbering_fini() in either case. */
int cllm_prep_renumber(struct cllm_prep_renumbering *out,
                       const struct cllm_prep_stream *stream, uint64_t n_tokens,
                       const struct cllm_tokenizer *tokenizer);

/* For zeroed memory a no-op. */
void cllm_prep_renumbering_fini(struct cllm_prep_renumbering *renumbering);

#endif /* CLLM_TOOLS_PREP_RENUMBER_H */
