/*
 * tests/crash/chaos_plan.h - what the chaos driver does when: a pure function of a seed.
 *
 * A run is disturbed by a row of shots. Shot i of seed S is the same on every machine and
 * at every time; only where it hits depends on the moment, and is counted as it was. So a
 * failure is replayed by its seed alone.
 */
#ifndef CLLM_TESTS_CRASH_CHAOS_PLAN_H
#define CLLM_TESTS_CRASH_CHAOS_PLAN_H

#include "base/base.h"

/* Whom a shot is meant for; CHAOS_TREE is the guardian and everybody below it. */
enum chaos_role {
    CHAOS_WORKER = 0,
    CHAOS_LOADER,
    CHAOS_SAVER,
    CHAOS_NODE_ZERO,
    CHAOS_TREE,
    CHAOS_ROLES
};

/*
 * When: the phase of the run's step, with exceptions that go before it, in this order:
 * the target has not said hello (a Node Zero: has not signed the state page); a saver
 * that writes a checkpoint; the run is on its way out. COMPUTE while a checkpoint is
 * written is SAVING for everybody else too.
 */
enum chaos_phase {
    CHAOS_STARTING = 0,
    CHAOS_INIT,
    CHAOS_COMPUTE,
    CHAOS_FOLD,
    CHAOS_UPDATE,
    CHAOS_EVAL,
    CHAOS_COMMIT, /* and between two steps */
    CHAOS_SAVING,
    CHAOS_ENDING, /* from here on: hit by whoever comes by, never drawn */
    CHAOS_VERIFY, /* the committed version is looked at, after a fault signal */
    CHAOS_PHASES
};

/* What is done to the target. */
enum chaos_mode {
    CHAOS_KILL = 0,       /* SIGKILL, every role */
    CHAOS_NODE_ZERO_KILL, /* SIGKILL of Node Zero and of the whole tree */
    CHAOS_STOP,           /* SIGSTOP, and SIGCONT later */
    CHAOS_FAULT,          /* SIGSEGV, SIGABRT, SIGBUS */
    CHAOS_LOAD,           /* nothing, on a machine that has more to do than it can */
    CHAOS_GOODPUT,        /* a kill every 30 s against none */
    CHAOS_MTTR,           /* how long until the lost work is done again */
    CHAOS_MODES
};

struct chaos_shot {
    enum chaos_role role;
    enum chaos_phase phase; /* CHAOS_PHASES: whatever phase it is by then */
    uint32_t pick;          /* which of the role's processes, modulo how many there are */
    uint32_t gap_us;        /* after the shot before it */
    uint32_t delay_us;      /* after the phase was met */
    int signal;
    uint32_t stop_us; /* SIGSTOP: until SIGCONT */
};

/* A schedule: seed, mode and the cell that every second shot is meant for. */
struct chaos_plan {
    uint64_t seed;
    enum chaos_mode mode;
    bool focused;
    enum chaos_role focus_role;
    enum chaos_phase focus_phase;
    uint32_t tree_every; /* NODE_ZERO_KILL: one shot in so many is for the tree */
    uint32_t gap_us;     /* mean */
};

/* Shot @index, from 0, of the plan. */
struct chaos_shot chaos_plan_shot(const struct chaos_plan *plan, uint64_t index);

/* Names as they stand in results and on the command line; "?" for an unknown value. */
const char *chaos_role_name(enum chaos_role role);
const char *chaos_phase_name(enum chaos_phase phase);
const char *chaos_mode_name(enum chaos_mode mode);

/* The mode of that name, or CHAOS_MODES. */
enum chaos_mode chaos_mode_find(const char *name);

/* "role:phase" into the plan's focus. False when either is unknown. */
bool chaos_plan_set_focus(struct chaos_plan *plan, const char *text);

#endif /* CLLM_TESTS_CRASH_CHAOS_PLAN_H */
