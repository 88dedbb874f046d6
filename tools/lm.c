/*
 * tools/lm.c - weights into memory, a tokenizer from where it may lie, losses and logits.
 */
#include "tools/lm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/err.h"
#include "base/log.h"
#include "compute/ops.h"

#define BYTE_TOKENS 256

/* ---- the tokenizer ---- */

/* Does directory @dir hold files that are a tokenizer? */
static bool holds_tokenizer(const char *dir)
{
    static const char *const names[] = {CLLM_TOKENIZER_JSON, CLLM_TOKENIZER_MERGES,
                                        "vocab.bpe"};
    char path[CLLM_FILE_PATH_BYTES];

    for (size_t i = 0; i < CLLM_LEN(names); i++) {
        int n = snprintf(path, sizeof path, "%s/%s", dir, names[i]);

        if (n > 0 && (size_t)n < sizeof path && access(path, R_OK) == 0)
            return true;
    }
    return false;
}

/* The directory of the first training shard that the configuration in @run names. */
static bool find_data_dir(char out[CLLM_FILE_PATH_BYTES], const char *run)
{
    char path[CLLM_FILE_PATH_BYTES];
    struct cllm_config config;
    const char *pattern = NULL, *slash;
    bool found = false;
    int n = snprintf(path, sizeof path, "%s/config.ini", run);

    if (n < 0 || (size_t)n >= sizeof path || access(path, R_OK) != 0)
        return false;
    cllm_config_init(&config);
    if (cllm_config_read(&config, path) == 0 && config.data_train.n > 0)
        pattern = config.data_train.item[0];
    else if (config.data_mix.n > 0)
        pattern = strrchr(config.data_mix.item[0], ' '); /* NAME WEIGHT PATTERN */
    if (pattern != NULL)
        pattern += pattern[0] == ' ';
    slash = pattern != NULL ? strrchr(pattern, '/') : NULL;
    if (slash != NULL) {
        n = snprintf(out, CLLM_FILE_PATH_BYTES, "%.*s", (int)(slash - pattern), pattern);
        found = n > 0 && n < CLLM_FILE_PATH_BYTES;
    }
    cllm_config_fini(&config);
    return found;
}

/* Where the tokenizer of the checkpoint in @dir lies, or NULL. */
static const char *find_tokenizer(const struct cllm_lm *lm,
                                  char out[CLLM_FILE_PATH_BYTES])
{
    static const char *const places[] = {"", "/../..", "/../../tokenizer"};
    char run[CLLM_FILE_PATH_BYTES];

    for (size_t i = 0; i < CLLM_LEN(places); i++) {
        int n = snprintf(out, CLLM_FILE_PATH_BYTES, "%s%s", lm->dir, places[i]);

        if (n > 0 && n < CLLM_FILE_PATH_BYTES && holds_tokenizer(out))
            return out;
    }
    if (snprintf(run, sizeof run, "%s/../..", lm->dir) < (int)sizeof run &&
        find_data_dir(out, run) && holds_tokenizer(out))
        return out;
    return lm->vocab <= BYTE_TOKENS ? CLLM_TOKENIZER_BYTES : NULL;
}

static int open_tokenizer(struct cllm_lm *lm, const char *given)
{
    char path[CLLM_FILE_PATH_BYTES];
    const char *from = given != NULL ? given : find_tokenizer(lm, path);
    int rc;

    if (from == NULL)
        return 0;
    rc = cllm_tokenizer_load(&lm->tokenizer, from);
    if (rc == 0)
        rc = cllm_encoder_new(&lm->encoder, lm->tokenizer);
    if (rc != 0)
        return rc;
    if (cllm_tokenizer_size(lm->tokenizer) <= lm->vocab ||
        cllm_tokenizer_kind(lm->tokenizer) == CLLM_TOKENIZER_KIND_BYTES)
        return 0;
    rc = cllm_err(CLLM_EDATA, "the tokenizer %s has %u tokens, the model %s knows %u",
                  from, cllm_tokenizer_size(lm->tokenizer), lm->dir, lm->vocab);
    cllm_err_hint("give the tokenizer that the model was trained with: --tokenizer=PATH");
    return rc;
}

/* ---- the model ---- */

static int read_weights(struct cllm_lm *lm, const struct cllm_checkpoint *checkpoint)
{
    int rc = cllm_parameters_init(&lm->plan, &lm->info.model);

    if (rc != 0)
        return rc;
    rc = cllm_arena_init(&lm->arena, lm->plan.n_elements * sizeof *lm->w);
    if (rc != 0)
        return rc;
    lm->w = cllm_arena_take(&lm->arena, lm->plan.n_elements * sizeof *lm->w);
    for (uint32_t t = 0; rc == 0 && t < lm->plan.n_tensors; t++) {
        const struct cllm_tensor *tensor = &lm->plan.tensors[t];

        rc = cllm_checkpoint_read(checkpoint, tensor->name, lm->w + tensor->off,
                                  tensor->count);
    }
    return rc;
}

