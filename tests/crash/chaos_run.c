/*
 * tests/crash/chaos_run.c - what tests/crash/nano.c starts, many times and of many kinds.
 */
#include "tests/crash/chaos_run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/err.h"

int chaos_bench_init(struct chaos_bench *bench, const char *bin, const char *ini,
                     const char *const *set)
{
    const char *tmp = getenv("TMPDIR");
    char *absolute;

    *bench = (struct chaos_bench){.bin = bin, .ini = ini, .set = set};
    (void)snprintf(bench->work, sizeof bench->work, "%.200s/cllm-chaos.XXXXXX",
                   tmp ? tmp : "/tmp");
    (void)prctl(PR_SET_TIMERSLACK, 1000); /* short sleeps between two looks */
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0 || !mkdtemp(bench->work))
        return cllm_err(-errno, "cannot make a directory for runs in %s", bench->work);
    absolute = realpath(bench->work, NULL);
    if (absolute && strlen(absolute) < sizeof bench->work)
        (void)snprintf(bench->work, sizeof bench->work, "%s", absolute);
    free(absolute);
    (void)snprintf(bench->data, sizeof bench->data, "%s/data", bench->work);
    return nano_make_data(bin, bench->data);
}

void chaos_bench_fini(struct chaos_bench *bench, bool keep)
{
    if (!keep && cllm_file_remove_tree(bench->work) != 0)
        cllm_err_print("chaos");
}

void chaos_kind_set(struct chaos_kind *kind, const char *fmt, ...)
{
    va_list args;
    int n;

    CLLM_ASSERT(kind->n_sets < CHAOS_SETS);
    va_start(args, fmt);
    n = vsnprintf(kind->set[kind->n_sets++], CHAOS_SET_BYTES, fmt, args);
    va_end(args);
    CLLM_ASSERT(n > 0 && n < CHAOS_SET_BYTES);
}

int chaos_kind_finish(struct chaos_kind *kind, const struct chaos_bench *bench)
{
    struct cllm_config config;
    int rc;

    if (!kind->ini)
        kind->ini = bench->ini;
    chaos_kind_set(kind, "train.steps=%" PRIu64, kind->steps);
    chaos_kind_set(kind, "run.restart_limit=1000000");
    if (kind->spares > 0)
        chaos_kind_set(kind, "run.spares=%u", kind->spares);
    for (uint32_t i = 0; bench->set[i]; i++)
        chaos_kind_set(kind, "%s", bench->set[i]);
    cllm_config_init(&config);
    rc = cllm_config_read(&config, kind->ini);
    for (uint32_t i = 0; rc == 0 && i < kind->n_sets; i++)
        rc = cllm_config_set(&config, kind->set[i]);
    kind->sequences = config.train_batch;
    kind->context = config.model_context;
    cllm_config_fini(&config);
    return rc;
}

/* ---- one run ---- */

void chaos_run_init(struct chaos_run *run, const struct chaos_bench *bench,
                    const struct chaos_kind *kind, const char *name)
{
    *run = (struct chaos_run){.bench = bench, .kind = kind, .nano = {.pidfd = -1}};
    (void)snprintf(run->dir, sizeof run->dir, "%s/%.40s", bench->work, name);
}

int chaos_run_start(struct chaos_run *run, bool resume)
{
    const char *set[CHAOS_SETS + 1] = {NULL};
    const struct nano_plan plan = {.bin = run->bench->bin,
                                   .config = run->kind->ini,
                                   .data = run->bench->data,
                                   .dir = run->dir,
                                   .workers = run->kind->workers,
                                   .resume = resume,
                                   .set = set};

    for (uint32_t i = 0; i < run->kind->n_sets; i++)
        set[i] = run->kind->set[i];
    return nano_start(&run->nano, &plan);
}

bool chaos_run_reap(int timeout_ms)
{
    uint64_t until = cllm_now_ns() + (uint64_t)timeout_ms * CLLM_NS_PER_MS;

    for (;;) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        struct timespec wait = cllm_timespec(CLLM_NS_PER_MS / 5);

        if (pid < 0 && errno == ECHILD)
            return true;
        if (pid > 0)
            continue;
        if (cllm_now_ns() > until)
            return false;
        (void)nanosleep(&wait, NULL);
    }
}

/* For whoever looks into a failure: the words of shared memory, raw and in words. */
static void keep_evidence(const struct chaos_run *run)
{
    char name[CLLM_REGION_NAME_BYTES], command[4096];

    cllm_region_name(name, run->nano.run_id, "control");
    (void)snprintf(command, sizeof command,
                   "mkdir -p '%s'; { '%.500s/cllm-shm' show '%s'; '%.500s/cllm-shm' "
                   "lanes '%s'; } >'%s/"
                   "shm.txt' 2>&1; cp '/dev/shm%s' '%s/control.bin' 2>/dev/null",
                   run->dir, run->bench->bin, run->nano.run_id, run->bench->bin,
                   run->nano.run_id, run->dir, name, run->dir);
    if (system(command) == -1) /* NOLINT(cert-env33-c): a tool for people, own paths */
        (void)fprintf(stderr, "%s: no evidence of shared memory\n", run->dir);
}

static int unlink_own(const char *name, uint64_t bytes, void *ctx)
{
    char prefix[CLLM_REGION_NAME_BYTES], path[CLLM_REGION_NAME_BYTES];

    (void)bytes;
    cllm_region_name(prefix, ctx, "");
    (void)snprintf(path, sizeof path, "/%.150s", name);
    if (strncmp(path, prefix, strlen(prefix)) == 0)
        (void)cllm_region_unlink(path);
    return 0;
}

void chaos_run_fini(struct chaos_run *run, bool keep)
{
    if (!keep) {
        nano_remove(&run->nano);
    } else {
        keep_evidence(run);
        if (!nano_kill(&run->nano))
            (void)fprintf(stderr, "%s: something of this run lives on\n", run->dir);
        (void)cllm_region_list(unlink_own, run->nano.run_id);
    }
    while (waitpid(-1, NULL, WNOHANG) > 0)
        continue; /* orphans that came to us; those that live are not of this run */
}
