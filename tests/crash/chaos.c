/*
 * tests/crash/chaos.c - the chaos driver: real runs, killed again and again at moments
 * that a seed decides, must end with the bits of an undisturbed one.
 *
 *   chaos [--mode kill] [--model nano] [--seed N] [--hits 500] [--cells 0] ...
 *   chaos --replay SEED [--focus role:phase] ...     one run again, with the same shots
 *
 * Every run has a seed of its own; a failure prints the line that does that run again. It
 * signals its own descendants only, through pidfds (chaos_view.h).
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/random.h"
#include "tests/crash/chaos_battle.h"
#include "tests/crash/chaos_mttr.h"
#include "tests/crash/chaos_options.h"
#include "tests/crash/chaos_result.h"
#include "tests/crash/chaos_soak.h"

#define ENDING_WEIGHT 10 /* comes once a run: a tenth of the others will do */
#define SHORT_STEPS   16 /* where the beginning is the point */
/* From death to the lost lane being computed again, p99; and throughput with a kill every
 * 30 s against none. On a machine that is not busy with other things. */
#define WORKER_MS    250.0
#define SPARE_MS     20.0
#define NODE_ZERO_MS 1000.0
#define GOODPUT      0.98
#define TEXT_BYTES   1024

struct campaign {
    const struct chaos_options *options;
    struct chaos_bench bench;
    struct chaos_kind long_kind, short_kind;
    struct chaos_score score;
    uint64_t began_ns;
    bool good, keep;
    char extra[1024]; /* members of the result beyond the score's */
};

static volatile sig_atomic_t interrupted;

static void on_signal(int signal)
{
    (void)signal;
    interrupted = 1;
}

/* ---- kinds ---- */

static int make_kind(struct campaign *campaign, struct chaos_kind *kind, const char *name,
                     uint64_t steps)
{
    *kind = (struct chaos_kind){.name = name,
                                .steps = steps,
                                .workers = campaign->options->workers,
                                .spares = campaign->options->spares};
    /* Every step that may happen happens often. */
    chaos_kind_set(kind, "train.eval_every=4");
    chaos_kind_set(kind, "checkpoint.every=20");
    chaos_kind_set(kind, "train.warmup=10");
    return chaos_kind_finish(kind, &campaign->bench);
}

/* The bits of a kind: those of a run that nobody disturbs. */
static int make_golden(struct campaign *campaign, struct chaos_kind *kind)
{
    struct chaos_run run;
    int rc;

    chaos_run_init(&run, &campaign->bench, kind, kind->name);
    rc = chaos_run_start(&run, false);
    if (rc == 0 &&
        (!nano_ended(&run.nano, 600 * CLLM_NS_PER_S) || nano_exit_code(&run.nano) != 0))
        rc =
            cllm_err(-EIO, "the undisturbed run %s failed; see %s.log", run.dir, run.dir);
    if (rc == 0)
        rc = nano_bits(run.dir, kind->golden);
    campaign->keep |= rc != 0;
    chaos_run_fini(&run, rc != 0);
    return rc;
}

/* ---- runs ---- */

/* The cell that has been hit least. */
static void choose_focus(const struct campaign *campaign, struct chaos_plan *plan)
{
    uint64_t least = UINT64_MAX;

    for (int r = 0; r < CHAOS_ROLES; r++)
        for (int p = 0; p <= CHAOS_ENDING; p++) {
            uint64_t hits = campaign->score.tally.hits[r][p] *
                            (p == CHAOS_ENDING ? ENDING_WEIGHT : 1);

            if (hits >= least)
                continue;
            least = hits;
            plan->focus_role = (enum chaos_role)r;
            plan->focus_phase = (enum chaos_phase)p;
        }
    plan->focused = true;
}

static struct chaos_plan make_plan(const struct campaign *campaign, uint64_t seed)
{
    const struct chaos_options *options = campaign->options;
    struct chaos_plan plan = {.seed = seed,
                              .mode = options->mode,
                              .tree_every = options->tree_every,
                              .gap_us = options->gap_us};

