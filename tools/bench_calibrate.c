/*
 * tools/bench_calibrate.c - see tools/bench_calibrate.h.
 *
 * Every combination would take long and say little: settings are chosen one after the
 * other, the one that matters most first. Repeats of a round follow each other at once,
 * so it is their ratio that counts, not rates of different minutes.
 */
#include "tools/bench_calibrate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"
#include "tools/bench_choice.h"
#include "tools/setting.h"

#define PROGRAM   "cllm-bench"
#define SET_BYTES 64
#define SECTION   "run"

/* One value of a knob, and what was measured with it. */
struct trial {
    struct cllm_bench_choice choice;
    struct cllm_bench_result result;
    bool failed;
};

struct session {
    struct cllm_bench_calibrate *ask;
    struct cllm_topology topology;
    struct cllm_bench_present present;
    char value[CLLM_BENCH_KNOBS][CLLM_BENCH_CHOICE_BYTES]; /* chosen; "" = as it was */
    char was[CLLM_BENCH_KNOBS][CLLM_BENCH_CHOICE_BYTES];
    uint32_t tried; /* values besides the present ones */
    struct trial trial[CLLM_BENCH_CHOICES];
};

static int print_error(int rc)
{
    cllm_err_print(PROGRAM);
    return rc;
}

bool cllm_bench_calibrate_owns(const char *assignment)
{
    char set[SET_BYTES];

    for (uint32_t k = 0; k < CLLM_BENCH_KNOBS; k++) {
        int n = snprintf(set, sizeof set, SECTION ".%s=", cllm_bench_knob_names[k]);

        if (strncmp(assignment, set, (size_t)n) == 0)
            return true;
    }
    return false;
}

/* ---- measure ---- */

/* @repeats repeats of one run with @trial's value of @knob; 0 only starts it. */
static int measure(const struct session *session, enum cllm_bench_knob knob,
                   struct trial *trial, uint32_t repeats)
{
    struct cllm_bench_measure one = session->ask->measure;
    char set[CLLM_BENCH_KNOBS][SET_BYTES];

    for (uint32_t k = 0; k < CLLM_BENCH_KNOBS; k++) {
        const char *value = k == knob ? trial->choice.value : session->value[k];

        if (value[0] == '\0' || k == CLLM_BENCH_KNOB_WORKERS)
            continue; /* workers are told by number */
        (void)snprintf(set[k], sizeof set[k], SECTION ".%s=%s", cllm_bench_knob_names[k],
                       value);
        one.job.set[one.job.n_sets++] = set[k];
    }
    trial->result.workers =
        knob == CLLM_BENCH_KNOB_WORKERS ? trial->choice.n : session->present.workers;
    return cllm_bench_measure_run(&one, &trial->result, repeats, 0);
}

/* All values in turns. A value other than the first that does not run is left out. */
static int measure_all(struct session *session, enum cllm_bench_knob knob, uint32_t n)
{
    for (uint32_t round = 0; round < session->ask->measure.repeats; round++) {
        for (uint32_t i = 0; i < n; i++) {
            struct trial *trial = &session->trial[i];
            int rc = 0;

            if (trial->failed)
                continue;
            if (session->ask->measure.verbose)
                (void)fprintf(stderr, SECTION ".%s = %s; ", cllm_bench_knob_names[knob],
                              trial->choice.value);
            rc = measure(session, knob, trial, 1);
            if (rc != 0 && (i == 0 || rc == -EINTR))
                return rc;
            trial->failed = rc != 0;
        }
    }
    return 0;
}

/* What a run of the present settings has. */
static int look(struct session *session)
{
    const struct cllm_config *config = session->ask->config;
    struct trial *trial = &session->trial[0];
    int rc;

    cllm_topology_find(&session->topology, NULL);
    session->present =
        (struct cllm_bench_present){.topology = &session->topology,
                                    .config = config,
                                    .workers = (uint32_t)config->run_workers,
                                    .ask = session->ask->workers,
                                    .n_ask = session->ask->n_workers};
    rc = measure(session, CLLM_BENCH_KNOBS, trial, 0);
    session->present.lanes = trial->result.geometry.lanes;
    session->present.workers = trial->result.workers;
    session->present.buffers = trial->result.geometry.n_buffers;
    return rc;
}

/* ---- choose ---- */

static struct cllm_bench_comparison compare(const struct session *session, uint32_t i)
{
    const struct cllm_bench_result *first = &session->trial[0].result;

    return cllm_bench_choice_compare(
        first->tokens_per_s, session->trial[i].result.tokens_per_s, first->n_repeats);
}

/* The best of @n; 0, the present one, when none is better. */
static uint32_t best_of(const struct session *session, uint32_t n)
{
    double most = 0.0;
    uint32_t best = 0;

    for (uint32_t i = 1; i < n; i++) {
        struct cllm_bench_comparison comparison;

        if (session->trial[i].failed)
            continue;
        comparison = compare(session, i);
        if (cllm_bench_choice_is_better(&comparison) && comparison.ratio > most) {
            most = comparison.ratio;
            best = i;
        }
    }
    return best;
}

