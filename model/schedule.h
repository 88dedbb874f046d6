/*
 * model/schedule.h - the learning rate of a step: a pure function, no libm, the same bits
 * everywhere.
 */
#ifndef CLLM_MODEL_SCHEDULE_H
#define CLLM_MODEL_SCHEDULE_H

#include "base/config.h"

/* In the order of the choices of [train] schedule. */
enum cllm_schedule_kind {
    CLLM_SCHEDULE_COSINE = 0, /* half a cosine from peak to floor */
    CLLM_SCHEDULE_LINEAR,     /* a line from peak to floor */
    CLLM_SCHEDULE_CONSTANT,   /* peak after the warm-up */
    CLLM_SCHEDULE_WSD,        /* warm-up, stable, decay: peak, then 1 - sqrt to floor */
    CLLM_N_SCHEDULES
};

extern const char *const cllm_schedule_names[CLLM_N_SCHEDULES];

struct cllm_schedule {
    enum cllm_schedule_kind kind;
    float peak, floor;
    uint64_t warmup;   /* steps */
    uint64_t steps;    /* of the whole run */
    uint64_t cooldown; /* wsd: steps of the decay, the last of the run */
};

/* What the configuration says; cooldown = auto is a fifth of the steps. */
struct cllm_schedule cllm_schedule_of(const struct cllm_config *config);

/*
 * Rate of @step, 1 .. steps: peak * step / warmup through the warm-up, then the decay,
 * which reaches floor at the last step and stays there. With wsd the decay is that of
 * Haegele et al. ("Scaling laws and compute-optimal training beyond fixed training
 * durations", 2024); it begins no sooner than the warm-up is over.
 */
float cllm_schedule_rate(const struct cllm_schedule *schedule, uint64_t step);

#endif /* CLLM_MODEL_SCHEDULE_H */
