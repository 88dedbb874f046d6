/*
 * tests/crash/step_recovery.c - put, resume, compare, remove; what differs is kept.
 */
#include "tests/crash/step_recovery.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"

#define LIMIT_NS (240 * CLLM_NS_PER_S) /* for one recovery, on a loaded machine */
#define MAX_KEPT 8

volatile sig_atomic_t step_interrupted;

static int count_object(const char *name, uint64_t bytes, void *ctx)
{
    const struct step_job *job = ctx;
    char prefix[CLLM_REGION_NAME_BYTES], path[CLLM_REGION_NAME_BYTES];

    (void)bytes;
    cllm_region_name(prefix, job->nano.run_id, "");
    (void)snprintf(path, sizeof path, "/%.150s", name);
    return strncmp(path, prefix, strlen(prefix)) == 0 ? 1 : 0;
}

/* Empty when all is as it must be, else what is not. */
static void judge(const struct step_recovery *recovery, struct step_job *job, bool ended,
                  char *out, size_t bytes)
{
    char bits[CLLM_SHA256_HEX_BYTES];

    out[0] = '\0';
    if (!ended)
        (void)snprintf(out, bytes, "no end within %u s",
                       (unsigned)(LIMIT_NS / 1000000000));
    else if (nano_exit_code(&job->nano) != 0)
        (void)snprintf(out, bytes, "exit code %d", nano_exit_code(&job->nano));
    else if (nano_bits(job->nano.dir, bits) != 0)
        (void)snprintf(out, bytes, "%s", cllm_err_text());
    else if (strcmp(bits, recovery->golden) != 0)
        (void)snprintf(out, bytes, "bits %.16s..., expected %.16s...", bits,
                       recovery->golden);
    else if (cllm_region_list(count_object, job) != 0)
        (void)snprintf(out, bytes, "shared memory is left behind");
}

/* The state that went wrong, once more as it was before the recovery. */
static void keep(struct step_recovery *recovery, struct step_job *job)
{
    char dir[CLLM_FILE_PATH_BYTES];

    (void)printf("    log of the recovery: %s.log\n", job->nano.dir);
    if (recovery->n_kept >= MAX_KEPT)
        return;
    (void)snprintf(dir, sizeof dir, "%.3900s/bad-%s-%" PRIu64 "-%" PRIu64, recovery->base,
                   recovery->role, job->point.boundary, job->point.sample);
    if (run_copy_put(&job->copy, dir) != 0) {
        cllm_err_print("stepping");
        return;
    }
    recovery->n_kept++;
    (void)printf("    the state is kept: cllm-coord %s --set run.dir=%s --resume ...\n",
                 recovery->plan.config, dir);
}

static void end(struct step_recovery *recovery, struct step_job *job, bool ended)
{
    uint64_t took = cllm_now_ns() - job->began_ns;
    char what[256];

    judge(recovery, job, ended, what, sizeof what);
    recovery->n_done++;
    recovery->total_ns += took;
    recovery->longest_ns = cllm_max_u64(recovery->longest_ns, took);
    if (what[0] == '\0') {
        nano_remove(&job->nano);
    } else {
        recovery->n_bad++;
        (void)printf("MISMATCH %s, boundary %" PRIu64 " (instruction %" PRIu64
                     " in %s, state %016" PRIx64 "): %s\n    again: %s --from %" PRIu64
                     " --to %" PRIu64 "\n",
                     recovery->role, job->point.boundary, job->point.instruction,
                     job->point.place, job->point.state, what, recovery->again,
                     job->point.boundary, job->point.boundary);
        (void)nano_kill(&job->nano);
        keep(recovery, job);
        (void)fflush(stdout);
    }
    run_copy_free(&job->copy);
    job->busy = false;
}

/* Wait up to @timeout_ms for an end; take what has ended, or has had its time. */
static void tend(struct step_recovery *recovery, int timeout_ms)
{
    struct pollfd fd[STEP_RECOVERY_JOBS];
    struct step_job *of[STEP_RECOVERY_JOBS];
    nfds_t n = 0;

    for (uint32_t i = 0; i < recovery->n_jobs; i++)
        if (recovery->job[i].busy) {
            of[n] = &recovery->job[i];
            fd[n] = (struct pollfd){.fd = of[n]->nano.pidfd, .events = POLLIN};
            n++;
        }
    if (n == 0)
        return;
    (void)poll(fd, n, timeout_ms);
    for (nfds_t i = 0; i < n; i++) {
        if (nano_ended(&of[i]->nano, 0))
            end(recovery, of[i], true);
        else if (cllm_now_ns() - of[i]->began_ns > LIMIT_NS)
            end(recovery, of[i], false);
    }
}

static struct step_job *free_job(struct step_recovery *recovery)
{
    for (;;) {
        for (uint32_t i = 0; i < recovery->n_jobs; i++)
            if (!recovery->job[i].busy)
                return &recovery->job[i];
        tend(recovery, 100);
    }
}

int step_recovery_start(struct step_recovery *recovery, struct run_copy *copy,
                        const struct step_point *point)
{
    struct step_job *job = free_job(recovery);
    struct nano_plan plan = recovery->plan;
    char dir[CLLM_FILE_PATH_BYTES];
    int rc;

    (void)snprintf(dir, sizeof dir, "%.3900s/%s-%" PRIu64 "-%" PRIu64, recovery->base,
                   recovery->role, point->boundary, point->sample);
    plan.dir = dir;
    plan.resume = true;
    rc = run_copy_put(copy, dir);
    if (rc == 0)
        rc = nano_start(&job->nano, &plan);
    if (rc != 0) {
        (void)run_copy_remove(dir);
        run_copy_free(copy);
        return rc;
    }
    job->copy = *copy;
    *copy = (struct run_copy){0};
    job->point = *point;
    job->began_ns = cllm_now_ns();
    job->busy = true;
    tend(recovery, 0);
    return 0;
}

void step_recovery_tend(struct step_recovery *recovery)
{
    tend(recovery, 0);
}

void step_recovery_finish(struct step_recovery *recovery)
{
    for (uint32_t i = 0; i < recovery->n_jobs; i++)
        while (recovery->job[i].busy)
            tend(recovery, 100);
}
