/*
 * tools/prep_output.c - cut the stream of tokens into shards, and describe them.
 */
#include "tools/prep_output.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/file.h"
#include "formats/json.h"
#include "formats/manifest.h"

#define COPY_TOKENS 65536 /* at once */

/* train_ or val_, digits, .bin, perhaps .tmp, or another name that only we give. */
static bool is_output(const char *name)
{
    static const char *const prefixes[] = {"train_", "val_"};
    static const char *const others[] = {CLLM_MANIFEST_NAME, CLLM_TOKENIZER_JSON,
                                         CLLM_TOKENIZER_VOCAB, CLLM_TOKENIZER_MERGES};

    for (size_t i = 0; i < CLLM_LEN(others); i++) {
        if (strcmp(name, others[i]) == 0)
            return true;
    }
    for (size_t i = 0; i < CLLM_LEN(prefixes); i++) {
        size_t len = strlen(prefixes[i]);
        if (strncmp(name, prefixes[i], len) != 0)
            continue;
        const char *digits = name + len;
        const char *rest = digits + strspn(digits, "0123456789");
        if (rest > digits && (strcmp(rest, ".bin") == 0 || strcmp(rest, ".bin.tmp") == 0))
            return true;
    }
    return false;
}

int cllm_prep_output_clear(const char *dir, bool force)
{
    char path[CLLM_FILE_PATH_BYTES];
    struct dirent *entry;
    int rc = 0;
    DIR *list = opendir(dir);

    if (list == NULL)
        return cllm_err(-errno, "cannot read the directory %s", dir);
    while (rc == 0 && (errno = 0, entry = readdir(list)) != NULL) {
        if (!is_output(entry->d_name))
            continue;
        rc = cllm_file_join(path, dir, entry->d_name);
        if (rc == 0 && !force) {
            rc = cllm_err(-EEXIST, "cannot write into %s, it holds %s", dir,
                          entry->d_name);
            cllm_err_hint(
                "choose another directory, or replace what is there with --force");
        }
        if (rc == 0 && unlink(path) != 0)
            rc = cllm_err(-errno, "cannot remove %s", path);
    }
    if (rc == 0 && errno != 0)
        rc = cllm_err(-errno, "cannot read the directory %s", dir);
    (void)closedir(list);
    return rc;
}

/* Fill @n rows from @shard on with the split @name of @n_tokens tokens. */
static void plan_split(struct cllm_prep_plan *shard, uint32_t n, const char *name,
                       uint64_t n_tokens)
{
    int digits = snprintf(NULL, 0, "%u", n - 1);

    if (digits < 3)
        digits = 3; /* equally many everywhere, so that names sort as numbers */
    for (uint32_t i = 0; i < n; i++) {
        (void)snprintf(shard[i].name, sizeof shard[i].name, "%s_%0*u.bin", name, digits,
                       i);
        shard[i].n_tokens = n_tokens / n + (i < n_tokens % n ? 1 : 0);
    }
}

static int too_small(const char *split, uint64_t n_tokens, const char *hint)
{
    int rc = cllm_err(CLLM_EDATA, "the %s part is too small", split);

    cllm_err_detail("expected %d tokens or more, found %" PRIu64, CLLM_PREP_MIN_TOKENS,
                    n_tokens);
    cllm_err_hint("%s", hint);
    return rc;
}

int cllm_prep_output_init(struct cllm_prep_output *output, const char *dir,
                          uint64_t n_train, uint64_t n_val, bool validate,
                          uint64_t shard_tokens)
{
    memset(output, 0, sizeof *output);
    output->dir = dir;
    output->n_val = n_val;
    output->n_train = n_train;
    if (output->n_train < CLLM_PREP_MIN_TOKENS)
        return too_small("training", output->n_train, "give more text");
    if (validate && output->n_val < CLLM_PREP_MIN_TOKENS)
        return too_small("validation", output->n_val,
                         "give more text, raise --val-fraction, or do without one: "
                         "--val-fraction 0");
    uint64_t n_train_shards = cllm_div_up(output->n_train, shard_tokens);
    uint64_t n_shards = n_train_shards + cllm_div_up(output->n_val, shard_tokens);
    if (n_shards > 100000) {
        int rc = cllm_err(CLLM_ECONFIG, "it would take %" PRIu64 " shards", n_shards);
        cllm_err_hint("raise --shard-tokens");
        return rc;
    }
    output->shard = calloc((size_t)n_shards, sizeof *output->shard);
    if (output->shard == NULL)
        return cllm_err(-ENOMEM, "cannot plan the shards");
    output->n_train_shards = (uint32_t)n_train_shards;
    output->n_shards = (uint32_t)n_shards;
    plan_split(output->shard, output->n_train_shards, "train", output->n_train);
    if (output->n_val > 0)
        plan_split(output->shard + n_train_shards,
                   output->n_shards - output->n_train_shards, "val", output->n_val);
    return 0;
}

