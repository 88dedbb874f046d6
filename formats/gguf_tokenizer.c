/*
 * formats/gguf_tokenizer.c - tokens, types, merges, scores.
 */
#include "formats/gguf_tokenizer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "formats/file.h"
#include "formats/json.h"

#define TOKENS "tokenizer.ggml.tokens"
#define TYPES  "tokenizer.ggml.token_type"
#define MERGES "tokenizer.ggml.merges"

/* Types of SentencePiece's tokens beside those of enum cllm_token_type. */
#define TYPE_UNKNOWN 2
#define TYPE_BYTE    6

/* ---- byte-level BPE ---- */

/* llama.cpp's name for a pattern; NULL: it has none. */
static const char *pattern_name(const struct cllm_tokenizer *tokenizer)
{
    static const char *const known[][2] = {{"gpt2", "gpt-2"},
                                           {"none", "gpt-2"},
                                           {"cl100k", "llama-bpe"},
                                           {"o200k", "gpt-4o"}};
    const char *name = cllm_tokenizer_pattern_name(tokenizer);

    for (size_t i = 0; i < CLLM_LEN(known); i++)
        if (strcmp(known[i][0], name) == 0)
            return known[i][1];
    return NULL;
}

static int put_tokens(struct cllm_gguf_writer *writer,
                      const struct cllm_tokenizer *tokenizer, uint32_t vocab)
{
    uint32_t n = cllm_tokenizer_size(tokenizer);
    int32_t *types = malloc(vocab * sizeof *types);
    char unused[32];

    if (types == NULL)
        return cllm_err(-ENOMEM, "cannot write the vocabulary");
    cllm_gguf_put_texts(writer, TOKENS, vocab);
    for (uint32_t id = 0; id < vocab; id++) {
        char *text = id < n ? cllm_tokenizer_spell(tokenizer, id) : NULL;

        types[id] =
            id < n ? (int32_t)cllm_tokenizer_type(tokenizer, id) : CLLM_TOKEN_UNUSED;
        if (id < n && text == NULL) {
            free(types);
            return cllm_err(-ENOMEM, "cannot write the vocabulary");
        }
        (void)snprintf(unused, sizeof unused, "[unused%u]", id);
        cllm_gguf_put_item(writer, text != NULL ? text : unused,
                           strlen(text != NULL ? text : unused));
        free(text);
    }
    cllm_gguf_put_i32s(writer, TYPES, types, vocab);
    free(types);
    return 0;
}

static int put_merges(struct cllm_gguf_writer *writer,
                      const struct cllm_tokenizer *tokenizer)
{
    uint32_t n = cllm_tokenizer_merges(tokenizer);
    char merge[4 * CLLM_TOKEN_MAX_BYTES + 2];

    cllm_gguf_put_texts(writer, MERGES, n);
    for (uint32_t rank = 0; rank < n; rank++) {
        uint32_t left, right;
        char *a, *b;
        int bytes = -1;

        cllm_tokenizer_merge(tokenizer, rank, &left, &right);
        a = cllm_tokenizer_spell(tokenizer, left);
        b = cllm_tokenizer_spell(tokenizer, right);
        if (a != NULL && b != NULL)
            bytes = snprintf(merge, sizeof merge, "%s %s", a, b);
        free(a);
        free(b);
        if (bytes < 0)
            return cllm_err(-ENOMEM, "cannot write the vocabulary");
        CLLM_ASSERT((size_t)bytes < sizeof merge);
        cllm_gguf_put_item(writer, merge, (size_t)bytes);
    }
    return 0;
}

int cllm_gguf_put_tokenizer(struct cllm_gguf_writer *writer,
                            const struct cllm_tokenizer *tokenizer, uint32_t vocab)
{
    const char *pattern = pattern_name(tokenizer);
    uint32_t end = cllm_tokenizer_eot(tokenizer);
    int rc;

    if (cllm_tokenizer_size(tokenizer) > vocab) {
        rc = cllm_err(CLLM_EREFUSED, "the tokenizer has %u tokens, the model %u",
                      cllm_tokenizer_size(tokenizer), vocab);
        cllm_err_hint("--tokenizer names the one that the model was trained with");
        return rc;
    }
    if (pattern == NULL)
        return cllm_err(CLLM_EREFUSED,
                        "the tokenizer splits text by a pattern (%s) that GGUF files "
                        "cannot name",
                        cllm_tokenizer_pattern_name(tokenizer));
    cllm_gguf_put_text(writer, "tokenizer.ggml.model", "gpt2");
    cllm_gguf_put_text(writer, "tokenizer.ggml.pre", pattern);
    rc = put_tokens(writer, tokenizer, vocab);
    if (rc == 0)
        rc = put_merges(writer, tokenizer);
    if (rc != 0)
        return rc;
    if (end != CLLM_TOKEN_NONE) {
        cllm_gguf_put_u32(writer, "tokenizer.ggml.bos_token_id", end);
        cllm_gguf_put_u32(writer, "tokenizer.ggml.eos_token_id", end);
    }
    cllm_gguf_put_bool(writer, "tokenizer.ggml.add_bos_token", false);
    cllm_gguf_put_bool(writer, "tokenizer.ggml.add_eos_token", false);
    return 0;
}

/* ---- SentencePiece ---- */

/* The token's text as the file has it: spaces are U+2581. */
static void put_piece(struct cllm_gguf_writer *writer, const struct cllm_spm *spm,
                      uint32_t id)
{
    static const char *const special[] = {"<unk>", "<s>", "</s>"};
    static const char space[] = {'\xe2', '\x96', '\x81'};
    const struct cllm_spm_token *token = &spm->token[id];
    char text[3 * 1024 + 1];
    size_t n = 0;

    if (id < CLLM_LEN(special)) {
        cllm_gguf_put_item(writer, special[id], strlen(special[id]));
        return;
    }
    for (uint32_t i = 0; i < token->bytes; i++) {
        if (token->text[i] == ' ') {
            memcpy(text + n, space, sizeof space);
            n += sizeof space;
        } else {
            text[n++] = token->text[i];
        }
    }
    cllm_gguf_put_item(writer, text, n);
}

