/*
 * tests/crash/points_run.h - one run of the real programs for tests/crash/points.c: its
 * lives, its bits, and what is to be removed of it.
 */
#ifndef CLLM_TESTS_CRASH_POINTS_RUN_H
#define CLLM_TESTS_CRASH_POINTS_RUN_H

#include "formats/sha256.h"
#include "tests/crash/points_cases.h"

/* Of one run. Who hangs in the first step has a minute of its own processor time, which
 * takes as long as a loaded machine likes; the quick form has nobody who hangs. */
#define POINTS_LIMIT_MS      240000
#define POINTS_DEEP_LIMIT_MS 900000

/* Where everything is, for all runs. */
struct points_place {
    char bin[1024], work[256], root[1024];
    bool deep;    /* the form, which gives the limit */
    uint32_t job; /* which of the processes that share the cases this is */
};
extern struct points_place points_place;

struct points_run {
    char dir[320], log[340];
    enum family family;
    int status;
};

/* What a run leaves: the files of its last checkpoint, and its journal. */
#define POINTS_KEPT 6
extern const char *const points_kept[POINTS_KEPT];

struct points_bits {
    char hex[POINTS_KEPT][CLLM_SHA256_HEX_BYTES];
};

void points_put(char *out, size_t bytes, const char *fmt, ...) CLLM_PRINTF(3, 4);

/* Print @what and the reason in errno; no return. */
CLLM_NORETURN void points_give_up(const char *what);

/* Run a helper program; anything but success ends this one. */
void points_must(char *const argv[]);

void points_run_name(struct points_run *run, const char *name, enum family family);

/* One life of a coordinator. False: it did not come to its end in time. */
bool points_run_live(struct points_run *run, bool resume, const char *faults);

/* What it leaves. False, with error text: some of that cannot be read. */
bool points_run_bits(const struct points_run *run, struct points_bits *bits);

/* Remove its shared memory. False: it could not be done, and perhaps there was nothing to
 * remove. */
bool points_run_clean(const struct points_run *run);

/* What a coordinator leaves when it dies. */
void points_run_remove_socket(const struct points_run *run);

/* All of it. */
void points_run_remove(const struct points_run *run);

#endif /* CLLM_TESTS_CRASH_POINTS_RUN_H */
