/*
 * tests/crash/nth_run.c - start, judge, resume, compare, remove.
 */
#include "tests/crash/nth_run.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "formats/file.h"
#include "tests/crash/run_copy.h"

#define LIMIT_NS (400 * CLLM_NS_PER_S) /* the last save is tried for two minutes */
#define LOG_TAIL 1200

/* Of a program whose libraries could not be mapped: main() was never called. */
#define CODE_OF_LOADER 127

static void wrong(struct nth_verdict *verdict, const char *fmt, ...) CLLM_PRINTF(2, 3);
static void wrong(struct nth_verdict *verdict, const char *fmt, ...)
{
    size_t used = strlen(verdict->wrong);
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(verdict->wrong + used, sizeof verdict->wrong - used, fmt, ap);
    va_end(ap);
}

/* ---- a run ---- */

struct place {
    char dir[1024], log[1100];
};

static void place_of(struct nth_run *run, struct place *at)
{
    (void)snprintf(at->dir, sizeof at->dir, "%s/run-%" PRIu64, run->work, run->n_runs++);
    (void)snprintf(at->log, sizeof at->log, "%s.log", at->dir);
}

static int start(struct nth_run *run, const struct place *at, const char *bin,
                 const struct nth_fault *fault, bool trace_calls, struct nth_outcome *out)
{
    char program[1024], dir[1100], train[1024], valid[1024];
    char config[] = "configs/nano.ini", set[] = "--set", n[] = "-n", two[] = "2";
    char steps[] = "train.steps=6", every[] = "checkpoint.every=3";
    char eval[] = "train.eval_every=3", warm[] = "train.warmup=2";
    char limit[] = "run.restart_limit=4", lanes[] = "run.lanes=4";
    char batch[] = "train.batch=4", eval_batch[] = "train.eval_batch=4";
    char resume[] = "--resume";
    char *argv[] = {program, config, n,     two,  set,        dir,    set,
                    train,   set,    valid, set,  steps,      set,    every,
                    set,     eval,   set,   warm, set,        limit,  set,
                    lanes,   set,    batch, set,  eval_batch, resume, NULL};

    (void)snprintf(program, sizeof program, "%s/cllm-coord", bin);
    (void)snprintf(dir, sizeof dir, "run.dir=%s", at->dir);
    (void)snprintf(train, sizeof train, "data.train=%s/train_*.bin", run->data);
    (void)snprintf(valid, sizeof valid, "data.valid=%s/val_*.bin", run->data);
    return nth_trace_run(out, argv, at->log, fault, trace_calls, LIMIT_NS);
}

static void remove_run(const struct place *at)
{
    (void)run_copy_remove(at->dir);
    (void)unlink(at->log);
}

/* ---- what is left ---- */

/* Names below @dir into @out, a line each; only checkpoints and what is directly there.
 */
static void add_names(char *out, size_t bytes, const char *dir, const char *below)
{
    char path[2048];
    struct dirent **entry = NULL;
    struct stat st;
    int n;

    (void)snprintf(path, sizeof path, "%s/%s", dir, below);
    n = scandir(path, &entry, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char name[1024];
        size_t used = strlen(out);

        (void)snprintf(name, sizeof name, "%s%s%s", below, below[0] ? "/" : "",
                       entry[i]->d_name);
        (void)snprintf(path, sizeof path, "%s/%s", dir, name);
        if (strcmp(entry[i]->d_name, ".") != 0 && strcmp(entry[i]->d_name, "..") != 0 &&
            lstat(path, &st) == 0) {
            (void)snprintf(out + used, bytes - used, "%s\n", name);
            if (S_ISDIR(st.st_mode))
                add_names(out, bytes, dir, name);
        }
        free(entry[i]);
    }
    free(entry);
}

/* Reports of crashes; the checkpoint of an orderly stop. */
static bool may_be_there(const char *name)
{
    return strstr(name, "crash") ||
           (strncmp(name, "checkpoints/step-", 17) == 0 && !strstr(name, ".tmp"));
}

