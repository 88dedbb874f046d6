/*
 * model/init.c - the weights that training starts from, computable element by element.
 *
 * Radford et al.: "Language models are unsupervised multitask learners": normal with
 * deviation 0.02, products that end on the residual stream scaled by 1 / sqrt(2 L). Of
 * adapters A is uniform as the authors of LoRA have it in their code (He and others:
 * "Delving deep into rectifiers", with the slope sqrt(5)), and B zero.
 */
#include "base/random.h"
#include "compute/elementary.h"
#include "model/model.h"

#define DEVIATION 0.02f

/* Four independent normal numbers for elements 4 @group .. 4 @group + 3 of the vector
 * (Box, Muller). */
static void normals(float out[4], uint64_t seed, uint64_t group)
{
    uint32_t word[4];

    cllm_random_block(word, seed, CLLM_RANDOM_INIT, group);
    for (size_t pair = 0; pair < 2; pair++) {
        float u = (float)((word[2 * pair] >> 8) + 1) * 0x1p-24f; /* (0,1] */
        float turns = (float)(word[2 * pair + 1] >> 8) * 0x1p-24f;
        float radius = cllm_sqrtf(-2.0f * cllm_logf(u));
        float sine, cosine;

        cllm_sincos_turn(turns, &sine, &cosine);
        out[2 * pair] = radius * cosine;
        out[2 * pair + 1] = radius * sine;
    }
}

/* Elements [lo,hi) to @w. */
static void fill_normal(float *w, uint64_t lo, uint64_t hi, float deviation,
                        uint64_t seed)
{
    for (uint64_t i = lo; i < hi;) {
        uint64_t end = cllm_min_u64(i / 4 * 4 + 4, hi);
        float group[4];

        normals(group, seed, i / 4);
        for (; i < end; i++)
            *w++ = group[i % 4] * deviation;
    }
}

static void fill_uniform(float *w, uint64_t lo, uint64_t hi, float bound, uint64_t seed)
{
    uint32_t word[4];

    for (uint64_t i = lo; i < hi; i++) {
        if (i == lo || i % 4 == 0)
            cllm_random_block(word, seed, CLLM_RANDOM_INIT, i / 4);
        *w++ = ((float)(word[i % 4] >> 8) * 0x1p-23f - 1.0f) * bound;
    }
}

static void fill(float *w, uint64_t n, float value)
{
    for (uint64_t i = 0; i < n; i++)
        w[i] = value;
}

void cllm_model_initial_weights(const struct cllm_parameters *plan, float *w, uint64_t lo,
                                uint64_t hi, uint64_t seed)
{
    float residual = DEVIATION / cllm_sqrtf(2.0f * (float)plan->config.layers);

    CLLM_ASSERT(lo <= hi && hi <= plan->n_elements);
    fill(w, hi - lo, 0.0f);
    for (uint32_t t = 0; t < plan->n_tensors; t++) {
        const struct cllm_tensor *tensor = &plan->tensors[t];
        uint64_t from = cllm_max_u64(lo, tensor->off);
        uint64_t to = cllm_min_u64(hi, tensor->off + tensor->count);

        float *at = w + (from - lo);

        if (from >= to)
            continue;
        switch (tensor->init) {
        case CLLM_INIT_ZERO:
            break;
        case CLLM_INIT_ONE:
            fill(at, to - from, 1.0f);
            break;
        case CLLM_INIT_NORMAL:
            fill_normal(at, from, to, DEVIATION, seed);
            break;
        case CLLM_INIT_RESIDUAL:
            fill_normal(at, from, to, residual, seed);
            break;
        case CLLM_INIT_UNIFORM:
            fill_uniform(at, from, to, 1.0f / cllm_sqrtf((float)tensor->shape[1]), seed);
            break;
        }
    }
}
