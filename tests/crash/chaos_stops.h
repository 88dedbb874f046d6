/*
 * tests/crash/chaos_stops.h - processes that were stopped and will be continued.
 *
 * A process that is continued late is the hardest kind of survivor: its work was given to
 * others, and it goes on writing where it was.
 */
#ifndef CLLM_TESTS_CRASH_CHAOS_STOPS_H
#define CLLM_TESTS_CRASH_CHAOS_STOPS_H

#include "tests/crash/chaos_view.h"

#define CHAOS_STOPS 16 /* at a time */

struct chaos_stops {
    struct {
        struct chaos_target target;
        uint64_t due_ns;
    } stop[CHAOS_STOPS];
    uint32_t n;
};

/* Sums. */
struct chaos_stop_counts {
    uint64_t continued; /* lived until they were continued */
    uint64_t replaced;  /* of these: their work had been given to others */
    uint64_t ended;     /* did not: ended by the run, or with it */
};

bool chaos_stops_full(const struct chaos_stops *stops);

/* Takes @target over. Not when full. */
void chaos_stops_add(struct chaos_stops *stops, const struct chaos_target *target,
                     uint64_t due_ns);

/* Continue those whose time has come by @now_ns; UINT64_MAX: all. */
void chaos_stops_tend(struct chaos_stops *stops, struct chaos_view *view, uint64_t now_ns,
                      struct chaos_stop_counts *counts);

#endif /* CLLM_TESTS_CRASH_CHAOS_STOPS_H */