/* Names of @dir that the golden run does not have. */
static void compare_names(const struct nth_run *run, const struct place *at,
                          struct nth_verdict *verdict)
{
    char names[sizeof run->names] = "", *next, line[1100];

    add_names(names, sizeof names, at->dir, "");
    for (char *name = strtok_r(names, "\n", &next); name;
         name = strtok_r(NULL, "\n", &next)) {
        (void)snprintf(line, sizeof line, "%s\n", name);
        if (!strstr(run->names, line) && !may_be_there(name))
            wrong(verdict, "%s is left; ", name);
    }
}

static void compare_memory(const struct place *at, struct nth_verdict *verdict)
{
    char id[CLLM_RUN_ID_BYTES];
    DIR *dir = opendir("/dev/shm");
    struct dirent *entry;

    cllm_run_id_of(id, at->dir);
    while (dir && (entry = readdir(dir)) != NULL)
        if (strstr(entry->d_name, id))
            wrong(verdict, "/dev/shm/%s is left; ", entry->d_name);
    if (dir)
        (void)closedir(dir);
}

/* ---- judge ---- */

/* The end of the log, for the report; and whether it gives a reason. */
static bool log_says(const struct place *at, char tail[LOG_TAIL])
{
    FILE *file = fopen(at->log, "re");
    char line[1024];
    bool reason = false;

    tail[0] = '\0';
    while (file && fgets(line, sizeof line, file)) {
        reason = reason || strstr(line, "cannot") || strstr(line, "error:") ||
                 strstr(line, "cllm-coord:");
        if (strlen(tail) + strlen(line) >= LOG_TAIL)
            (void)memmove(tail, tail + LOG_TAIL / 2, strlen(tail + LOG_TAIL / 2) + 1);
        (void)strncat(tail, line, LOG_TAIL - strlen(tail) - 1);
    }
    if (file)
        (void)fclose(file); /* read only */
    return reason;
}

static bool documented(int code)
{
    return code == CLLM_EXIT_OK || code == CLLM_EXIT_FAILURE || code == CLLM_EXIT_DATA ||
           code == CLLM_EXIT_USAGE || code == CLLM_EXIT_BUDGET || code == CODE_OF_LOADER;
}

/*
 * The dynamic linker does without checking: no room while a program is being loaded. It
 * is its crash, and the run lives with it as with any other.
 */
static bool crash_of_library(const struct nth_outcome *out)
{
    const char *name = strrchr(out->module, '/');

    return out->signal == SIGSEGV && name && strncmp(name, "/ld-linux", 9) == 0;
}

/* How @out ended, apart from the bits. Returns the exit code, -1 for none. */
static int judge_end(const struct nth_outcome *out, const char *when,
                     struct nth_verdict *verdict)
{
    int code = WIFEXITED(out->status) ? WEXITSTATUS(out->status) : -1;

    if (out->hang)
        wrong(verdict, "%s hangs; ", when);
    if (out->stays)
        wrong(verdict, "%s leaves a process behind; ", when);
    if (out->signal != 0 && !crash_of_library(out))
        wrong(verdict, "%s: %s dies of %s in %s; ", when, nano_role_name(out->crash),
              strsignal(out->signal), out->module);
    if (!documented(code) && !(code == -1 && crash_of_library(out)))
        wrong(verdict, "%s ends with status %#x; ", when, (unsigned)out->status);
    return code;
}

static int hash_weights(const char *dir, char hex[CLLM_SHA256_HEX_BYTES])
{
    char path[2048];

    (void)snprintf(path, sizeof path, "%s/checkpoints/last/model.safetensors", dir);
    return cllm_sha256_file(path, hex, NULL);
}

/* Without @journal the weights alone: training goes on when no line can be written. */
static void judge_bits(const struct nth_run *run, const struct place *at, bool journal,
                       struct nth_verdict *verdict)
{
    char hex[CLLM_SHA256_HEX_BYTES];

