/*
 * tests/crash/step_watch.h - has this process just changed what it shares with others?
 *
 * Watched is all shared memory that a role may write, compared with a shadow copy after
 * each instruction. Nothing is decoded: whatever wrote, it shows.
 *
 * Words that recovery does not read make no new state: times and rates (heartbeat, since,
 * waits, nanosecond counters, tokens a second, time left), the progress counter, and the
 * bells, which every beginning makes anew. All else counts: one differing bit is another
 * state. The content of a lane buffer counts through the lane table alone: until a report
 * is taken nobody reads it, and then the table holds its hash.
 */
#ifndef CLLM_TESTS_CRASH_STEP_WATCH_H
#define CLLM_TESTS_CRASH_STEP_WATCH_H

#include "tests/crash/nano.h"
#include "tests/crash/run_copy.h"

struct step_range {
    uint32_t off, bytes;
};

struct step_area {
    const uint8_t *at; /* shared, (bytes) */
    uint8_t *shadow;   /* heap, (bytes) */
    size_t bytes;
    const struct step_range *ignored; /* (n_ignored) */
    uint32_t n_ignored;
};

#define STEP_WATCH_REGIONS 8

struct step_watch {
    struct cllm_region region[STEP_WATCH_REGIONS]; /* tensors and the ring, read-only */
    uint32_t n_regions;
    struct step_area *area; /* heap, (n_areas) */
    uint32_t n_areas;
};

enum step_change {
    STEP_CHANGE_NONE = 0,
    STEP_CHANGE_IGNORED, /* only words that make no new state */
    STEP_CHANGE_STATE
};

/* Watch what @process of the attached run @nano may write. Returns 0 or a negative code
 * with error text. */
int step_watch_open(struct step_watch *watch, const struct nano *nano,
                    const struct nano_process *process);
void step_watch_close(struct step_watch *watch);

/* What has changed since the last look. */
enum step_change step_watch_look(struct step_watch *watch);

/* The state that @copy is: equal for two copies that differ in ignored words, lane
 * buffers, log lines and lock files alone. 0 only by chance. */
uint64_t step_watch_state(const struct run_copy *copy);

#endif /* CLLM_TESTS_CRASH_STEP_WATCH_H */
