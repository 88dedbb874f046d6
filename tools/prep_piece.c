/*
 * tools/prep_piece.c - parts of a piece to texts, texts to tokens.
 */
#include "tools/prep_piece.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "formats/utf8.h"

/* What one call of cllm_prep_piece_texts() needs all the way down. */
struct walk {
    const struct cllm_prep_rules *rules;
    const struct cllm_prep_part *part;
    struct cllm_prep_bytes *scratch;
    struct cllm_prep_tally *tally;
    cllm_prep_text_fn fn;
    void *context;
};

static const char *path_of(const struct walk *walk)
{
    return walk->rules->input->file[walk->part->file].path;
}

/* Is @text sound UTF-8? Otherwise its mistakes are counted, and where the rules say so,
 * *@text becomes what the scratch then holds. */
static int mend(const struct walk *walk, const uint8_t **text, size_t *n,
                enum cllm_prep_invalid invalid)
{
    struct cllm_prep_bytes *scratch = walk->scratch;
    size_t sound = cllm_utf8_valid(*text, *n);

    if (sound == *n)
        return 0;
    if (invalid == CLLM_PREP_INVALID_ERROR)
        return cllm_err(CLLM_EDATA, "invalid UTF-8, byte 0x%02x at %zu", (*text)[sound],
                        sound);
    scratch->n = 0;
    int rc = cllm_prep_utf8_repair(scratch, *text, *n, &walk->tally->mistakes);
    if (rc == 0 && invalid == CLLM_PREP_INVALID_REPLACE) {
        *text = scratch->at;
        *n = scratch->n;
    }
    return rc;
}

/* Text as it stands in the file. */
static int walk_text(const struct walk *walk, const uint8_t *text, size_t n)
{
    const struct cllm_prep_part *part = walk->part;
    const uint8_t *whole = text;
    size_t all = n;
    int rc = mend(walk, &text, &n, walk->rules->invalid);

    if (rc == CLLM_EDATA) {
        size_t sound = cllm_utf8_valid(whole, all);
        rc = cllm_err(CLLM_EDATA, "%s is not UTF-8", path_of(walk));
        cllm_err_detail("byte 0x%02x at offset %" PRIu64 " belongs to no character",
                        whole[sound], part->off + sound);
        cllm_err_hint("--invalid-utf8=replace or bytes; or convert it with iconv");
    }
    return rc < 0 ? rc : walk->fn(walk->context, part, part->begins, text, n);
}

/* One line of JSON without its newline. JSON is UTF-8, so there is nothing that "bytes"
 * could keep. */
static int walk_line(const struct walk *walk, const uint8_t *line, size_t n)
{
    enum cllm_prep_invalid invalid = walk->rules->invalid;
    const char *text = NULL;
    json_t *json = NULL;
    size_t bytes = 0;
    int rc =
        mend(walk, &line, &n,
             invalid == CLLM_PREP_INVALID_BYTES ? CLLM_PREP_INVALID_REPLACE : invalid);

    if (rc == 0)
        rc = cllm_prep_line_parse((const char *)line, n, walk->rules->text_key, &json,
                                  &text, &bytes);
    if (rc == 0 && json != NULL && bytes == 0)
        walk->tally->empty++;
    else if (rc == 0 && json != NULL)
        rc = walk->fn(walk->context, walk->part, true, (const uint8_t *)text, bytes);
    json_decref(json);
    return rc;
}

/* A bad line, the error text says why: refuse it, or count it. */
static int bad_line(const struct walk *walk, uint64_t number)
{
    struct cllm_prep_tally *tally = walk->tally;

    cllm_err_add("%s:%" PRIu64, path_of(walk), number);
    if (!walk->rules->skip_bad) {
        cllm_err_hint("mend the line, or leave such lines out: --bad-lines=skip");
        return CLLM_EDATA;
    }
    if (tally->bad == 0)
        (void)snprintf(tally->first_bad, sizeof tally->first_bad, "%s", cllm_err_text());
    tally->bad++;
    return 0;
}

static int walk_lines(const struct walk *walk, const uint8_t *at, size_t n)
{
    const uint8_t *end = at + n;
    int rc = 0;

    for (uint64_t number = walk->part->line; rc == 0 && at < end; number++) {
        const uint8_t *newline = memchr(at, '\n', (size_t)(end - at));
        const uint8_t *stop = newline == NULL ? end : newline;
        rc = walk_line(walk, at, (size_t)(stop - at));
        if (rc == CLLM_EDATA)
            rc = bad_line(walk, number);
        at = newline == NULL ? end : newline + 1;
    }
    return rc;
}

int cllm_prep_piece_texts(const struct cllm_prep_rules *rules,
                          const struct cllm_prep_piece *piece,
                          struct cllm_prep_bytes *scratch, struct cllm_prep_tally *tally,
                          cllm_prep_text_fn fn, void *context)
{
    struct walk walk = {
        .rules = rules, .scratch = scratch, .tally = tally, .fn = fn, .context = context};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < piece->n_parts; i++) {
        walk.part = &piece->part[i];
        const uint8_t *at = piece->text.at + walk.part->at;
        rc = walk.part->jsonl ? walk_lines(&walk, at, walk.part->n)
                              : walk_text(&walk, at, walk.part->n);
    }
    return rc;
}

