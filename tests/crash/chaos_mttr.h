/*
 * tests/crash/chaos_mttr.h - how long until what was lost is being computed again.
 *
 * The driver takes the time itself: from just before SIGKILL is sent to the first look at
 * shared memory that shows another process at the lost work. The looks are some
 * microseconds apart, unless the driver itself is not scheduled, which then counts.
 */
#ifndef CLLM_TESTS_CRASH_CHAOS_MTTR_H
#define CLLM_TESTS_CRASH_CHAOS_MTTR_H

#include "tests/crash/chaos_run.h"

#define CHAOS_MTTR_SAMPLES 4096

struct chaos_times {
    uint32_t n;
    double ms[CHAOS_MTTR_SAMPLES];
};

/*
 * A run of @kind (long enough) is started and a worker that computes a lane is killed
 * @samples times; each time until another process computes that lane of that step. With
 * @node_zero, Node Zero is killed; until any worker of its successor computes a lane.
 * Returns 0 or a negative code with text.
 */
int chaos_mttr(const struct chaos_bench *bench, const struct chaos_kind *kind,
               bool node_zero, uint32_t samples, uint64_t seed,
               struct chaos_times *times);

/* The time that the share @p of all samples did not exceed; sorts. */
double chaos_times_percentile(struct chaos_times *times, double p);

#endif /* CLLM_TESTS_CRASH_CHAOS_MTTR_H */