int cllm_lm_open(struct cllm_lm *lm, const char *path, const char *tokenizer)
{
    struct cllm_checkpoint checkpoint;
    int rc;

    memset(lm, 0, sizeof *lm);
    rc = cllm_checkpoint_open(&checkpoint, path);
    if (rc != 0)
        return rc;
    lm->info = checkpoint.info;
    lm->vocab = checkpoint.info.model.vocab;
    lm->context = checkpoint.info.model.context;
    (void)snprintf(lm->dir, sizeof lm->dir, "%s", checkpoint.dir);
    rc = read_weights(lm, &checkpoint);
    cllm_checkpoint_close(&checkpoint);
    if (rc == 0)
        rc = open_tokenizer(lm, tokenizer);
    if (rc != 0)
        cllm_lm_close(lm);
    return rc;
}

void cllm_lm_close(struct cllm_lm *lm)
{
    cllm_encoder_free(&lm->encoder);
    cllm_tokenizer_free(&lm->tokenizer);
    cllm_arena_fini(&lm->arena);
    cllm_parameters_fini(&lm->plan);
}

/* ---- text ---- */

static int no_tokenizer(const struct cllm_lm *lm)
{
    int rc = cllm_err(CLLM_EDATA, "no tokenizer was found for %s, which has %u tokens",
                      lm->dir, lm->vocab);

    cllm_err_hint("--tokenizer=PATH names a directory with tokenizer.json, or with "
                  "vocab.json and merges.txt");
    return rc;
}

int cllm_lm_encode(const struct cllm_lm *lm, const char *text, size_t bytes,
                   uint32_t **tokens, uint32_t *n)
{
    size_t n_tokens = 0;
    int rc;

    if (lm->tokenizer == NULL)
        return no_tokenizer(lm);
    if (bytes > UINT32_MAX)
        return cllm_err(-EFBIG, "cannot encode %zu bytes at once", bytes);
    *tokens = malloc((bytes + 1) * sizeof **tokens);
    if (*tokens == NULL)
        return cllm_err(-ENOMEM, "cannot encode %zu bytes", bytes);
    rc = cllm_encoder_encode(lm->encoder, text, bytes, CLLM_ENCODE_PLAIN, *tokens,
                             &n_tokens);
    if (rc != 0)
        rc = cllm_err(rc, "cannot encode %zu bytes of text", bytes);
    for (size_t i = 0; rc == 0 && i < n_tokens; i++) {
        if ((*tokens)[i] < lm->vocab)
            continue;
        rc = cllm_err(CLLM_EDATA,
                      "cannot use the text: token %u of it is beyond the model's "
                      "vocabulary of %u",
                      (*tokens)[i], lm->vocab);
        cllm_err_hint("give the tokenizer that the model was trained with: "
                      "--tokenizer=PATH");
    }
    if (rc != 0) {
        free(*tokens);
        *tokens = NULL;
        return rc;
    }
    *n = (uint32_t)n_tokens;
    return 0;
}

size_t cllm_lm_token_bytes(const struct cllm_lm *lm, uint32_t token)
{
    size_t bytes = 0;

    if (lm->tokenizer == NULL || token >= cllm_tokenizer_size(lm->tokenizer) ||
        cllm_tokenizer_type(lm->tokenizer, token) == CLLM_TOKEN_CONTROL)
        return 0;
    (void)cllm_tokenizer_token(lm->tokenizer, token, &bytes);
    return bytes;
}

/* ---- running it ---- */

int cllm_lm_reader_init(struct cllm_lm_reader *reader, const struct cllm_lm *lm,
                        const struct cllm_ops *ops, enum cllm_lm_use use)
{
    const struct cllm_model_shape shape = {.B = 1, .T = lm->context};
    size_t row = lm->vocab * sizeof *reader->row;
    size_t need = use == CLLM_LM_WINDOWS ? cllm_model_arena_bytes(&lm->plan, &shape)
                                         : cllm_decoder_arena_bytes(&lm->plan);
    int rc;

    memset(reader, 0, sizeof *reader);
    reader->lm = lm;
    reader->ops = ops;
    rc = cllm_arena_init(&reader->arena, need + row + 2 * CLLM_CACHELINE);
    if (rc != 0)
        return rc;
    reader->row = cllm_arena_take(&reader->arena, row);
    if (use == CLLM_LM_WINDOWS)
        rc = cllm_model_init(&reader->model, &lm->plan, ops, &shape, &reader->arena);
    else
        cllm_decoder_init(&reader->decoder, &lm->plan, ops, &reader->arena);
    if (rc != 0)
        cllm_lm_reader_fini(reader);
    return rc;
}

void cllm_lm_reader_fini(struct cllm_lm_reader *reader)
{
    cllm_arena_fini(&reader->arena);
}

double cllm_lm_loss(struct cllm_lm_reader *reader, const uint32_t *tokens)
{
    return cllm_model_loss(&reader->model, reader->lm->w, tokens);
}

uint32_t cllm_lm_position(const struct cllm_lm_reader *reader)
{
    return reader->decoder.position;
}

void cllm_lm_rewind(struct cllm_lm_reader *reader, uint32_t position)
{
    cllm_decoder_rewind(&reader->decoder, position);
}

double cllm_lm_token_loss(struct cllm_lm_reader *reader, const float *logits,
                          uint32_t token)
{
    memcpy(reader->row, logits, reader->lm->vocab * sizeof *logits);
    return reader->ops->cross_entropy(reader->row, &token, 1, reader->lm->vocab, false);
}

const float *cllm_lm_feed(struct cllm_lm_reader *reader, const uint32_t *tokens,
                          uint32_t n, double *losses)
{
    return cllm_decoder_feed(&reader->decoder, reader->lm->w, tokens, n, losses);
}
