/*
 * tests/fuzz/fuzz_history.c - the tail of metrics.jsonl, which may be cut anywhere.
 */
#include "tests/fuzz/fuzz.h"

#include <math.h>

#include "tools/history.h"

#define WIDTH 40

int fuzz_history(const uint8_t *data, size_t size)
{
    static struct cllm_history history;
    double column[WIDTH], low, high;
    uint32_t n;

    history.n = 0;
    cllm_history_parse(&history, (const char *)data, size);
    CLLM_ASSERT(history.n <= CLLM_HISTORY_MAX);
    for (uint32_t i = 0; i < history.n; i++) {
        CLLM_ASSERT(isfinite(history.loss[i]));
        CLLM_ASSERT(i == 0 || history.step[i] > history.step[i - 1]);
    }
    n = cllm_history_columns(&history, column, WIDTH, &low, &high);
    CLLM_ASSERT(n <= WIDTH && n <= history.n && (n > 0) == (history.n > 0));
    for (uint32_t i = 0; i < n; i++)
        CLLM_ASSERT(column[i] >= low && column[i] <= high);
    fuzz_n_accepted += history.n > 0;
    return 0;
}
