/*
 * model/schedule.c - warm-up and decay of the learning rate.
 */
#include "model/schedule.h"

#include "compute/elementary.h"

const char *const cllm_schedule_names[CLLM_N_SCHEDULES] = {
    [CLLM_SCHEDULE_COSINE] = "cosine",
    [CLLM_SCHEDULE_LINEAR] = "linear",
    [CLLM_SCHEDULE_CONSTANT] = "constant",
};

/* What is left of peak - floor when @progress in [0,1] of the decay has passed. */
static float remainder_at(enum cllm_schedule_kind kind, float progress)
{
    float sine, cosine;

    if (kind == CLLM_SCHEDULE_CONSTANT)
        return 1.0f;
    if (kind == CLLM_SCHEDULE_LINEAR)
        return 1.0f - progress;
    cllm_sincos_turn(0.5f * progress, &sine, &cosine);
    return 0.5f * (1.0f + cosine);
}

float cllm_schedule_rate(enum cllm_schedule_kind kind, float peak, float floor,
                         uint64_t warmup_steps, uint64_t total_steps, uint64_t step)
{
    double progress = 1;

    CLLM_ASSERT((unsigned)kind < CLLM_N_SCHEDULES);
    if (step < warmup_steps)
        return (float)((double)peak * (double)step / (double)warmup_steps);
    if (step < total_steps)
        progress = (double)(step - warmup_steps) / (double)(total_steps - warmup_steps);
    return floor + (peak - floor) * remainder_at(kind, (float)progress);
}
