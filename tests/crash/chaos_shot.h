/*
 * tests/crash/chaos_shot.h - wait for the moment that a shot is meant for, look once more
 * where it hits, send.
 */
#ifndef CLLM_TESTS_CRASH_CHAOS_SHOT_H
#define CLLM_TESTS_CRASH_CHAOS_SHOT_H

#include "tests/crash/chaos_run.h"
#include "tests/crash/chaos_view.h"

/* What was hit, by where it really hit. */
struct chaos_tally {
    uint64_t hits[CHAOS_ROLES][CHAOS_PHASES];
    uint64_t n;      /* sum of hits */
    uint64_t missed; /* shots whose target did not exist in time */
    uint64_t on_aim; /* of the shots meant for a phase: those that hit it */
    uint64_t aimed;
};

enum chaos_hit {
    CHAOS_HIT = 0,
    CHAOS_MISSED,
    CHAOS_TREE_KILLED, /* the guardian too: --resume is due */
    CHAOS_RUN_OVER     /* the guardian has ended */
};

/*
 * Carry out @shot, killing signals only. A shot that is meant for a process that is
 * starting kills a running one first when there is none, and counts both. On
 * CHAOS_HIT *target is who was hit, still open, and the caller's to close.
 */
enum chaos_hit chaos_shot_fire(struct chaos_view *view, const struct chaos_run *run,
                               const struct chaos_shot *shot, struct chaos_tally *tally,
                               struct chaos_target *target);

#endif /* CLLM_TESTS_CRASH_CHAOS_SHOT_H */
