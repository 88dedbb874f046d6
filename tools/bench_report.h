/*
 * tools/bench_report.h - the figures of a benchmark for people, for programs and for
 * documents.
 */
#ifndef CLLM_TOOLS_BENCH_REPORT_H
#define CLLM_TOOLS_BENCH_REPORT_H

#include "formats/json.h"
#include "tools/bench_result.h"

struct cllm_bench_report {
    const char *config;                     /* as given */
    const char *cpu;                        /* model of this machine's processor */
    const struct cllm_bench_result *result; /* [n], of one model */
    uint32_t n;
};

/* Each prints to stdout. */
void cllm_bench_report_text(const struct cllm_bench_report *report);
void cllm_bench_report_markdown(const struct cllm_bench_report *report);

/* A new object, or NULL when memory is out. Keys are stable: added to, never renamed. */
json_t *cllm_bench_report_json(const struct cllm_bench_report *report);

/* Throughput lost by checkpoints: 1 - with / without, of the two results that differ in
 * nothing else. False when there are no such. */
bool cllm_bench_report_cost(const struct cllm_bench_report *report, double *cost);

#endif /* CLLM_TOOLS_BENCH_REPORT_H */