    if (options->focus)
        (void)chaos_plan_set_focus(&plan, options->focus); /* was tried before */
    else if (options->mode == CHAOS_KILL && !options->has_replay)
        choose_focus(campaign, &plan);
    return plan;
}

static void print_failure(const struct campaign *campaign, const struct chaos_plan *plan,
                          const struct chaos_run *run, const char *text)
{
    const struct chaos_options *options = campaign->options;
    char focus[64] = "", own[CHAOS_OWN_SETS * (CHAOS_SET_BYTES + 8)] = "";

    if (plan->focused)
        (void)snprintf(focus, sizeof focus, " --focus %s:%s",
                       chaos_role_name(plan->focus_role),
                       chaos_phase_name(plan->focus_phase));
    for (uint32_t i = 0; options->set[i]; i++)
        (void)snprintf(own + strlen(own), sizeof own - strlen(own), " --set '%s'",
                       options->set[i]);
    (void)printf("FAILED: %s\n  see %s and %s.log\n  replay: %s --mode %s "
                 "--model %s%s --steps %" PRIu64 " --workers %u --shots %u --gap %u "
                 "--tree-every %u --replay %" PRIu64 "%s\n",
                 text, run->dir, run->dir, options->program,
                 chaos_mode_name(options->mode), options->model, own, options->steps,
                 options->workers, options->shots, options->gap_us, options->tree_every,
                 plan->seed, focus);
    (void)fflush(stdout);
}

/* When the time that was given is over. */
static uint64_t until_ns(const struct campaign *campaign)
{
    uint64_t seconds = campaign->options->seconds;

    return seconds > 0 ? campaign->began_ns + seconds * CLLM_NS_PER_S : UINT64_MAX;
}

static bool do_run(struct campaign *campaign, uint64_t seed)
{
    struct chaos_plan plan = make_plan(campaign, seed);
    const struct chaos_kind *kind = plan.focused && plan.focus_phase == CHAOS_INIT &&
                                            campaign->options->mode == CHAOS_KILL
                                        ? &campaign->short_kind
                                        : &campaign->long_kind;
    char name[40], text[TEXT_BYTES];
    struct chaos_run run;
    bool good;

    (void)snprintf(name, sizeof name, "r%016" PRIx64, seed);
    chaos_run_init(&run, &campaign->bench, kind, name);
    good = chaos_battle(&run, &plan, campaign->options->shots, until_ns(campaign),
                        &campaign->score, text, sizeof text);
    if (!good && !interrupted)
        print_failure(campaign, &plan, &run, text);
    campaign->keep |= !good;
    chaos_run_fini(&run, !good);
    return good;
}

static double seconds_since(uint64_t ns)
{
    return (double)(cllm_now_ns() - ns) * 1e-9;
}

static bool is_enough(const struct campaign *campaign)
{
    const struct chaos_options *options = campaign->options;
    const struct chaos_tally *tally = &campaign->score.tally;

    if (cllm_now_ns() > until_ns(campaign))
        return true;
    if (tally->n < options->hits)
        return false;
    for (int r = 0; r < CHAOS_ROLES; r++)
        for (int p = 0; p < CHAOS_ENDING; p++)
            if (tally->hits[r][p] < options->cells)
                return false;
    return true;
}

/* A sign of life once a minute. */
static void print_progress(const struct campaign *campaign, uint64_t *said_ns)
{
    const struct chaos_score *score = &campaign->score;

    if (cllm_now_ns() - *said_ns < CLLM_NS_PER_S * 60)
        return;
    *said_ns = cllm_now_ns();
    (void)printf("%.0f s: %" PRIu64 " hits in %" PRIu64 " runs, %" PRIu64 " wrong\n",
                 seconds_since(campaign->began_ns), score->tally.n, score->runs,
                 score->failed);
    (void)fflush(stdout);
}

static bool do_runs(struct campaign *campaign)
{
    const struct chaos_options *options = campaign->options;
    uint64_t said_ns = cllm_now_ns();
    bool good = true;

    if (options->has_replay)
        return do_run(campaign, options->replay);
    for (uint64_t i = 0; good && !interrupted && !is_enough(campaign); i++) {
        good = do_run(campaign, cllm_random_u64(options->seed, CLLM_RANDOM_TEST, i));
        print_progress(campaign, &said_ns);
    }
    return good;
}

