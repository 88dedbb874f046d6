/*
 * formats/tokenizer.c - a tokenizer's parts put together, found again and asked.
 */
#include "formats/tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "formats/alphabet.h"
#include "formats/pieces.h"
#include "formats/tokenizer_parts.h"

static const char *const kind_names[CLLM_N_TOKENIZER_KINDS] = {
    [CLLM_TOKENIZER_KIND_BYTES] = "bytes",
    [CLLM_TOKENIZER_KIND_BPE] = "bpe",
};

/* ---- making one ---- */

int cllm_tokenizer_new(struct cllm_tokenizer **out, enum cllm_tokenizer_kind kind)
{
    struct cllm_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);

    if (tokenizer == NULL)
        return cllm_err(-ENOMEM, "cannot hold the tokenizer");
    tokenizer->kind = kind;
    tokenizer->eot = CLLM_TOKEN_NONE;
    cllm_vocab_init(&tokenizer->vocab);
    *out = tokenizer;
    return 0;
}

void cllm_tokenizer_free(struct cllm_tokenizer **tokenizer)
{
    if (*tokenizer == NULL)
        return;
    cllm_vocab_fini(&(*tokenizer)->vocab);
    cllm_pattern_free(&(*tokenizer)->pattern);
    free(*tokenizer);
    *tokenizer = NULL;
}

int cllm_tokenizer_set_pattern(struct cllm_tokenizer *tokenizer,
                               enum cllm_pattern_kind kind)
{
    const char *expression = cllm_pattern_expression(kind);

    CLLM_ASSERT(expression != NULL && tokenizer->pattern == NULL);
    return cllm_pattern_new(&tokenizer->pattern, expression, cllm_pattern_name(kind));
}

static void add_u32(struct cllm_sha256 *sha, uint32_t value)
{
    uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
                        (uint8_t)(value >> 24)};

    cllm_sha256_add(sha, bytes, sizeof bytes);
}

/* docs/formats.md has what is hashed. */
static int compute_hash(struct cllm_tokenizer *tokenizer)
{
    const struct cllm_vocab *vocab = &tokenizer->vocab;
    const char *pattern =
        tokenizer->pattern != NULL ? cllm_pattern_text(tokenizer->pattern) : "";
    const char *kind = kind_names[tokenizer->kind];
    struct cllm_sha256 sha = {0};
    uint8_t digest[CLLM_SHA256_BYTES];
    int rc = cllm_sha256_begin(&sha);

    if (rc < 0)
        return rc;
    cllm_sha256_add(&sha, kind, strlen(kind) + 1);
    cllm_sha256_add(&sha, pattern, strlen(pattern) + 1);
    add_u32(&sha, vocab->by_rank);
    add_u32(&sha, vocab->whole_first);
    add_u32(&sha, vocab->n_tokens);
    for (uint32_t id = 0; id < vocab->n_tokens; id++) {
        add_u32(&sha, vocab->token[id].type);
        add_u32(&sha, vocab->token[id].bytes);
        cllm_sha256_add(&sha, cllm_vocab_bytes(vocab, id), vocab->token[id].bytes);
    }
    add_u32(&sha, vocab->n_merges);
    for (uint32_t i = 0; i < vocab->n_merges; i++) {
        add_u32(&sha, vocab->merge[i].left);
        add_u32(&sha, vocab->merge[i].right);
        add_u32(&sha, vocab->merge[i].id);
    }
    cllm_sha256_end(&sha, digest);
    cllm_sha256_fini(&sha);
    cllm_sha256_hex(tokenizer->hash, digest);
    return 0;
}

/* Whether no added token joins ASCII white space and other characters: text may then be
 * cut between them. */
static bool parts_at_cuts(const struct cllm_vocab *vocab)
{
    for (uint32_t i = 0; i < vocab->n_added; i++) {
        const struct cllm_vocab_token *token = &vocab->token[vocab->added[i]];
        const uint8_t *bytes = cllm_vocab_bytes(vocab, vocab->added[i]);
        size_t n_spaces = 0;

        if (token->type != CLLM_TOKEN_USER)
            continue;
        for (size_t k = 0; k < token->bytes; k++)
            n_spaces += bytes[k] == ' ' || (bytes[k] >= 9 && bytes[k] <= 13);
        if (n_spaces > 0 && n_spaces < token->bytes)
            return false;
    }
    return true;
}

