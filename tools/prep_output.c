/*
 * tools/prep_output.c - cut the stream into shards and describe them.
 */
#include "tools/prep_output.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/file.h"
#include "formats/json.h"

#define DATASET_NAME "dataset.json"

/* train_ or val_, digits, .bin, perhaps .tmp: a name that only we give. */
static bool is_output(const char *name)
{
    static const char *const prefixes[] = {"train_", "val_"};

    if (strcmp(name, DATASET_NAME) == 0)
        return true;
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
static void plan_split(struct cllm_prep_shard *shard, uint32_t n, const char *name,
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
                          uint64_t n_tokens, double val_fraction, uint64_t shard_tokens)
{
    memset(output, 0, sizeof *output);
    output->dir = dir;
    output->n_val = (uint64_t)((double)n_tokens * val_fraction);
    output->n_train = n_tokens - output->n_val;
    if (output->n_train < CLLM_PREP_MIN_TOKENS)
        return too_small("training", output->n_train, "give more text");
    if (val_fraction > 0 && output->n_val < CLLM_PREP_MIN_TOKENS)
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

/* The current shard is full: give it its name and read it back for its hash. */
static int end_shard(struct cllm_prep_output *output)
{
    struct cllm_prep_shard *shard = &output->shard[output->current];
    char path[CLLM_FILE_PATH_BYTES];

    output->writing = false;
    int rc = cllm_shard_writer_finish(&output->writer);
    if (rc == 0)
        rc = cllm_file_join(path, output->dir, shard->name);
    if (rc == 0)
        rc = cllm_sha256_file(path, shard->sha256, &shard->file_bytes);
    output->current++;
    return rc;
}

int cllm_prep_output_put(struct cllm_prep_output *output, const uint8_t *bytes, size_t n)
{
    char path[CLLM_FILE_PATH_BYTES];
    int rc = 0;

    while (rc == 0 && n > 0) {
        CLLM_ASSERT(output->current < output->n_shards);
        const struct cllm_prep_shard *shard = &output->shard[output->current];
        if (!output->writing) {
            rc = cllm_file_join(path, output->dir, shard->name);
            if (rc == 0)
                rc = cllm_shard_writer_begin(&output->writer, path, 2);
            if (rc < 0)
                return rc;
            output->writing = true;
        }
        size_t take = (size_t)cllm_min_u64(n, shard->n_tokens - output->writer.n_tokens);
        rc = cllm_shard_writer_put_bytes(&output->writer, bytes, take);
        bytes += take;
        n -= take;
        if (rc == 0 && output->writer.n_tokens == shard->n_tokens)
            rc = end_shard(output);
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

static json_t *describe_split(const struct cllm_prep_shard *shard, uint32_t n,
                              uint64_t n_tokens)
{
    json_t *list = json_array();
    bool ok = list != NULL;

    for (uint32_t i = 0; ok && i < n; i++)
        ok = json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:s}", "name",
                                                   shard[i].name, "tokens",
                                                   (json_int_t)shard[i].n_tokens, "bytes",
                                                   (json_int_t)shard[i].file_bytes,
                                                   "sha256", shard[i].sha256)) == 0;
    if (!ok) {
        json_decref(list);
        return NULL;
    }
    return json_pack("{s:I, s:o}", "tokens", (json_int_t)n_tokens, "shards", list);
}

static json_t *describe_sources(const struct cllm_prep_input *input)
{
    json_t *list = json_array();
    bool ok = list != NULL;

    for (size_t i = 0; ok && i < input->n_sources; i++)
        ok = json_array_append_new(
                 list,
                 json_pack("{s:o, s:I, s:I}", "path", text_of(input->source[i].argument),
                           "documents", (json_int_t)input->source[i].documents, "bytes",
                           (json_int_t)input->source[i].bytes)) == 0;
    if (!ok) {
        json_decref(list);
        return NULL;
    }
    return list;
}

int cllm_prep_output_finish(struct cllm_prep_output *output,
                            const struct cllm_prep_facts *facts)
{
    char path[CLLM_FILE_PATH_BYTES];
    size_t bytes = 0;
    uint32_t n_train = output->n_train_shards;

    CLLM_ASSERT(output->current == output->n_shards);
    json_t *json = json_pack(
        "{s:s, s:i, s:s, s:i, s:i, s:o, s:f, s:I, s:o, s:o, s:o}", "format",
        "cllm-dataset", "version", 1, "tokenizer", "bytes", "vocab", 256, "token_bytes",
        2, "separator", text_of(facts->separator), "val_fraction", facts->val_fraction,
        "documents", (json_int_t)facts->input->n_documents, "train",
        describe_split(output->shard, n_train, output->n_train), "val",
        describe_split(output->shard + n_train, output->n_shards - n_train,
                       output->n_val),
        "sources", describe_sources(facts->input));
    char *text = json == NULL ? NULL : cllm_json_dump(json, &bytes);
    int rc = cllm_file_join(path, output->dir, DATASET_NAME);

    json_decref(json);
    if (rc == 0 && text == NULL)
        rc = cllm_err(-ENOMEM, "cannot write %s", path);
    if (rc == 0)
        rc = cllm_file_replace(path, text, bytes);
    free(text);
    return rc;
}

void cllm_prep_output_undo(struct cllm_prep_output *output)
{
    int fd = open(output->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return; /* the first failure is the one to report */
    for (uint32_t i = 0; i < output->current && i < output->n_shards; i++)
        (void)unlinkat(fd, output->shard[i].name, 0);
    (void)close(fd);
}

void cllm_prep_output_fini(struct cllm_prep_output *output)
{
    if (output->writing)
        cllm_shard_writer_abort(&output->writer);
    free(output->shard);
    memset(output, 0, sizeof *output);
}
