/*
 * tests/numbers.h - random numbers and distances for the tests of compute/ and model/.
 */
#ifndef CLLM_TESTS_NUMBERS_H
#define CLLM_TESTS_NUMBERS_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/parameters.h"
#include "base/random.h"
#include "compute/ops.h"

/* A step of AdamW with nothing left out. */
static const struct cllm_adamw_terms numbers_adamw = {.learning_rate = 1e-2f,
                                                      .beta1 = 0.9f,
                                                      .beta2 = 0.95f,
                                                      .epsilon = 1e-8f,
                                                      .weight_decay = 0.1f,
                                                      .grad_scale = 0.25f,
                                                      .correction1 = 2.0f,
                                                      .correction2 = 4.0f};

static const struct cllm_lion_terms numbers_lion = {.learning_rate = 1e-2f,
                                                    .beta1 = 0.9f,
                                                    .beta2 = 0.99f,
                                                    .weight_decay = 0.1f,
                                                    .grad_scale = 0.25f};

static const struct cllm_sgd_terms numbers_sgd = {.learning_rate = 1e-2f,
                                                  .momentum = 0.9f,
                                                  .weight_decay = 0.1f,
                                                  .grad_scale = 0.25f,
                                                  .nesterov = true};

/* @n floats uniform in [-scale, scale), a function of @seed; heap, 64-byte aligned. */
static inline float *numbers_new(size_t n, uint64_t seed, float scale)
{
    float *x = aligned_alloc(64, cllm_align_up((n + 1) * sizeof *x, 64));

    CLLM_ASSERT(x != NULL);
    for (size_t i = 0; i < n; i++)
        x[i] = scale * (2.0f * cllm_random_f32(seed, CLLM_RANDOM_TEST, i) - 1.0f);
    return x;
}

/* @n zeros. */
static inline float *numbers_zero(size_t n)
{
    float *x = numbers_new(n, 0, 1.0f);

    memset(x, 0, n * sizeof *x); /* not a factor of zero: that gives -0.0 too */
    return x;
}

/* @n tokens below @vocab; heap. */
static inline uint32_t *numbers_tokens(size_t n, uint32_t vocab)
{
    uint32_t *tokens = calloc(n, sizeof *tokens);

    CLLM_ASSERT(tokens != NULL);
    for (size_t i = 0; i < n; i++)
        tokens[i] = (uint32_t)(cllm_random_u64(6, CLLM_RANDOM_TEST, i) % vocab);
    return tokens;
}

/* Copies of the @n numbers of @x, which may be NULL: zeros; heap. */
static inline double *numbers_doubles(const float *x, size_t n)
{
    double *d = calloc(n, sizeof *d);

    CLLM_ASSERT(d != NULL);
    for (size_t i = 0; x != NULL && i < n; i++)
        d[i] = (double)x[i];
    return d;
}

/* Weights far from the start of training: every tensor random, norms around 1, so that no
 * gradient is zero or hidden. */
static inline float *numbers_weights(const struct cllm_parameters *plan)
{
    float *w = numbers_new(plan->n_elements, 5, 0.3f);

    for (uint32_t i = 0; i < plan->n_tensors; i++) {
        const struct cllm_tensor *tensor = &plan->tensors[i];

        for (uint64_t j = 0; tensor->init == CLLM_INIT_ONE && j < tensor->count; j++)
            w[tensor->off + j] += 1.0f;
    }
    return w;
}

/* The sum of the rows' losses. */
static inline double numbers_loss(const struct cllm_ops *ops, float *logits,
                                  const uint32_t *targets, size_t rows, size_t V,
                                  bool backward)
{
    double *losses = calloc(rows, sizeof *losses), sum;

    CLLM_ASSERT(losses != NULL);
    ops->cross_entropy(losses, logits, targets, rows, V, backward);
    sum = ops->sum_losses(losses, rows, rows);
    free(losses);
    return sum;
}

/* |x - exact| / |exact| as vectors; the plain length where exact is zero. */
static inline double numbers_error(const float *x, const double *exact, size_t n)
{
    double difference = 0, length = 0;

    for (size_t i = 0; i < n; i++) {
        double d = (double)x[i] - exact[i];

        difference += d * d;
        length += exact[i] * exact[i];
    }
    return sqrt(difference) / (length > 0 ? sqrt(length) : 1);
}

#endif /* CLLM_TESTS_NUMBERS_H */
