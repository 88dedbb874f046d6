/*
 * formats/tokenizer_json.c - Hugging Face's tokenizer.json, as far as it is byte-level
 * BPE.
 *
 * What would change ids and cannot be done exactly is refused by name, never ignored. The
 * post-processor is passed over: it adds tokens at the ends of a text, which is for the
 * caller to decide.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "formats/tokenizer_parts.h"

struct source {
    struct cllm_tokenizer *tokenizer;
    const char *name;
    char where[CLLM_TOKENIZER_WHERE_BYTES]; /* "tokenizer.json: model.merges[7]" */
};

static const char *at(struct source *source, const char *place)
{
    (void)snprintf(source->where, sizeof source->where, "%s: %s", source->name, place);
    return source->where;
}

static const char *at_item(struct source *source, const char *list, size_t index)
{
    (void)snprintf(source->where, sizeof source->where, "%s: %s[%zu]", source->name, list,
                   index);
    return source->where;
}

/* Whether member @key is the text @expected. */
static bool is_text(const json_t *object, const char *key, const char *expected)
{
    const json_t *json = json_object_get(object, key);

    return json_is_string(json) && strcmp(json_string_value(json), expected) == 0;
}

static int unreadable(struct source *source, const char *place, const char *expected,
                      const json_t *found)
{
    char *text = found != NULL ? json_dumps(found, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    int rc = cllm_err(CLLM_EDATA, "%s: expected %s, found %.100s", at(source, place),
                      expected, text != NULL ? text : cllm_json_type(found));

    free(text);
    cllm_err_hint("byte-level BPE (GPT-2's kind) is read; a tokenizer of another kind is "
                  "not");
    return rc;
}

/* Members of the model that must have no effect. */
static int check_model(struct source *source, const json_t *model)
{
    static const struct {
        const char *key, *place;
    } empty[] = {{"dropout", "model.dropout"},
                 {"continuing_subword_prefix", "model.continuing_subword_prefix"},
                 {"end_of_word_suffix", "model.end_of_word_suffix"}};
    const json_t *type = json_object_get(model, "type");
    const json_t *fallback = json_object_get(model, "byte_fallback");

    if (type != NULL && !is_text(model, "type", "BPE"))
        return unreadable(source, "model.type", "\"BPE\"", type);
    if (fallback != NULL && !json_is_false(fallback))
        return unreadable(source, "model.byte_fallback", "false", fallback);
    for (size_t i = 0; i < CLLM_LEN(empty); i++) {
        const json_t *json = json_object_get(model, empty[i].key);

        if (json != NULL && !json_is_null(json) && !is_text(model, empty[i].key, ""))
            return unreadable(source, empty[i].place, "null", json);
    }
    source->tokenizer->vocab.whole_first =
        json_is_true(json_object_get(model, "ignore_merges"));
    return 0;
}

/* One of added_tokens; *@known gets its id under its text. */
static int read_added(struct source *source, const json_t *item, size_t index,
                      json_t *known)
{
    const char *where = at_item(source, "added_tokens", index);
    const char *const plain[] = {"single_word", "lstrip", "rstrip"};
    const char *content = NULL;
    uint64_t id = 0;

    if (!json_is_object(item))
        return cllm_err(CLLM_EDATA, "%s: expected an object, found %s", where,
                        cllm_json_type(item));
    int rc = cllm_json_get_text(item, where, "content", &content);
    if (rc == 0)
        rc = cllm_json_get_u64(item, where, "id", &id);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < CLLM_LEN(plain); i++) {
        if (json_is_true(json_object_get(item, plain[i])))
            return cllm_err(CLLM_EDATA, "%s: \"%s\": expected false, found true", where,
                            plain[i]);
    }
    size_t bytes = strlen(content);
    if (id >= CLLM_TOKENIZER_MAX || bytes == 0 || bytes > CLLM_TOKEN_MAX_BYTES)
        return cllm_err(CLLM_EDATA,
                        "%s: expected 1 to %d bytes and an id below %u, found %zu bytes "
                        "and %llu",
                        where, CLLM_TOKEN_MAX_BYTES, CLLM_TOKENIZER_MAX, bytes,
                        (unsigned long long)id);
    bool special = json_is_true(json_object_get(item, "special"));
    if (json_object_get(known, content) != NULL)
        rc = -EEXIST;
    else
        rc = cllm_vocab_put(&source->tokenizer->vocab, (uint32_t)id, content, bytes,
                            special ? CLLM_TOKEN_CONTROL : CLLM_TOKEN_USER);
    if (rc == -EEXIST)
        return cllm_err(CLLM_EDATA,
                        "%s: expected a text and an id of its own, found \"%.60s\" and "
                        "%llu again",
                        where, content, (unsigned long long)id);
    if (rc == 0 && json_object_set_new(known, content, json_integer((json_int_t)id)) != 0)
        rc = cllm_err(-ENOMEM, "cannot read %s", source->name);
    return rc;
}

static int read_all_added(struct source *source, const json_t *root, json_t *known)
{
    const json_t *list = json_object_get(root, "added_tokens");
    int rc = 0;

    if (list == NULL || json_is_null(list))
        return 0;
    if (!json_is_array(list))
        return cllm_err(CLLM_EDATA, "%s: expected an array, found %s",
                        at(source, "added_tokens"), cllm_json_type(list));
    for (size_t i = 0; rc == 0 && i < json_array_size(list); i++)
        rc = read_added(source, json_array_get(list, i), i, known);
    return rc;
}

