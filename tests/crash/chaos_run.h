/*
 * tests/crash/chaos_run.h - the kinds of runs that the chaos driver disturbs, and one
 * such run: begun, resumed, waited for, removed.
 *
 * Everything lies in one temporary directory. chaos_bench_init() makes the caller a child
 * subreaper, so that no process of a killed tree escapes.
 */
#ifndef CLLM_TESTS_CRASH_CHAOS_RUN_H
#define CLLM_TESTS_CRASH_CHAOS_RUN_H

#include "tests/crash/nano.h"

#define CHAOS_SETS      16 /* overrides of one kind */
#define CHAOS_SET_BYTES 128

/* Where runs are made and what they are made of. */
struct chaos_bench {
    char work[256];         /* temporary directory */
    char data[300];         /* shards, in it */
    const char *bin;        /* directory of the programs */
    const char *ini;        /* configuration of the model */
    const char *const *set; /* options of every run, up to a NULL */
};

/* A kind of run: all of a kind end with the same bits. */
struct chaos_kind {
    const char *name;
    const char *ini; /* NULL: the bench's */
    uint64_t steps;
    uint32_t workers, spares;
    uint64_t sequences, context; /* of a step; of a sequence */
    uint32_t n_sets;
    char set[CHAOS_SETS][CHAOS_SET_BYTES]; /* "section.key=value" */
    char golden[CLLM_SHA256_HEX_BYTES];    /* bits of an undisturbed run; "" = unknown */
};

struct chaos_run {
    const struct chaos_bench *bench;
    const struct chaos_kind *kind;
    struct nano nano;
    char dir[320];
};

/* Make the work directory under $TMPDIR or /tmp, and the data. @bin, @ini and @set must
 * stay valid. Returns 0 or a negative code with text. Pair with fini. */
int chaos_bench_init(struct chaos_bench *bench, const char *bin, const char *ini,
                     const char *const *set);

/* @keep: leave the directory for people to look at. */
void chaos_bench_fini(struct chaos_bench *bench, bool keep);

/* Add an override to a kind. */
void chaos_kind_set(struct chaos_kind *kind, const char *fmt, ...) CLLM_PRINTF(2, 3);

/* After all overrides: lift the restart limit, read what a step consists of. Returns 0 or
 * a negative code with text. */
int chaos_kind_finish(struct chaos_kind *kind, const struct chaos_bench *bench);

/* Name a run of @kind; nothing is started. */
void chaos_run_init(struct chaos_run *run, const struct chaos_bench *bench,
                    const struct chaos_kind *kind, const char *name);

/* Start the guardian. The one before it has ended. Returns 0 or a negative code with
 * text. */
int chaos_run_start(struct chaos_run *run, bool resume);

/* Reap everybody who came to us. False: somebody still lives after @timeout_ms. */
bool chaos_run_reap(int timeout_ms);

/* Kill what lives. @keep: the directory stays, with the control object's bytes and what
 * cllm-shm shows of them. Shared memory goes in any case. */
void chaos_run_fini(struct chaos_run *run, bool keep);

#endif /* CLLM_TESTS_CRASH_CHAOS_RUN_H */
