/*
 * tools/tally.c - see tools/tally.h.
 */
#include "tools/tally.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/file.h"

#define FILE_MOST  ((size_t)4 << 30)
#define LINE_BYTES 256

void cllm_tally_close(struct cllm_tally *tally)
{
    if (tally->path != NULL && tally->fd >= 0)
        (void)close(tally->fd); /* every line was written by a write that was checked */
    free(tally->value);
    *tally = (struct cllm_tally){.fd = -1};
}

/* One line at @text, of item n_done. False for anything else. */
static bool read_item(struct cllm_tally *tally, const char *text, const char *end)
{
    double *value = tally->value + tally->n_done * tally->n_values;
    char *at;

    if (tally->n_done == tally->n_items || strtoull(text, &at, 10) != tally->n_done ||
        at == text)
        return false;
    for (uint32_t i = 0; i < tally->n_values; i++) {
        const char *before = at;

        value[i] = strtod(at, &at);
        if (at == before)
            return false;
    }
    if (at != end)
        return false;
    tally->n_done++;
    return true;
}

static int refuse_identity(const struct cllm_tally *tally, const char *expected,
                           const char *found, size_t n)
{
    int rc =
        cllm_err(CLLM_EDATA, "%s holds the results of another evaluation", tally->path);

    cllm_err_detail("expected \"%s\", found \"%.*s\"", expected,
                    (int)cllm_min_u64(n, LINE_BYTES), found);
    cllm_err_hint("give another file, or remove this one");
    return rc;
}

/* Take the items that are there, and cut off what is behind them. */
static int take_file(struct cllm_tally *tally, const char *identity)
{
    char *text = NULL, *line, *end;
    size_t bytes = 0, keep = 0;
    int rc = cllm_file_read(tally->path, FILE_MOST, &text, &bytes);

    if (rc != 0)
        return rc;
    end = strchr(text, '\n');
    if (end == NULL) {
        /* Not even the first line is whole; nothing of ours may be lost. */
        if (strncmp(text, identity, bytes) != 0)
            rc = refuse_identity(tally, identity, text, bytes);
    } else if ((size_t)(end - text) != strlen(identity) ||
               memcmp(text, identity, (size_t)(end - text)) != 0) {
        rc = refuse_identity(tally, identity, text, (size_t)(end - text));
    } else {
        keep = (size_t)(end + 1 - text);
        for (line = end + 1; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            if (!read_item(tally, line, end))
                break;
            keep = (size_t)(end + 1 - text);
        }
    }
    free(text);
    if (rc == 0 && ftruncate(tally->fd, (off_t)keep) != 0)
        rc = cllm_err(-errno, "cannot cut %s", tally->path);
    if (rc == 0 && keep == 0) {
        rc = cllm_file_write_all(tally->fd, identity, strlen(identity), tally->path);
        if (rc == 0)
            rc = cllm_file_write_all(tally->fd, "\n", 1, tally->path);
    }
    return rc;
}

int cllm_tally_open(struct cllm_tally *tally, const char *path, const char *identity,
                    uint64_t n_items, uint32_t n_values)
{
    int rc = 0;

    CLLM_ASSERT(n_values >= 1 && n_values <= CLLM_TALLY_VALUES);
    *tally = (struct cllm_tally){
        .fd = -1, .path = path, .n_items = n_items, .n_values = n_values};
    tally->value = calloc(cllm_max_u64(n_items, 1), n_values * sizeof *tally->value);
    if (tally->value == NULL)
        return cllm_err(-ENOMEM, "cannot keep %" PRIu64 " results", n_items);
    if (path == NULL)
        return 0;
    tally->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (tally->fd < 0)
        rc = cllm_err(-errno, "cannot open %s", path);
    if (rc == 0)
        rc = take_file(tally, identity);
    if (rc != 0)
        cllm_tally_close(tally);
    return rc;
}

int cllm_tally_add(struct cllm_tally *tally, const double *values, uint64_t n)
{
    char line[LINE_BYTES];
    int rc = 0;

    CLLM_ASSERT(n <= tally->n_items - tally->n_done);
    for (uint64_t i = 0; rc == 0 && i < n; i++) {
        const double *value = values + i * tally->n_values;
        int used = snprintf(line, sizeof line, "%" PRIu64, tally->n_done);

        memcpy(tally->value + tally->n_done * tally->n_values, value,
               tally->n_values * sizeof *value);
        for (uint32_t k = 0; k < tally->n_values; k++)
            used += snprintf(line + used, sizeof line - (size_t)used, " %a", value[k]);
        used += snprintf(line + used, sizeof line - (size_t)used, "\n");
        if (tally->fd >= 0)
            rc = cllm_file_write_all(tally->fd, line, (size_t)used, tally->path);
        tally->n_done++;
    }
    return rc;
}

double cllm_tally_sum(const struct cllm_tally *tally, uint32_t which)
{
    double sum = 0;

    CLLM_ASSERT(which < tally->n_values);
    for (uint64_t i = 0; i < tally->n_done; i++)
        sum += tally->value[i * tally->n_values + which];
    return sum;
}
