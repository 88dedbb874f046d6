/*
 * formats/tokenizer_ranks.c - tiktoken's rank files: a token and its rank on each line.
 *
 * There are no merges in them: two neighbours merge when their bytes together are a
 * token, the one of least rank first. So every way of cutting a token into two tokens
 * becomes a pair. The merges that other formats want are found as tiktoken's own tools
 * find them: what is left of a token when only lower ranks merge.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "formats/bpe.h"
#include "formats/tokenizer_parts.h"

#define SHOWN 60 /* bytes of a line in a message */

struct special {
    uint32_t id;
    const char *name;
};

/* The files say neither pattern nor special tokens: who has that many ranks? */
static const struct family {
    uint32_t n_ranks;
    enum cllm_pattern_kind pattern;
    struct special special[8]; /* up to one without a name */
} families[] = {
    {50256, CLLM_PATTERN_GPT2, {{50256, CLLM_TOKENIZER_EOT}}}, /* r50k, GPT-2 */
    {50280, CLLM_PATTERN_GPT2, {{50256, CLLM_TOKENIZER_EOT}}}, /* p50k */
    {100256,
     CLLM_PATTERN_CL100K,
     {{100257, CLLM_TOKENIZER_EOT},
      {100258, "<|fim_prefix|>"},
      {100259, "<|fim_middle|>"},
      {100260, "<|fim_suffix|>"},
      {100276, "<|endofprompt|>"}}},
    {128000, /* Llama 3 */
     CLLM_PATTERN_CL100K,
     {{128000, "<|begin_of_text|>"},
      {128001, "<|end_of_text|>"},
      {128006, "<|start_header_id|>"},
      {128007, "<|end_header_id|>"},
      {128009, "<|eot_id|>"}}},
    {151643, /* Qwen 2 */
     CLLM_PATTERN_QWEN2,
     {{151643, CLLM_TOKENIZER_EOT}, {151644, "<|im_start|>"}, {151645, "<|im_end|>"}}},
    {199998, /* GPT-4o */
     CLLM_PATTERN_O200K,
     {{199999, CLLM_TOKENIZER_EOT}, {200018, "<|endofprompt|>"}}},
};

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* @text as base64 with padding; false when it is not, or @out is too small. */
static bool base64_read(const char *text, size_t bytes, uint8_t *out, size_t room,
                        size_t *n)
{
    size_t n_pad = bytes > 0 && text[bytes - 1] == '=';
    size_t used = 0;
    uint32_t bits = 0;

    n_pad += n_pad > 0 && bytes > 1 && text[bytes - 2] == '=';
    if (bytes == 0 || bytes % 4 != 0 || bytes / 4 * 3 - n_pad > room)
        return false;
    for (size_t i = 0; i < bytes - n_pad; i++) {
        int value = base64_value(text[i]);
        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        if (i % 4 != 0)
            out[used++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
    }
    *n = used;
    return true;
}

/* "base64 rank" */
static bool read_line(const char *line, size_t len, uint8_t bytes[CLLM_TOKEN_MAX_BYTES],
                      size_t *n, uint32_t *rank)
{
    const char *space = memchr(line, ' ', len);
    const char *end = line + len;

    if (space == NULL || space + 1 == end || end - space > 8)
        return false;
    *rank = 0;
    for (const char *at = space + 1; at < end; at++) {
        if (*at < '0' || *at > '9')
            return false;
        *rank = *rank * 10 + (uint32_t)(*at - '0');
    }
    return base64_read(line, (size_t)(space - line), bytes, CLLM_TOKEN_MAX_BYTES, n);
}

static int read_tokens(struct cllm_vocab *vocab, const char *text, size_t bytes,
                       const char *name)
{
    const char *end = text + bytes;
    const char *next;
    uint8_t token[CLLM_TOKEN_MAX_BYTES];
    size_t n = 0;
    uint32_t rank = 0;

    for (unsigned number = 1; text < end; text = next, number++) {
        const char *feed = memchr(text, '\n', (size_t)(end - text));
        size_t len = (size_t)((feed != NULL ? feed : end) - text);

        next = feed != NULL ? feed + 1 : end;
        if (len > 0 && text[len - 1] == '\r')
            len--;
        if (!read_line(text, len, token, &n, &rank) || rank >= CLLM_TOKENIZER_MAX / 2)
            return cllm_err(CLLM_EDATA,
                            "%s:%u: expected a token of 1 to %d bytes in base64 and its "
                            "rank below %u, found \"%.*s\"",
                            name, number, CLLM_TOKEN_MAX_BYTES, CLLM_TOKENIZER_MAX / 2,
                            (int)cllm_min_u64(len, SHOWN), text);
        int rc = cllm_vocab_put(vocab, rank, token, n, CLLM_TOKEN_NORMAL);
        if (rc == -EEXIST)
            rc = cllm_err(CLLM_EDATA,
                          "%s:%u: expected each token and each rank once, found one "
                          "again: \"%.*s\"",
                          name, number, (int)cllm_min_u64(len, SHOWN), text);
        if (rc < 0)
            return rc;
    }
    if (vocab->n_tokens > 2 * (uint64_t)vocab->n_used + 4096)
        return cllm_err(CLLM_EDATA,
                        "%s: expected ranks without gaps, found %u ranks up to %u", name,
                        vocab->n_used, vocab->n_tokens - 1);
    return 0;
}

/* Every way of cutting a token into two tokens is a pair of that token's rank. */
static int add_pairs(struct cllm_vocab *vocab)
{
    for (uint32_t id = 0; id < vocab->n_tokens; id++) {
        const uint8_t *bytes = cllm_vocab_bytes(vocab, id);
        size_t n = vocab->token[id].bytes;

        for (size_t cut = 1; cut < n; cut++) {
            uint32_t left = cllm_vocab_find(vocab, bytes, cut);
            uint32_t right = cllm_vocab_find(vocab, bytes + cut, n - cut);

            if (left == CLLM_TOKEN_NONE || right == CLLM_TOKEN_NONE)
                continue;
            int rc = cllm_vocab_add_pair(vocab, left, right, id, id);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

/* The two tokens that lower ranks leave of each token. */
static int list_merges(struct cllm_vocab *vocab)
{
    struct cllm_bpe_scratch scratch = {0};
    uint32_t ids[CLLM_TOKEN_MAX_BYTES];
    int rc = 0;

    for (uint32_t id = 0; rc == 0 && id < vocab->n_tokens; id++) {
        size_t n = 0;

        if (vocab->token[id].bytes < 2)
            continue;
        rc = cllm_bpe_merge(vocab, &scratch, cllm_vocab_bytes(vocab, id),
                            vocab->token[id].bytes, id, ids, &n);
        if (rc < 0)
            rc = cllm_err(rc, "cannot hold the tokenizer");
        else if (n == 2)
            rc = cllm_vocab_list_merge(vocab, ids[0], ids[1], id);
    }
    cllm_bpe_scratch_fini(&scratch);
    return rc;
}

/* Pattern and special tokens. */
static int add_family(struct cllm_tokenizer *tokenizer)
{
    struct cllm_vocab *vocab = &tokenizer->vocab;
    const struct family *family = NULL;
    int rc = 0;

    for (size_t i = 0; i < CLLM_LEN(families); i++) {
        if (families[i].n_ranks == vocab->n_used)
            family = &families[i];
    }
    /* One of a user's own: small ones are taken for GPT-2's kind. */
    const struct family own = {.pattern = vocab->n_used < 65536 ? CLLM_PATTERN_GPT2
                                                                : CLLM_PATTERN_CL100K,
                               .special = {{vocab->n_tokens, CLLM_TOKENIZER_EOT}}};
    if (family == NULL)
        family = &own;
    for (size_t i = 0; i < CLLM_LEN(family->special) && rc == 0; i++) {
        const struct special *special = &family->special[i];

        if (special->name == NULL)
            break;
        /* A file with other gaps than the family's may have the id; then it is its own.
         */
        rc = cllm_vocab_put(vocab, special->id, special->name, strlen(special->name),
                            CLLM_TOKEN_CONTROL);
        if (rc == -EEXIST)
            rc = cllm_vocab_put(vocab, vocab->n_tokens, special->name,
                                strlen(special->name), CLLM_TOKEN_CONTROL);
    }
    return rc < 0 ? rc : cllm_tokenizer_set_pattern(tokenizer, family->pattern);
}

int cllm_tokenizer_from_ranks(struct cllm_tokenizer *tokenizer, const char *text,
                              size_t bytes, const char *name)
{
    struct cllm_vocab *vocab = &tokenizer->vocab;
    int rc = read_tokens(vocab, text, bytes, name);

    if (rc < 0)
        return rc;
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t data = (uint8_t)byte;
        vocab->byte_id[byte] = cllm_vocab_find(vocab, &data, 1);
    }
    vocab->by_rank = true;
    vocab->whole_first = true;
    rc = add_pairs(vocab);
    if (rc == 0)
        rc = list_merges(vocab);
    if (rc == 0)
        rc = add_family(tokenizer);
    if (rc == 0)
        rc = cllm_tokenizer_finish(tokenizer, name);
    return rc;
}
