/*
 * coordinator/journal.c - journal.jsonl and metrics.jsonl: lines appended, never taken
 * back.
 */
#include "coordinator/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "formats/file.h"
#include "formats/mixture.h"

#define JOURNAL_NAME "journal.jsonl"
#define METRICS_NAME "metrics.jsonl"

#define FILE_CAP      (1u << 30)
#define PENDING_CAP   (16u << 20) /* lines of a disk that stays full for days */
#define PENDING_FIRST 4096

#define MIXED ",\"mixed\":true" /* of a line: made by workers whose numbers differ */

/* The step of a line that begins {"step":N, ; false when it does not. */
static bool line_step(const char *line, uint64_t *step)
{
    return sscanf(line, "{\"step\":%" SCNu64 ",", step) == 1;
}

/* Keep the root of the journal's next line; lines are steps 1, 2, 3 ... */
static bool keep_root(struct cllm_journal *journal, const char *line, uint64_t step)
{
    const char *at = strstr(line, "\"root\":\"");
    struct cllm_journal_kept *grown;

    if (!at || step != journal->n_roots + 1)
        return false;
    grown = realloc(journal->kept, (journal->n_roots + 1) * sizeof *grown);
    if (!grown)
        return false;
    journal->kept = grown;
    grown[journal->n_roots++] =
        (struct cllm_journal_kept){.root = strtoull(at + 8, NULL, 16),
                                   .poison = strstr(line, "\"skipped\":\"poison\"")};
    return true;
}

/*
 * Open @path and keep its lines up to *@last (a torn last line is cut off); a mixed one
 * after @from lowers *@last. Give the roots to @journal if it is not NULL.
 */
static int open_file(struct cllm_journal_file *file, const char *dir, uint64_t from,
                     uint64_t *last, struct cllm_journal *journal)
{
    char path[CLLM_FILE_PATH_BYTES];
    char *text = NULL, *line, *end;
    size_t keep = 0;
    int rc = cllm_file_join(path, dir, file->name);

    if (rc != 0)
        return rc;
    file->pending = malloc(PENDING_FIRST);
    if (!file->pending)
        return cllm_err(-ENOMEM, "cannot open %s", path);
    file->room = PENDING_FIRST;
    rc = cllm_fault_error(CLLM_FAULT_journal_open);
    if (rc != 0)
        return cllm_err(rc, "cannot open %s", path);
    file->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (file->fd < 0)
        return cllm_err(-errno, "cannot open %s", path);
    rc = cllm_file_read(path, FILE_CAP, &text, NULL);
    if (rc != 0)
        return rc;
    for (line = text; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        uint64_t step;

        *end = '\0';
        if (!line_step(line, &step))
            break;
        if (step > from && strstr(line, MIXED) != NULL)
            *last = cllm_min_u64(*last, step - 1);
        if (step > *last || (journal && !keep_root(journal, line, step)))
            break;
        file->last_step = step;
        keep = (size_t)(end + 1 - text);
    }
    free(text);
    rc = cllm_fault_error(CLLM_FAULT_journal_cut);
    if (rc == 0 && ftruncate(file->fd, (off_t)keep) != 0)
        rc = -errno;
    if (rc != 0)
        return cllm_err(rc, "cannot cut %s after step %" PRIu64, path, file->last_step);
    return 0;
}

/* Write what is pending; what is left stays. A line may be cut between two writes, and
 * goes on where it was cut. */
static void flush(struct cllm_journal_file *file)
{
    while (file->pending_bytes > 0) {
        size_t part = file->pending_bytes;
        int rc = cllm_fault_io(CLLM_FAULT_journal_write, &part);
        ssize_t n = rc == 0 ? write(file->fd, file->pending, part) : -1;

        if (n < 0 && rc == 0)
            rc = -errno;
        if (rc == -EINTR)
            continue;
        if (n <= 0) {
            if (!file->failing)
                cllm_warn("cannot write %s: %s; training goes on, lines wait in memory",
                          file->name, strerror(-rc));
            file->failing = true;
            return;
        }
        file->pending_bytes -= (uint64_t)n;
        memmove(file->pending, file->pending + n, file->pending_bytes);
    }
    if (file->failing)
        cllm_info("%s can be written again", file->name);
    file->failing = false;
}

