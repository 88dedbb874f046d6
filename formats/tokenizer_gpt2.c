/*
 * formats/tokenizer_gpt2.c - vocab.json and merges.txt, together or the merges alone.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "formats/alphabet.h"
#include "formats/tokenizer_parts.h"

#define SPELL_BYTES (2 * CLLM_TOKEN_MAX_BYTES + 1) /* a token as files spell it */
#define SHOWN       60                             /* bytes of a text in a message */

/* ---- the vocabulary ---- */

static int bad_token(const char *where, const char *key, const char *expected,
                     const char *found)
{
    return cllm_err(CLLM_EDATA, "%s: \"%.60s\": expected %s, found %s", where, key,
                    expected, found);
}

/* The id that @json gives token @key; at most @last. */
static int read_id(const json_t *json, const char *where, const char *key, uint32_t last,
                   uint32_t *id)
{
    char expected[64], found[32];

    if (!json_is_integer(json))
        return bad_token(where, key, "a token's id", cllm_json_type(json));
    json_int_t value = json_integer_value(json);
    if (value >= 0 && value <= last) {
        *id = (uint32_t)value;
        return 0;
    }
    (void)snprintf(expected, sizeof expected, "an id from 0 to %u", last);
    (void)snprintf(found, sizeof found, "%lld", (long long)value);
    return bad_token(where, key, expected, found);
}

/* One member of the vocabulary. */
static int read_token(struct cllm_vocab *vocab, const char *key, uint32_t id,
                      const char *where)
{
    uint8_t bytes[SPELL_BYTES];
    size_t len = strlen(key);
    size_t n = 0;

    if (len == 0 || len >= SPELL_BYTES)
        return bad_token(where, key, "1 to 1024 bytes", len == 0 ? "none" : "more");
    if (!cllm_alphabet_read(key, len, bytes, &n)) {
        int rc = bad_token(where, key, "a token in GPT-2's alphabet of bytes",
                           "a character that is not in it");
        cllm_err_hint("byte-level vocabularies alone are read (GPT-2's kind)");
        return rc;
    }
    if (n > CLLM_TOKEN_MAX_BYTES)
        return bad_token(where, key, "1 to 1024 bytes", "more");
    int rc = cllm_vocab_put(vocab, id, bytes, n, CLLM_TOKEN_NORMAL);
    if (rc != -EEXIST)
        return rc;
    return cllm_err(CLLM_EDATA,
                    "%s: \"%.60s\": expected an id of its own, found %u again", where,
                    key, id);
}

int cllm_tokenizer_read_vocab(struct cllm_tokenizer *tokenizer, json_t *vocab,
                              const json_t *added, const char *where)
{
    /* Ids may have holes; one far beyond the number of tokens is a mistake. */
    uint64_t most = 2 * (uint64_t)json_object_size(vocab) + 4096;
    uint32_t last = (uint32_t)cllm_min_u64(most, CLLM_TOKENIZER_MAX) - 1;
    const char *key;
    json_t *value;

    json_object_foreach(vocab, key, value)
    {
        const json_t *known = added != NULL ? json_object_get(added, key) : NULL;
        uint8_t byte[4];
        size_t n = 0;
        uint32_t id = 0;
        int rc = read_id(value, where, key, last, &id);

        if (rc == 0 && known == NULL)
            rc = read_token(&tokenizer->vocab, key, id, where);
        else if (rc == 0 && json_integer_value(known) != (json_int_t)id)
            rc = cllm_err(CLLM_EDATA,
                          "%s: \"%.60s\": expected the id of the added token, %lld, "
                          "found %u",
                          where, key, (long long)json_integer_value(known), id);
        if (rc < 0)
            return rc;
        if (strlen(key) <= 2 && cllm_alphabet_read(key, strlen(key), byte, &n) && n == 1)
            tokenizer->vocab.byte_id[byte[0]] = id;
    }
    return 0;
}

