/*
 * model/rope.h - the table of cosines and sines that operation rope turns by.
 */
#ifndef CLLM_MODEL_ROPE_H
#define CLLM_MODEL_ROPE_H

#include "base/base.h"
#include "base/model_config.h"

/* What pair @pair of a head, below D / 2, turns by from one position to the next, in
 * radians. */
double cllm_rope_angle(const struct cllm_model_config *config, uint32_t pair);

/* The table (T,D): for each position D / 2 cosines, then D / 2 sines. @config is
 * completed and llama's; positions up to 65536 keep the accuracy of f32. */
void cllm_rope_table(float *table, const struct cllm_model_config *config, uint32_t T);

#endif /* CLLM_MODEL_ROPE_H */
