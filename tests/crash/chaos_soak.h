/*
 * tests/crash/chaos_soak.h - runs that are watched rather than shot at: how much
 * throughput a kill now and then costs, and whether a machine that has far too much to do
 * is mistaken for one whose processes hang.
 */
#ifndef CLLM_TESTS_CRASH_CHAOS_SOAK_H
#define CLLM_TESTS_CRASH_CHAOS_SOAK_H

#include "tests/crash/chaos_battle.h"

#define CHAOS_KILL_EVERY_S 30

struct chaos_goodput {
    double undisturbed, disturbed; /* steps a second, all runs of a sort together */
    uint32_t kills;
};

/*
 * @pairs times a run of @kind for @seconds, undisturbed, and one with a kill every 30 s,
 * in turn. Steps are counted from the first commit on. Returns 0 or a negative code with
 * text.
 */
int chaos_goodput(const struct chaos_bench *bench, const struct chaos_kind *kind,
                  const struct chaos_plan *plan, uint32_t pairs, uint64_t seconds,
                  struct chaos_goodput *out);

struct chaos_load {
    uint32_t busy;   /* processes that kept the machine busy */
    uint32_t runs;   /* that ended meanwhile */
    uint32_t alarms; /* lines of warning or worse in their logs */
    double seconds;
};

/*
 * Runs of @kind, one after the other, for @seconds, while eight busy processes for each
 * core compete with them. False: a run failed or a bit differs, @text says how.
 */
bool chaos_load(const struct chaos_bench *bench, const struct chaos_kind *kind,
                uint64_t seconds, struct chaos_load *out, char *text, size_t bytes);

#endif /* CLLM_TESTS_CRASH_CHAOS_SOAK_H */
