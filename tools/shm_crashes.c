/*
 * tools/shm_crashes.c - see tools/shm_crashes.h.
 */
#include "tools/shm_crashes.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/atomic.h"
#include "base/err.h"
#include "shm/crash_text.h"
#include "tools/shm_view.h"

#define MOST_FILES 1000 /* Node Zero keeps fewer */

/* ---- files ---- */

/* 12 for "12.txt", 0 for everything else. */
static uint32_t number_of(const char *name)
{
    char again[32];
    unsigned long n = strtoul(name, NULL, 10);

    (void)snprintf(again, sizeof again, "%lu.txt", n);
    return n < UINT32_MAX && strcmp(name, again) == 0 ? (uint32_t)n : 0;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = ((const struct cllm_shm_crash_file *)a)->number;
    uint32_t y = ((const struct cllm_shm_crash_file *)b)->number;

    return (x > y) - (x < y);
}

/* First line and time of a file; one that cannot be read says so in its place. */
static void read_file(struct cllm_shm_crash_file *file, const char *directory)
{
    char path[CLLM_PATH_BYTES + 64], line[sizeof file->text] = "";
    struct stat st;
    FILE *in;

    (void)snprintf(path, sizeof path, "%s/%u.txt", directory, file->number);
    in = fopen(path, "re");
    if (in && fstat(fileno(in), &st) == 0)
        file->unix_s = (int64_t)st.st_mtim.tv_sec;
    if (!in)
        (void)snprintf(line, sizeof line, "(cannot be read: %s)", strerror(errno));
    else if (!fgets(line, sizeof line, in))
        (void)snprintf(line, sizeof line, "(empty)");
    if (in)
        (void)fclose(in); /* read only */
    line[strcspn(line, "\n")] = '\0';
    cllm_shm_clean_text(file->text, sizeof file->text, line, sizeof line);
}

static int take_files(struct cllm_shm_crashes *crashes)
{
    char directory[CLLM_PATH_BYTES + 16];
    struct dirent *entry;
    DIR *dir;

    (void)snprintf(directory, sizeof directory, "%s/crash", crashes->run_dir);
    dir = opendir(directory);
    if (!dir)
        return errno == ENOENT || errno == ENOTDIR
                   ? 0
                   : cllm_err(-errno, "cannot list %s", directory);
    crashes->file = calloc(MOST_FILES, sizeof *crashes->file);
    while (crashes->file && crashes->n_files < MOST_FILES &&
           (entry = readdir(dir)) != NULL) {
        uint32_t number = number_of(entry->d_name);

        if (number != 0)
            crashes->file[crashes->n_files++].number = number;
    }
    (void)closedir(dir); /* read only */
    if (!crashes->file)
        return cllm_err(-ENOMEM, "cannot list %s", directory);
    qsort(crashes->file, crashes->n_files, sizeof *crashes->file, by_number);
    for (uint32_t i = 0; i < crashes->n_files; i++)
        read_file(&crashes->file[i], directory);
    return 0;
}

/* ---- shared memory ---- */

int cllm_shm_crashes_copy(struct cllm_shm_crashes *crashes,
                          const struct cllm_control *control)
{
    uint32_t n = control->header->geometry.n_slots;

    *crashes = (struct cllm_shm_crashes){0};
    cllm_shm_clean_text(crashes->run_dir, sizeof crashes->run_dir,
                        control->header->run_dir, sizeof control->header->run_dir);
    crashes->slot = calloc(n, sizeof *crashes->slot);
    if (!crashes->slot)
        return cllm_err(-ENOMEM, "cannot copy the crash records");
    for (uint32_t i = 0; i < n; i++) {
        struct cllm_shm_crash_slot *slot = &crashes->slot[crashes->n_slots];
        uint32_t generation = cllm_load_relaxed(&control->slots[i].command.generation);

        if (!cllm_crash_read(control, i, &slot->record))
            continue;
        slot->now = slot->record.generation == generation;
        cllm_crash_phrase(slot->phrase, &slot->record, &control->header->geometry);
        crashes->n_slots++;
    }
    return 0;
}

int cllm_shm_crashes_take(struct cllm_shm_crashes *crashes, const char *run_id,
                          const char *run_dir)
{
    struct cllm_control control;
    int rc = 0;

    *crashes = (struct cllm_shm_crashes){0};
    if (run_id) {
        if (cllm_control_attach(&control, run_id, CLLM_NONE) != CLLM_ATTACH_OK)
            return cllm_err(CLLM_EDATA, "cannot look into the shared memory of run %s",
                            run_id);
        rc = cllm_shm_crashes_copy(crashes, &control);
        cllm_control_detach(&control);
    } else {
        (void)snprintf(crashes->run_dir, sizeof crashes->run_dir, "%s", run_dir);
    }
    if (rc == 0)
        rc = take_files(crashes);
    if (rc != 0)
        cllm_shm_crashes_fini(crashes);
    return rc;
}

