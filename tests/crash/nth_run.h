/*
 * tests/crash/nth_run.h - one small run with one fault, and what must come of it.
 *
 * Either it ends with the bits of the run to which nothing happened, or it ends with a
 * documented exit code and a reason in words, and cllm-coord --resume, undisturbed, comes
 * to those bits. Nobody crashes, nothing hangs, and at the end nothing is left that the
 * undisturbed run does not leave.
 */
#ifndef CLLM_TESTS_CRASH_NTH_RUN_H
#define CLLM_TESTS_CRASH_NTH_RUN_H

#include "tests/crash/alloc_fail.h"
#include "tests/crash/nth_trace.h"

struct nth_run {
    char work[512];                /* directory for the runs of this process */
    char bin[512], alloc_bin[512]; /* programs; those whose allocations can fail */
    char data[512];
    char golden[CLLM_SHA256_HEX_BYTES], weights[CLLM_SHA256_HEX_BYTES];
    char names[8192];             /* of what the undisturbed run leaves, sorted */
    struct alloc_fail_plan *plan; /* beside alloc_bin; NULL: allocations are not tried */
    uint64_t n_runs;
};

/* What one case showed. */
struct nth_verdict {
    bool untouched, ended, resumed; /* no fault came; golden at once; after --resume */
    char wrong[4096];               /* "" = nothing */
};

/* Make data and the golden run. Returns 0 or a negative code with error text. */
int nth_run_begin(struct nth_run *run);

/* Count the calls (and, with a plan, the allocations) of an undisturbed run. */
int nth_run_count(struct nth_run *run, struct nth_outcome *out);

/* Try @fault; with @fault->class NULL it is an allocation. */
void nth_run_try(struct nth_run *run, const struct nth_fault *fault,
                 struct nth_verdict *verdict);

#endif /* CLLM_TESTS_CRASH_NTH_RUN_H */
