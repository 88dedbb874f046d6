/*
 * coordinator/journal.c - journal.jsonl and metrics.jsonl: appended with one write each.
 */
#include "coordinator/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/file.h"

#define FILE_CAP (1u << 30)

/* The step of a line that begins {"step":N, ; false when it does not. */
static bool line_step(const char *line, uint64_t *step)
{
    return sscanf(line, "{\"step\":%" SCNu64 ",", step) == 1;
}

static void keep_root(struct cllm_journal *journal, const char *line, uint64_t step)
{
    const char *at = strstr(line, "\"root\":\"");
    uint64_t *grown;

    if (!at || (journal->n_expected > 0 &&
                step != journal->first_expected + journal->n_expected))
        return;
    grown = realloc(journal->expected, (journal->n_expected + 1) * sizeof *grown);
    if (!grown)
        return; /* a check less, nothing wrong */
    journal->expected = grown;
    if (journal->n_expected == 0)
        journal->first_expected = step;
    grown[journal->n_expected++] = strtoull(at + 8, NULL, 16);
}

/* Cut @path after its last line of a step up to @step; give later lines to @journal if
 * asked. */
static int open_at(const char *path, uint64_t step, struct cllm_journal *journal, int *fd)
{
    char *text = NULL, *line, *end;
    size_t bytes = 0, keep = 0;
    int rc;

    *fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (*fd < 0)
        return cllm_err(-errno, "cannot open %s", path);
    rc = cllm_file_read(path, FILE_CAP, &text, &bytes);
    if (rc != 0)
        return rc;
    /* A last line without its end was torn by a crash; it is cut with the rest. */
    for (line = text; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        uint64_t n;

        if (!line_step(line, &n))
            break;
        *end = '\0';
        if (n <= step)
            keep = (size_t)(end + 1 - text);
        else if (journal)
            keep_root(journal, line, n);
    }
    free(text);
    if (ftruncate(*fd, (off_t)keep) != 0)
        return cllm_err(-errno, "cannot cut %s to step %" PRIu64, path, step);
    return 0;
}

int cllm_journal_open(struct cllm_journal *journal, const char *run_dir, uint64_t step)
{
    char path[CLLM_FILE_PATH_BYTES];
    int rc;

    *journal = (struct cllm_journal){.journal_fd = -1, .metrics_fd = -1};
    rc = cllm_file_join(path, run_dir, "journal.jsonl");
    if (rc == 0)
        rc = open_at(path, step, journal, &journal->journal_fd);
    if (rc == 0)
        rc = cllm_file_join(path, run_dir, "metrics.jsonl");
    if (rc == 0)
        rc = open_at(path, step, NULL, &journal->metrics_fd);
    if (rc != 0)
        cllm_journal_close(journal);
    return rc;
}

void cllm_journal_close(struct cllm_journal *journal)
{
    if (journal->journal_fd >= 0)
        (void)close(journal->journal_fd); /* every line was written with its own check */
    if (journal->metrics_fd >= 0)
        (void)close(journal->metrics_fd);
    free(journal->expected);
    *journal = (struct cllm_journal){.journal_fd = -1, .metrics_fd = -1};
}

static int check_replay(const struct cllm_journal *journal,
                        const struct cllm_step_record *record)
{
    uint64_t index = record->step - journal->first_expected;
    int rc;

    if (journal->n_expected == 0 || record->step < journal->first_expected ||
        index >= journal->n_expected || journal->expected[index] == record->root)
        return 0;
    rc = cllm_err(CLLM_EDATA, "step %" PRIu64 " was done again with other bits",
                  record->step);
    cllm_err_detail("root %016" PRIx64 ", recorded %016" PRIx64, record->root,
                    journal->expected[index]);
    cllm_err_hint(
        "memory, processor or data differ from the first time; the checkpoints before "
        "this step are intact");
    return rc;
}

int cllm_journal_append(struct cllm_journal *journal,
                        const struct cllm_step_record *record,
                        const struct cllm_metrics *metrics)
{
    char line[512];
    int n, rc;

    n = snprintf(line, sizeof line,
                 "{\"step\":%" PRIu64 ",\"root\":\"%016" PRIx64 "\",\"loss\":\"%a\","
                 "\"grad_norm\":\"%a\",\"tokens\":%" PRIu64 "}\n",
                 record->step, record->root, record->loss, record->grad_norm,
                 record->tokens);
    rc = cllm_file_write_all(journal->journal_fd, line, (size_t)n, "journal.jsonl");
    if (rc != 0)
        return rc;
    n = snprintf(line, sizeof line,
                 "{\"step\":%" PRIu64 ",\"loss\":%.6f,\"learning_rate\":%.6g,"
                 "\"grad_norm\":%.6g,\"tokens\":%" PRIu64 ",\"step_s\":%.6f,"
                 "\"tokens_per_s\":%.1f,\"wait_data_s\":%.6f,\"wait_saver_s\":%.6f,"
                 "\"workers\":%u",
                 record->step, record->loss, (double)record->learning_rate,
                 record->grad_norm, record->tokens, metrics->step_s,
                 metrics->tokens_per_s, metrics->wait_data_s, metrics->wait_saver_s,
                 metrics->workers);
    if (metrics->evaluated)
        n += snprintf(line + n, sizeof line - (size_t)n, ",\"valid_loss\":%.6f",
                      record->valid_loss);
    n += snprintf(line + n, sizeof line - (size_t)n, "}\n");
    rc = cllm_file_write_all(journal->metrics_fd, line, (size_t)n, "metrics.jsonl");
    return rc != 0 ? rc : check_replay(journal, record);
}