/* ---- modes ---- */

static int shoot(struct campaign *campaign)
{
    int rc = make_kind(campaign, &campaign->long_kind, "long", campaign->options->steps);

    bool both = campaign->options->mode == CHAOS_KILL; /* only there INIT is aimed at */

    if (rc == 0)
        rc = make_golden(campaign, &campaign->long_kind);
    if (rc == 0 && both)
        rc = make_kind(campaign, &campaign->short_kind, "short", SHORT_STEPS);
    if (rc == 0 && both)
        rc = make_golden(campaign, &campaign->short_kind);
    campaign->began_ns = cllm_now_ns();
    if (rc == 0)
        campaign->good = do_runs(campaign);
    return rc;
}

/* Times and rates are told and not judged: what else the machine does is in them. */
static const char *met(bool is)
{
    return is ? "met" : "missed";
}

/* One series; its line goes to people and into the results. */
static int time_series(struct campaign *campaign, const char *name, uint32_t spares,
                       bool node_zero, double limit_ms)
{
    const struct chaos_options *options = campaign->options;
    static struct chaos_times times;
    struct chaos_kind *kind = &campaign->long_kind;
    size_t used = strlen(campaign->extra);
    double p50, p99, worst;
    int rc;

    *kind = (struct chaos_kind){.name = name,
                                .steps = options->steps,
                                .workers = options->workers,
                                .spares = spares};
    chaos_kind_set(kind, "train.eval_every=0");
    chaos_kind_set(kind, "checkpoint.every=0");
    rc = chaos_kind_finish(kind, &campaign->bench);
    if (rc == 0)
        rc = chaos_mttr(&campaign->bench, kind, node_zero, (uint32_t)options->hits,
                        options->seed, &times);
    if (rc != 0)
        return rc;
    p50 = chaos_times_percentile(&times, 0.50);
    p99 = chaos_times_percentile(&times, 0.99);
    worst = chaos_times_percentile(&times, 1.0);
    (void)printf("%-16s %u workers, %u spares: p50 %.2f ms, p99 %.2f ms, worst %.2f ms "
                 "of %u; aim p99 %.0f ms: %s\n",
                 name, options->workers, spares, p50, p99, worst, times.n, limit_ms,
                 met(p99 <= limit_ms));
    (void)fflush(stdout);
    (void)snprintf(campaign->extra + used, sizeof campaign->extra - used,
                   ",\"%s\":{\"spares\":%u,\"n\":%u,\"p50_ms\":%.3f,\"p99_ms\":%.3f,"
                   "\"worst_ms\":%.3f}",
                   name, spares, times.n, p50, p99, worst);
    return 0;
}

static int take_times(struct campaign *campaign)
{
    uint32_t spares = campaign->options->spares > 0 ? campaign->options->spares : 1;
    int rc;

    campaign->good = true;
    rc = time_series(campaign, "worker", 0, false, WORKER_MS);
    if (rc == 0)
        rc = time_series(campaign, "worker-spare", spares, false, SPARE_MS);
    if (rc == 0)
        rc = time_series(campaign, "node-zero", 0, true, NODE_ZERO_MS);
    return rc;
}

