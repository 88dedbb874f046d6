/*
 * tools/bench_limits.c - see tools/bench_limits.h.
 */
#include "tools/bench_limits.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "tools/bench_child.h"
#include "tools/bench_peak.h"
#include "tools/spread.h"

#define SAMPLES    3
#define SAMPLE_NS  (120 * CLLM_NS_PER_MS)
#define ROUNDS     100000
#define COPY_BYTES (512u << 20) /* all processes and both arrays together: 1 GiB */
#define COPY_MOST  (128u << 20)
#define COPY_LEAST (16u << 20)

uint32_t cllm_bench_processes(uint32_t workers)
{
    cpu_set_t set;
    uint64_t cores = 1;

    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        cores = (uint64_t)CPU_COUNT(&set);
    cores = cllm_min_u64(cllm_min_u64(cores, workers), CLLM_BENCH_TOGETHER_MAX);
    return (uint32_t)cllm_max_u64(cores, 1);
}

static void prepare_nothing(void *ctx)
{
    (void)ctx;
}

static double run_peak(void *ctx)
{
    const struct cllm_bench_peak *peak = ctx;
    uint64_t began = cllm_now_ns(), spent;
    double flop = 0.0;
    float sink;

    do {
        flop += peak->run(ROUNDS, &sink);
        spent = cllm_now_ns() - began;
    } while (spent < SAMPLE_NS);
    return flop * 1e9 / (double)spent;
}

struct copy {
    size_t bytes; /* of each array */
    char *from, *to;
};

static void prepare_copy(void *ctx)
{
    struct copy *copy = ctx;

    copy->from = malloc(copy->bytes);
    copy->to = malloc(copy->bytes);
    if (!copy->from || !copy->to)
        return;
    memset(copy->from, 1, copy->bytes);
    memset(copy->to, 2, copy->bytes);
}

static double run_copy(void *ctx)
{
    struct copy *copy = ctx;
    uint64_t began = cllm_now_ns(), spent;
    double bytes = 0.0;

    if (!copy->from || !copy->to)
        return 0.0;
    do {
        memcpy(copy->to, copy->from, copy->bytes);
        __asm volatile("" : : "r"(copy->to) : "memory"); /* it is wanted each time */
        bytes += 2.0 * (double)copy->bytes;
        spent = cllm_now_ns() - began;
    } while (spent < SAMPLE_NS);
    return bytes * 1e9 / (double)spent;
}

int cllm_bench_limits_measure(struct cllm_bench_limits *limits,
                              enum cllm_precision precision)
{
    size_t share = COPY_BYTES / limits->processes;
    struct cllm_bench_peak chosen = *cllm_bench_peak_of(precision);
    struct copy copy = {.bytes =
                            cllm_max_u64(cllm_min_u64(share, COPY_MOST), COPY_LEAST)};
    const struct cllm_bench_task peak_task = {prepare_nothing, run_peak, &chosen};
    const struct cllm_bench_task copy_task = {prepare_copy, run_copy, &copy};
    double bytes[SAMPLES] = {0};
    int rc = 0;

    if (limits->peak && strcmp(limits->peak, chosen.name) != 0)
        limits->flops = 0.0; /* of another kind */
    limits->peak = chosen.name;
    for (int i = 0; i < SAMPLES && rc == 0; i++) {
        double flops;

        rc = cllm_bench_together(&peak_task, limits->processes, &flops);
        if (rc == 0)
            rc = cllm_bench_together(&copy_task, limits->processes, &bytes[i]);
        if (rc == 0 && bytes[i] <= 0.0)
            rc = cllm_err(-ENOMEM, "cannot measure the memory");
        if (rc == 0 && flops > limits->flops)
            limits->flops = flops;
    }
    if (rc == 0)
        limits->copy = cllm_spread_of(bytes, SAMPLES).median;
    return rc;
}

double cllm_bench_copy_within(size_t bytes)
{
    struct copy copy = {.bytes = bytes / 2};
    double best = 0.0;

    prepare_copy(&copy);
    for (int i = 0; i < SAMPLES; i++) {
        double rate = run_copy(&copy);

        best = rate > best ? rate : best;
    }
    free(copy.from);
    free(copy.to);
    return best;
}
