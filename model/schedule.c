/*
 * model/schedule.c - warm-up and decay of the learning rate.
 */
#include "model/schedule.h"

#include "compute/elementary.h"

const char *const cllm_schedule_names[CLLM_N_SCHEDULES] = {
    [CLLM_SCHEDULE_COSINE] = "cosine",
    [CLLM_SCHEDULE_LINEAR] = "linear",
    [CLLM_SCHEDULE_CONSTANT] = "constant",
    [CLLM_SCHEDULE_WSD] = "wsd",
};

struct cllm_schedule cllm_schedule_of(const struct cllm_config *config)
{
    return (struct cllm_schedule){.kind = (enum cllm_schedule_kind)config->train_schedule,
                                  .peak = (float)config->train_learning_rate,
                                  .floor = (float)config->train_min_learning_rate,
                                  .warmup = config->train_warmup,
                                  .steps = config->train_steps,
                                  .cooldown = config->train_cooldown == CLLM_CONFIG_AUTO
                                                  ? cllm_div_up(config->train_steps, 5)
                                                  : config->train_cooldown};
}

/* What is left of peak - floor when @progress in [0,1] of the decay has passed. */
static float remainder_at(enum cllm_schedule_kind kind, float progress)
{
    float sine, cosine;

    if (kind == CLLM_SCHEDULE_CONSTANT)
        return 1.0f;
    if (kind == CLLM_SCHEDULE_LINEAR)
        return 1.0f - progress;
    if (kind == CLLM_SCHEDULE_WSD)
        return 1.0f - cllm_sqrtf(progress);
    cllm_sincos_turn(0.5f * progress, &sine, &cosine);
    return 0.5f * (1.0f + cosine);
}

/* The last step before the decay. */
static uint64_t decay_after(const struct cllm_schedule *schedule)
{
    uint64_t stable = 0;

    if (schedule->kind == CLLM_SCHEDULE_WSD && schedule->steps > schedule->cooldown)
        stable = schedule->steps - schedule->cooldown;
    return cllm_max_u64(schedule->warmup, stable);
}

float cllm_schedule_rate(const struct cllm_schedule *schedule, uint64_t step)
{
    uint64_t from = decay_after(schedule);
    double progress = 1;

    CLLM_ASSERT((unsigned)schedule->kind < CLLM_N_SCHEDULES);
    if (step < schedule->warmup)
        return (float)((double)schedule->peak * (double)step / (double)schedule->warmup);
    if (step < schedule->steps && step <= from)
        progress = 0;
    else if (step < schedule->steps)
        progress = (double)(step - from) / (double)(schedule->steps - from);
    return schedule->floor + (schedule->peak - schedule->floor) *
                                 remainder_at(schedule->kind, (float)progress);
}
