/*
 * tools/prep_renumber.c - count the stream, give out new ids, say what they cover.
 */
#include "tools/prep_renumber.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"

#define COUNT_TOKENS 65536 /* at once */
#define SHOWN        256   /* ids whose share is told */

static int no_memory(void)
{
    return cllm_err(-ENOMEM, "cannot renumber the vocabulary");
}

/* What a process before this one left may have suffered since. */
static int spoilt(const struct cllm_prep_stream *stream, uint32_t token, uint32_t n_ids)
{
    int rc = cllm_err(CLLM_EDATA, "%s: token %u is none of the vocabulary's %u",
                      stream->tokens.path, token, n_ids);

    cllm_err_hint("begin again: --force");
    return rc;
}

/* count[id] of the first @n_tokens of the stream; all below @n_ids. */
static int count_tokens(const struct cllm_prep_stream *stream, uint64_t n_tokens,
                        uint64_t *count, uint32_t n_ids)
{
    uint32_t *tokens = malloc(COUNT_TOKENS * sizeof *tokens);
    int rc = tokens == NULL ? no_memory() : 0;

    for (uint64_t done = 0; rc == 0 && done < n_tokens;) {
        uint64_t n = cllm_min_u64(COUNT_TOKENS, n_tokens - done);

        rc = cllm_prep_stream_read(stream, done, n, tokens);
        for (uint64_t i = 0; rc == 0 && i < n; i++) {
            if (tokens[i] < n_ids)
                count[tokens[i]]++;
            else
                rc = spoilt(stream, tokens[i], n_ids);
        }
        done += n;
    }
    free(tokens);
    return rc;
}

/* Of the training text's tokens, how many are among the first ids. */
static void report(const uint64_t *count, const uint32_t *place, uint32_t n_ids,
                   uint64_t n_tokens)
{
    uint64_t before = 0, after = 0;

    for (uint32_t id = 0; id < n_ids; id++) {
        before += id < SHOWN ? count[id] : 0;
        after += place[id] < SHOWN ? count[id] : 0;
    }
    cllm_info("renumbered: the first %d ids have %.1f %% of the training text's tokens, "
              "%.1f %% before",
              SHOWN, 100 * (double)after / (double)n_tokens,
              100 * (double)before / (double)n_tokens);
}

int cllm_prep_renumber(struct cllm_prep_renumbering *out,
                       const struct cllm_prep_stream *stream, uint64_t n_tokens,
                       const struct cllm_tokenizer *tokenizer)
{
    uint32_t n_ids = cllm_tokenizer_size(tokenizer);
    uint64_t *count = calloc(n_ids, sizeof *count);

    out->place = malloc(n_ids * sizeof *out->place);
    int rc = count == NULL || out->place == NULL
                 ? no_memory()
                 : count_tokens(stream, n_tokens, count, n_ids);
    if (rc == 0)
        rc = cllm_tokenizer_places(tokenizer, count, out->place);
    if (rc == 0)
        rc = cllm_tokenizer_renumber(&out->tokenizer, tokenizer, out->place);
    if (rc == 0)
        report(count, out->place, n_ids, n_tokens);
    free(count);
    return rc;
}

void cllm_prep_renumbering_fini(struct cllm_prep_renumbering *renumbering)
{
    free(renumbering->place);
    cllm_tokenizer_free(&renumbering->tokenizer);
    *renumbering = (struct cllm_prep_renumbering){0};
}
