/*
 * formats/tokenizer_save.c - vocab.json, merges.txt and tokenizer.json as Hugging Face's
 * libraries and the converters of others read them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "formats/file.h"
#include "formats/tokenizer_parts.h"

static int no_memory(void)
{
    return cllm_err(-ENOMEM, "cannot write the tokenizer");
}

/* Spellings and ids; special and added tokens are among them, as GPT-2's vocab.json has
 * <|endoftext|>. NULL without memory. */
static json_t *make_vocab(const struct cllm_tokenizer *tokenizer)
{
    json_t *vocab = json_object();
    int rc = vocab == NULL ? -1 : 0;

    for (uint32_t id = 0; rc == 0 && id < tokenizer->vocab.n_tokens; id++) {
        if (tokenizer->vocab.token[id].type == 0)
            continue;
        char *text = cllm_tokenizer_spell(tokenizer, id);
        rc = text == NULL ? -1 : json_object_set_new(vocab, text, json_integer(id));
        free(text);
    }
    if (rc == 0)
        return vocab;
    json_decref(vocab);
    return NULL;
}

/* Merge @rank as "a b", on the heap. */
static char *spell_merge(const struct cllm_tokenizer *tokenizer, uint32_t rank)
{
    const struct cllm_vocab_merge *merge = &tokenizer->vocab.merge[rank];
    char *left = cllm_tokenizer_spell(tokenizer, merge->left);
    char *right = cllm_tokenizer_spell(tokenizer, merge->right);
    char *text = NULL;

    if (left == NULL || right == NULL || asprintf(&text, "%s %s", left, right) < 0)
        text = NULL;
    free(left);
    free(right);
    return text;
}

static json_t *make_merges(const struct cllm_tokenizer *tokenizer)
{
    json_t *merges = json_array();
    int rc = merges == NULL ? -1 : 0;

    for (uint32_t i = 0; rc == 0 && i < tokenizer->vocab.n_merges; i++) {
        char *text = spell_merge(tokenizer, i);
        rc = text == NULL ? -1 : json_array_append_new(merges, json_string(text));
        free(text);
    }
    if (rc == 0)
        return merges;
    json_decref(merges);
    return NULL;
}

static int compare_ids(const void *a, const void *b)
{
    const uint32_t *left = a;
    const uint32_t *right = b;

    return *left < *right ? -1 : *left > *right;
}

/* Special and added tokens, by id. */
static json_t *make_added(const struct cllm_tokenizer *tokenizer)
{
    const struct cllm_vocab *vocab = &tokenizer->vocab;
    json_t *list = json_array();
    uint32_t *ids = malloc((vocab->n_added > 0 ? vocab->n_added : 1) * sizeof *ids);
    int rc = list == NULL || ids == NULL ? -1 : 0;

    if (rc == 0) {
        memcpy(ids, vocab->added, vocab->n_added * sizeof *ids);
        qsort(ids, vocab->n_added, sizeof *ids, compare_ids);
    }
    for (uint32_t i = 0; rc == 0 && i < vocab->n_added; i++) {
        bool special = vocab->token[ids[i]].type == CLLM_TOKEN_CONTROL;
        char *text = cllm_tokenizer_spell(tokenizer, ids[i]);

        rc = text == NULL
                 ? -1
                 : json_array_append_new(
                       list, json_pack("{sI ss sb sb sb sb sb}", "id", (json_int_t)ids[i],
                                       "content", text, "single_word", 0, "lstrip", 0,
                                       "rstrip", 0, "normalized", 1, "special", special));
        free(text);
    }
    free(ids);
    if (rc == 0)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *make_byte_level(bool prefix, bool trim, bool use_regex)
{
    return json_pack("{ss sb sb sb}", "type", "ByteLevel", "add_prefix_space", prefix,
                     "trim_offsets", trim, "use_regex", use_regex);
}

/* GPT-2's pattern is ByteLevel's own; any other is a Split in front of it. */
static json_t *make_pre_tokenizer(const struct cllm_tokenizer *tokenizer)
{
    if (cllm_pattern_kind(tokenizer->pattern) == CLLM_PATTERN_GPT2)
        return make_byte_level(false, true, true);
    return json_pack("{ss s[{ss s{ss} ss sb} o]}", "type", "Sequence", "pretokenizers",
                     "type", "Split", "pattern", "Regex",
                     cllm_pattern_text(tokenizer->pattern), "behavior", "Isolated",
                     "invert", 0, make_byte_level(false, true, false));
}

static json_t *make_root(const struct cllm_tokenizer *tokenizer)
{
    return json_pack(
        "{ss sn sn so sn so so so s{ss sn sn ss ss sb sb sb so so}}", "version", "1.0",
        "truncation", "padding", "added_tokens", make_added(tokenizer), "normalizer",
        "pre_tokenizer", make_pre_tokenizer(tokenizer), "post_processor",
        make_byte_level(true, false, true), "decoder", make_byte_level(true, true, true),
        "model", "type", "BPE", "dropout", "unk_token", "continuing_subword_prefix", "",
        "end_of_word_suffix", "", "fuse_unk", 0, "byte_fallback", 0, "ignore_merges",
        tokenizer->vocab.whole_first, "vocab", make_vocab(tokenizer), "merges",
        make_merges(tokenizer));
}

/* Write @json, which is NULL when memory is out; it is released. */
static int save_json(json_t *json, const char *dir, const char *name)
{
    char path[CLLM_FILE_PATH_BYTES];
    size_t bytes = 0;
    char *text = json != NULL ? cllm_json_dump(json, &bytes) : NULL;
    int rc = text == NULL ? no_memory() : cllm_file_join(path, dir, name);

    if (rc == 0)
        rc = cllm_file_replace(path, text, bytes);
    free(text);
    json_decref(json);
    return rc;
}

static int save_merges(const struct cllm_tokenizer *tokenizer, const char *dir)
{
    char path[CLLM_FILE_PATH_BYTES];
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    bool good = out != NULL && fputs("#version: 0.2\n", out) >= 0;

    for (uint32_t i = 0; good && i < tokenizer->vocab.n_merges; i++) {
        char *merge = spell_merge(tokenizer, i);
        good = merge != NULL && fprintf(out, "%s\n", merge) > 0;
        free(merge);
    }
    good = out != NULL && fclose(out) == 0 && good;
    int rc = !good ? no_memory() : cllm_file_join(path, dir, CLLM_TOKENIZER_MERGES);
    if (rc == 0)
        rc = cllm_file_replace(path, text, bytes);
    free(text);
    return rc;
}

int cllm_tokenizer_save(const struct cllm_tokenizer *tokenizer, const char *dir)
{
    if (tokenizer->kind != CLLM_TOKENIZER_KIND_BPE)
        return cllm_err(-ENOTSUP, "the byte-level tokenizer has no files");
    int rc = save_json(make_vocab(tokenizer), dir, CLLM_TOKENIZER_VOCAB);
    if (rc == 0)
        rc = save_merges(tokenizer, dir);
    /* Last: what loads a directory looks for it first. */
    if (rc == 0)
        rc = save_json(make_root(tokenizer), dir, CLLM_TOKENIZER_JSON);
    return rc;
}
