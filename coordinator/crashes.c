/*
 * coordinator/crashes.c - see coordinator/crashes.h.
 */
#include "coordinator/crashes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/err.h"
#include "base/log.h"
#include "shm/crash_text.h"

/* 12 for "12.txt", 0 for everything else. */
static uint32_t number_of(const char *name)
{
    char again[32];
    unsigned long n = strtoul(name, NULL, 10);

    (void)snprintf(again, sizeof again, "%lu.txt", n);
    return n < UINT32_MAX && strcmp(name, again) == 0 ? (uint32_t)n : 0;
}

/* Number of the next file; old files are removed on the way. @dir is open. */
static uint32_t next_number(DIR *dir)
{
    struct dirent *entry;
    uint32_t newest = 0;

    while ((entry = readdir(dir)) != NULL)
        newest = (uint32_t)cllm_max_u64(newest, number_of(entry->d_name));
    rewinddir(dir);
    while ((entry = readdir(dir)) != NULL) {
        uint32_t n = number_of(entry->d_name);

        if (n != 0 && n + CLLM_CRASHES_KEPT <= newest + 1)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    return newest + 1;
}

static void print_time(FILE *out)
{
    time_t now = time(NULL);
    struct tm tm;
    char text[40];

    if (localtime_r(&now, &tm) && strftime(text, sizeof text, "%F %T %z", &tm) > 0)
        (void)fprintf(out, "time: %s\n", text);
}

/* The line above all others says what Node Zero said of it. */
static void print_head(FILE *out, const struct cllm_control *control, uint32_t slot,
                       const struct cllm_ending *ending)
{
    const struct cllm_command *command = &control->slots[slot].command;
    const struct cllm_status *status = &control->slots[slot].own.status;
    const struct cllm_state *state = control->state;
    int n_words = (int)strnlen(status->last_words, sizeof status->last_words);

    (void)fprintf(out, "%s %u (pid %u) %s%s%s\n\n", cllm_role_name(command->role), slot,
                  command->pid, ending->text, ending->where[0] ? ": " : "",
                  ending->where);
    print_time(out);
    (void)fprintf(out, "run: %s, CLLM " CLLM_VERSION "\n", control->header->run_id);
    (void)fprintf(out, "process: %s, slot %u, generation %u, pid %u\n",
                  cllm_role_name(command->role), slot,
                  cllm_load_relaxed(&command->generation), command->pid);
    (void)fprintf(out, "run's step: %" PRIu64 " committed, phase %s\n",
                  cllm_load_relaxed(&state->committed),
                  cllm_phase_name(cllm_load_relaxed(&state->phase)));
    if (command->posted > command->reported) {
        const struct cllm_assignment *work =
            &command->assignment[(command->reported + 1) & 1];

        (void)fprintf(out, "asked: %s, step %" PRIu64 ", assignment %" PRIu64,
                      cllm_work_name(work->kind), work->step, command->reported + 1);
        if (work->kind == CLLM_WORK_LANE || work->kind == CLLM_WORK_EVAL)
            (void)fprintf(out, ", lane %u", work->lane);
        else if (work->chunk_hi > work->chunk_lo)
            (void)fprintf(out, ", chunks %u..%u", work->chunk_lo, work->chunk_hi - 1);
        (void)fprintf(out, "\n");
    }
    if (n_words > 0)
        (void)fprintf(out, "last words: %.*s\n", n_words, status->last_words);
}

/* Open the next file for writing. Returns NULL with error text. */
static FILE *create(const char *directory, uint32_t *number)
{
    char path[CLLM_PATH_BYTES + 32];
    FILE *out = NULL;
    DIR *dir;
    int fd;

    if (mkdir(directory, 0777) != 0 && errno != EEXIST) {
        (void)cllm_err(-errno, "cannot make %s", directory);
        return NULL;
    }
    dir = opendir(directory);
    if (!dir) {
        (void)cllm_err(-errno, "cannot list %s", directory);
        return NULL;
    }
    *number = next_number(dir);
    (void)closedir(dir); /* read only */
    (void)snprintf(path, sizeof path, "%s/%u.txt", directory, *number);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0)
        out = fdopen(fd, "w");
    if (!out) {
        (void)cllm_err(-errno, "cannot create %s", path);
        if (fd >= 0)
            (void)close(fd); /* nothing was written */
    }
    return out;
}

static int write_file(const struct cllm_control *control, uint32_t slot,
                      const char *binaries, const struct cllm_crash_record *record,
                      struct cllm_ending *ending)
{
    char directory[CLLM_PATH_BYTES + 16];
    uint32_t number = 0;
    bool failed;
    FILE *out;

    (void)snprintf(directory, sizeof directory, "%s/crash", control->header->run_dir);
    out = create(directory, &number);
    if (!out)
        return -EIO;
    print_head(out, control, slot, ending);
    if (record)
        cllm_crash_print(out, record, &control->header->geometry, binaries);
    else
        (void)fprintf(out, "record: none; it ended before it could write one\n");
    failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed)
        return cllm_err(-errno, "cannot write %s/%u.txt", directory, number);
    ending->crash = number;
    return 0;
}

void cllm_crashes_keep(const struct cllm_control *control, uint32_t slot,
                       const char *binaries, struct cllm_ending *ending)
{
    const struct cllm_command *command = &control->slots[slot].command;
    struct cllm_crash_record record;
    bool have;

    if (!ending->by_signal || !cllm_crash_signal(ending->code))
        return;
    have = cllm_crash_read(control, slot, &record) && record.pid == command->pid &&
           record.generation == cllm_load_relaxed(&command->generation) &&
           record.signo == ending->code;
    if (have)
        cllm_crash_phrase(ending->where, &record, &control->header->geometry);
    if (write_file(control, slot, binaries, have ? &record : NULL, ending) != 0)
        cllm_warn("%s; the run goes on", cllm_err_text());
}