/* ---- tokens ---- */

void cllm_prep_tokens_fini(struct cllm_prep_tokens *tokens)
{
    free(tokens->id);
    free(tokens->mark);
    memset(tokens, 0, sizeof *tokens);
}

int cllm_prep_encoder_init(struct cllm_prep_encoder *encoder,
                           const struct cllm_prep_rules *rules,
                           const struct cllm_tokenizer *tokenizer, unsigned flags)
{
    memset(encoder, 0, sizeof *encoder);
    encoder->rules = rules;
    encoder->tokenizer = tokenizer;
    encoder->flags = flags;
    return cllm_encoder_new(&encoder->encoder, tokenizer);
}

void cllm_prep_encoder_fini(struct cllm_prep_encoder *encoder)
{
    cllm_encoder_free(&encoder->encoder);
    free(encoder->scratch.at);
    memset(encoder, 0, sizeof *encoder);
}

size_t cllm_prep_cut(const void *tokenizer, const void *text, size_t bytes)
{
    if (cllm_tokenizer_kind(tokenizer) == CLLM_TOKENIZER_KIND_BYTES)
        return bytes < 2 ? 0 : cllm_prep_utf8_cut(text, bytes, bytes - 1);
    return cllm_tokenizer_cut(tokenizer, text, bytes);
}

/* Room for @n more ids. */
static int reserve(struct cllm_prep_tokens *tokens, size_t n)
{
    if (tokens->capacity - tokens->n >= n)
        return 0;
    size_t capacity = tokens->n + n + tokens->capacity / 2;
    uint32_t *larger = realloc(tokens->id, capacity * sizeof *larger);
    if (larger == NULL)
        return cllm_err(-ENOMEM, "cannot hold the tokens");
    tokens->id = larger;
    tokens->capacity = capacity;
    return 0;
}

/* The mark of a text that has just been begun. */
static int add_mark(struct cllm_prep_tokens *tokens, uint32_t source, bool begins,
                    uint64_t bytes)
{
    if (tokens->n_marks == tokens->marks_capacity) {
        size_t capacity = 2 * tokens->marks_capacity + 16;
        struct cllm_prep_mark *larger = realloc(tokens->mark, capacity * sizeof *larger);
        if (larger == NULL)
            return cllm_err(-ENOMEM, "cannot list the documents");
        tokens->mark = larger;
        tokens->marks_capacity = capacity;
    }
    tokens->mark[tokens->n_marks++] =
        (struct cllm_prep_mark){.source = source, .begins = begins, .bytes = bytes};
    return 0;
}

/* The next bytes of a text to encode at once: a long one is cut, because its tokens might
 * be as many as its bytes, and a piece without an end takes much memory. */
static size_t stretch(const struct cllm_prep_encoder *encoder, const uint8_t *text,
                      size_t n)
{
    for (size_t most = 2 * CLLM_PREP_PIECE_BYTES; most < n; most *= 2) {
        size_t cut = cllm_prep_cut(encoder->tokenizer, text, most);
        if (cut == 0 && most >= CLLM_PREP_CUT_MAX)
            cut = cllm_prep_utf8_cut(text, n, most);
        if (cut > 0)
            return cut;
    }
    return n;
}

/* A cllm_prep_text_fn: @context is the encoder. */
static int encode_text(void *context, const struct cllm_prep_part *part, bool begins,
                       const uint8_t *text, size_t n)
{
    struct cllm_prep_encoder *encoder = context;
    const struct cllm_prep_input *input = encoder->rules->input;
    struct cllm_prep_tokens *out = encoder->out;
    size_t first = out->n;
    int rc = add_mark(out, input->file[part->file].source, begins, n);

    while (rc == 0 && n > 0) {
        size_t bytes = stretch(encoder, text, n);
        size_t n_ids = 0;
        rc = reserve(out, bytes);
        if (rc < 0)
            return rc;
        rc = cllm_encoder_encode(encoder->encoder, text, bytes, encoder->flags,
                                 out->id + out->n, &n_ids);
        if (rc == -ENOMEM)
            return cllm_err(rc, "cannot encode %s", input->file[part->file].path);
        if (rc < 0)
            return cllm_err(CLLM_EDATA,
                            "the tokenizer's pattern gives up on the text of %s",
                            input->file[part->file].path);
        out->n += n_ids;
        text += bytes;
        n -= bytes;
    }
    if (rc == 0)
        out->mark[out->n_marks - 1].n_tokens = out->n - first;
    return rc;
}

int cllm_prep_encode(struct cllm_prep_encoder *encoder,
                     const struct cllm_prep_piece *piece, struct cllm_prep_tokens *tokens)
{
    tokens->n = 0;
    tokens->n_marks = 0;
    memset(&tokens->tally, 0, sizeof tokens->tally);
    encoder->out = tokens;
    return cllm_prep_piece_texts(encoder->rules, piece, &encoder->scratch, &tokens->tally,
                                 encode_text, encoder);
}
