/*
 * formats/dataset.c - patterns to shards, windows to places, and the manifest both ways.
 */
#include "formats/dataset.h"

#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/pulse.h"
#include "formats/file.h"
#include "formats/manifest.h"

#define HASH_EDGE_BYTES 4096 /* of each end of a shard's tokens */

/* Append the shard at absolute @path, opened and checked. */
static int add_shard(struct cllm_dataset *dataset, const char *path,
                     enum cllm_shard_format format)
{
    struct cllm_shard shard;

    for (uint32_t i = 0; i < dataset->n_shards; i++) {
        if (strcmp(dataset->shard[i].path, path) == 0) {
            int rc = cllm_err(CLLM_ECONFIG, "the shard %s is given twice", path);
            cllm_err_hint("remove one; see whether two patterns overlap");
            return rc;
        }
    }
    if (strpbrk(path, "\t\n") != NULL)
        return cllm_err(CLLM_ECONFIG, "a shard's path must not hold tabs or newlines: %s",
                        path);
    struct cllm_shard *larger =
        realloc(dataset->shard, (dataset->n_shards + 1) * sizeof *larger);
    if (larger == NULL)
        return cllm_err(-ENOMEM, "cannot list the shards");
    dataset->shard = larger;
    int rc = cllm_shard_open_as(&shard, path, format);
    if (rc < 0)
        return rc;
    dataset->shard[dataset->n_shards++] = shard;
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    const char *const *left = a;
    const char *const *right = b;

    return strcmp(*left, *right);
}

static int no_match(const char *pattern)
{
    char here[PATH_MAX];
    int rc = cllm_err(CLLM_ECONFIG, "no shard matches %s", pattern);

    if (pattern[0] == '/')
        cllm_err_detail("found no file of that name");
    else
        cllm_err_detail("looked from the current directory, %s",
                        getcwd(here, sizeof here) != NULL ? here : "(unknown)");
    cllm_err_hint("make shards with cllm-prep, or mend [data]");
    return rc;
}

/* Append all that @pattern names, sorted. */
static int add_pattern(struct cllm_dataset *dataset, const char *pattern,
                       enum cllm_shard_format format)
{
    char path[PATH_MAX];
    glob_t found;
    int rc = glob(pattern, GLOB_NOSORT | GLOB_TILDE, NULL, &found);

    if (rc == GLOB_NOMATCH)
        return no_match(pattern);
    if (rc != 0)
        return cllm_err(rc == GLOB_NOSPACE ? -ENOMEM : -EIO, "cannot list %s", pattern);
    qsort(found.gl_pathv, found.gl_pathc, sizeof *found.gl_pathv, compare_names);
    for (size_t i = 0; rc == 0 && i < found.gl_pathc; i++) {
        if (realpath(found.gl_pathv[i], path) == NULL)
            rc = cllm_err(-errno, "cannot open the shard %s", found.gl_pathv[i]);
        else
            rc = add_shard(dataset, path, format);
        cllm_pulse();
    }
    globfree(&found);
    return rc;
}

/* Number the windows of the shards. */
static int count_windows(struct cllm_dataset *dataset, uint32_t window_tokens)
{
    CLLM_ASSERT(window_tokens > 0);
    if (dataset->n_shards == 0)
        return cllm_err(CLLM_ECONFIG, "a data set needs at least one shard");
    dataset->window_tokens = window_tokens;
    dataset->window_first =
        calloc((size_t)dataset->n_shards + 1, sizeof *dataset->window_first);
    if (dataset->window_first == NULL)
        return cllm_err(-ENOMEM, "cannot list the windows");
    for (uint32_t i = 0; i < dataset->n_shards; i++) {
        const struct cllm_shard *shard = &dataset->shard[i];
        if (shard->n_tokens <= window_tokens) {
            int rc = cllm_err(CLLM_EDATA, "%s is shorter than the context", shard->path);
            cllm_err_detail("a window is context + 1 tokens: expected %u or more, found "
                            "%" PRIu64,
                            window_tokens + 1, shard->n_tokens);
            cllm_err_hint("lower [model] context, or make longer shards");
            return rc;
        }
        dataset->window_first[i + 1] =
            dataset->window_first[i] + (shard->n_tokens - 1) / window_tokens;
        dataset->n_tokens += shard->n_tokens;
    }
    dataset->n_windows = dataset->window_first[dataset->n_shards];
    return 0;
}