    if ((journal ? nano_bits(at->dir, hex) : hash_weights(at->dir, hex)) != 0)
        wrong(verdict, "no bits: %s; ", cllm_err_text());
    else if (strcmp(hex, journal ? run->golden : run->weights) != 0)
        wrong(verdict, "other bits; ");
    compare_names(run, at, verdict);
    compare_memory(at, verdict);
}

/* A message can get lost when writing is what fails; a child that cannot begin its
 * program has its exit code alone. */
static bool message_due(const struct nth_fault *fault)
{
    return !fault->class || (strcmp(fault->class->name, "write") != 0 &&
                             strcmp(fault->class->name, "exec") != 0);
}

void nth_run_try(struct nth_run *run, const struct nth_fault *fault,
                 struct nth_verdict *verdict)
{
    const char *bin = fault->class ? run->bin : run->alloc_bin;
    struct nth_outcome out;
    struct place at = {.dir = ""};
    char tail[LOG_TAIL];
    uint64_t failed;
    bool reason, removes = fault->class && strcmp(fault->class->name, "remove") == 0;
    int code;

    *verdict = (struct nth_verdict){0};
    place_of(run, &at);
    if (!fault->class)
        *run->plan = (struct alloc_fail_plan){
            .n = fault->n, .role = (uint32_t)fault->role, .persist = fault->persist};
    if (start(run, &at, bin, fault, fault->class != NULL, &out) != 0) {
        wrong(verdict, "%s", cllm_err_text());
        return;
    }
    failed = fault->class ? out.injected : run->plan->failed;
    code = judge_end(&out, "the run", verdict);
    reason = log_says(&at, tail);
    verdict->untouched = failed == 0;
    if (code == 0) {
        verdict->ended = true;
    } else if (verdict->wrong[0] == '\0') {
        if (!reason && message_due(fault) && code != -1) /* a library says nothing */
            wrong(verdict, "exit %d without a reason; ", code);
        verdict->resumed = true;
        if (start(run, &at, run->bin, NULL, false, &out) != 0 ||
            judge_end(&out, "--resume", verdict) != 0)
            wrong(verdict, "--resume does not end well; ");
        (void)log_says(&at, tail);
    }
    if (verdict->wrong[0] == '\0' && !(removes && reason)) /* what stays was named */
        judge_bits(run, &at, !(verdict->ended && fault->persist && !message_due(fault)),
                   verdict);
    if (verdict->wrong[0] != '\0')
        wrong(verdict, "\n%s", tail);
    remove_run(&at);
}

/* ---- golden ---- */

int nth_run_count(struct nth_run *run, struct nth_outcome *out)
{
    struct place at = {.dir = ""};
    int rc;

    place_of(run, &at);
    if (run->plan)
        *run->plan = (struct alloc_fail_plan){0};
    rc = start(run, &at, run->plan ? run->alloc_bin : run->bin, NULL, true, out);
    if (rc == 0 && out->status != 0)
        rc = cllm_err(-EIO, "the undisturbed run failed: status %#x", out->status);
    remove_run(&at);
    return rc;
}

int nth_run_begin(struct nth_run *run)
{
    struct nth_outcome out;
    struct place at = {.dir = ""};
    int rc = nano_make_data(run->bin, run->data);

    if (rc != 0)
        return rc;
    place_of(run, &at);
    rc = start(run, &at, run->bin, NULL, false, &out);
    if (rc == 0 && out.status != 0)
        rc = cllm_err(-EIO, "the golden run failed: status %#x; %s says why", out.status,
                      at.log);
    if (rc == 0)
        rc = nano_bits(at.dir, run->golden);
    if (rc == 0)
        rc = hash_weights(at.dir, run->weights);
    add_names(run->names, sizeof run->names, at.dir, "");
    if (rc == 0)
        remove_run(&at);
    return rc;
}