int cllm_tokenizer_read_merge(struct cllm_tokenizer *tokenizer, const json_t *vocab,
                              const char *left, const char *right, const char *where)
{
    char joined[2 * SPELL_BYTES];
    const char *const spelled[3] = {left, right, joined};
    uint32_t id[3];

    if (strlen(left) >= SPELL_BYTES || strlen(right) >= SPELL_BYTES)
        return cllm_err(CLLM_EDATA, "%s: expected tokens of at most %d bytes", where,
                        CLLM_TOKEN_MAX_BYTES);
    (void)snprintf(joined, sizeof joined, "%s%s", left, right);
    for (int i = 0; i < 3; i++) {
        const json_t *json = json_object_get(vocab, spelled[i]);

        if (json == NULL)
            return cllm_err(CLLM_EDATA,
                            "%s: expected %s of the vocabulary, found \"%.60s\"", where,
                            i < 2 ? "tokens" : "the merge of two tokens", spelled[i]);
        id[i] = (uint32_t)json_integer_value(json);
    }
    int rc = cllm_vocab_add_merge(&tokenizer->vocab, id[0], id[1], id[2]);
    if (rc != -EEXIST)
        return rc;
    return cllm_err(CLLM_EDATA,
                    "%s: expected each merge once, found \"%.60s\" and \"%.60s\" again",
                    where, left, right);
}

/* ---- merges.txt ---- */

struct lines {
    const char *at, *end;
    const char *name;
    unsigned number;
    char where[CLLM_TOKENIZER_WHERE_BYTES]; /* "merges.txt:17" */
    char left[SPELL_BYTES], right[SPELL_BYTES];
};

static void lines_init(struct lines *lines, const char *text, size_t bytes,
                       const char *name)
{
    *lines = (struct lines){.at = text, .end = text + bytes, .name = name};
}

/* The next merge into left and right. Returns 1, 0 at the end, or CLLM_EDATA with
 * text. */
static int next_merge(struct lines *lines)
{
    static const char version[] = "#version";

    if (lines->number == 0 && (size_t)(lines->end - lines->at) >= sizeof version - 1 &&
        memcmp(lines->at, version, sizeof version - 1) == 0) {
        const char *feed = memchr(lines->at, '\n', (size_t)(lines->end - lines->at));
        lines->at = feed != NULL ? feed + 1 : lines->end;
        lines->number++;
    }
    if (lines->at == lines->end)
        return 0;
    const char *line = lines->at;
    const char *feed = memchr(line, '\n', (size_t)(lines->end - line));
    size_t len = (size_t)((feed != NULL ? feed : lines->end) - line);
    lines->at = feed != NULL ? feed + 1 : lines->end;
    lines->number++;
    (void)snprintf(lines->where, sizeof lines->where, "%s:%u", lines->name,
                   lines->number);
    if (len > 0 && line[len - 1] == '\r')
        len--;
    const char *space = memchr(line, ' ', len);
    size_t n_left = space != NULL ? (size_t)(space - line) : 0;
    size_t n_right = space != NULL ? len - n_left - 1 : 0;
    if (n_left == 0 || n_right == 0 || n_left >= SPELL_BYTES || n_right >= SPELL_BYTES ||
        memchr(space + 1, ' ', n_right) != NULL || memchr(line, '\0', len) != NULL)
        return cllm_err(CLLM_EDATA,
                        "%s: expected two tokens with a space between, found \"%.*s\"",
                        lines->where, (int)cllm_min_u64(len, SHOWN), line);
    memcpy(lines->left, line, n_left);
    lines->left[n_left] = '\0';
    memcpy(lines->right, space + 1, n_right);
    lines->right[n_right] = '\0';
    return 1;
}

/* Without a list of special tokens: what no merge makes and looks like "<...>". */
static void find_special(struct cllm_vocab *vocab)
{
    for (uint32_t id = 0; id < vocab->n_tokens; id++) {
        struct cllm_vocab_token *token = &vocab->token[id];
        const uint8_t *bytes = cllm_vocab_bytes(vocab, id);

        if (token->bytes > 2 && bytes[0] == '<' && bytes[token->bytes - 1] == '>')
            token->type = CLLM_TOKEN_CONTROL;
    }
    for (uint32_t i = 0; i < vocab->n_merges; i++)
        vocab->token[vocab->merge[i].id].type = CLLM_TOKEN_NORMAL;
}

