/*
 * tools/prep_text.c - find what is no UTF-8, and take the text out of a line of JSON.
 */
#include "tools/prep_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "formats/utf8.h"

int cllm_prep_bytes_room(struct cllm_prep_bytes *bytes, size_t n)
{
    if (bytes->capacity - bytes->n >= n)
        return 0;
    size_t capacity = bytes->n + n + bytes->capacity / 2;
    uint8_t *larger = realloc(bytes->at, capacity);
    if (larger == NULL)
        return cllm_err(-ENOMEM, "cannot hold the text");
    bytes->at = larger;
    bytes->capacity = capacity;
    return 0;
}

int cllm_prep_bytes_add(struct cllm_prep_bytes *bytes, const void *from, size_t n)
{
    int rc = cllm_prep_bytes_room(bytes, n);

    if (rc == 0 && n > 0) {
        memcpy(bytes->at + bytes->n, from, n);
        bytes->n += n;
    }
    return rc;
}

static bool is_continuation(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

size_t cllm_prep_utf8_mistake(const uint8_t *text, size_t n)
{
    size_t length = 1;

    if (n == 0 || cllm_utf8_char(text, n) > 0)
        return 0;
    while (length < n && length < 3 && cllm_utf8_open(text, length + 1) == length + 1)
        length++;
    return length;
}

size_t cllm_prep_utf8_cut(const uint8_t *text, size_t n, size_t at)
{
    CLLM_ASSERT(at < n);
    for (size_t back = 0; back < 4 && back <= at; back++) {
        if (!is_continuation(text[at - back]))
            return at - back;
    }
    return at; /* three before it continue something: no character has four of them */
}

int cllm_prep_utf8_repair(struct cllm_prep_bytes *out, const uint8_t *text, size_t n,
                          uint64_t *mistakes)
{
    int rc = cllm_prep_bytes_room(out, n);

    while (rc == 0 && n > 0) {
        size_t sound = cllm_utf8_valid(text, n);
        rc = cllm_prep_bytes_add(out, text, sound);
        text += sound;
        n -= sound;
        size_t bad = cllm_prep_utf8_mistake(text, n);
        if (rc == 0 && bad > 0) {
            rc = cllm_prep_bytes_add(out, "\xef\xbf\xbd", 3);
            (*mistakes)++;
        }
        text += bad;
        n -= bad;
    }
    return rc;
}

static bool is_blank(const char *line, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
            return false;
    }
    return true;
}

int cllm_prep_line_parse(const char *line, size_t n, const char *key, json_t **json,
                         const char **text, size_t *bytes)
{
    json_error_t error;

    *json = NULL;
    if (is_blank(line, n))
        return 0;
    /* NULs are legal text (\u0000), and other keys may hold numbers of any size. */
    json_t *object =
        json_loadb(line, n, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    if (object == NULL)
        return cllm_err(CLLM_EDATA, "column %d: %s", error.column, error.text);
    const json_t *member = json_object_get(object, key);
    if (!json_is_string(member)) {
        int rc = cllm_err(CLLM_EDATA, "\"%s\": expected text, found %s", key,
                          !json_is_object(object) ? "no object" : cllm_json_type(member));
        json_decref(object);
        return rc;
    }
    *json = object;
    *text = json_string_value(member);
    *bytes = json_string_length(member);
    return 0;
}
