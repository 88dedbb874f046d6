/*
 * tests/crash/step_boundary.h - instants at which everybody may be killed: counted, and
 * those that are picked copied and resumed.
 */
#ifndef CLLM_TESTS_CRASH_STEP_BOUNDARY_H
#define CLLM_TESTS_CRASH_STEP_BOUNDARY_H

#include "tests/crash/step_recovery.h"
#include "tests/crash/step_trace.h"

#define STEP_PLACES 64

/* Which boundaries are resumed. */
struct step_pick {
    uint64_t seed;     /* of what is picked at random */
    uint64_t gap;      /* 0: every one; else about one of so many */
    uint64_t most;     /* no more than so many of them; 0 = any number */
    uint64_t from, to; /* and only these; 1 ... UINT64_MAX = all */
};

struct step_place {
    char name[64]; /* function */
    uint64_t n;    /* boundaries in it */
};

struct step_boundaries {
    struct step_pick pick;
    struct step_recovery *recovery;
    struct step_trace *trace;
    const char *run_dir;
    uint64_t *state; /* heap, a hash table of the states that were resumed */
    uint32_t n_states;
    uint64_t next, draws;

    uint64_t n;         /* boundaries so far */
    uint64_t n_known;   /* that were picked, and whose state had been resumed before */
    uint64_t n_resumed; /* that were picked, and are resumed; samples too */
    uint64_t n_samples;
    struct step_place place[STEP_PLACES];
    uint32_t n_places;
};

/* Begin to count. Returns 0, or -ENOMEM with error text. */
int step_boundaries_init(struct step_boundaries *boundaries, const struct step_pick *pick,
                         struct step_recovery *recovery, struct step_trace *trace,
                         const char *run_dir);
void step_boundaries_fini(struct step_boundaries *boundaries);

/* The stepped process has just done the instruction @instruction, in function @place, and
 * others can see what it changed. Returns 0, or a negative code with error text when the
 * run could not be copied or resumed. */
int step_boundaries_add(struct step_boundaries *boundaries, uint64_t instruction,
                        const char *place);

/* An instant that no store marks: copied and resumed whatever its state. */
int step_boundaries_sample(struct step_boundaries *boundaries, uint64_t instruction,
                           const char *place);

/* A random number below @below, from the seed. */
uint64_t step_boundaries_draw(struct step_boundaries *boundaries, uint64_t below);

#endif /* CLLM_TESTS_CRASH_STEP_BOUNDARY_H */