int cllm_tokenizer_from_vocab(struct cllm_tokenizer *tokenizer, json_t *vocab,
                              const char *vocab_name, const char *merges, size_t bytes,
                              const char *merges_name)
{
    struct lines lines;
    int more;
    int rc = cllm_tokenizer_read_vocab(tokenizer, vocab, NULL, vocab_name);

    if (rc < 0)
        return rc;
    lines_init(&lines, merges, bytes, merges_name);
    while ((more = next_merge(&lines)) > 0) {
        rc = cllm_tokenizer_read_merge(tokenizer, vocab, lines.left, lines.right,
                                       lines.where);
        if (rc < 0)
            return rc;
    }
    if (more < 0)
        return more;
    find_special(&tokenizer->vocab);
    rc = cllm_tokenizer_set_pattern(tokenizer, CLLM_PATTERN_GPT2);
    return rc < 0 ? rc : cllm_tokenizer_finish(tokenizer, vocab_name);
}

/* ---- merges alone ---- */

/* One merge whose tokens earlier lines have made; it makes token 256 + rank. */
static int make_merge(struct cllm_vocab *vocab, const struct lines *lines)
{
    const char *const spelled[2] = {lines->left, lines->right};
    uint8_t joined[2 * SPELL_BYTES];
    uint32_t id[2];
    size_t used = 0;

    for (int i = 0; i < 2; i++) {
        size_t n = 0;

        id[i] = CLLM_TOKEN_NONE;
        if (cllm_alphabet_read(spelled[i], strlen(spelled[i]), joined + used, &n))
            id[i] = cllm_vocab_find(vocab, joined + used, n);
        if (id[i] == CLLM_TOKEN_NONE)
            return cllm_err(CLLM_EDATA,
                            "%s: expected bytes or tokens of earlier lines, found "
                            "\"%.60s\"",
                            lines->where, spelled[i]);
        used += n;
    }
    uint32_t made = 256 + vocab->n_merges;
    if (used > CLLM_TOKEN_MAX_BYTES || made + 1 >= CLLM_TOKENIZER_MAX)
        return cllm_err(CLLM_EDATA,
                        "%s: expected at most %d bytes and %u tokens, found "
                        "a token of %zu bytes, number %u",
                        lines->where, CLLM_TOKEN_MAX_BYTES, CLLM_TOKENIZER_MAX, used,
                        made);
    int rc = cllm_vocab_put(vocab, made, joined, used, CLLM_TOKEN_NORMAL);
    if (rc == 0)
        rc = cllm_vocab_add_merge(vocab, id[0], id[1], made);
    if (rc != -EEXIST)
        return rc;
    return cllm_err(CLLM_EDATA,
                    "%s: expected a new token, found one that an earlier line makes: "
                    "\"%.60s%.60s\"",
                    lines->where, lines->left, lines->right);
}

int cllm_tokenizer_from_merges(struct cllm_tokenizer *tokenizer, const char *merges,
                               size_t bytes, const char *name)
{
    struct cllm_vocab *vocab = &tokenizer->vocab;
    struct lines lines;
    int more;
    int rc = 0;

    for (uint32_t place = 0; rc == 0 && place < 256; place++) {
        uint8_t byte = cllm_alphabet_byte(place);
        rc = cllm_vocab_put(vocab, place, &byte, 1, CLLM_TOKEN_NORMAL);
    }
    lines_init(&lines, merges, bytes, name);
    while (rc == 0 && (more = next_merge(&lines)) != 0)
        rc = more < 0 ? more : make_merge(vocab, &lines);
    if (rc == 0)
        rc = cllm_vocab_put(vocab, 256 + vocab->n_merges, CLLM_TOKENIZER_EOT,
                            strlen(CLLM_TOKENIZER_EOT), CLLM_TOKEN_CONTROL);
    if (rc == 0)
        rc = cllm_tokenizer_set_pattern(tokenizer, CLLM_PATTERN_GPT2);
    return rc < 0 ? rc : cllm_tokenizer_finish(tokenizer, name);
}
