/*
 * tools/bench_report.c - see tools/bench_report.h.
 */
#include "tools/bench_report.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/units.h"

#define PERCENT 100.0

static const char *role_of(const struct cllm_bench_process *process)
{
    if (process->role == CLLM_ROLE_NONE)
        return process->slot == CLLM_NONE ? "guardian" : "Node Zero";
    return cllm_role_name(process->role);
}

/* Place of Node Zero among the processes. */
static uint32_t node_zero_of(const struct cllm_bench_result *result)
{
    uint32_t i = 0;

    while (i + 1 < result->total.n_processes &&
           (result->total.process[i].role != CLLM_ROLE_NONE ||
            result->total.process[i].slot == CLLM_NONE))
        i++;
    return i;
}

static double ratio(double part, double whole)
{
    return whole > 0.0 ? part / whole : 0.0;
}

bool cllm_bench_report_cost(const struct cllm_bench_report *report, double *cost)
{
    double without;

    if (report->n != 2 || report->result[0].checkpoint_every != 0 ||
        report->result[1].checkpoint_every == 0)
        return false;
    without = cllm_bench_result_speed(&report->result[0]).median;
    *cost = 1.0 - ratio(cllm_bench_result_speed(&report->result[1]).median, without);
    return true;
}

/* ---- for people ---- */

static void print_head(const struct cllm_bench_report *report)
{
    const struct cllm_geometry *g = &report->result->geometry;
    char params[CLLM_UNITS_BYTES];

    (void)printf("%s: %s parameters, %u layer%s, width %u, vocabulary %u\n"
                 "batch: %u lane%s x %u x %u sequence%s of %u tokens\n"
                 "%s; kernels: %s\n",
                 report->config, cllm_format_count(params, g->n_params), g->model.layers,
                 cllm_plural(g->model.layers), g->model.width, g->model.vocab, g->lanes,
                 cllm_plural(g->lanes), g->microbatches, g->sequences,
                 cllm_plural(g->sequences), g->model.context, report->cpu,
                 report->result->kernels);
}

static void print_speed(const struct cllm_bench_report *report)
{
    (void)printf("\n%7s %10s %19s %16s %14s %9s\n"
                 "%7s %10s %19s %16s %14s %9s\n",
                 "", "", "", "GFLOP/s", "of the peak", "peak", "workers", "tokens/s",
                 "least .. most", "full   causal", "full  causal", "GFLOP/s");
    for (uint32_t i = 0; i < report->n; i++) {
        const struct cllm_bench_result *result = &report->result[i];
        struct cllm_spread speed = cllm_bench_result_speed(result);
        double full = speed.median * result->flop_full;
        double causal = speed.median * result->flop_causal;

        (void)printf("%7u %10.0f %8.0f .. %7.0f %7.1f %8.1f %5.1f %% %5.1f %% %9.1f%s\n",
                     result->workers, speed.median, speed.least, speed.most, full / 1e9,
                     causal / 1e9, PERCENT * ratio(full, result->limits.flops),
                     PERCENT * ratio(causal, result->limits.flops),
                     result->limits.flops / 1e9,
                     result->checkpoint_every > 0 ? "  with checkpoints" : "");
    }
}

static void print_memory(const struct cllm_bench_result *result)
{
    uint32_t n = result->total.n_processes;
    char bytes[CLLM_UNITS_BYTES];

    (void)printf("\n  %-12s %12s %16s\n", "process", "of a core", "memory (PSS)");
    for (uint32_t i = 0; i < n; i++) {
        const struct cllm_bench_process *process = &result->total.process[i];

        if (process->role == CLLM_ROLE_WORKER)
            (void)printf("  %s %-5u", role_of(process), process->slot);
        else
            (void)printf("  %-12s", role_of(process));
        (void)printf(" %10.2f %% %16s\n", PERCENT * cllm_bench_result_cpu(result, i),
                     cllm_format_bytes(bytes, result->pss[i]));
    }
    (void)printf("  %-12s %12s %16s\n", "all", "",
                 cllm_format_bytes(bytes, cllm_bench_result_memory(result)));
}

