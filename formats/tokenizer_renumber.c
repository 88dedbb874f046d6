/*
 * formats/tokenizer_renumber.c - the same tokens under other ids.
 *
 * Ranks of merges are numbers of their own, so that text is cut as before, whatever the
 * ids are. The original is read, never changed: threads may be encoding with it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "formats/tokenizer_parts.h"

/* ---- by frequency ---- */

struct counts {
    const uint64_t *of; /* by id */
};

/* The more frequent first; of equals, the one that was first before. */
static int compare_counts(const void *a, const void *b, void *context)
{
    const uint64_t *count = ((const struct counts *)context)->of;
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;

    if (count[left] != count[right])
        return count[left] > count[right] ? -1 : 1;
    return left < right ? -1 : left > right;
}

int cllm_tokenizer_places(const struct cllm_tokenizer *tokenizer, const uint64_t *count,
                          uint32_t *place)
{
    struct counts counts = {count};
    const struct cllm_vocab *vocab = &tokenizer->vocab;
    uint32_t *id = malloc(vocab->n_tokens * sizeof *id);
    uint32_t n = 0;

    if (id == NULL)
        return cllm_err(-ENOMEM, "cannot renumber the vocabulary");
    for (uint32_t i = 0; i < vocab->n_tokens; i++) {
        place[i] = CLLM_TOKEN_NONE;
        if (vocab->token[i].type != 0)
            id[n++] = i;
    }
    qsort_r(id, n, sizeof *id, compare_counts, &counts);
    for (uint32_t i = 0; i < n; i++)
        place[id[i]] = i;
    free(id);
    return 0;
}

/* ---- the copy ---- */

static int copy_tokens(struct cllm_vocab *to, const struct cllm_vocab *from,
                       const uint32_t *place)
{
    for (uint32_t id = 0; id < from->n_tokens; id++) {
        const struct cllm_vocab_token *token = &from->token[id];
        int rc;

        if (token->type == 0)
            continue;
        CLLM_ASSERT(place[id] < from->n_tokens);
        rc = cllm_vocab_put(to, place[id], cllm_vocab_bytes(from, id), token->bytes,
                            (enum cllm_token_type)token->type);
        CLLM_ASSERT(rc != -EEXIST);
        if (rc < 0)
            return rc;
    }
    for (unsigned byte = 0; byte < 256; byte++)
        to->byte_id[byte] = place[from->byte_id[byte]];
    return 0;
}

/* The list of merges, and the pairs, of which a rank file has more. */
static int copy_merges(struct cllm_vocab *to, const struct cllm_vocab *from,
                       const uint32_t *place)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < from->n_merges; i++) {
        const struct cllm_vocab_merge *merge = &from->merge[i];

        rc = cllm_vocab_list_merge(to, place[merge->left], place[merge->right],
                                   place[merge->id]);
    }
    for (uint32_t i = 0; rc == 0 && i < from->room_pairs; i++) {
        const struct cllm_vocab_pair *pair = &from->pair[i];

        if (pair->key != UINT64_MAX)
            rc = cllm_vocab_add_pair(to, place[pair->key >> 32],
                                     place[(uint32_t)pair->key], pair->rank,
                                     place[pair->id]);
    }
    return rc;
}

static int copy(struct cllm_tokenizer *to, const struct cllm_tokenizer *from,
                const uint32_t *place)
{
    int rc = copy_tokens(&to->vocab, &from->vocab, place);

    if (rc == 0)
        rc = copy_merges(&to->vocab, &from->vocab, place);
    if (rc < 0)
        return rc;
    to->vocab.by_rank = from->vocab.by_rank;
    to->vocab.whole_first = from->vocab.whole_first;
    rc = from->pattern == NULL
             ? cllm_tokenizer_set_pattern(to, CLLM_PATTERN_GPT2)
             : cllm_pattern_new(&to->pattern, cllm_pattern_text(from->pattern),
                                cllm_tokenizer_pattern_name(from));
    return rc == 0 ? cllm_tokenizer_finish(to, "the renumbered vocabulary") : rc;
}

int cllm_tokenizer_renumber(struct cllm_tokenizer **out,
                            const struct cllm_tokenizer *from, const uint32_t *place)
{
    struct cllm_tokenizer *tokenizer = NULL;
    int rc = cllm_tokenizer_new(&tokenizer, CLLM_TOKENIZER_KIND_BPE);

    if (rc == 0)
        rc = copy(tokenizer, from, place);
    if (rc < 0)
        cllm_tokenizer_free(&tokenizer);
    else
        *out = tokenizer;
    return rc;
}
