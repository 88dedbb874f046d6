/*
 * tools/eval_split.c - windows from shards, their losses, bytes and crystalline costs.
 */
#include "tools/eval_split.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/crystal.h"
#include "base/err.h"

enum { LOSS, BYTES, CRYSTALLINE, N_VALUES };

struct split {
    const struct cllm_lm *lm;
    const struct cllm_dataset *data;
    uint64_t windows;
    uint32_t *tokens; /* [block] (context + 1) */
};

/* floor(i * all / n) without the product, which may not fit: as the loader does. */
static uint64_t spread(uint64_t all, uint64_t n, uint64_t i)
{
    return i * (all / n) + i * (all % n) / n;
}

/* Window @window to @tokens, each below the vocabulary. */
static int read_window(const struct split *split, uint64_t window, uint32_t *tokens)
{
    uint32_t T = split->data->window_tokens, index;
    const struct cllm_shard *shard;
    uint64_t first;
    int rc;

    cllm_dataset_locate(split->data, window, &index, &first);
    shard = &split->data->shard[index];
    rc = cllm_shard_read(shard, first, T + (uint64_t)1, tokens);
    for (uint32_t i = 0; rc == 0 && i <= T; i++) {
        if (tokens[i] < split->lm->vocab)
            continue;
        rc = cllm_err(CLLM_EDATA, "%s: token %" PRIu64 " is outside the vocabulary",
                      shard->path, first + i);
        cllm_err_detail("at offset %" PRIu64 ": expected 0 to %u, found %u",
                        shard->data_off + (first + i) * shard->token_bytes,
                        split->lm->vocab - 1, tokens[i]);
        cllm_err_hint("these shards were made for another model");
    }
    return rc;
}

static int prepare(void *ctx, uint64_t first, uint32_t n)
{
    struct split *split = ctx;
    size_t T = split->data->window_tokens;
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < n; i++)
        rc = read_window(split, spread(split->data->n_windows, split->windows, first + i),
                         split->tokens + i * (T + 1));
    return rc;
}

static void evaluate(void *ctx, uint32_t i, struct cllm_lm_reader *reader, double *values)
{
    const struct split *split = ctx;
    size_t T = split->data->window_tokens;
    const uint32_t *tokens = split->tokens + i * (T + 1); // (T+1)

    values[LOSS] = cllm_lm_loss(reader, tokens);
    values[BYTES] = values[CRYSTALLINE] = 0;
    for (size_t t = 0; t < T; t++) {
        values[BYTES] += (double)cllm_lm_token_bytes(split->lm, tokens[t + 1]);
        values[CRYSTALLINE] += cllm_crystal_cost(tokens[t], tokens[t + 1]);
    }
}

int cllm_eval_split(struct cllm_eval_split *out, const struct cllm_eval *eval,
                    const struct cllm_dataset *data, uint64_t windows)
{
    struct split split = {.lm = eval->lm, .data = data, .windows = data->n_windows};
    const struct cllm_eval_work work = {.ctx = &split,
                                        .use = CLLM_LM_WINDOWS,
                                        .what = "windows",
                                        .shown = LOSS,
                                        .per_item = data->window_tokens,
                                        .prepare = prepare,
                                        .item = evaluate};
    struct cllm_tally tally;
    char identity[256];
    uint64_t hash = 0;
    int rc = cllm_dataset_hash(data, &hash);

    if (rc != 0)
        return rc;
    if (windows > 0 && windows < data->n_windows)
        split.windows = windows;
    (void)snprintf(
        identity, sizeof identity,
        "cllm-eval 1 windows %" PRIu64 " of %" PRIu64 " context %u data %016" PRIx64
        " model %s tokenizer %.16s",
        split.windows, data->n_windows, data->window_tokens, hash, eval->lm->weights,
        eval->lm->tokenizer ? cllm_tokenizer_hash(eval->lm->tokenizer) : "none");
    split.tokens = calloc((size_t)CLLM_EVAL_BLOCK_MOST * (data->window_tokens + 1u),
                          sizeof *split.tokens);
    if (split.tokens == NULL)
        return cllm_err(-ENOMEM, "cannot read windows");
    rc = cllm_tally_open(&tally, eval->state, identity, split.windows, N_VALUES);
    if (rc == 0) {
        rc = cllm_eval_run(eval, &tally, &work);
        *out =
            (struct cllm_eval_split){.windows = split.windows,
                                     .tokens = split.windows * data->window_tokens,
                                     .bytes = (uint64_t)cllm_tally_sum(&tally, BYTES),
                                     .loss = cllm_tally_sum(&tally, LOSS),
                                     .crystalline = cllm_tally_sum(&tally, CRYSTALLINE)};
        cllm_tally_close(&tally);
    }
    free(split.tokens);
    return rc;
}
