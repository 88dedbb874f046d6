/*
 * tools/bench_result.c - see tools/bench_result.h.
 */
#include "tools/bench_result.h"

#include <stdlib.h>
#include <string.h>

#define UPDATE_BYTES 24.0 /* but for gradients */
#define FOLD_BYTES   4.0

static double tokens_a_step(const struct cllm_geometry *g)
{
    return (double)g->lanes * g->microbatches * g->sequences * g->model.context;
}

/* Nanoseconds of @phase, all workers. */
static double phase_ns(const struct cllm_bench_count *count, enum cllm_bench_phase phase)
{
    double sum = 0.0;

    for (uint32_t w = 0; w < count->n_workers; w++)
        sum += (double)count->phase_ns[w][phase];
    return sum;
}

/* Bytes a second that the update moved in @count. */
static double update_rate(const struct cllm_bench_result *result,
                          const struct cllm_bench_count *count)
{
    const struct cllm_geometry *g = &result->geometry;
    double ns = phase_ns(count, CLLM_BENCH_UPDATE) / result->active;
    double gradients = cllm_lanes_kept(g) ? g->lanes : 1.0;
    double bytes = (UPDATE_BYTES + FOLD_BYTES * gradients) * (double)g->n_elements;

    return ns > 0.0 ? bytes * (double)count->step * 1e9 / ns : 0.0;
}

/* Bytes a second that one worker moved in @count while it folded. */
static double fold_rate(const struct cllm_bench_result *result,
                        const struct cllm_bench_count *count)
{
    const struct cllm_geometry *g = &result->geometry;
    double ns = phase_ns(count, CLLM_BENCH_FOLD), steps = (double)count->step;
    double merges = g->n_groups - 1.0;
    double runs = (double)count->chunks_folded / (g->n_chunks * steps) - merges;
    /* A group's first run has no sum to read; a merge reads two sums and writes one. */
    double vectors = g->lanes + 2.0 * runs - g->n_groups + 3.0 * merges;

    if (cllm_lanes_kept(g))
        vectors = g->lanes;
    return ns > 0.0 ? FOLD_BYTES * (double)g->n_elements * vectors * steps * 1e9 / ns
                    : 0.0;
}

void cllm_bench_result_add(struct cllm_bench_result *result,
                           const struct cllm_bench_count *count, double copy,
                           double copy_alone)
{
    struct cllm_bench_count *total = &result->total;
    uint32_t r = result->n_repeats++;

    CLLM_ASSERT(r < CLLM_BENCH_REPEATS);
    result->tokens_per_s[r] =
        tokens_a_step(&result->geometry) * (double)count->step * 1e9 / (double)count->ns;
    result->update[r] = (struct cllm_bench_moved){update_rate(result, count), copy};
    result->fold[r] = (struct cllm_bench_moved){fold_rate(result, count), copy_alone};
    if (result->n_repeats == 1) {
        *total = *count;
        return;
    }
    total->ns += count->ns;
    total->step += count->step;
    total->chunks_folded += count->chunks_folded;
    total->wait_saver_ns += count->wait_saver_ns;
    for (uint32_t w = 0; w < total->n_workers; w++)
        for (int p = 0; p < CLLM_BENCH_PHASES; p++)
            total->phase_ns[w][p] += count->phase_ns[w][p];
    for (uint32_t i = 0; i < total->n_processes; i++) {
        total->process[i].pid = count->process[i].pid;
        total->process[i].cpu_ns += count->process[i].cpu_ns;
    }
}

struct cllm_spread cllm_bench_result_speed(const struct cllm_bench_result *result)
{
    return cllm_spread_of(result->tokens_per_s, result->n_repeats);
}

/* Of @all nanoseconds nobody did anything in so many. Workers that have their turns say
 * less of themselves: a wait counts when it ends, and most of it is another one's turn.
 */
static double waiting(const struct cllm_bench_result *result, double all)
{
    for (int p = 0; p <= CLLM_BENCH_WAIT_DATA; p++)
        all -= phase_ns(&result->total, (enum cllm_bench_phase)p);
    return all > 0.0 ? all : 0.0;
}

double cllm_bench_result_phase(const struct cllm_bench_result *result,
                               enum cllm_bench_phase phase)
{
    double all = (double)result->total.ns * result->active;

    if (result->active < result->total.n_workers && phase > CLLM_BENCH_WAIT_DATA)
        return phase == CLLM_BENCH_REST ? 0.0 : waiting(result, all) / all;
    return phase_ns(&result->total, phase) / all;
}

double cllm_bench_result_busy(const struct cllm_bench_result *result, uint32_t w)
{
    const uint64_t *ns = result->total.phase_ns[w];

    return (double)(ns[CLLM_BENCH_COMPUTE] + ns[CLLM_BENCH_EVAL] + ns[CLLM_BENCH_FOLD] +
                    ns[CLLM_BENCH_UPDATE]) /
           (double)result->total.ns;
}

static struct cllm_bench_pass pass_of(const struct cllm_bench_moved *moved, uint32_t n)
{
    double rate[CLLM_BENCH_REPEATS], copy[CLLM_BENCH_REPEATS], share[CLLM_BENCH_REPEATS];

    for (uint32_t r = 0; r < n; r++) {
        rate[r] = moved[r].pass;
        copy[r] = moved[r].copy;
        share[r] = copy[r] > 0.0 ? rate[r] / copy[r] : 0.0;
    }
    return (struct cllm_bench_pass){.rate = cllm_spread_of(rate, n).median,
                                    .copy = cllm_spread_of(copy, n).median,
                                    .share = cllm_spread_of(share, n).median};
}

struct cllm_bench_pass cllm_bench_result_update(const struct cllm_bench_result *result)
{
    return pass_of(result->update, result->n_repeats);
}

struct cllm_bench_pass cllm_bench_result_fold(const struct cllm_bench_result *result)
{
    return pass_of(result->fold, result->n_repeats);
}

double cllm_bench_result_cpu(const struct cllm_bench_result *result, uint32_t i)
{
    return (double)result->total.process[i].cpu_ns / (double)result->total.ns;
}

uint64_t cllm_bench_result_memory(const struct cllm_bench_result *result)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < result->total.n_processes; i++)
        sum += result->pss[i];
    return sum;
}
