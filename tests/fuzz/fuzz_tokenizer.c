/*
 * tests/fuzz/fuzz_tokenizer.c - the files of tokenizers: tokenizer.json, vocab.json with
 * merges.txt, merges.txt alone, tiktoken's rank files.
 *
 * A vocabulary without a token for each byte is refused, and 256 of them are a long text
 * to mutate, so flags in the first byte let the target add them.
 */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "formats/alphabet.h"
#include "formats/bpe.h"
#include "formats/pieces.h"
#include "formats/tokenizer_parts.h"

/* Flags; the two bits behind them say which kind of file. */
enum { COMPLETE = 1, BYTE_LEVEL = 2, FORM_SHIFT = 2, FORM_MASK = 3 };

static struct cllm_tokenizer *begin(void)
{
    struct cllm_tokenizer *tokenizer = NULL;
    int rc = cllm_tokenizer_new(&tokenizer, CLLM_TOKENIZER_KIND_BPE);

    CLLM_ASSERT(rc == 0);
    return tokenizer;
}

/* A text through pattern and merges: every byte of it is in one token. */
static void use(const struct cllm_tokenizer *tokenizer)
{
    static const uint8_t text[] =
        "The th\xC3\xA9 11  'll\r\n\xE3\x80\x80 aaaaaaaab!!"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabcdefghijklmnopqrstuvwx";
    const struct cllm_vocab *vocab = &tokenizer->vocab;
    struct cllm_bpe_scratch scratch = {0};
    struct cllm_pieces pieces;
    uint32_t ids[sizeof text];
    size_t bytes = sizeof text - 1;

    CLLM_ASSERT(cllm_pieces_init(&pieces, tokenizer->pattern) == 0);
    for (size_t at = 0, end = 0, n = 0; at < bytes; at = end) {
        size_t used = 0;

        if (cllm_pieces_next(&pieces, text, bytes, at, &end) != 0)
            break; /* an expression that gives up */
        CLLM_ASSERT(end > at && end <= bytes);
        CLLM_ASSERT(cllm_bpe_merge(vocab, &scratch, text + at, end - at, UINT32_MAX, ids,
                                   &n) == 0);
        for (size_t i = 0; i < n; i++) {
            CLLM_ASSERT(ids[i] < vocab->n_tokens && vocab->token[ids[i]].type != 0);
            used += vocab->token[ids[i]].bytes;
        }
        /* A merge may be told to make a token of other bytes by an added token. */
        CLLM_ASSERT(used == end - at || vocab->n_added > 0);
    }
    cllm_pieces_fini(&pieces);
    cllm_bpe_scratch_fini(&scratch);
}

/* Ids from the last to the first: what text is cut into stays. */
static void renumber(const struct cllm_tokenizer *from)
{
    static const uint8_t text[] = "The th\xC3\xA9 11 aaaaaaaab!!<|endoftext|>'ll";
    const struct cllm_vocab *vocab = &from->vocab;
    uint32_t *place = malloc(vocab->n_tokens * sizeof *place);
    struct cllm_bpe_scratch scratch = {0};
    struct cllm_tokenizer *to = NULL;
    uint32_t one[sizeof text], two[sizeof text], next = vocab->n_used;
    size_t n = 0, m = 0;

    CLLM_ASSERT(place != NULL);
    for (uint32_t id = 0; id < vocab->n_tokens; id++)
        place[id] = vocab->token[id].type == 0 ? CLLM_TOKEN_NONE : --next;
    CLLM_ASSERT(cllm_tokenizer_renumber(&to, from, place) == 0);
    CLLM_ASSERT(to->vocab.n_used == vocab->n_used && to->vocab.n_tokens == vocab->n_used);
    CLLM_ASSERT(to->vocab.n_added == vocab->n_added);
    CLLM_ASSERT(
        cllm_bpe_merge(vocab, &scratch, text, sizeof text - 1, UINT32_MAX, one, &n) == 0);
    CLLM_ASSERT(cllm_bpe_merge(&to->vocab, &scratch, text, sizeof text - 1, UINT32_MAX,
                               two, &m) == 0);
    CLLM_ASSERT(n == m);
    for (size_t i = 0; i < n; i++)
        CLLM_ASSERT(two[i] == place[one[i]]);
    cllm_bpe_scratch_fini(&scratch);
    cllm_tokenizer_free(&to);
    free(place);
}