static void close_file(struct cllm_journal_file *file)
{
    if (file->fd >= 0)
        flush(file); /* what failed once may go well now */
    if (file->pending_bytes > 0)
        cllm_warn("%s: the last %" PRIu64 " bytes could not be written", file->name,
                  file->pending_bytes);
    if (file->fd >= 0)
        (void)close(file->fd); /* every line was written with its own check */
    free(file->pending);
    *file = (struct cllm_journal_file){.fd = -1};
}

int cllm_journal_set_aside(const char *run_dir)
{
    static const char *const names[] = {JOURNAL_NAME, METRICS_NAME};
    char path[CLLM_FILE_PATH_BYTES], aside[CLLM_FILE_PATH_BYTES];
    struct stat st;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < CLLM_LEN(names); i++) {
        rc = cllm_file_join(path, run_dir, names[i]);
        if (rc != 0 || stat(path, &st) != 0 || st.st_size == 0)
            continue;
        rc = cllm_file_set_aside(path, aside);
        cllm_fault(CLLM_FAULT_journal_aside);
        if (rc > 0)
            cllm_info("the lines of an earlier run are kept in %s", aside);
        rc = rc < 0 ? rc : 0;
    }
    return rc;
}

int cllm_journal_open(struct cllm_journal *journal, const char *run_dir, uint64_t step,
                      bool replay)
{
    uint64_t last = replay ? UINT64_MAX : step;
    int rc;

    *journal = (struct cllm_journal){.journal = {.fd = -1, .name = JOURNAL_NAME},
                                     .metrics = {.fd = -1, .name = METRICS_NAME}};
    rc = open_file(&journal->journal, run_dir, step, &last, journal);
    if (rc == 0)
        rc = open_file(&journal->metrics, run_dir, step, &last, NULL);
    if (rc != 0)
        cllm_journal_close(journal);
    return rc;
}

void cllm_journal_close(struct cllm_journal *journal)
{
    close_file(&journal->journal);
    close_file(&journal->metrics);
    /* The analyzer forgets that keep_root() stored the new array over what realloc()
     * took. */
    free(journal->kept); /* NOLINT(clang-analyzer-unix.Malloc) */
    journal->kept = NULL;
    journal->n_roots = 0;
}

bool cllm_journal_skipped(const struct cllm_journal *journal, uint64_t step)
{
    return step > 0 && step <= journal->n_roots && journal->kept[step - 1].poison;
}

int cllm_journal_check(const struct cllm_journal *journal,
                       const struct cllm_step_record *record)
{
    int rc;

    if (record->step == 0 || record->step > journal->n_roots ||
        journal->kept[record->step - 1].root == record->root)
        return 0;
    rc = cllm_err(CLLM_EDATA, "step %" PRIu64 " was done again with other bits",
                  record->step);
    cllm_err_detail("root %016" PRIx64 ", recorded %016" PRIx64, record->root,
                    journal->kept[record->step - 1].root);
    cllm_err_hint("memory, processor or data differ from the first time; the step is not "
                  "committed, and what was saved before it is intact");
    return rc;
}

static void append(struct cllm_journal_file *file, uint64_t step, const char *line, int n)
{
    uint64_t bytes = file->pending_bytes + (uint64_t)n;

    CLLM_ASSERT(n > 0);
    if (step <= file->last_step)
        return;
    if (bytes > file->room) {
        char *grown = bytes > PENDING_CAP ? NULL : realloc(file->pending, bytes);

        if (!grown) {
            cllm_warn("%s: no room to keep the line of step %" PRIu64, file->name, step);
            return;
        }
        file->pending = grown;
        file->room = bytes;
    }
    memcpy(file->pending + file->pending_bytes, line, (size_t)n);
    file->pending_bytes = bytes;
    file->last_step = step;
    flush(file);
}