/* @n_tokens tokens of the stream, from @first on, as the shard @path; with @place under
 * other ids. */
static int write_shard(const char *path, const struct cllm_prep_stream *stream,
                       uint64_t first, uint64_t n_tokens, const uint32_t *place)
{
    struct cllm_shard_writer writer;
    uint32_t *tokens = malloc(COPY_TOKENS * sizeof *tokens);

    if (tokens == NULL)
        return cllm_err(-ENOMEM, "cannot write %s", path);
    int rc = cllm_shard_writer_begin(&writer, path, stream->token_bytes);
    if (rc < 0) {
        free(tokens);
        return rc;
    }
    for (uint64_t done = 0; rc == 0 && done < n_tokens;) {
        uint64_t n = cllm_min_u64(COPY_TOKENS, n_tokens - done);
        rc = cllm_prep_stream_read(stream, first + done, n, tokens);
        for (uint64_t i = 0; rc == 0 && place != NULL && i < n; i++)
            tokens[i] = place[tokens[i]];
        if (rc == 0)
            rc = cllm_shard_writer_put(&writer, tokens, (size_t)n);
        done += n;
    }
    if (rc == 0)
        rc = cllm_shard_writer_finish(&writer);
    else
        cllm_shard_writer_abort(&writer);
    free(tokens);
    return rc;
}

/* Read the finished shard back: what dataset.json will say of it. */
static int describe_shard(struct cllm_manifest_shard *out, const char *path,
                          uint64_t n_tokens)
{
    struct cllm_shard shard;
    int rc = cllm_shard_open(&shard, path);

    if (rc < 0)
        return rc;
    CLLM_ASSERT(shard.n_tokens == n_tokens);
    out->n_tokens = n_tokens;
    rc = cllm_manifest_edges(&shard, &out->edges);
    cllm_shard_close(&shard);
    return rc == 0 ? cllm_sha256_file(path, out->sha256, &out->file_bytes) : rc;
}

int cllm_prep_output_next(const struct cllm_prep_output *output,
                          const struct cllm_prep_stream *stream,
                          struct cllm_prep_state *state)
{
    const struct cllm_prep_plan *plan = &output->shard[state->n_shards];
    struct cllm_manifest_shard shard = {.name = ""};
    char path[CLLM_FILE_PATH_BYTES];
    uint64_t first = 0;

    CLLM_ASSERT(state->n_shards < output->n_shards);
    for (size_t i = 0; i < state->n_shards; i++)
        first += output->shard[i].n_tokens;
    memcpy(shard.name, plan->name, sizeof shard.name);
    int rc = cllm_file_join(path, output->dir, plan->name);
    if (rc == 0)
        rc = write_shard(path, stream, first, plan->n_tokens, output->place);
    if (rc == 0)
        rc = describe_shard(&shard, path, plan->n_tokens);
    return rc == 0 ? cllm_prep_state_add(state, &shard) : rc;
}

int cllm_prep_output_check(const struct cllm_prep_output *output,
                           const struct cllm_prep_state *state)
{
    char path[CLLM_FILE_PATH_BYTES];
    struct stat st;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < state->n_shards; i++) {
        const struct cllm_manifest_shard *shard = &state->shard[i];
        rc = cllm_file_join(path, output->dir, shard->name);
        if (rc < 0)
            return rc;
        if (i < output->n_shards && stat(path, &st) == 0 &&
            strcmp(shard->name, output->shard[i].name) == 0 &&
            shard->n_tokens == output->shard[i].n_tokens &&
            (uint64_t)st.st_size == shard->file_bytes)
            continue;
        rc = cllm_err(CLLM_EDATA, "%s is not the shard that was finished before", path);
        cllm_err_hint("begin again: --force");
    }
    return rc;
}

/* JSON text of a path or argument, which need not be UTF-8. */
static json_t *text_of(const char *bytes)
{
    json_t *json = json_string(bytes);

    if (json != NULL)
        return json;
    char *copy = strdup(bytes);
    if (copy == NULL)
        return NULL;
    for (char *p = copy; *p != '\0'; p++) {
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    }
    json = json_string(copy);
    free(copy);
    return json;
}

static json_t *describe_split(const struct cllm_manifest_shard *shard, uint32_t n,
                              uint64_t n_tokens, uint64_t bytes)
{
    json_t *list = json_array();
    bool ok = list != NULL;

    for (uint32_t i = 0; ok && i < n; i++)
        ok = json_array_append_new(list, cllm_manifest_pack(&shard[i])) == 0;
    if (!ok) {
        json_decref(list);
        return NULL;
    }
    return json_pack("{s:I, s:I, s:o}", "tokens", (json_int_t)n_tokens, "text_bytes",
                     (json_int_t)bytes, "shards", list);
}