int cllm_tokenizer_finish(struct cllm_tokenizer *tokenizer, const char *name)
{
    static const char *const eots[] = {CLLM_TOKENIZER_EOT, "<|end_of_text|>", "</s>",
                                       "<|im_end|>"};
    int rc = cllm_vocab_finish(&tokenizer->vocab, name);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < CLLM_LEN(eots) && tokenizer->eot == CLLM_TOKEN_NONE; i++)
        tokenizer->eot = cllm_tokenizer_special(tokenizer, eots[i]);
    tokenizer->parts_at_cuts = parts_at_cuts(&tokenizer->vocab);
    return compute_hash(tokenizer);
}

/* ---- asking ---- */

enum cllm_tokenizer_kind cllm_tokenizer_kind(const struct cllm_tokenizer *tokenizer)
{
    return tokenizer->kind;
}

const char *cllm_tokenizer_kind_name(const struct cllm_tokenizer *tokenizer)
{
    return kind_names[tokenizer->kind];
}

static enum cllm_pattern_kind pattern_kind(const struct cllm_tokenizer *tokenizer)
{
    return tokenizer->pattern != NULL ? cllm_pattern_kind(tokenizer->pattern)
                                      : CLLM_PATTERN_NONE;
}

const char *cllm_tokenizer_pattern_name(const struct cllm_tokenizer *tokenizer)
{
    return cllm_pattern_name(pattern_kind(tokenizer));
}

const char *cllm_tokenizer_hash(const struct cllm_tokenizer *tokenizer)
{
    return tokenizer->hash;
}

uint32_t cllm_tokenizer_size(const struct cllm_tokenizer *tokenizer)
{
    return tokenizer->vocab.n_tokens;
}

const uint8_t *cllm_tokenizer_token(const struct cllm_tokenizer *tokenizer, uint32_t id,
                                    size_t *bytes)
{
    CLLM_ASSERT(id < tokenizer->vocab.n_tokens);
    *bytes = tokenizer->vocab.token[id].bytes;
    return cllm_vocab_bytes(&tokenizer->vocab, id);
}

enum cllm_token_type cllm_tokenizer_type(const struct cllm_tokenizer *tokenizer,
                                         uint32_t id)
{
    CLLM_ASSERT(id < tokenizer->vocab.n_tokens);
    uint16_t type = tokenizer->vocab.token[id].type;
    return type != 0 ? (enum cllm_token_type)type : CLLM_TOKEN_UNUSED;
}

uint32_t cllm_tokenizer_find(const struct cllm_tokenizer *tokenizer, const void *token,
                             size_t bytes)
{
    return cllm_vocab_find(&tokenizer->vocab, token, bytes);
}

uint32_t cllm_tokenizer_special(const struct cllm_tokenizer *tokenizer, const char *name)
{
    const struct cllm_vocab *vocab = &tokenizer->vocab;
    size_t bytes = strlen(name);

    for (uint32_t i = 0; i < vocab->n_added; i++) {
        uint32_t id = vocab->added[i];
        if (vocab->token[id].bytes == bytes &&
            memcmp(cllm_vocab_bytes(vocab, id), name, bytes) == 0)
            return id;
    }
    return CLLM_TOKEN_NONE;
}

uint32_t cllm_tokenizer_eot(const struct cllm_tokenizer *tokenizer)
{
    return tokenizer->eot;
}

char *cllm_tokenizer_spell(const struct cllm_tokenizer *tokenizer, uint32_t id)
{
    CLLM_ASSERT(id < tokenizer->vocab.n_tokens);
    const struct cllm_vocab_token *token = &tokenizer->vocab.token[id];
    const uint8_t *bytes = cllm_vocab_bytes(&tokenizer->vocab, id);
    char *text = NULL;

    if (token->type == 0)
        return asprintf(&text, "[unused%u]", id) < 0 ? NULL : text;
    if (token->type != CLLM_TOKEN_NORMAL)
        return strndup((const char *)bytes, token->bytes);
    text = malloc(2 * (size_t)token->bytes + 1);
    if (text != NULL)
        (void)cllm_alphabet_spell(bytes, token->bytes, text);
    return text;
}

uint32_t cllm_tokenizer_merges(const struct cllm_tokenizer *tokenizer)
{
    return tokenizer->vocab.n_merges;
}

void cllm_tokenizer_merge(const struct cllm_tokenizer *tokenizer, uint32_t rank,
                          uint32_t *left, uint32_t *right)
{
    CLLM_ASSERT(rank < tokenizer->vocab.n_merges);
    *left = tokenizer->vocab.merge[rank].left;
    *right = tokenizer->vocab.merge[rank].right;
}

size_t cllm_tokenizer_cut(const struct cllm_tokenizer *tokenizer, const void *text,
                          size_t bytes)
{
    if (!tokenizer->parts_at_cuts)
        return 0;
    return cllm_pieces_cut(pattern_kind(tokenizer), text, bytes);
}
