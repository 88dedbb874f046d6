/*
 * tests/crash/chaos_options.h - the chaos driver's command line.
 */
#ifndef CLLM_TESTS_CRASH_CHAOS_OPTIONS_H
#define CLLM_TESTS_CRASH_CHAOS_OPTIONS_H

#include "tests/crash/chaos_plan.h"

#define CHAOS_OWN_SETS 4

struct chaos_options {
    const char *program; /* argv[0] */
    enum chaos_mode mode;
    const char *model;                   /* configs/MODEL.ini */
    const char *set[CHAOS_OWN_SETS + 1]; /* options of every run, up to a NULL */
    char label[256];                     /* model and options, for people */
    const char *results;                 /* NULL: not kept */
    const char *focus;                   /* NULL: the emptiest cell, run by run */
    char bin[512], ini[512];
    uint64_t seed;
    uint64_t replay; /* seed of a run, if has_replay */
    bool has_replay, keep;
    uint64_t hits;    /* go on until so many */
    uint64_t cells;   /* and so many in each cell */
    uint64_t steps;   /* of a run */
    uint64_t seconds; /* 0 = no limit */
    uint32_t shots;   /* a run */
    uint32_t workers, spares, gap_us;
    uint32_t tree_every; /* node-zero: one shot in so many is for the whole tree */
};

/* Defaults of the mode, then the arguments. False: usage was printed. */
bool chaos_options_parse(struct chaos_options *options, int argc, char **argv);

#endif /* CLLM_TESTS_CRASH_CHAOS_OPTIONS_H */