int cllm_dataset_open(struct cllm_dataset *dataset, char *const *patterns,
                      uint32_t n_patterns, uint32_t window_tokens)
{
    return cllm_dataset_open_as(dataset, patterns, n_patterns, window_tokens,
                                CLLM_SHARD_AUTO);
}

int cllm_dataset_open_as(struct cllm_dataset *dataset, char *const *patterns,
                         uint32_t n_patterns, uint32_t window_tokens,
                         enum cllm_shard_format format)
{
    int rc = 0;

    memset(dataset, 0, sizeof *dataset);
    for (uint32_t i = 0; rc == 0 && i < n_patterns; i++)
        rc = add_pattern(dataset, patterns[i], format);
    if (rc == 0)
        rc = cllm_manifest_check(dataset->shard, dataset->n_shards);
    if (rc == 0)
        rc = count_windows(dataset, window_tokens);
    if (rc < 0)
        cllm_dataset_close(dataset);
    return rc;
}

void cllm_dataset_close(struct cllm_dataset *dataset)
{
    for (uint32_t i = 0; i < dataset->n_shards; i++)
        cllm_shard_close(&dataset->shard[i]);
    free(dataset->shard);
    free(dataset->window_first);
    memset(dataset, 0, sizeof *dataset);
}

void cllm_dataset_locate(const struct cllm_dataset *dataset, uint64_t window,
                         uint32_t *shard, uint64_t *token_off)
{
    uint32_t low = 0;
    uint32_t high = dataset->n_shards; /* the answer is in [low, high) */

    CLLM_ASSERT(window < dataset->n_windows);
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (dataset->window_first[middle] <= window)
            low = middle;
        else
            high = middle;
    }
    *shard = low;
    *token_off = (window - dataset->window_first[low]) * dataset->window_tokens;
}

int cllm_dataset_check_tokens(const struct cllm_dataset *dataset, uint32_t vocab,
                              uint64_t limit)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < dataset->n_shards; i++) {
        rc = cllm_shard_check_tokens(&dataset->shard[i], vocab, limit);
        cllm_pulse();
    }
    return rc;
}

char *cllm_dataset_manifest(const struct cllm_dataset *dataset, size_t *bytes)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    bool ok = out != NULL;

    for (uint32_t i = 0; ok && i < dataset->n_shards; i++) {
        const struct cllm_shard *shard = &dataset->shard[i];
        bool plain = shard->format == CLLM_SHARD_LLMC;
        ok = fprintf(out, "%s\t%" PRIu64 "\t%u\t%" PRIu64 "%s%s\n", shard->path,
                     shard->n_tokens, shard->token_bytes, shard->file_bytes,
                     plain ? "" : "\t",
                     plain ? "" : cllm_shard_format_name(shard->format)) > 0;
    }
    if (out != NULL && fclose(out) != 0)
        ok = false;
    if (!ok) {
        free(text);
        return NULL;
    }
    if (bytes != NULL)
        *bytes = len;
    return text;
}

/* A whole number that ends at @end, a tab or the line's end. */
static bool parse_number(const char **at, const char *end, uint64_t *out)
{
    const char *p = *at;
    uint64_t value = 0;

    if (p == end || *p != '\t')
        return false;
    p++;
    if (p == end || *p < '0' || *p > '9')
        return false;
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        if (value > (UINT64_MAX - 9) / 10)
            return false;
        value = value * 10 + (uint64_t)(*p - '0');
    }
    *at = p;
    *out = value;
    return true;
}

/* Nothing, or a tab and the name of a format, up to @end. */
static bool parse_format(const char *at, const char *end, enum cllm_shard_format *out)
{
    *out = CLLM_SHARD_LLMC;
    if (at == end)
        return true;
    if (*at++ != '\t')
        return false;
    for (int i = CLLM_SHARD_NANOGPT; i < CLLM_N_SHARD_FORMATS; i++) {
        const char *name = cllm_shard_format_name((enum cllm_shard_format)i);

        *out = (enum cllm_shard_format)i;
        if (strlen(name) == (size_t)(end - at) &&
            memcmp(name, at, (size_t)(end - at)) == 0)
            return true;
    }
    return false;
}

