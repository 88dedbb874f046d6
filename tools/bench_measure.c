/*
 * tools/bench_measure.c - see tools/bench_measure.h.
 */
#include "tools/bench_measure.h"

#include <stdio.h>
#include <string.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/units.h"

#define REPEAT_NS (2 * CLLM_NS_PER_S)

/* Bytes a second of a copy, by as many processes as the run has, and by one. */
struct copies {
    double together, alone;
};

/* Let the run pause, for what is measured of the machine. */
static int measure_limits(const struct cllm_bench_measure *measure,
                          struct cllm_bench_run *run, struct cllm_bench_result *result,
                          struct copies *copies)
{
    int rc = cllm_bench_run_hold(run);

    if (rc != 0)
        return rc;
    result->limits.processes = cllm_bench_processes(result->workers * measure->threads);
    result->alone.processes = 1;
    rc = cllm_bench_limits_measure(&result->limits, measure->precision);
    if (rc == 0)
        rc = cllm_bench_limits_measure(&result->alone, measure->precision);
    *copies = (struct copies){result->limits.copy, result->alone.copy};
    return rc;
}

/* Steps of a repeat; whole checkpoint intervals, so that each has as many. */
static uint64_t choose_steps(const struct cllm_bench_measure *measure,
                             const struct cllm_bench_run *run, uint64_t every)
{
    uint64_t steps = measure->steps;

    if (steps == 0)
        steps = REPEAT_NS / cllm_max_u64(run->step_ns, 1) + 1;
    return every > 0 ? cllm_div_up(steps, every) * every : steps;
}

/* What does not change from repeat to repeat. */
static int note_run(struct cllm_bench_result *result, const struct cllm_bench_run *run)
{
    const struct cllm_geometry *g = &run->control.header->geometry;
    struct cllm_parameters plan;
    int rc = cllm_parameters_init(&plan, &g->model);

    if (rc != 0)
        return rc;
    result->geometry = *g;
    result->workers = cllm_load_relaxed(&run->control.state->workers);
    result->active = cllm_load_relaxed(&run->control.state->active);
    memcpy(result->kernels, run->kernels, sizeof result->kernels);
    result->flop_full = cllm_model_flops_per_token(&plan);
    /* Half of the scores and of what follows from them is masked. */
    result->flop_causal = result->flop_full - cllm_model_flops_of_attention(&plan) / 2;
    cllm_parameters_fini(&plan);
    return 0;
}

static void note_memory(struct cllm_bench_result *result)
{
    for (uint32_t i = 0; i < result->total.n_processes; i++)
        result->pss[i] = cllm_bench_pss(result->total.process[i].pid);
}

/* A repeat, and with @limits what the machine can do just after it; @copies are those
 * before it, and then those after it. */
static int measure_repeat(const struct cllm_bench_measure *measure,
                          struct cllm_bench_run *run, struct cllm_bench_result *result,
                          uint64_t steps, struct copies *copies)
{
    struct cllm_bench_count count;
    struct copies before = *copies;
    int rc = measure->limits ? cllm_bench_run_go_on(run) : 0;

    if (rc == 0)
        rc = cllm_bench_run_measure(run, steps, &count);
    if (rc == 0 && measure->limits)
        rc = measure_limits(measure, run, result, copies);
    if (rc != 0)
        return rc;
    cllm_bench_result_add(result, &count, (before.together + copies->together) / 2,
                          (before.alone + copies->alone) / 2);
    if (measure->verbose)
        (void)fprintf(stderr, "%u worker%s%s: repeat %u of %u, %.0f tokens/s\n",
                      result->workers, cllm_plural(result->workers),
                      result->checkpoint_every ? ", saving" : "", result->n_repeats,
                      measure->repeats, result->tokens_per_s[result->n_repeats - 1]);
    return 0;
}

int cllm_bench_measure_run(const struct cllm_bench_measure *measure,
                           struct cllm_bench_result *result, uint32_t repeats,
                           uint64_t interval)
{
    struct cllm_bench_run run;
    struct copies copies = {0};
    uint64_t steps = 0;
    int ended, rc = cllm_bench_run_start(&run, &measure->job, result->workers,
                                         result->checkpoint_every,
                                         /* a checkpoint in the middle, not at the end */
                                         cllm_max_u64(measure->warmup, interval / 2));

    if (rc == 0)
        rc = note_run(result, &run);
    if (rc == 0)
        steps = choose_steps(measure, &run, interval);
    if (rc == 0 && repeats > 0 && measure->limits)
        rc = measure_limits(measure, &run, result, &copies);
    for (uint32_t r = 0; r < repeats && rc == 0; r++)
        rc = measure_repeat(measure, &run, result, steps, &copies);
    if (rc == 0)
        note_memory(result);
    else
        cllm_err_print("cllm-bench"); /* before ending the run has errors of its own */
    ended = cllm_bench_run_end(&run);
    if (ended != 0)
        cllm_err_print("cllm-bench");
    return rc != 0 ? rc : ended;
}

int cllm_bench_measure(const struct cllm_bench_measure *measure,
                       struct cllm_bench_result *results, uint32_t n)
{
    uint32_t rounds = n == 1 ? 1 : measure->repeats, repeats = measure->repeats / rounds;
    uint64_t interval = 0;
    int rc = 0;

    for (uint32_t i = 0; i < n; i++)
        interval = cllm_max_u64(interval, results[i].checkpoint_every);
    for (uint32_t round = 0; round < rounds && rc == 0; round++)
        for (uint32_t i = 0; i < n && rc == 0; i++)
            rc = cllm_bench_measure_run(measure, &results[i], repeats, interval);
    return rc;
}