void cllm_shm_crashes_fini(struct cllm_shm_crashes *crashes)
{
    free(crashes->file);
    free(crashes->slot);
    *crashes = (struct cllm_shm_crashes){0};
}

/* ---- printing ---- */

static const char *time_text(char out[32], int64_t unix_s)
{
    time_t t = (time_t)unix_s;
    struct tm tm;

    if (!localtime_r(&t, &tm) || strftime(out, 32, "%F %H:%M:%S", &tm) == 0)
        (void)snprintf(out, 32, "?");
    return out;
}

static void text_slot(FILE *out, const struct cllm_shm_crash_slot *slot)
{
    const struct cllm_crash_record *record = &slot->record;
    char name[16];

    (void)fprintf(out, "  %s %u (pid %u, generation %u%s) %s: %s\n",
                  cllm_role_name(record->role), record->slot, record->pid,
                  record->generation, slot->now ? "" : ", replaced since",
                  cllm_crash_signal_name(record->signo, name), slot->phrase);
}

void cllm_shm_crashes_text(FILE *out, const struct cllm_shm_crashes *crashes)
{
    char when[32];

    if (crashes->n_files == 0 && crashes->n_slots == 0) {
        (void)fprintf(out,
                      "No process of %s has crashed. (A process that was killed with "
                      "SIGKILL leaves no record.)\n",
                      crashes->run_dir);
        return;
    }
    if (crashes->n_files > 0)
        (void)fprintf(out, "Files in %s/crash, the newest last:\n", crashes->run_dir);
    for (uint32_t i = 0; i < crashes->n_files; i++)
        (void)fprintf(out, "  %u.txt  %s  %s\n", crashes->file[i].number,
                      time_text(when, crashes->file[i].unix_s), crashes->file[i].text);
    if (crashes->n_slots == 0)
        return;
    (void)fprintf(out, "%sThe newest record of each process slot, in shared memory:\n",
                  crashes->n_files > 0 ? "\n" : "");
    for (uint32_t i = 0; i < crashes->n_slots; i++)
        text_slot(out, &crashes->slot[i]);
}

static json_t *hex(uint64_t value)
{
    return json_sprintf("%016" PRIx64, value);
}

static json_t *json_slot(const struct cllm_shm_crash_slot *slot)
{
    const struct cllm_crash_record *record = &slot->record;
    json_t *out = json_object(), *frames = json_array();
    char name[16], code[CLLM_CRASH_PLACE];

    (void)json_object_set_new(out, "role", json_string(cllm_role_name(record->role)));
    (void)json_object_set_new(out, "slot", json_integer(record->slot));
    (void)json_object_set_new(out, "generation", json_integer(record->generation));
    (void)json_object_set_new(out, "replaced", json_boolean(!slot->now));
    (void)json_object_set_new(out, "pid", json_integer(record->pid));
    (void)json_object_set_new(out, "thread", json_integer(record->thread));
    (void)json_object_set_new(out, "signal",
                              json_string(cllm_crash_signal_name(record->signo, name)));
    (void)json_object_set_new(out, "code", json_integer(record->code));
    (void)json_object_set_new(out, "text", json_string(slot->phrase));
    (void)json_object_set_new(out, "address", hex(record->address));
    (void)json_object_set_new(out, "region", json_string(record->region));
    (void)json_object_set_new(out, "region_offset",
                              json_integer((json_int_t)record->region_off));
    (void)json_object_set_new(out, "work", json_string(cllm_work_name(record->work)));
    (void)json_object_set_new(out, "step", json_integer((json_int_t)record->step));
    (void)json_object_set_new(out, "lane",
                              record->lane == CLLM_NONE ? json_null()
                                                        : json_integer(record->lane));
    for (uint32_t i = 0; i < record->n_frames; i++) {
        cllm_crash_code(code, record, record->frame[i]);
        (void)json_array_append_new(frames, json_string(code));
    }
    (void)json_object_set_new(out, "frames", frames);
    return out;
}

json_t *cllm_shm_crashes_json(const struct cllm_shm_crashes *crashes)
{
    json_t *out = json_object(), *files = json_array(), *records = json_array();

    (void)json_object_set_new(out, "run_dir", json_string(crashes->run_dir));
    for (uint32_t i = 0; i < crashes->n_files; i++) {
        json_t *file = json_object();

        (void)json_object_set_new(file, "number", json_integer(crashes->file[i].number));
        (void)json_object_set_new(
            file, "path",
            json_sprintf("%s/crash/%u.txt", crashes->run_dir, crashes->file[i].number));
        (void)json_object_set_new(file, "unix_s",
                                  json_integer((json_int_t)crashes->file[i].unix_s));
        (void)json_object_set_new(file, "text", json_string(crashes->file[i].text));
        (void)json_array_append_new(files, file);
    }
    for (uint32_t i = 0; i < crashes->n_slots; i++)
        (void)json_array_append_new(records, json_slot(&crashes->slot[i]));
    (void)json_object_set_new(out, "files", files);
    (void)json_object_set_new(out, "records", records);
    return out;
}
