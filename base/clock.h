/*
 * base/clock.h - monotonic time in nanoseconds. Wall time appears in logs only.
 */
#ifndef CLLM_BASE_CLOCK_H
#define CLLM_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define CLLM_NS_PER_S  UINT64_C(1000000000)
#define CLLM_NS_PER_MS UINT64_C(1000000)

/* CLOCK_MONOTONIC; comparable between the processes of one machine. */
static inline uint64_t cllm_now_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * CLLM_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static inline struct timespec cllm_timespec(uint64_t ns)
{
    struct timespec ts = {.tv_sec = (time_t)(ns / CLLM_NS_PER_S),
                          .tv_nsec = (long)(ns % CLLM_NS_PER_S)};
    return ts;
}

#endif /* CLLM_BASE_CLOCK_H */