static void print_result(const struct cllm_bench_result *result)
{
    struct cllm_bench_pass update = cllm_bench_result_update(result);
    struct cllm_bench_pass fold = cllm_bench_result_fold(result);
    char turns[32] = "";
    uint32_t rested = 0;

    if (result->active < result->workers)
        (void)snprintf(turns, sizeof turns, " in turns, %u at once", result->active);
    (void)printf("\n%u worker%s%s%s, %" PRIu64 " step%s measured\n", result->workers,
                 cllm_plural(result->workers), turns,
                 result->checkpoint_every > 0 ? " with checkpoints" : "",
                 result->total.step, cllm_plural(result->total.step));
    for (uint32_t p = 0; p < CLLM_BENCH_PHASES; p++)
        (void)printf("  %-14s %6.2f %%\n", cllm_bench_phase_texts[p],
                     PERCENT * cllm_bench_result_phase(result, p));
    (void)printf("  busy          ");
    for (uint32_t w = 0; w < result->total.n_workers; w++) {
        double busy = cllm_bench_result_busy(result, w);

        if (busy > 0.0)
            (void)printf(" %6.2f", PERCENT * busy);
        else
            rested++;
    }
    (void)printf(" %%");
    if (rested > 0)
        (void)printf(", %u rested", rested);
    (void)printf("\n  update         %6.1f GB/s, a copy by %u process%s %.1f GB/s; "
                 "repeat by repeat %.0f %% of it\n",
                 update.rate / 1e9, result->limits.processes,
                 cllm_plural_es(result->limits.processes), update.copy / 1e9,
                 PERCENT * update.share);
    (void)printf("  fold           %6.1f GB/s a worker, a copy by one process %.1f GB/s; "
                 "repeat by repeat %.0f %% of it\n",
                 fold.rate / 1e9, fold.copy / 1e9, PERCENT * fold.share);
    (void)printf("  updates waited for the saver %.3f s\n",
                 (double)result->total.wait_saver_ns / 1e9);
    print_memory(result);
}

void cllm_bench_report_text(const struct cllm_bench_report *report)
{
    double cost;

    print_head(report);
    print_speed(report);
    if (cllm_bench_report_cost(report, &cost))
        (void)printf("\ncheckpoints every %" PRIu64 " step%s cost %.2f %% of the speed\n",
                     report->result[1].checkpoint_every,
                     cllm_plural(report->result[1].checkpoint_every), PERCENT * cost);
    for (uint32_t i = 0; i < report->n; i++)
        print_result(&report->result[i]);
}

/* ---- for documents ---- */

void cllm_bench_report_markdown(const struct cllm_bench_report *report)
{
    const struct cllm_geometry *g = &report->result->geometry;
    char text[CLLM_UNITS_BYTES];

    (void)printf("%s: %s parameters, %u lane%s x %u x %u sequence%s of %u tokens; %s; "
                 "kernels %s\n\n"
                 "| workers | tokens/s (least to most) | GFLOP/s full / causal | of the "
                 "peak | compute | fold + update | waits, rest | update of a copy | Node "
                 "Zero | memory |\n"
                 "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
                 report->config, cllm_format_count(text, g->n_params), g->lanes,
                 cllm_plural(g->lanes), g->microbatches, g->sequences,
                 cllm_plural(g->sequences), g->model.context, report->cpu,
                 report->result->kernels);
    for (uint32_t i = 0; i < report->n; i++) {
        const struct cllm_bench_result *r = &report->result[i];
        struct cllm_bench_pass update = cllm_bench_result_update(r);
        struct cllm_spread speed = cllm_bench_result_speed(r);
        double full = speed.median * r->flop_full, causal = speed.median * r->flop_causal;
        double compute = cllm_bench_result_phase(r, CLLM_BENCH_COMPUTE) +
                         cllm_bench_result_phase(r, CLLM_BENCH_EVAL);
        double fold = cllm_bench_result_phase(r, CLLM_BENCH_FOLD) +
                      cllm_bench_result_phase(r, CLLM_BENCH_UPDATE);

        (void)printf(
            "| %u%s | %.0f (%.0f to %.0f) | %.1f / %.1f | %.1f %% / %.1f %% of "
            "%.1f | %.1f %% | %.1f %% | %.1f %% | %.0f %% of %.1f GB/s | %.2f %% | "
            "%s |\n",
            r->workers, r->checkpoint_every > 0 ? ", checkpoints" : "", speed.median,
            speed.least, speed.most, full / 1e9, causal / 1e9,
            PERCENT * ratio(full, r->limits.flops),
            PERCENT * ratio(causal, r->limits.flops), r->limits.flops / 1e9,
            PERCENT * compute, PERCENT * fold, PERCENT * (1.0 - compute - fold),
            PERCENT * update.share, update.copy / 1e9,
            PERCENT * cllm_bench_result_cpu(r, node_zero_of(r)),
            cllm_format_bytes(text, cllm_bench_result_memory(r)));
    }
}