int cllm_dataset_parse_line(struct cllm_dataset_line *out, const char **text,
                            const char *end, uint32_t number)
{
    const char *line = *text;
    const char *newline = memchr(line, '\n', (size_t)(end - line));

    if (newline == NULL)
        return cllm_err(CLLM_EDATA, "manifest of the data: line %u: it has no end",
                        number);
    const char *tab = memchr(line, '\t', (size_t)(newline - line));
    const char *at = tab;
    if (tab == NULL || tab == line || line[0] != '/' ||
        (size_t)(tab - line) >= sizeof out->path ||
        memchr(line, '\0', (size_t)(tab - line)) != NULL ||
        !parse_number(&at, newline, &out->n_tokens) ||
        !parse_number(&at, newline, &out->token_bytes) ||
        !parse_number(&at, newline, &out->file_bytes) ||
        !parse_format(at, newline, &out->format))
        return cllm_err(CLLM_EDATA,
                        "manifest of the data: line %u: expected PATH, tokens, "
                        "bytes of a token, bytes of the file, format",
                        number);
    memcpy(out->path, line, (size_t)(tab - line));
    out->path[tab - line] = '\0';
    *text = newline + 1;
    return 0;
}

/* Open the shard of one line, and hold it against what the line says. */
static int add_line(struct cllm_dataset *dataset, const struct cllm_dataset_line *line)
{
    int rc = add_shard(dataset, line->path, line->format);

    if (rc < 0)
        return rc;
    const struct cllm_shard *shard = &dataset->shard[dataset->n_shards - 1];
    if (shard->n_tokens == line->n_tokens && shard->token_bytes == line->token_bytes &&
        shard->file_bytes == line->file_bytes)
        return 0;
    rc = cllm_err(CLLM_EDATA, "%s has changed since the run began", line->path);
    cllm_err_detail(
        "expected %" PRIu64 " tokens of %" PRIu64 " bytes, found %" PRIu64 " of %u",
        line->n_tokens, line->token_bytes, shard->n_tokens, shard->token_bytes);
    return rc;
}

int cllm_dataset_from_manifest(struct cllm_dataset *dataset, const char *text,
                               size_t bytes, uint32_t window_tokens)
{
    const char *end = text + bytes;
    struct cllm_dataset_line line = {0};
    uint32_t number = 0;
    int rc = 0;

    memset(dataset, 0, sizeof *dataset);
    while (rc == 0 && text < end) {
        rc = cllm_dataset_parse_line(&line, &text, end, ++number);
        if (rc == 0)
            rc = add_line(dataset, &line);
    }
    if (rc == 0)
        rc = count_windows(dataset, window_tokens);
    if (rc < 0)
        cllm_dataset_close(dataset);
    return rc;
}

/* The shard's name, sizes and the edges of its data. */
static int hash_shard(struct cllm_hasher *hasher, const struct cllm_shard *shard)
{
    uint8_t edge[HASH_EDGE_BYTES];
    const char *slash = strrchr(shard->path, '/');
    const char *name = slash == NULL ? shard->path : slash + 1;
    uint64_t kind =
        cllm_token_signed(shard->kind) ? shard->token_bytes | 256 : shard->token_bytes;
    uint64_t sizes[3] = {shard->n_tokens, kind, shard->file_bytes};
    uint64_t data = shard->file_bytes - shard->data_off;
    size_t n = (size_t)cllm_min_u64(data, sizeof edge);

    cllm_hasher_add(hasher, name, strlen(name) + 1);
    cllm_hasher_add(hasher, sizes, sizeof sizes);
    int rc = cllm_file_pread_all(shard->fd, edge, n, shard->data_off, shard->path);
    if (rc < 0)
        return rc;
    cllm_hasher_add(hasher, edge, n);
    rc = cllm_file_pread_all(shard->fd, edge, n, shard->file_bytes - n, shard->path);
    if (rc < 0)
        return rc;
    cllm_hasher_add(hasher, edge, n);
    return 0;
}

int cllm_dataset_hash(const struct cllm_dataset *dataset, uint64_t *hash)
{
    struct cllm_hasher *hasher = cllm_hasher_new();
    int rc = 0;

    if (hasher == NULL)
        return cllm_err(-ENOMEM, "cannot hash the data");
    cllm_hasher_begin(hasher, 0);
    for (uint32_t i = 0; rc == 0 && i < dataset->n_shards; i++) {
        rc = hash_shard(hasher, &dataset->shard[i]);
        cllm_pulse();
    }
    if (rc == 0)
        *hash = cllm_hasher_end(hasher);
    cllm_hasher_free(&hasher);
    return rc;
}
