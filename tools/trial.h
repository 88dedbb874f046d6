/*
 * tools/trial.h - the chosen operations against the reference on a fixed input.
 */
#ifndef CLLM_TOOLS_TRIAL_H
#define CLLM_TOOLS_TRIAL_H

#include "base/base.h"

#define CLLM_TRIAL_MAX 16

struct cllm_trial_row {
    const char *operation;
    bool same_bits;
    double per_s;     /* floating-point operations or bytes in a second */
    const char *unit; /* "GFLOP/s" or "GB/s", for per_s / 1e9 */
};

struct cllm_trial {
    struct cllm_trial_row row[CLLM_TRIAL_MAX];
    uint32_t n;
};

/* Run all, on one core; half a second. Returns 0, or a negative errno with text. */
int cllm_trial_run(struct cllm_trial *trial);

#endif /* CLLM_TOOLS_TRIAL_H */
