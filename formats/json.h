/*
 * formats/json.h - JSON texts: read strictly, written in one stable form.
 *
 * The only place that includes jansson; whoever includes this header may use json_* as
 * well. Reading refuses duplicate keys, invalid UTF-8, trailing text and files beyond a
 * cap, and says FILE:LINE:COLUMN. Writing sorts keys and indents by two spaces, so the
 * same values always give the same bytes.
 */
#ifndef CLLM_FORMATS_JSON_H
#define CLLM_FORMATS_JSON_H

#include "base/base.h"

#include <jansson.h>

/* Parse @bytes of text; @name stands for the file in messages. The top level must be an
 * object. Returns 0 and *@out (the caller json_decref()s), or CLLM_EDATA with text. */
int cllm_json_parse(const char *text, size_t bytes, const char *name, json_t **out);

/* The same from a file of at most @cap bytes. Also returns a negative errno with text. */
int cllm_json_load(const char *path, size_t cap, json_t **out);

/* Text in the stable form with a trailing newline and a NUL behind it; heap, the caller
 * frees. @bytes (may be NULL) excludes the NUL. NULL when memory is out. */
char *cllm_json_dump(const json_t *json, size_t *bytes);

/* Write @json (taken over; NULL when memory was out) as @dir/@name, durably and whole or
 * not at all. Returns 0 or a negative errno with text. */
int cllm_json_put(const char *dir, const char *name, json_t *json);

/* The same, unless something of that name is there; that stays as it is. */
int cllm_json_put_new(const char *dir, const char *name, json_t *json);

/* Write the stable form to @fd; @path is for messages. Returns 0 or a negative errno with
 * text. */
int cllm_json_write(const json_t *json, int fd, const char *path);

/*
 * Typed members of @object. @where is the file and the path of keys so far, for messages
 * ("run.json", "manifest.json: files"). A missing key or another type returns CLLM_EDATA
 * with a text that names the key, what was expected and what was found. Results of the
 * pointer kind belong to @object.
 */
int cllm_json_get_u64(const json_t *object, const char *where, const char *key,
                      uint64_t *out);
int cllm_json_get_f64(const json_t *object, const char *where, const char *key,
                      double *out);
int cllm_json_get_bool(const json_t *object, const char *where, const char *key,
                       bool *out);
int cllm_json_get_text(const json_t *object, const char *where, const char *key,
                       const char **out);

/* Text that must be @expected, or CLLM_EDATA with what was found. */
int cllm_json_expect_text(const json_t *object, const char *where, const char *key,
                          const char *expected);
int cllm_json_get_object(const json_t *object, const char *where, const char *key,
                         json_t **out);
int cllm_json_get_array(const json_t *object, const char *where, const char *key,
                        json_t **out);

/* "an object", "text", "a whole number" ...: the type of @json for messages; NULL is
 * "nothing". */
const char *cllm_json_type(const json_t *json);

#endif /* CLLM_FORMATS_JSON_H */
