/*
 * formats/pieces.c - scanners for ASCII, the expression for the rest.
 *
 * A scanner returns the end of the piece, or @at when it cannot know: a character beyond
 * ASCII stands where it could be part of the piece or decide about it.
 */
#include "formats/pieces.h"

#include "formats/utf8.h"

enum { OTHER, LETTER, DIGIT, SPACE, HIGH };

#define LETTERS_26                                                                      \
    LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER,     \
        LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, LETTER, \
        LETTER, LETTER, LETTER, LETTER, LETTER, LETTER
#define HIGH_16                                                                         \
    HIGH, HIGH, HIGH, HIGH, HIGH, HIGH, HIGH, HIGH, HIGH, HIGH, HIGH, HIGH, HIGH, HIGH, \
        HIGH, HIGH

static const uint8_t class_of[256] = {
    ['\t'] = SPACE,
    SPACE,
    SPACE,
    SPACE,
    SPACE,
    [' '] = SPACE,
    ['0'] = DIGIT,
    DIGIT,
    DIGIT,
    DIGIT,
    DIGIT,
    DIGIT,
    DIGIT,
    DIGIT,
    DIGIT,
    DIGIT,
    ['A'] = LETTERS_26,
    ['a'] = LETTERS_26,
    [128] = HIGH_16,
    HIGH_16,
    HIGH_16,
    HIGH_16,
    HIGH_16,
    HIGH_16,
    HIGH_16,
    HIGH_16,
};

/* The end of the run of @class that goes on at @at. */
static inline size_t run(const uint8_t *text, size_t bytes, size_t at, uint8_t class)
{
    while (at < bytes && class_of[text[at]] == class)
        at++;
    return at;
}

static inline bool is_high(const uint8_t *text, size_t bytes, size_t at)
{
    return at < bytes && class_of[text[at]] == HIGH;
}

/* Bytes of the contraction at the apostrophe at @at, 0 if none. @fold is 0x20 where case
 * does not matter. */
static size_t contraction(const uint8_t *text, size_t bytes, size_t at, uint8_t fold)
{
    if (bytes - at < 2)
        return 0;
    uint8_t first = text[at + 1] | fold;
    if (first == 's' || first == 't' || first == 'm' || first == 'd')
        return 2;
    if (bytes - at < 3)
        return 0;
    uint8_t second = text[at + 2] | fold;
    if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
        (first == 'l' && second == 'l'))
        return 3;
    return 0;
}

/* \s+(?!\S)|\s+ at white space that ends at @end: the last character is left to what
 * follows, if it is not the only one. */
static size_t spaces(size_t bytes, size_t at, size_t end)
{
    return end == bytes || end - at == 1 ? end : end - 1;
}

