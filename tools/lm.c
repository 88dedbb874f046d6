/*
 * tools/lm.c - weights into memory, a tokenizer from where it may lie, losses and logits.
 */
#include "tools/lm.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/err.h"
#include "base/hash.h"
#include "compute/ops.h"
#include "formats/source.h"
#include "formats/tokenizer_files.h"

#define BYTE_TOKENS 256

/* ---- the vocabulary ---- */

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

/* Where the vocabulary of the checkpoint @source lies, if not within it; or NULL. */
static const char *find_tokenizer(const struct cllm_source *source,
                                  char out[CLLM_FILE_PATH_BYTES])
{
    static const char *const places[] = {"", "/../..", ("/../../" CLLM_TOKENIZER_DIR)};
    char run[CLLM_FILE_PATH_BYTES];

    if (source->kind != CLLM_SOURCE_CHECKPOINT)
        return NULL;
    for (size_t i = 0; i < CLLM_LEN(places); i++) {
        int n = snprintf(out, CLLM_FILE_PATH_BYTES, "%s%s", source->path, places[i]);

        if (n > 0 && n < CLLM_FILE_PATH_BYTES && cllm_tokenizer_is_in(out))
            return out;
    }
    if (snprintf(run, sizeof run, "%s/../..", source->path) < (int)sizeof run &&
        find_data_dir(out, run) && cllm_tokenizer_is_in(out))
        return out;
    return source->parameters.config.vocab <= BYTE_TOKENS ? CLLM_TOKENIZER_BYTES : NULL;
}

static int open_tokenizer(struct cllm_lm *lm, const struct cllm_source *source,
                          const char *given)
{
    char path[CLLM_FILE_PATH_BYTES];
    const char *from = given != NULL ? given : find_tokenizer(source, path);
    int rc;

    /* A byte is a token of a model of bytes, also where it was trained on fewer. */
    if (from != NULL && strcmp(from, CLLM_TOKENIZER_BYTES) == 0)
        rc = cllm_tokenizer_load(&lm->found.tokenizer, from);
    else
        rc = cllm_convert_tokenizer_find(&lm->found, source, from);
    lm->tokenizer = lm->found.tokenizer;
    if (rc == 0 && lm->tokenizer != NULL)
        rc = cllm_encoder_new(&lm->encoder, lm->tokenizer);
    return rc == CLLM_EREFUSED ? CLLM_EDATA : rc;
}

/* ---- the model ---- */

static int read_weights(struct cllm_lm *lm, const struct cllm_source *source)
{
    uint64_t room_bytes = cllm_source_room(source) * sizeof *lm->w;
    const struct cllm_parameters *plan = &source->parameters;
    float *room;
    int rc = cllm_arena_init(&lm->arena, plan->n_elements * sizeof *lm->w);

    if (rc != 0)
        return rc;
    lm->w = cllm_arena_take(&lm->arena, plan->n_elements * sizeof *lm->w);
    room = malloc(room_bytes);
    if (room == NULL)
        return cllm_err(-ENOMEM, "cannot read %s", source->path);
    for (uint32_t t = 0; rc == 0 && t < plan->n_tensors; t++)
        rc = cllm_source_read(source, t, lm->w + plan->tensors[t].off, room);
    free(room);
    (void)snprintf(lm->weights, sizeof lm->weights, "%016" PRIx64,
                   cllm_hash(lm->w, plan->n_elements * sizeof *lm->w, 0));
    return rc;
}

int cllm_lm_open(struct cllm_lm *lm, const char *path, const char *tokenizer)
{
    struct cllm_source source;
    int rc;

    memset(lm, 0, sizeof *lm);
    rc = cllm_source_open(&source, path);
    if (rc != 0)
        return rc;
    (void)snprintf(lm->dir, sizeof lm->dir, "%s", source.path);
    lm->step = source.step;
    lm->vocab = source.parameters.config.vocab;
    lm->context = source.parameters.config.context;
    rc = read_weights(lm, &source);
    if (rc == 0)
        rc = open_tokenizer(lm, &source, tokenizer);
    lm->plan = source.parameters;
    source.parameters = (struct cllm_parameters){.tensors = NULL};
    cllm_source_close(&source);
    if (rc != 0)
        cllm_lm_close(lm);
    return rc;
}

