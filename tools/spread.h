/*
 * tools/spread.h - what several measures of the same thing say: their median, and how far
 * they lie apart.
 */
#ifndef CLLM_TOOLS_SPREAD_H
#define CLLM_TOOLS_SPREAD_H

#include "base/base.h"

#define CLLM_SPREAD_SAMPLES 128 /* at most */

struct cllm_spread {
    double median, least, most;
};

/* Of @sample [@n], at least one; they stay in their order. */
struct cllm_spread cllm_spread_of(const double *sample, uint32_t n);

#endif /* CLLM_TOOLS_SPREAD_H */