/* JSON has no NaN: null. */
static const char *number(char out[32], int digits, double value)
{
    if (!isfinite(value))
        return "null";
    (void)snprintf(out, 32, "%.*f", digits, value);
    return out;
}

/* What a line says of a step that changed no parameter. */
static const char *skip_text(uint32_t skipped)
{
    if (skipped == CLLM_SKIP_NO)
        return "";
    return skipped == CLLM_SKIP_POISON ? ",\"skipped\":\"poison\""
                                       : ",\"skipped\":\"nonfinite\"";
}

/* What devices moved and made; times only where they were measured. */
static int say_devices(char *out, size_t bytes, const struct cllm_device_counts *counts)
{
    int n = snprintf(out, bytes,
                     ",\"device_up_bytes\":%" PRIu64 ",\"device_down_bytes\":%" PRIu64
                     ",\"device_buffers_made\":%" PRIu64,
                     counts->up_bytes, counts->down_bytes, counts->creates);

    if (counts->kernel_ns == 0)
        return n;
    return n + snprintf(out + n, bytes - (size_t)n,
                        ",\"device_kernel_s\":%.6f,\"device_copy_s\":%.6f,"
                        "\"device_overlap_s\":%.6f",
                        (double)counts->kernel_ns * 1e-9, (double)counts->copy_ns * 1e-9,
                        (double)counts->overlap_ns * 1e-9);
}

void cllm_journal_append(struct cllm_journal *journal,
                         const struct cllm_step_record *record,
                         const struct cllm_metrics *metrics)
{
    char line[1024 + CLLM_MIXTURE_EPOCHS], epochs[CLLM_MIXTURE_EPOCHS];
    char loss[32], norm[32];
    int n;

    if (record->step == 0)
        return;
    n = snprintf(line, sizeof line,
                 "{\"step\":%" PRIu64 ",\"root\":\"%016" PRIx64 "\",\"loss\":\"%a\","
                 "\"grad_norm\":\"%a\",\"tokens\":%" PRIu64 "%s%s}\n",
                 record->step, record->root, record->loss, record->grad_norm,
                 record->tokens, skip_text(record->skipped),
                 record->numerics == CLLM_NUMERICS_MIXED ? MIXED : "");
    append(&journal->journal, record->step, line, n);
    cllm_fault(CLLM_FAULT_journal_written);
    if (!metrics)
        return;
    n = snprintf(line, sizeof line,
                 "{\"step\":%" PRIu64 ",\"loss\":%s,\"learning_rate\":%.6g,"
                 "\"grad_norm\":%s,\"tokens\":%" PRIu64 ",\"step_s\":%.6f,"
                 "\"tokens_per_s\":%.1f,\"lane_s\":%.6f,\"fold_s\":%.6f,"
                 "\"update_s\":%.6f,\"eval_s\":%.6f,\"wait_data_s\":%.6f,"
                 "\"wait_schedule_s\":%.6f,\"wait_saver_s\":%.6f,\"workers\":%u",
                 record->step, number(loss, 6, record->loss),
                 (double)record->learning_rate, number(norm, 6, record->grad_norm),
                 record->tokens, metrics->step_s, metrics->tokens_per_s, metrics->lane_s,
                 metrics->fold_s, metrics->update_s, metrics->eval_s,
                 metrics->wait_data_s, metrics->wait_schedule_s, metrics->wait_saver_s,
                 metrics->workers);
    if (metrics->evaluated)
        n += snprintf(line + n, sizeof line - (size_t)n, ",\"valid_loss\":%.6f",
                      record->valid_loss);
    if (metrics->mixture)
        n += snprintf(line + n, sizeof line - (size_t)n, ",\"epochs\":%s",
                      cllm_mixture_epochs(epochs, metrics->mixture, record->cursor));
    if (metrics->devices)
        n += say_devices(line + n, sizeof line - (size_t)n, metrics->devices);
    n += snprintf(line + n, sizeof line - (size_t)n, "}\n");
    append(&journal->metrics, record->step, line, n);
}
