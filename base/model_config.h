/*
 * base/model_config.h - which model: its family and the numbers that describe it.
 *
 * Made once from the options ([model]) or from a file, completed, checked; then carried
 * as it is, in shared memory too. What follows from it (which tensors there are, where
 * they lie) is in base/parameters.h.
 *
 * Letters: V vocabulary, T positions, L layers, H heads, KV heads of keys and values, D
 * elements of a head, C width, F hidden elements.
 */
#ifndef CLLM_BASE_MODEL_CONFIG_H
#define CLLM_BASE_MODEL_CONFIG_H

#include "base/base.h"

struct cllm_config;

/* In the order of the choices of [model] arch. */
enum cllm_arch {
    CLLM_ARCH_GPT2 = 0, /* learned positions, LayerNorm, GELU, biases */
    CLLM_ARCH_LLAMA, /* rotated positions, RMSNorm, SwiGLU, grouped queries, no biases */
    CLLM_N_ARCHS
};

extern const char *const cllm_arch_names[CLLM_N_ARCHS];

/* How rotated positions reach beyond the context that a model was first trained with. In
 * the order of the choices of [model] rope_scaling; names as in Hugging Face's files. */
enum cllm_rope_scaling {
    CLLM_ROPE_NONE = 0,
    CLLM_ROPE_LINEAR, /* all angles divided by the factor */
    CLLM_ROPE_LLAMA3, /* slow angles divided, fast ones kept, a ramp between */
    CLLM_ROPE_YARN,   /* likewise with another ramp, and sines grow with the factor */
    CLLM_N_ROPE_SCALINGS
};

extern const char *const cllm_rope_scaling_names[CLLM_N_ROPE_SCALINGS];

/* Fixed-width and without gaps, for shared memory. */
struct cllm_model_config {
    uint32_t arch;  /* enum cllm_arch */
    uint32_t vocab; /* V */
    uint32_t context, layers, heads, width;
    uint32_t kv_heads;         /* 0 = as many as heads */
    uint32_t head_size;        /* 0 = width / heads */
    uint32_t hidden;           /* 0 = 4 width (gpt2), 8/3 width up to a multiple of 32 */
    uint32_t untied;           /* 1: the output matrix is a tensor of its own */
    uint32_t rope_scaling;     /* enum cllm_rope_scaling */
    uint32_t rope_original;    /* context before scaling (llama3, yarn) */
    uint32_t crystalline_bias; /* 1: each head learns a bias (docs/crystalline.md) */
    uint32_t pad0;
    double norm_epsilon; /* 0 = 1e-5 */
    double rope_theta;   /* 0 = 10000; this and the rest: llama alone */
    double rope_factor;  /* of the scaling; 0 = 1 */
    double rope_low;     /* llama3: low_freq_factor, 0 = 1; yarn: beta_slow, 0 = 1 */
    double rope_high;    /* llama3: high_freq_factor, 0 = 4; yarn: beta_fast, 0 = 32 */
};

/* The longest context with a crystalline bias: the similarities of all pairs of a
 * sequence are kept, half of context x context floats. */
#define CLLM_CRYSTALLINE_CONTEXT 8192

#define CLLM_NORM_EPSILON 1e-5 /* the usual one */

/* As [model] says, zeros where it says auto. */
struct cllm_model_config cllm_model_config_from(const struct cllm_config *options);

/* Numbers in place of all zeros that stand for the usual value. */
void cllm_model_config_complete(struct cllm_model_config *model);

/* Is the completed @model possible? Returns 0 or CLLM_ECONFIG with text and a hint. */
int cllm_model_config_check(const struct cllm_model_config *model);

#endif /* CLLM_BASE_MODEL_CONFIG_H */