static int compare_goodput(struct campaign *campaign)
{
    const struct chaos_options *options = campaign->options;
    struct chaos_plan plan = {.seed = options->seed, .mode = CHAOS_KILL};
    struct chaos_kind *kind = &campaign->long_kind;
    struct chaos_goodput out;
    double ratio;
    int rc;

    *kind = (struct chaos_kind){.name = "goodput",
                                .steps = options->steps,
                                .workers = options->workers,
                                .spares = options->spares};
    chaos_kind_set(kind, "train.eval_batch=48"); /* the corpus is small */
    rc = chaos_kind_finish(kind, &campaign->bench);
    if (rc == 0)
        rc = chaos_goodput(&campaign->bench, kind, &plan, (uint32_t)options->hits,
                           options->seconds, &out);
    if (rc != 0)
        return rc;
    ratio = out.disturbed / out.undisturbed;
    (void)printf("%.2f steps/s undisturbed, %.2f with a kill every %d s (%u kills): "
                 "%.2f %%; aim %.0f %%: %s\n",
                 out.undisturbed, out.disturbed, CHAOS_KILL_EVERY_S, out.kills,
                 100 * ratio, 100 * GOODPUT, met(ratio >= GOODPUT));
    (void)snprintf(campaign->extra, sizeof campaign->extra,
                   ",\"undisturbed\":%.3f,\"disturbed\":%.3f,\"ratio\":%.5f",
                   out.undisturbed, out.disturbed, ratio);
    campaign->score.tally.n = out.kills;
    campaign->good = true;
    return 0;
}

static int watch_load(struct campaign *campaign)
{
    const struct chaos_options *options = campaign->options;
    char text[TEXT_BYTES] = "";
    struct chaos_load load;
    int rc = make_kind(campaign, &campaign->long_kind, "long", options->steps);

    if (rc == 0)
        rc = make_golden(campaign, &campaign->long_kind);
    if (rc != 0)
        return rc;
    campaign->good = chaos_load(&campaign->bench, &campaign->long_kind, options->seconds,
                                &load, text, sizeof text);
    campaign->keep |= !campaign->good;
    (void)printf("%u busy processes for %.0f s: %u runs, %u alarms%s%s\n", load.busy,
                 load.seconds, load.runs, load.alarms, text[0] ? ": " : "", text);
    (void)snprintf(campaign->extra, sizeof campaign->extra, ",\"busy\":%u,\"alarms\":%u",
                   load.busy, load.alarms);
    campaign->score.runs = load.runs;
    campaign->score.failed = !campaign->good;
    return 0;
}

static int do_mode(struct campaign *campaign)
{
    switch (campaign->options->mode) {
    case CHAOS_MTTR:
        return take_times(campaign);
    case CHAOS_GOODPUT:
        return compare_goodput(campaign);
    case CHAOS_LOAD:
        return watch_load(campaign);
    case CHAOS_KILL:
    case CHAOS_NODE_ZERO_KILL:
    case CHAOS_STOP:
    case CHAOS_FAULT:
    case CHAOS_MODES:
    default:
        return shoot(campaign);
    }
}

static int run_campaign(struct campaign *campaign)
{
    const struct chaos_options *options = campaign->options;
    struct chaos_result result = {.mode = chaos_mode_name(options->mode),
                                  .model = options->label,
                                  .seed = options->seed,
                                  .workers = options->workers,
                                  .score = &campaign->score,
                                  .extra = campaign->extra};
    int rc = chaos_bench_init(&campaign->bench, options->bin, options->ini, options->set);

    chaos_result_name_commit(&result);
    campaign->began_ns = cllm_now_ns();
    if (rc == 0)
        rc = do_mode(campaign);
    result.seconds = seconds_since(campaign->began_ns);
    if (rc == 0 && campaign->score.runs > 0 && campaign->score.tally.n > 0)
        chaos_result_print(&result);
    if (rc == 0 && options->results)
        rc = chaos_result_append(&result, options->results);
    if (rc != 0)
        cllm_err_print("chaos");
    if (interrupted)
        (void)printf("ended early, by a signal\n");
    chaos_bench_fini(&campaign->bench, rc != 0 || campaign->keep || options->keep);
    if (rc != 0 || !campaign->good)
        return CLLM_EXIT_FAILURE;
    return interrupted ? CLLM_EXIT_INTERRUPTED : CLLM_EXIT_OK;
}

int main(int argc, char **argv)
{
    struct chaos_options options;
    struct campaign campaign = {.options = &options};
    struct sigaction action = {.sa_handler = on_signal};

    cllm_log_init("chaos", CLLM_LOG_WARN);
    if (!chaos_options_parse(&options, argc, argv))
        return CLLM_EXIT_USAGE;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    return run_campaign(&campaign);
}
