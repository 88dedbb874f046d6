/*
 * tools/prep_text.h - bytes of a corpus into text: what is no UTF-8, and lines of JSON.
 *
 * One mistake is a "maximal subpart" (Unicode 15, 3.9): the longest beginning of a
 * character that breaks off, or one byte that begins none. It becomes one U+FFFD, as in
 * Python and in browsers.
 */
#ifndef CLLM_TOOLS_PREP_TEXT_H
#define CLLM_TOOLS_PREP_TEXT_H

#include "base/base.h"
#include "formats/json.h"

enum cllm_prep_invalid {
    CLLM_PREP_INVALID_AUTO = 0, /* bytes for the tokenizer "bytes", otherwise replace */
    CLLM_PREP_INVALID_BYTES,    /* kept as they are */
    CLLM_PREP_INVALID_REPLACE,  /* each mistake becomes U+FFFD */
    CLLM_PREP_INVALID_ERROR     /* refused */
};

/* Bytes that grow. Zeroed memory is an empty one; free(at) ends it. */
struct cllm_prep_bytes {
    uint8_t *at; /* heap */
    size_t n, capacity;
};

/* Append @n bytes. Returns 0 or -ENOMEM with text. */
int cllm_prep_bytes_add(struct cllm_prep_bytes *bytes, const void *from, size_t n);

/* Make room for @n more bytes. Returns 0 or -ENOMEM with text. */
int cllm_prep_bytes_room(struct cllm_prep_bytes *bytes, size_t n);

/* Length of the mistake at @text, 1 to 3; 0 when there is a sound character, or @n is
 * 0. */
size_t cllm_prep_utf8_mistake(const uint8_t *text, size_t n);

/* The largest place at or before @at (< @n), and not before @at - 3, that is not within a
 * character, so that cutting there makes no mistake and hides none. */
size_t cllm_prep_utf8_cut(const uint8_t *text, size_t n, size_t at);

/* Append @text to @out, with U+FFFD for each mistake; *@mistakes counts up. Returns 0 or
 * -ENOMEM with text. */
int cllm_prep_utf8_repair(struct cllm_prep_bytes *out, const uint8_t *text, size_t n,
                          uint64_t *mistakes);

/*
 * The member @key of the JSON object that stands in a line of @n bytes without its
 * newline. *@text of *@bytes bytes, perhaps none, belongs to *@json, which the caller
 * json_decref()s. A blank line gives a *@json of NULL. Returns 0, or CLLM_EDATA with text
 * that names the column, or the key.
 */
int cllm_prep_line_parse(const char *line, size_t n, const char *key, json_t **json,
                         const char **text, size_t *bytes);

#endif /* CLLM_TOOLS_PREP_TEXT_H */