static json_t *describe_sources(const struct cllm_prep_facts *facts)
{
    const struct cllm_prep_input *input = facts->input;
    json_t *list = json_array();
    bool ok = list != NULL;

    for (size_t i = 0; ok && i < input->n_sources; i++)
        ok = json_array_append_new(
                 list, json_pack("{s:o, s:I, s:I, s:I}", "path",
                                 text_of(input->source[i].argument), "files",
                                 (json_int_t)input->source[i].files, "documents",
                                 (json_int_t)facts->state->source[i].documents, "bytes",
                                 (json_int_t)facts->state->source[i].bytes)) == 0;
    if (!ok) {
        json_decref(list);
        return NULL;
    }
    return list;
}

/* The tokenizer's files as they now lie in the directory. "bytes" has none. */
static json_t *describe_files(const struct cllm_prep_output *output, bool any)
{
    static const char *const names[] = {CLLM_TOKENIZER_JSON, CLLM_TOKENIZER_VOCAB,
                                        CLLM_TOKENIZER_MERGES};
    char path[CLLM_FILE_PATH_BYTES], hex[CLLM_SHA256_HEX_BYTES];
    uint64_t bytes = 0;
    json_t *list = json_array();
    bool ok = list != NULL;

    for (size_t i = 0; ok && any && i < CLLM_LEN(names); i++) {
        ok = cllm_file_join(path, output->dir, names[i]) == 0;
        if (ok && access(path, F_OK) != 0)
            continue;
        ok = ok && cllm_sha256_file(path, hex, &bytes) == 0 &&
             json_array_append_new(list,
                                   json_pack("{s:s, s:I, s:s}", "name", names[i], "bytes",
                                             (json_int_t)bytes, "sha256", hex)) == 0;
    }
    if (!ok) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *describe_tokenizer(const struct cllm_prep_output *output,
                                  const struct cllm_prep_facts *facts)
{
    const struct cllm_tokenizer *tokenizer = facts->tokenizer;
    uint32_t eot = cllm_tokenizer_eot(tokenizer);
    bool any = cllm_tokenizer_kind(tokenizer) != CLLM_TOKENIZER_KIND_BYTES;

    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:s*}", "kind",
                     cllm_tokenizer_kind_name(tokenizer), "pattern",
                     cllm_tokenizer_pattern_name(tokenizer), "hash",
                     cllm_tokenizer_hash(tokenizer), "end_of_text",
                     eot == CLLM_TOKEN_NONE ? json_null() : json_integer((json_int_t)eot),
                     "files", describe_files(output, any), "renumbered",
                     facts->renumbered ? "frequency" : NULL);
}

static json_t *describe(const struct cllm_prep_output *output,
                        const struct cllm_prep_facts *facts)
{
    const struct cllm_prep_state *state = facts->state;
    uint32_t n_train = output->n_train_shards;
    uint64_t before = facts->split->bytes;

    return json_pack(
        "{s:s, s:i, s:o, s:I, s:I, s:o, s:f, s:I, s:I, s:I, s:I, s:o, s:o, s:o}",
        "format", "cllm-dataset", "version", 2, "tokenizer",
        describe_tokenizer(output, facts), "vocab",
        (json_int_t)cllm_tokenizer_size(facts->tokenizer), "token_bytes",
        (json_int_t)facts->token_bytes, "separator",
        facts->separator == NULL ? json_null() : text_of(facts->separator),
        "val_fraction", facts->val_fraction, "documents", (json_int_t)state->documents,
        "empty_documents", (json_int_t)state->empty, "invalid_utf8",
        (json_int_t)state->mistakes, "bad_lines", (json_int_t)state->bad, "train",
        describe_split(state->shard, n_train, output->n_train, before), "val",
        describe_split(state->shard + n_train, output->n_shards - n_train, output->n_val,
                       state->bytes - before),
        "sources", describe_sources(facts));
}

int cllm_prep_output_finish(const struct cllm_prep_output *output,
                            const struct cllm_prep_facts *facts)
{
    char path[CLLM_FILE_PATH_BYTES];
    size_t bytes = 0;
    int rc = cllm_file_join(path, output->dir, CLLM_MANIFEST_NAME);

    CLLM_ASSERT(facts->state->n_shards == output->n_shards);
    if (rc == 0 && cllm_tokenizer_kind(facts->tokenizer) != CLLM_TOKENIZER_KIND_BYTES)
        rc = cllm_tokenizer_save(facts->tokenizer, output->dir);
    if (rc < 0)
        return rc;
    json_t *json = describe(output, facts);
    char *text = json == NULL ? NULL : cllm_json_dump(json, &bytes);
    json_decref(json);
    if (text == NULL)
        rc = cllm_err(-ENOMEM, "cannot write %s", path);
    else
        rc = cllm_file_replace(path, text, bytes);
    free(text);
    return rc;
}

void cllm_prep_output_fini(struct cllm_prep_output *output)
{
    free(output->shard);
    memset(output, 0, sizeof *output);
}
