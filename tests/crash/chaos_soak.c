/*
 * tests/crash/chaos_soak.c - long runs, few events.
 */
#include "tests/crash/chaos_soak.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "tests/crash/chaos_check.h"

#define BUSY_PER_CORE 8
#define BUSY_MAX      1024
#define START_NS      (60 * CLLM_NS_PER_S)
#define END_NS        (600 * CLLM_NS_PER_S)

static void sleep_ns(uint64_t ns)
{
    const struct timespec wait = cllm_timespec(ns);

    (void)nanosleep(&wait, NULL);
}

/* ---- goodput ---- */

static uint64_t committed(struct chaos_view *view)
{
    return chaos_view_refresh(view) ? cllm_load_relaxed(&view->control.state->committed)
                                    : 0;
}

/* Steps and seconds of one run, from its first commit; with @plan, under fire. */
static int measure(struct chaos_run *run, const struct chaos_plan *plan, uint64_t seconds,
                   uint64_t *steps, double *took, struct chaos_tally *tally)
{
    uint64_t began = cllm_now_ns(), kill_ns, first, shot = tally->n;
    struct chaos_view view;

    chaos_view_init(&view, run->nano.run_id, run->nano.guardian);
    while (committed(&view) == 0 && cllm_now_ns() - began < START_NS)
        sleep_ns(CLLM_NS_PER_MS);
    first = committed(&view);
    began = cllm_now_ns();
    kill_ns = began + CHAOS_KILL_EVERY_S * CLLM_NS_PER_S / 2;
    while (cllm_now_ns() - began < seconds * CLLM_NS_PER_S &&
           !nano_ended(&run->nano, 10 * CLLM_NS_PER_MS)) {
        struct chaos_shot next;
        struct chaos_target target;

        if (!plan || cllm_now_ns() < kill_ns)
            continue;
        kill_ns += CHAOS_KILL_EVERY_S * CLLM_NS_PER_S;
        next = chaos_plan_shot(plan, shot++);
        if (next.role == CHAOS_TREE)
            next.role = CHAOS_NODE_ZERO; /* nobody would resume it */
        if (chaos_shot_fire(&view, run, &next, tally, &target) == CHAOS_HIT)
            chaos_target_close(&target);
    }
    *steps += committed(&view) - first;
    *took += (double)(cllm_now_ns() - began) * 1e-9;
    chaos_view_fini(&view);
    return first > 0 && run->nano.guardian != 0
               ? 0
               : cllm_err(-EIO, "the run %s did not last", run->dir);
}

int chaos_goodput(const struct chaos_bench *bench, const struct chaos_kind *kind,
                  const struct chaos_plan *plan, uint32_t pairs, uint64_t seconds,
                  struct chaos_goodput *out)
{
    struct chaos_tally tally = {.n = 0};
    uint64_t steps[2] = {0, 0};
    double took[2] = {0, 0};
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < 2 * pairs; i++) {
        uint32_t shot_at = i & 1;
        struct chaos_run run;
        char name[32];

        (void)snprintf(name, sizeof name, "goodput%u", i);
        chaos_run_init(&run, bench, kind, name);
        rc = chaos_run_start(&run, false);
        if (rc == 0)
            rc = measure(&run, shot_at ? plan : NULL, seconds, &steps[shot_at],
                         &took[shot_at], &tally);
        chaos_run_fini(&run, rc != 0);
    }
    if (rc == 0)
        *out = (struct chaos_goodput){.undisturbed = (double)steps[0] / took[0],
                                      .disturbed = (double)steps[1] / took[1],
                                      .kills = (uint32_t)tally.n};
    return rc;
}

/* ---- load ---- */

/* Processes that do nothing but use the machine; they die with us. */
struct busy {
    pid_t pid[BUSY_MAX];
    uint32_t n;
};

static void start_busy(struct busy *busy)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t n = (uint32_t)cllm_min_u64(BUSY_PER_CORE * (uint64_t)(cores > 0 ? cores : 1),
                                        BUSY_MAX);

    for (busy->n = 0; busy->n < n; busy->n++) {
        pid_t pid = fork();

        if (pid < 0)
            return;
        if (pid == 0) {
            (void)signal(SIGINT, SIG_IGN);
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;)
                (void)cllm_now_ns();
        }
        busy->pid[busy->n] = pid;
    }
}

static void end_busy(struct busy *busy)
{
    for (uint32_t i = 0; i < busy->n; i++) {
        (void)kill(busy->pid[i], SIGKILL); /* ours, and not reaped yet */
        (void)waitpid(busy->pid[i], NULL, 0);
    }
    busy->n = 0;
}

static bool run_once(const struct chaos_bench *bench, const struct chaos_kind *kind,
                     struct chaos_load *out, char *text, size_t bytes)
{
    struct chaos_run run;
    char name[32];
    bool good;

    (void)snprintf(name, sizeof name, "load%u", out->runs);
    chaos_run_init(&run, bench, kind, name);
    good = chaos_run_start(&run, false) == 0 && nano_ended(&run.nano, END_NS) &&
           nano_exit_code(&run.nano) == 0;
    if (!good)
        (void)snprintf(text, bytes, "the run %s did not end well", run.dir);
    else
        good = chaos_check(&run, 0, text, bytes);
    out->alarms +=
        chaos_count_lines(&run, " warning ") + chaos_count_lines(&run, " error ");
    if (good && out->alarms > 0) {
        (void)snprintf(text, bytes, "the log of the run %s has a warning", run.dir);
        good = false;
    }
    chaos_run_fini(&run, !good);
    return good;
}

bool chaos_load(const struct chaos_bench *bench, const struct chaos_kind *kind,
                uint64_t seconds, struct chaos_load *out, char *text, size_t bytes)
{
    uint64_t began = cllm_now_ns();
    struct busy busy = {.n = 0};
    bool good = true;

    *out = (struct chaos_load){.busy = 0};
    start_busy(&busy);
    out->busy = busy.n;
    for (; good && cllm_now_ns() - began < seconds * CLLM_NS_PER_S; out->runs++)
        good = run_once(bench, kind, out, text, bytes);
    end_busy(&busy);
    out->seconds = (double)(cllm_now_ns() - began) * 1e-9;
    return good;
}
