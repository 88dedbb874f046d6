/*
 * model/carve.h - one layout, walked twice: without memory to measure it, with memory to
 * use it, so that a forecast cannot differ from what is taken.
 */
#ifndef CLLM_MODEL_CARVE_H
#define CLLM_MODEL_CARVE_H

#include "base/base.h"

struct cllm_carve {
    uint8_t *base; /* NULL: measure only */
    size_t used;
    size_t n;      /* pieces */
    size_t *begin; /* of each piece, or NULL */
};

/* The next @count elements of @size bytes at a multiple of 64 bytes; NULL when measuring.
 */
static inline void *cllm_carve_take(struct cllm_carve *carve, size_t count, size_t size)
{
    void *piece = carve->base == NULL ? NULL : carve->base + carve->used;

    if (carve->begin != NULL)
        carve->begin[carve->n] = carve->used;
    carve->n++;
    carve->used += cllm_align_up(count * size, CLLM_CACHELINE);
    return piece;
}

static inline float *cllm_carve_f32(struct cllm_carve *carve, size_t count)
{
    return cllm_carve_take(carve, count, sizeof(float));
}

#endif /* CLLM_MODEL_CARVE_H */
