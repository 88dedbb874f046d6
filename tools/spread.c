/*
 * tools/spread.c - see tools/spread.h.
 */
#include "tools/spread.h"

#include <stdlib.h>
#include <string.h>

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

struct cllm_spread cllm_spread_of(const double *sample, uint32_t n)
{
    double sorted[CLLM_SPREAD_SAMPLES];

    CLLM_ASSERT(n > 0 && n <= CLLM_LEN(sorted));
    memcpy(sorted, sample, n * sizeof *sample);
    qsort(sorted, n, sizeof *sorted, by_size);
    return (struct cllm_spread){.median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2,
                                .least = sorted[0],
                                .most = sorted[n - 1]};
}