void cllm_lm_close(struct cllm_lm *lm)
{
    cllm_encoder_free(&lm->encoder);
    cllm_convert_tokenizer_fini(&lm->found);
    lm->tokenizer = NULL;
    cllm_arena_fini(&lm->arena);
    cllm_parameters_fini(&lm->plan);
}

/* ---- text ---- */

bool cllm_lm_speaks(const struct cllm_lm *lm)
{
    return lm->tokenizer != NULL || lm->found.spm.n_tokens > 0;
}

uint32_t cllm_lm_known(const struct cllm_lm *lm)
{
    uint32_t n = lm->tokenizer != NULL ? cllm_tokenizer_size(lm->tokenizer)
                                       : lm->found.spm.n_tokens;

    return n == 0 || n > lm->vocab ? lm->vocab : n;
}

bool cllm_lm_ends(const struct cllm_lm *lm, uint32_t token)
{
    if (lm->tokenizer != NULL)
        return token == cllm_tokenizer_eot(lm->tokenizer);
    return lm->found.spm.n_tokens > 0 && (token == CLLM_SPM_BOS || token == CLLM_SPM_EOS);
}

uint32_t cllm_lm_begin(const struct cllm_lm *lm)
{
    uint32_t token = CLLM_TOKEN_NONE;

    if (lm->tokenizer != NULL)
        token = cllm_tokenizer_eot(lm->tokenizer);
    else if (lm->found.spm.n_tokens > 0)
        token = CLLM_SPM_BOS;
    return token < lm->vocab ? token : CLLM_TOKEN_NONE;
}

/* SentencePiece's token: a byte, or a piece, which loses its space at the beginning. */
static const char *piece_text(const struct cllm_spm *spm, uint32_t before, uint32_t token,
                              char room[1], size_t *bytes)
{
    const char *text = spm->token[token].text;

    *bytes = spm->token[token].bytes;
    if (token < CLLM_SPM_FIRST_BYTE) {
        *bytes = 0;
    } else if (token < CLLM_SPM_FIRST_BYTE + BYTE_TOKENS) {
        room[0] = (char)(unsigned char)(token - CLLM_SPM_FIRST_BYTE);
        *bytes = 1;
        return room;
    } else if (before == CLLM_SPM_BOS && *bytes > 0 && text[0] == ' ') {
        (*bytes)--;
        text++;
    }
    return text;
}

const char *cllm_lm_text(const struct cllm_lm *lm, uint32_t before, uint32_t token,
                         char room[1], size_t *bytes)
{
    if (lm->tokenizer == NULL)
        return piece_text(&lm->found.spm, before, token, room, bytes);
    return (const char *)cllm_tokenizer_token(lm->tokenizer, token, bytes);
}

static int no_tokenizer(const struct cllm_lm *lm)
{
    int rc;

    if (lm->found.spm.n_tokens > 0)
        rc = cllm_err(CLLM_EDATA,
                      "cannot make tokens of text with the SentencePiece vocabulary %s",
                      lm->found.path);
    else
        rc = cllm_err(CLLM_EDATA, "no tokenizer was found for %s, which has %u tokens",
                      lm->dir, lm->vocab);
    cllm_err_hint("--tokenizer=PATH names a directory with tokenizer.json, or with "
                  "vocab.json and merges.txt; --prompt-ids needs none");
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
    char room[1];

    if (!cllm_lm_speaks(lm) || token >= cllm_lm_known(lm) ||
        (lm->tokenizer != NULL &&
         cllm_tokenizer_type(lm->tokenizer, token) == CLLM_TOKEN_CONTROL))
        return 0;
    (void)cllm_lm_text(lm, CLLM_TOKEN_NONE, token, room, &bytes);
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
    double loss;

    memcpy(reader->row, logits, reader->lm->vocab * sizeof *logits);
    reader->ops->cross_entropy(&loss, reader->row, &token, 1, reader->lm->vocab, false);
    return loss;
}

const float *cllm_lm_feed(struct cllm_lm_reader *reader, const uint32_t *tokens,
                          uint32_t n, double *losses)
{
    return cllm_decoder_feed(&reader->decoder, reader->lm->w, tokens, n, losses);
}