/* "a b" as older files have it, ["a", "b"] as newer ones do. */
static int read_merge(struct source *source, const json_t *vocab, const json_t *item,
                      size_t index)
{
    const char *where = at_item(source, "model.merges", index);
    char left[2 * CLLM_TOKEN_MAX_BYTES + 1];

    if (json_is_array(item) && json_array_size(item) == 2 &&
        json_is_string(json_array_get(item, 0)) &&
        json_is_string(json_array_get(item, 1)))
        return cllm_tokenizer_read_merge(
            source->tokenizer, vocab, json_string_value(json_array_get(item, 0)),
            json_string_value(json_array_get(item, 1)), where);
    const char *text = json_is_string(item) ? json_string_value(item) : "";
    const char *space = strchr(text, ' ');
    if (space == NULL || strchr(space + 1, ' ') != NULL ||
        (size_t)(space - text) >= sizeof left)
        return cllm_err(CLLM_EDATA,
                        "%s: expected \"a b\" or [\"a\", \"b\"], found %s \"%.60s\"",
                        where, cllm_json_type(item), text);
    memcpy(left, text, (size_t)(space - text));
    left[space - text] = '\0';
    return cllm_tokenizer_read_merge(source->tokenizer, vocab, left, space + 1, where);
}

static int read_model(struct source *source, const json_t *root)
{
    json_t *model = NULL, *vocab = NULL, *merges = NULL;
    json_t *known = json_object();
    int rc = known == NULL ? cllm_err(-ENOMEM, "cannot read %s", source->name) : 0;

    if (rc == 0)
        rc = cllm_json_get_object(root, source->name, "model", &model);
    if (rc == 0)
        rc = check_model(source, model);
    if (rc == 0)
        rc = cllm_json_get_object(model, at(source, "model"), "vocab", &vocab);
    if (rc == 0)
        rc = cllm_json_get_array(model, at(source, "model"), "merges", &merges);
    if (rc == 0)
        rc = read_all_added(source, root, known);
    if (rc == 0)
        rc = cllm_tokenizer_read_vocab(source->tokenizer, vocab, known,
                                       at(source, "model.vocab"));
    for (size_t i = 0; rc == 0 && i < json_array_size(merges); i++)
        rc = read_merge(source, vocab, json_array_get(merges, i), i);
    json_decref(known);
    return rc;
}

/* {"type": "Split", "pattern": {"Regex": ...}}: pieces are the matches. */
static int read_split(struct source *source, const json_t *split)
{
    const json_t *regex = json_object_get(json_object_get(split, "pattern"), "Regex");
    bool invert = json_is_true(json_object_get(split, "invert"));

    if (!json_is_string(regex) || !(is_text(split, "behavior", "Isolated") ||
                                    (invert && is_text(split, "behavior", "Removed"))))
        return unreadable(source, "pre_tokenizer",
                          "a Split by a Regex, Isolated or inverted and Removed", split);
    if (source->tokenizer->pattern != NULL)
        return unreadable(source, "pre_tokenizer", "one pattern", split);
    return cllm_pattern_new(&source->tokenizer->pattern, json_string_value(regex),
                            source->name);
}

static int read_byte_level(struct source *source, const json_t *item)
{
    const json_t *use_regex = json_object_get(item, "use_regex");

    if (json_is_true(json_object_get(item, "add_prefix_space")))
        return unreadable(source, "pre_tokenizer", "\"add_prefix_space\": false", item);
    if (json_is_false(use_regex))
        return 0;
    if (source->tokenizer->pattern != NULL)
        return unreadable(source, "pre_tokenizer", "one pattern", item);
    return cllm_tokenizer_set_pattern(source->tokenizer, CLLM_PATTERN_GPT2);
}

/* ByteLevel, or a Sequence of Split and ByteLevel. */
static int read_pre_tokenizer(struct source *source, json_t *root)
{
    json_t *outer = json_object_get(root, "pre_tokenizer");
    const json_t *list = json_object_get(outer, "pretokenizers");
    bool sequence = is_text(outer, "type", "Sequence") && json_is_array(list);
    size_t n = sequence ? json_array_size(list) : 1;
    bool has_bytes = false;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < n; i++) {
        const json_t *item = sequence ? json_array_get(list, i) : outer;

        if (is_text(item, "type", "Split") && !has_bytes) {
            rc = read_split(source, item);
        } else if (is_text(item, "type", "ByteLevel") && !has_bytes) {
            rc = read_byte_level(source, item);
            has_bytes = true;
        } else {
            rc = unreadable(source, "pre_tokenizer", "ByteLevel, or Split and ByteLevel",
                            item);
        }
    }
    if (rc == 0 && (!has_bytes || source->tokenizer->pattern == NULL))
        rc = unreadable(source, "pre_tokenizer", "ByteLevel with a pattern", outer);
    return rc;
}

int cllm_tokenizer_from_json(struct cllm_tokenizer *tokenizer, json_t *root,
                             const char *name)
{
    struct source source = {.tokenizer = tokenizer, .name = name};
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *decoder = json_object_get(root, "decoder");
    int rc = 0;

    if (normalizer != NULL && !json_is_null(normalizer))
        rc = unreadable(&source, "normalizer", "null", normalizer);
    else if (decoder != NULL && !json_is_null(decoder) &&
             !is_text(decoder, "type", "ByteLevel"))
        rc = unreadable(&source, "decoder", "ByteLevel", decoder);
    if (rc == 0)
        rc = read_pre_tokenizer(&source, root);
    if (rc == 0)
        rc = read_model(&source, root);
    if (rc == 0)
        rc = cllm_tokenizer_finish(tokenizer, name);
    return rc;
}
