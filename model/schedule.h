/*
 * model/schedule.h - the learning rate of a step: a pure function, no libm, the same bits
 * everywhere.
 */
#ifndef CLLM_MODEL_SCHEDULE_H
#define CLLM_MODEL_SCHEDULE_H

#include "base/base.h"

/* In the order of the choices of [train] schedule. */
enum cllm_schedule_kind {
    CLLM_SCHEDULE_COSINE = 0, /* half a cosine from peak to floor */
    CLLM_SCHEDULE_LINEAR,     /* a line from peak to floor */
    CLLM_SCHEDULE_CONSTANT,   /* peak after the warm-up */
    CLLM_N_SCHEDULES
};

extern const char *const cllm_schedule_names[CLLM_N_SCHEDULES];

/*
 * Rate of @step, 1 .. @total_steps: peak * step / warmup_steps through the warm-up, then
 * the decay, which reaches @floor at total_steps and stays there.
 */
float cllm_schedule_rate(enum cllm_schedule_kind kind, float peak, float floor,
                         uint64_t warmup_steps, uint64_t total_steps, uint64_t step);

#endif /* CLLM_MODEL_SCHEDULE_H */
