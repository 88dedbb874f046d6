/*
 * tests/crash/chaos_takeover.h - how much work is done twice because Node Zero was
 * killed.
 *
 * When Node Zero has ended, its children end too and the lane table stands still: what is
 * finished (DONE, FOLDED), and what was being computed (in a worker's status, or in a
 * report that nobody had read) is written down. Then the successor's table is watched
 * until the step is committed. A lane that was finished or begun and is given out again
 * was computed twice.
 */
#ifndef CLLM_TESTS_CRASH_CHAOS_TAKEOVER_H
#define CLLM_TESTS_CRASH_CHAOS_TAKEOVER_H

#include "tests/crash/chaos_run.h"
#include "tests/crash/chaos_view.h"

/* Sums over takeovers. */
struct chaos_takeover_counts {
    uint64_t n;        /* takeovers that were watched in a phase with lanes */
    uint64_t finished; /* lanes that were finished when Node Zero died */
    uint64_t lost;     /* of these: given out again */
    uint64_t begun;    /* lanes in a worker's hands when Node Zero died */
    uint64_t redone;   /* of these: given out again */
    uint32_t worst;    /* greatest number of lost and redone lanes in one takeover */
    uint64_t beyond;   /* takeovers with more of them than there are workers */
};

/*
 * Node Zero @target was sent SIGKILL. Watch the takeover to the commit of its step, or
 * until the run ends, or for three seconds.
 */
void chaos_takeover_watch(struct chaos_view *view, const struct chaos_run *run,
                          const struct chaos_target *target,
                          struct chaos_takeover_counts *counts);

#endif /* CLLM_TESTS_CRASH_CHAOS_TAKEOVER_H */
