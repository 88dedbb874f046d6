/*
 * formats/choice.c - lines of JSON to contexts, endings and labels.
 */
#include "formats/choice.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "formats/file.h"
#include "formats/json.h"

#define FILE_MOST ((size_t)1 << 30)

void cllm_choice_free(struct cllm_choice *choice)
{
    free(choice->context);
    for (uint32_t i = 0; i < choice->n; i++)
        free(choice->ending[i]);
    *choice = (struct cllm_choice){0};
}

/* A copy of text that is not empty and holds no NUL. */
static int copy_text(char **out, const json_t *json, const char *where, const char *what)
{
    const char *text = json_string_value(json);

    if (text == NULL || text[0] == '\0' || strlen(text) != json_string_length(json))
        return cllm_err(CLLM_EDATA, "%s: %s: expected text that is not empty, found %s",
                        where, what, text == NULL ? cllm_json_type(json) : "other text");
    *out = strdup(text);
    return *out == NULL ? cllm_err(-ENOMEM, "cannot keep %s", where) : 0;
}

static int copy_endings(struct cllm_choice *out, const json_t *json, const char *where)
{
    const json_t *endings = json_object_get(json, "endings");
    size_t n = json_array_size(endings);

    if (!json_is_array(endings))
        return cllm_err(CLLM_EDATA,
                        "%s: \"endings\": expected an array of 2 to %d texts, found %s",
                        where, CLLM_CHOICE_ENDINGS, cllm_json_type(endings));
    if (n < 2 || n > CLLM_CHOICE_ENDINGS)
        return cllm_err(
            CLLM_EDATA,
            "%s: \"endings\": expected an array of 2 to %d texts, found %s of "
            "%zu",
            where, CLLM_CHOICE_ENDINGS, cllm_json_type(endings), n);
    for (size_t i = 0; i < n; i++) {
        int rc =
            copy_text(&out->ending[i], json_array_get(endings, i), where, "an ending");

        if (rc != 0)
            return rc;
        out->n++;
    }
    return 0;
}

/* A number, or the digits of one. */
static int read_label(struct cllm_choice *out, const json_t *json, const char *where)
{
    const json_t *label = json_object_get(json, "label");
    const char *text = json_string_value(label);
    json_int_t value = json_is_integer(label) ? json_integer_value(label) : -1;
    int rc;

    if (text != NULL && text[0] >= '0' && text[0] <= '9' && strlen(text) <= 2 &&
        strspn(text, "0123456789") == strlen(text))
        value = strtol(text, NULL, 10);
    if (value >= 0 && value < (json_int_t)out->n) {
        out->label = (uint32_t)value;
        return 0;
    }
    rc = cllm_err(CLLM_EDATA, "%s: \"label\": expected a number from 0 to %" PRIu32,
                  where, out->n - 1);
    if (json_is_integer(label))
        cllm_err_detail("found %" JSON_INTEGER_FORMAT, value);
    else
        cllm_err_detail("found %s%s%s", cllm_json_type(label), text ? " " : "",
                        text ? text : "");
    cllm_err_hint("test sets are published without labels; take the validation set");
    return rc;
}

int cllm_choice_parse(struct cllm_choice *out, const char *text, size_t bytes,
                      const char *name, uint64_t line)
{
    char where[512];
    json_t *json = NULL;
    int rc;

    *out = (struct cllm_choice){0};
    (void)snprintf(where, sizeof where, "%.480s:%" PRIu64, name, line);
    rc = cllm_json_parse(text, bytes, where, &json);
    if (rc == 0)
        rc = copy_text(&out->context, json_object_get(json, "ctx"), where, "\"ctx\"");
    if (rc == 0)
        rc = copy_endings(out, json, where);
    if (rc == 0)
        rc = read_label(out, json, where);
    json_decref(json);
    if (rc != 0)
        cllm_choice_free(out);
    return rc;
}

void cllm_choices_free(struct cllm_choices *choices)
{
    for (uint64_t i = 0; i < choices->n; i++)
        cllm_choice_free(&choices->choice[i]);
    free(choices->choice);
    *choices = (struct cllm_choices){0};
}

/* Room for one more. */
static int grow(struct cllm_choices *choices, uint64_t *room)
{
    struct cllm_choice *larger;

    if (choices->n < *room)
        return 0;
    *room = *room == 0 ? 256 : *room * 2;
    larger = realloc(choices->choice, *room * sizeof *larger);
    if (larger == NULL)
        return cllm_err(-ENOMEM, "cannot keep the examples");
    choices->choice = larger;
    return 0;
}

/* Lines of @text, which has @bytes and a NUL behind them. */
static int load_lines(struct cllm_choices *out, const char *path, const char *text,
                      size_t bytes)
{
    const char *end = text + bytes;
    uint64_t room = 0, line = 0;
    int rc = 0;

    while (rc == 0 && text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        size_t n = (size_t)((newline != NULL ? newline : end) - text);

        line++;
        if (n > CLLM_CHOICE_LINE_MOST)
            return cllm_err(CLLM_EDATA,
                            "%s:%" PRIu64 ": expected lines of at most %u bytes, found "
                            "%zu",
                            path, line, CLLM_CHOICE_LINE_MOST, n);
        if (strspn(text, " \t\r") < n) {
            rc = grow(out, &room);
            if (rc == 0)
                rc = cllm_choice_parse(&out->choice[out->n], text, n, path, line);
            out->n += rc == 0;
        }
        text += newline != NULL ? n + 1 : n;
    }
    return rc;
}

int cllm_choices_load(struct cllm_choices *out, const char *path)
{
    char *text = NULL;
    size_t bytes = 0;
    int rc;

    *out = (struct cllm_choices){0};
    rc = cllm_file_read(path, FILE_MOST, &text, &bytes);
    if (rc != 0)
        return rc;
    rc = load_lines(out, path, text, bytes);
    out->hash = cllm_hash(text, bytes, 0);
    free(text);
    if (rc == 0 && out->n == 0)
        rc = cllm_err(CLLM_EDATA, "%s: expected examples, one a line, found none", path);
    if (rc != 0)
        cllm_choices_free(out);
    return rc;
}