static void finish(struct cllm_tokenizer *tokenizer, int rc)
{
    CLLM_ASSERT(rc == 0 || cllm_err_text()[0] != '\0');
    if (rc == 0) {
        fuzz_n_accepted++;
        CLLM_ASSERT(strlen(cllm_tokenizer_hash(tokenizer)) == 64);
        CLLM_ASSERT(cllm_tokenizer_size(tokenizer) >= 256);
        use(tokenizer);
        renumber(tokenizer);
    }
    cllm_tokenizer_free(&tokenizer);
}

/* Give @vocab what bytes it lacks. */
static void complete(json_t *vocab)
{
    for (uint32_t place = 0; place < 256; place++) {
        uint8_t byte = cllm_alphabet_byte(place);
        char spelled[3];

        (void)cllm_alphabet_spell(&byte, 1, spelled);
        if (json_object_get(vocab, spelled) == NULL)
            CLLM_ASSERT(json_object_set_new(vocab, spelled, json_integer(1000 + place)) ==
                        0);
    }
}

static void fuzz_json(char *text, size_t bytes, uint8_t flags)
{
    json_t *root = NULL;

    if (cllm_json_parse(text, bytes, "tokenizer.json", &root) != 0)
        return;
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    if ((flags & COMPLETE) != 0 && json_is_object(vocab))
        complete(vocab);
    if ((flags & BYTE_LEVEL) != 0)
        CLLM_ASSERT(json_object_set_new(root, "pre_tokenizer",
                                        json_pack("{ss}", "type", "ByteLevel")) == 0);
    struct cllm_tokenizer *tokenizer = begin();
    finish(tokenizer, cllm_tokenizer_from_json(tokenizer, root, "tokenizer.json"));
    json_decref(root);
}

/* vocab.json, a NUL, merges.txt. */
static void fuzz_vocab(char *text, size_t bytes, uint8_t flags)
{
    json_t *vocab = NULL;
    size_t n = strlen(text);
    const char *merges = n < bytes ? text + n + 1 : "";

    if (cllm_json_parse(text, n, "vocab.json", &vocab) != 0)
        return;
    if ((flags & COMPLETE) != 0)
        complete(vocab);
    struct cllm_tokenizer *tokenizer = begin();
    finish(tokenizer,
           cllm_tokenizer_from_vocab(tokenizer, vocab, "vocab.json", merges,
                                     n < bytes ? bytes - n - 1 : 0, "merges.txt"));
    json_decref(vocab);
}

static void fuzz_merges(char *text, size_t bytes, uint8_t flags)
{
    struct cllm_tokenizer *tokenizer = begin();

    (void)flags;
    finish(tokenizer, cllm_tokenizer_from_merges(tokenizer, text, bytes, "merges.txt"));
}

/* Lines "base64 rank", behind those of all bytes if the flag says so. */
static void fuzz_ranks(char *text, size_t bytes, uint8_t flags)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *whole = malloc(256 * 16 + bytes + 1);
    size_t used = 0;

    CLLM_ASSERT(whole != NULL);
    for (unsigned byte = 0; byte < 256 && (flags & COMPLETE) != 0; byte++)
        used += (size_t)snprintf(whole + used, 16, "%c%c== %u\n", digits[byte >> 2],
                                 digits[byte << 4 & 63], byte);
    memcpy(whole + used, text, bytes + 1);
    struct cllm_tokenizer *tokenizer = begin();
    finish(tokenizer, cllm_tokenizer_from_ranks(tokenizer, whole, used + bytes, "ranks"));
    free(whole);
}

int fuzz_tokenizer(const uint8_t *data, size_t size)
{
    static void (*const forms[FORM_MASK + 1])(char *, size_t, uint8_t) = {
        fuzz_json, fuzz_vocab, fuzz_merges, fuzz_ranks};
    struct fuzz_reader in = {data, data + size};
    uint8_t flags = fuzz_u8(&in);
    size_t bytes = (size_t)(in.end - in.at);
    char *text = malloc(bytes + 1);

    CLLM_ASSERT(text != NULL);
    if (bytes > 0)
        memcpy(text, in.at, bytes);
    text[bytes] = '\0';
    forms[flags >> FORM_SHIFT & FORM_MASK](text, bytes, flags);
    free(text);
    return 0;
}