static void print_table(const struct session *session, enum cllm_bench_knob knob,
                        uint32_t n, uint32_t best)
{
    (void)printf("\n" SECTION ".%-14s %10s %19s %7s %8s\n", cllm_bench_knob_names[knob],
                 "tokens/s", "least .. most", "ratio", "spread");
    for (uint32_t i = 0; i < n; i++) {
        const struct trial *trial = &session->trial[i];
        struct cllm_spread speed;
        struct cllm_bench_comparison comparison;
        char name[2 * CLLM_BENCH_CHOICE_BYTES];

        if (strcmp(trial->choice.value, "auto") == 0 && trial->choice.n > 0)
            (void)snprintf(name, sizeof name, "auto (%u)", trial->choice.n);
        else
            (void)snprintf(name, sizeof name, "%s", trial->choice.value);
        if (trial->failed) {
            (void)printf("  %-16s does not run here\n", name);
            continue;
        }
        speed = cllm_bench_result_speed(&trial->result);
        comparison = compare(session, i);
        (void)printf("  %-16s %10.0f %8.0f .. %7.0f %7.3f", name, speed.median,
                     speed.least, speed.most, comparison.ratio);
        if (i > 0)
            (void)printf(" %8.3f", comparison.spread);
        (void)printf("%s\n", i == best ? (i == 0 ? "  stays" : "  better") : "");
    }
    (void)fflush(stdout); /* likewise */
}

/* Measure the values of @knob, and go on with the best. */
static int choose(struct session *session, enum cllm_bench_knob knob)
{
    struct cllm_bench_choice choice[CLLM_BENCH_CHOICES];
    uint32_t n = cllm_bench_choice_list(choice, knob, &session->present), best;
    char set[SET_BYTES];
    int rc;

    memset(session->trial, 0, sizeof session->trial);
    for (uint32_t i = 0; i < n; i++)
        session->trial[i].choice = choice[i];
    memcpy(session->was[knob], choice[0].value, sizeof session->was[knob]);
    if (n == 1)
        return 0;
    session->tried += n - 1;
    rc = measure_all(session, knob, n);
    if (rc != 0)
        return rc;
    best = best_of(session, n);
    print_table(session, knob, n, best);
    session->present.workers = session->trial[best].result.workers;
    session->present.buffers = session->trial[best].result.geometry.n_buffers;
    if (best == 0)
        return 0;
    memcpy(session->value[knob], choice[best].value, sizeof session->value[knob]);
    (void)snprintf(set, sizeof set, SECTION ".%s=%s", cllm_bench_knob_names[knob],
                   session->value[knob]);
    rc = cllm_config_set(session->ask->config, set);
    return rc != 0 ? print_error(rc) : 0;
}

/* ---- write ---- */

static int finish(const struct session *session, const char *real)
{
    struct cllm_setting settings[CLLM_BENCH_KNOBS];
    bool dry_run = session->ask->dry_run;
    const char *path = session->ask->measure.job.config_path;
    uint32_t n = 0;
    int rc;

    for (uint32_t k = 0; k < CLLM_BENCH_KNOBS; k++)
        if (session->value[k][0] != '\0')
            settings[n++] = (struct cllm_setting){.section = SECTION,
                                                  .key = cllm_bench_knob_names[k],
                                                  .value = session->value[k]};
    if (n == 0) {
        (void)printf(session->tried == 0
                         ? "nothing to choose on this machine: %s is unchanged\n"
                         : "\nwhat is set is as good as any of these: %s is unchanged\n",
                     path);
        return 0;
    }
    rc = dry_run ? 0 : cllm_setting_write(real, settings, n);
    if (rc != 0)
        cllm_err_hint(
            "the table stands: write it yourself, or mend the cause and ask again");
    (void)printf("\n%s %s:\n", path,
                 rc != 0   ? "is unchanged, and should have"
                 : dry_run ? "is unchanged, and without --dry-run would have"
                           : "has now");
    for (uint32_t k = 0; k < CLLM_BENCH_KNOBS; k++)
        if (session->value[k][0] != '\0')
            (void)printf("  [" SECTION "] %s = %s (was %s)\n", cllm_bench_knob_names[k],
                         session->value[k], session->was[k]);
    return rc != 0 ? print_error(rc) : 0;
}

int cllm_bench_calibrate(struct cllm_bench_calibrate *calibrate)
{
    struct session *session = calloc(1, sizeof *session);
    char real[CLLM_FILE_PATH_BYTES] = "";
    int rc = 0;

    if (!session)
        return print_error(cllm_err(-ENOMEM, "cannot hold what is measured"));
    session->ask = calibrate;
    if (!calibrate->dry_run)
        rc = cllm_setting_check(real, calibrate->measure.job.config_path);
    if (rc != 0) {
        cllm_err_hint("--dry-run measures and changes no file");
        (void)print_error(rc);
        goto out;
    }
    rc = look(session);
    if (rc != 0)
        goto out;
    (void)printf(
        "%s: %u lane%s, %u worker%s; each value %u time%s, in turns, medians; ratio "
        "to the first\n",
        calibrate->name, session->present.lanes, cllm_plural(session->present.lanes),
        session->present.workers, cllm_plural(session->present.workers),
        calibrate->measure.repeats, cllm_plural(calibrate->measure.repeats));
    (void)fflush(stdout); /* the first table takes a while */
    for (uint32_t k = 0; k < CLLM_BENCH_KNOBS && rc == 0; k++)
        rc = choose(session, k);
    if (rc == 0)
        rc = finish(session, real);
out:
    free(session);
    return rc;
}
