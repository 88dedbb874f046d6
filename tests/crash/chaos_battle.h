/*
 * tests/crash/chaos_battle.h - one run under fire, from its start to its checks.
 */
#ifndef CLLM_TESTS_CRASH_CHAOS_BATTLE_H
#define CLLM_TESTS_CRASH_CHAOS_BATTLE_H

#include "tests/crash/chaos_run.h"
#include "tests/crash/chaos_shot.h"
#include "tests/crash/chaos_stops.h"
#include "tests/crash/chaos_takeover.h"

/* Sums over battles; zeroed at first. */
struct chaos_score {
    struct chaos_tally tally;
    uint64_t runs, failed;
    uint64_t resumed;      /* --resume after the whole tree was killed */
    uint64_t steps;        /* committed by the runs that ended */
    uint64_t deaths;       /* that the runs counted */
    uint64_t lanes_redone; /* likewise */
    struct chaos_stop_counts stops;
    struct chaos_takeover_counts takeovers;
};

/*
 * Start @run, fire @shots shots of @plan, but none after @until_ns, let it end, check it.
 * Adds to @score. False: something did not hold, @text says what; the run's directory is
 * to be kept then. The run is over in any case; chaos_run_fini() remains to be called.
 */
bool chaos_battle(struct chaos_run *run, const struct chaos_plan *plan, uint32_t shots,
                  uint64_t until_ns, struct chaos_score *score, char *text, size_t bytes);

#endif /* CLLM_TESTS_CRASH_CHAOS_BATTLE_H */