int cllm_gguf_put_spm(struct cllm_gguf_writer *writer, const struct cllm_spm *spm)
{
    uint32_t n = spm->n_tokens;
    float *scores = malloc(n * sizeof *scores);
    int32_t *types = malloc(n * sizeof *types);

    if (scores != NULL && types != NULL) {
        cllm_gguf_put_text(writer, "tokenizer.ggml.model", "llama");
        cllm_gguf_put_text(writer, "tokenizer.ggml.pre", "default");
        cllm_gguf_put_texts(writer, TOKENS, n);
        for (uint32_t id = 0; id < n; id++) {
            put_piece(writer, spm, id);
            scores[id] = spm->token[id].score;
            types[id] = id == 0                          ? TYPE_UNKNOWN
                        : id < CLLM_SPM_FIRST_BYTE       ? CLLM_TOKEN_CONTROL
                        : id < CLLM_SPM_FIRST_BYTE + 256 ? TYPE_BYTE
                                                         : CLLM_TOKEN_NORMAL;
        }
        cllm_gguf_put_f32s(writer, "tokenizer.ggml.scores", scores, n);
        cllm_gguf_put_i32s(writer, TYPES, types, n);
        cllm_gguf_put_u32(writer, "tokenizer.ggml.bos_token_id", CLLM_SPM_BOS);
        cllm_gguf_put_u32(writer, "tokenizer.ggml.eos_token_id", CLLM_SPM_EOS);
        cllm_gguf_put_u32(writer, "tokenizer.ggml.unknown_token_id", 0);
        cllm_gguf_put_bool(writer, "tokenizer.ggml.add_bos_token", true);
        cllm_gguf_put_bool(writer, "tokenizer.ggml.add_eos_token", false);
    }
    bool ok = scores != NULL && types != NULL;
    free(scores);
    free(types);
    return ok ? 0 : cllm_err(-ENOMEM, "cannot write the vocabulary");
}

/* ---- out of a file ---- */

/* vocab.json: token and number; what is marked unused is left out. */
static int save_vocab(const struct cllm_gguf *gguf, const char *path)
{
    const struct cllm_gguf_value *tokens, *types;
    json_t *vocab = json_object();
    const uint8_t *at;
    size_t bytes = 0;
    char *text;
    int rc = cllm_gguf_get_array(gguf, TOKENS, CLLM_GGUF_TEXT, &tokens);

    if (cllm_gguf_get_array(gguf, TYPES, CLLM_GGUF_I32, &types) != 0)
        types = NULL;
    at = rc == 0 ? tokens->data : NULL;
    for (uint64_t id = 0; rc == 0 && id < tokens->n; id++) {
        int32_t type = CLLM_TOKEN_NORMAL;
        uint64_t n;
        const char *token = cllm_gguf_next_text(&at, &n);

        if (types != NULL && id < types->n)
            memcpy(&type, types->data + id * sizeof type, sizeof type);
        if (type != CLLM_TOKEN_UNUSED &&
            json_object_setn_new(vocab, token, (size_t)n, json_integer((json_int_t)id)) !=
                0)
            rc = cllm_err(CLLM_EDATA, "%s: token %" PRIu64 " is no UTF-8 text",
                          gguf->path, id);
    }
    text = rc == 0 ? json_dumps(vocab, JSON_COMPACT) : NULL;
    if (rc == 0 && text == NULL)
        rc = cllm_err(-ENOMEM, "cannot write %s", path);
    if (rc == 0) {
        bytes = strlen(text);
        rc = cllm_file_replace(path, text, bytes);
    }
    free(text);
    json_decref(vocab);
    return rc;
}

static int save_merges(const struct cllm_gguf *gguf, const char *path)
{
    const struct cllm_gguf_value *merges;
    int rc = cllm_gguf_get_array(gguf, MERGES, CLLM_GGUF_TEXT, &merges);
    const uint8_t *at;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out;

    if (rc != 0)
        return rc;
    out = open_memstream(&text, &bytes);
    if (out == NULL)
        return cllm_err(-errno, "cannot write %s", path);
    (void)fputs("#version: 0.2\n", out);
    at = merges->data;
    for (uint64_t i = 0; i < merges->n; i++) {
        uint64_t n;
        const char *merge = cllm_gguf_next_text(&at, &n);
        (void)fwrite(merge, 1, (size_t)n, out);
        (void)fputc('\n', out);
    }
    rc = fclose(out) == 0 ? cllm_file_replace(path, text, bytes)
                          : cllm_err(-ENOMEM, "cannot write %s", path);
    free(text);
    return rc;
}

int cllm_gguf_save_tokenizer(const struct cllm_gguf *gguf, const char *dir)
{
    char path[CLLM_FILE_PATH_BYTES];
    const char *model = NULL;
    uint64_t bytes = 0;
    int rc;

    if (cllm_gguf_get_text(gguf, "tokenizer.ggml.model", &model, &bytes) != 0 ||
        bytes != 4 || memcmp(model, "gpt2", 4) != 0)
        return 1;
    rc = cllm_file_join(path, dir, CLLM_TOKENIZER_VOCAB);
    if (rc == 0)
        rc = save_vocab(gguf, path);
    if (rc == 0)
        rc = cllm_file_join(path, dir, CLLM_TOKENIZER_MERGES);
    return rc == 0 ? save_merges(gguf, path) : rc;
}
