/*
 * formats/json.c - jansson with strict reading, one way of writing, and errors for
 * people.
 */
#include "formats/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/file.h"

/* 15 digits bring every decimal number of 15 digits back as it was written. */
#define DUMP_FLAGS (JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(15))

int cllm_json_parse(const char *text, size_t bytes, const char *name, json_t **out)
{
    json_error_t error;
    json_t *json = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);

    if (json == NULL)
        return cllm_err(CLLM_EDATA, "%s:%d:%d: %s", name, error.line, error.column,
                        error.text);
    if (!json_is_object(json)) {
        int rc = cllm_err(CLLM_EDATA, "%s: expected an object, found %s", name,
                          cllm_json_type(json));
        json_decref(json);
        return rc;
    }
    *out = json;
    return 0;
}

int cllm_json_load(const char *path, size_t cap, json_t **out)
{
    char *text = NULL;
    size_t bytes = 0;
    int rc = cllm_file_read(path, cap, &text, &bytes);

    if (rc < 0)
        return rc;
    rc = cllm_json_parse(text, bytes, path, out);
    free(text);
    return rc;
}

char *cllm_json_dump(const json_t *json, size_t *bytes)
{
    char *text = json_dumps(json, DUMP_FLAGS);

    if (text == NULL)
        return NULL;
    size_t len = strlen(text);
    char *line = realloc(text, len + 2);
    if (line == NULL) {
        free(text);
        return NULL;
    }
    line[len] = '\n';
    line[len + 1] = '\0';
    if (bytes != NULL)
        *bytes = len + 1;
    return line;
}

int cllm_json_put_new(const char *dir, const char *name, json_t *json)
{
    char path[CLLM_FILE_PATH_BYTES];
    int rc = cllm_file_join(path, dir, name);

    if (rc == 0 && access(path, F_OK) != 0)
        return cllm_json_put(dir, name, json);
    json_decref(json);
    return rc;
}

int cllm_json_write(const json_t *json, int fd, const char *path)
{
    size_t bytes = 0;
    char *text = cllm_json_dump(json, &bytes);

    if (text == NULL)
        return cllm_err(-ENOMEM, "cannot write %s", path);
    int rc = cllm_file_write_all(fd, text, bytes, path);
    free(text);
    return rc;
}

const char *cllm_json_type(const json_t *json)
{
    if (json == NULL)
        return "nothing";
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "text";
    case JSON_INTEGER:
        return "a whole number";
    case JSON_REAL:
        return "a decimal number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    case JSON_NULL:
        return "null";
    }
    return "nonsense";
}

static int wrong(const json_t *found, const char *where, const char *key,
                 const char *expected)
{
    return cllm_err(CLLM_EDATA, "%s: \"%s\": expected %s, found %s", where, key, expected,
                    cllm_json_type(found));
}

int cllm_json_get_u64(const json_t *object, const char *where, const char *key,
                      uint64_t *out)
{
    const json_t *json = json_object_get(object, key);

    if (!json_is_integer(json))
        return wrong(json, where, key, "a whole number");
    if (json_integer_value(json) < 0)
        return cllm_err(CLLM_EDATA,
                        "%s: \"%s\": expected a whole number of 0 or more, found %lld",
                        where, key, (long long)json_integer_value(json));
    *out = (uint64_t)json_integer_value(json);
    return 0;
}

int cllm_json_get_f64(const json_t *object, const char *where, const char *key,
                      double *out)
{
    const json_t *json = json_object_get(object, key);

    if (!json_is_number(json))
        return wrong(json, where, key, "a number");
    *out = json_number_value(json);
    return 0;
}

int cllm_json_get_bool(const json_t *object, const char *where, const char *key,
                       bool *out)
{
    const json_t *json = json_object_get(object, key);

    if (!json_is_boolean(json))
        return wrong(json, where, key, "true or false");
    *out = json_is_true(json);
    return 0;
}

int cllm_json_get_text(const json_t *object, const char *where, const char *key,
                       const char **out)
{
    const json_t *json = json_object_get(object, key);

    if (!json_is_string(json))
        return wrong(json, where, key, "text");
    *out = json_string_value(json);
    return 0;
}

int cllm_json_get_object(const json_t *object, const char *where, const char *key,
                         json_t **out)
{
    json_t *json = json_object_get(object, key);

    if (!json_is_object(json))
        return wrong(json, where, key, "an object");
    *out = json;
    return 0;
}

int cllm_json_get_array(const json_t *object, const char *where, const char *key,
                        json_t **out)
{
    json_t *json = json_object_get(object, key);

    if (!json_is_array(json))
        return wrong(json, where, key, "an array");
    *out = json;
    return 0;
}

int cllm_json_expect_text(const json_t *object, const char *where, const char *key,
                          const char *expected)
{
    const char *found = NULL;
    int rc = cllm_json_get_text(object, where, key, &found);

    if (rc == 0 && strcmp(found, expected) != 0)
        rc = cllm_err(CLLM_EDATA, "%s: \"%s\": expected \"%s\", found \"%s\"", where, key,
                      expected, found);
    return rc;
}

int cllm_json_put(const char *dir, const char *name, json_t *json)
{
    char path[CLLM_FILE_PATH_BYTES];
    size_t bytes = 0;
    char *text = json == NULL ? NULL : cllm_json_dump(json, &bytes);
    int rc = cllm_file_join(path, dir, name);

    json_decref(json);
    if (rc == 0 && text == NULL)
        rc = cllm_err(-ENOMEM, "cannot write %s", path);
    if (rc == 0)
        rc = cllm_file_replace(path, text, bytes);
    free(text);
    return rc;
}