/* ---- for programs ---- */

static json_t *json_of_processes(const struct cllm_bench_result *result)
{
    json_t *all = json_array();

    for (uint32_t i = 0; i < result->total.n_processes; i++) {
        const struct cllm_bench_process *process = &result->total.process[i];

        (void)json_array_append_new(
            all, json_pack("{s:s, s:f, s:I}", "role", role_of(process), "cpu_share",
                           cllm_bench_result_cpu(result, i), "pss_bytes",
                           (json_int_t)result->pss[i]));
    }
    return all;
}

static json_t *json_of_time(const struct cllm_bench_result *result)
{
    json_t *phases = json_object();

    for (uint32_t p = 0; p < CLLM_BENCH_PHASES; p++)
        (void)json_object_set_new(phases, cllm_bench_phase_names[p],
                                  json_real(cllm_bench_result_phase(result, p)));
    return phases;
}

static json_t *json_of_result(const struct cllm_bench_result *r)
{
    struct cllm_spread speed = cllm_bench_result_speed(r);
    double full = speed.median * r->flop_full, causal = speed.median * r->flop_causal;
    struct cllm_bench_pass update = cllm_bench_result_update(r);
    struct cllm_bench_pass fold = cllm_bench_result_fold(r);
    json_t *samples = json_array(), *busy = json_array();

    for (uint32_t i = 0; i < r->n_repeats; i++)
        (void)json_array_append_new(samples, json_real(r->tokens_per_s[i]));
    for (uint32_t w = 0; w < r->total.n_workers; w++)
        (void)json_array_append_new(busy, json_real(cllm_bench_result_busy(r, w)));
    return json_pack(
        "{s:i, s:I, s:I, s:s, s:{s:f, s:f, s:f, s:o}, s:{s:f, s:f}, s:{s:f, s:f}, "
        "s:{s:s, s:i, s:f, s:f, s:f}, s:o, s:o, s:{s:f, s:f}, s:{s:f, s:f}, s:f, s:f, "
        "s:o, s:I}",
        "workers", (int)r->workers, "checkpoint_every", (json_int_t)r->checkpoint_every,
        "steps", (json_int_t)r->total.step, "kernels", r->kernels, "tokens_per_s",
        "median", speed.median, "min", speed.least, "max", speed.most, "samples", samples,
        "gflops", "full", full / 1e9, "causal", causal / 1e9, "share_of_peak", "full",
        ratio(full, r->limits.flops), "causal", ratio(causal, r->limits.flops), "limits",
        "instructions", r->limits.peak, "processes", (int)r->limits.processes,
        "peak_gflops", r->limits.flops / 1e9, "copy_gb_s", update.copy / 1e9,
        "copy_alone_gb_s", fold.copy / 1e9, "phases", json_of_time(r), "busy", busy,
        "update", "gb_s", update.rate / 1e9, "share_of_copy", update.share, "fold",
        "gb_s", fold.rate / 1e9, "share_of_copy", fold.share, "wait_saver_s",
        (double)r->total.wait_saver_ns / 1e9, "node_zero_cpu_share",
        cllm_bench_result_cpu(r, node_zero_of(r)), "processes", json_of_processes(r),
        "pss_bytes", (json_int_t)cllm_bench_result_memory(r));
}

json_t *cllm_bench_report_json(const struct cllm_bench_report *report)
{
    const struct cllm_geometry *g = &report->result->geometry;
    json_t *results = json_array(), *out;
    double cost;

    for (uint32_t i = 0; i < report->n; i++)
        (void)json_array_append_new(results, json_of_result(&report->result[i]));
    out = json_pack(
        "{s:s, s:s, s:s, s:{s:I, s:i, s:i, s:i, s:i, s:i}, s:{s:i, s:i, s:i}, "
        "s:{s:f, s:f}, s:o}",
        "version", CLLM_VERSION, "config", report->config, "cpu", report->cpu, "model",
        "parameters", (json_int_t)g->n_params, "vocab", (int)g->model.vocab, "context",
        (int)g->model.context, "layers", (int)g->model.layers, "heads",
        (int)g->model.heads, "width", (int)g->model.width, "batch", "lanes",
        (int)g->lanes, "microbatches", (int)g->microbatches, "sequences",
        (int)g->sequences, "flop_per_token", "full", report->result->flop_full, "causal",
        report->result->flop_causal, "results", results);
    if (out && cllm_bench_report_cost(report, &cost))
        (void)json_object_set_new(out, "checkpoint_cost", json_real(cost));
    return out;
}
