/*
 * tests/crash/points_cases.h - what may happen at which fault point, in which run.
 */
#ifndef CLLM_TESTS_CRASH_POINTS_CASES_H
#define CLLM_TESTS_CRASH_POINTS_CASES_H

#include "base/fault.h"

enum scenario {
    PLAIN = 0,     /* a run from its beginning to its end */
    ADOPT,         /* the end of one that Node Zero and guardian left in shared memory */
    LOAD,          /* likewise, but only its checkpoints are left */
    DAMAGED,       /* a whole run whose last checkpoint is damaged */
    KNOWN,         /* the saver dies before it has told of the last checkpoint */
    HURRY,         /* the saver is slow, and a version is wanted that it reads */
    SAVE_FAILS,    /* a checkpoint cannot be made durable */
    LOADER_FAILS,  /* the shards cannot be read any more */
    WORKER_DIES,   /* in the middle of a lane */
    WORKER_FAULTS, /* in the middle of a lane, of a fault signal */
    IMPORT,        /* begins from a model, with a vocabulary, where another run was */
    MUON,          /* another optimizer */
    LLAMA,         /* the other family of models, from its beginning to its end */
    SCENARIOS
};

/* Runs of a family have the same bits at their end. */
enum family {
    USUAL = 0,
    FROM_SEED, /* with a vocabulary of its own */
    IMPORTED,  /* the same, from the model that such a run has made */
    ORTHOGONAL,
    ROTATED,
    FAMILIES
};

struct scenario_row {
    const char *name;
    const char *also; /* other points that make it */
    bool ends;        /* the run cannot go on; --resume can */
    bool whole;       /* in the deep form all points are tried in it */
    enum family family;
};

/* Options of a family's runs, up to a NULL; %s stands for the working directory. */
const char *const *points_settings(enum family which);

const struct scenario_row *points_scenario(enum scenario which);

struct action {
    const char *text;
    bool place, error, io; /* kinds of points that can do it */
    bool survived;         /* by a child or Node Zero: the run goes on by itself */
    bool unseen;           /* by a guardian: nobody would notice */
    uint32_t max_n;
};

struct point_case {
    enum scenario scenario;
    enum cllm_fault_point point;
    enum cllm_fault_role role;
    const struct action *action;
    uint32_t nth;
    bool required; /* it must come to pass */
    char name[160];
};

/*
 * Every case, or those whose names begin with @only (NULL: all): those of the quick form,
 * or of the deep one. They are the caller's, (*n), to be freed. NULL: no memory.
 */
struct point_case *points_list(bool deep, const char *only, uint32_t *n);

/* Put them in an order that @seed gives. */
void points_shuffle(struct point_case *cases, uint32_t n, uint64_t seed);

#endif /* CLLM_TESTS_CRASH_POINTS_CASES_H */