static size_t scan_gpt2(const uint8_t *text, size_t bytes, size_t at)
{
    if (text[at] == '\'') {
        size_t n = contraction(text, bytes, at, 0);
        if (n > 0)
            return at + n;
    }
    size_t from = at + (text[at] == ' ' && at + 1 < bytes);
    uint8_t class = class_of[text[from]];
    size_t end;
    if (class == HIGH)
        return at;
    if (class == SPACE) {
        end = run(text, bytes, at, SPACE);
        return is_high(text, bytes, end) ? at : spaces(bytes, at, end);
    }
    end = run(text, bytes, from + 1, class);
    return is_high(text, bytes, end) ? at : end;
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t scan_spaces(const uint8_t *text, size_t bytes, size_t at)
{
    size_t end = run(text, bytes, at, SPACE);

    if (is_high(text, bytes, end))
        return at;
    for (size_t i = end; i > at; i--) {
        if (text[i - 1] == '\n' || text[i - 1] == '\r')
            return i;
    }
    return spaces(bytes, at, end);
}

/* cl100k and its like, with numbers of at most @digits digits. */
static inline size_t scan_letters(const uint8_t *text, size_t bytes, size_t at,
                                  size_t digits)
{
    uint8_t c = text[at];
    uint8_t class = class_of[c];
    uint8_t next = at + 1 < bytes ? class_of[text[at + 1]] : SPACE;
    size_t end;

    if (class == HIGH || (next == HIGH && class != DIGIT))
        return at;
    if (c == '\'') {
        size_t n = contraction(text, bytes, at, 0x20);
        if (n > 0)
            return at + n;
    }
    if (class == DIGIT) {
        for (end = at + 1; end < bytes && end - at < digits; end++) {
            if (class_of[text[end]] != DIGIT)
                return class_of[text[end]] == HIGH ? at : end;
        }
        return end;
    }
    if (class == LETTER || (next == LETTER && c != '\r' && c != '\n')) {
        end = run(text, bytes, at + 1, LETTER);
        return is_high(text, bytes, end) ? at : end;
    }
    size_t from = at + (c == ' ' && next == OTHER && at + 1 < bytes);
    if (class_of[text[from]] != OTHER)
        return scan_spaces(text, bytes, at);
    end = run(text, bytes, from, OTHER);
    if (is_high(text, bytes, end))
        return at;
    while (end < bytes && (text[end] == '\r' || text[end] == '\n'))
        end++;
    return end;
}

static size_t scan_cl100k(const uint8_t *text, size_t bytes, size_t at)
{
    return scan_letters(text, bytes, at, 3);
}

static size_t scan_qwen2(const uint8_t *text, size_t bytes, size_t at)
{
    return scan_letters(text, bytes, at, 1);
}

int cllm_pieces_init(struct cllm_pieces *pieces, const struct cllm_pattern *pattern)
{
    *pieces = (struct cllm_pieces){.pattern = pattern};
    switch (cllm_pattern_kind(pattern)) {
    case CLLM_PATTERN_GPT2:
        pieces->scan = scan_gpt2;
        break;
    case CLLM_PATTERN_CL100K:
        pieces->scan = scan_cl100k;
        break;
    case CLLM_PATTERN_QWEN2:
        pieces->scan = scan_qwen2;
        break;
    default:
        break;
    }
    return cllm_pattern_match_new(&pieces->match, pattern);
}

void cllm_pieces_fini(struct cllm_pieces *pieces)
{
    cllm_pattern_match_free(&pieces->match);
}

int cllm_pieces_next_slow(struct cllm_pieces *pieces, const uint8_t *text, size_t bytes,
                          size_t at, size_t *end)
{
    size_t from, to;
    int rc =
        cllm_pattern_next(pieces->pattern, pieces->match, text, bytes, at, &from, &to);

    if (rc < 0)
        return rc;
    if (rc == 0)
        *end = bytes;
    else
        *end = from > at ? from : to;
    return 0;
}

int cllm_pieces_next(struct cllm_pieces *pieces, const uint8_t *text, size_t bytes,
                     size_t at, size_t *end)
{
    CLLM_ASSERT(at < bytes);
    if (pieces->scan != NULL) {
        *end = pieces->scan(text, bytes, at);
        if (*end > at)
            return 0;
    }
    return cllm_pieces_next_slow(pieces, text, bytes, at, end);
}

/* Whether the character that ends before @at is white space. */
static bool is_space_before(const uint8_t *text, size_t at)
{
    for (size_t n = 1; n <= 3 && n <= at; n++) {
        if (cllm_utf8_char(text + at - n, n) == n)
            return cllm_utf8_is_space(cllm_utf8_get(text + at - n, n));
    }
    return false;
}

/* Whether a whole character that is no white space begins at @at, and no slash, which
 * o200k may draw to a line's end before it. */
static bool is_word_at(const uint8_t *text, size_t bytes, size_t at)
{
    size_t n = cllm_utf8_char(text + at, bytes - at);

    return n > 0 && text[at] != '/' && !cllm_utf8_is_space(cllm_utf8_get(text + at, n));
}

size_t cllm_pieces_cut(enum cllm_pattern_kind kind, const uint8_t *text, size_t bytes)
{
    if (kind == CLLM_PATTERN_NONE)
        return bytes;
    if (kind == CLLM_PATTERN_CUSTOM)
        return 0;
    for (size_t at = bytes; at-- > 1;) {
        uint8_t before = class_of[text[at - 1]];

        /* Letters and digits never go on into white space, and do not look at it. */
        if ((before == LETTER || before == DIGIT) && class_of[text[at]] == SPACE)
            return at;
        /* A single line end between two words: it is a piece or the end of one, whether
         * anything follows or not. */
        if (text[at - 1] == '\n' && at > 1 && is_word_at(text, bytes, at) &&
            !is_space_before(text, at - 1))
            return at;
    }
    return 0;
}
