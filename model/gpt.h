/*
 * model/gpt.h - the GPT-2 family: plan of the parameter vector, initial weights, loss,
 * gradient.
 *
 * Arithmetic on pointers it is given: weights and gradients are single vectors of f32,
 * laid out by the plan in the order of Hugging Face's GPT-2 files, linear weights stored
 * (in,out) so that y = x W + b. A safetensors file is a straight copy of slices.
 *
 *     x = wte[token] + wpe[t]
 *     L times: x += proj(attention(ln_1(x)));  x += proj(gelu(fc(ln_2(x))))
 *     logits = ln_f(x) wte^T, never whole: loss and gradient go through it in chunks of
 * rows
 *
 * Outputs of norms and GELUs and attention probabilities are never kept from forward to
 * backward, but computed again. What else is kept of each layer is a matter of memory
 * against time and no part of the bits; floats a token:
 *
 *     recompute    of each layer    once          run again, of a block's forward pass
 *     none         10 C + H + 4     0             nothing
 *     attention     7 C + H + 2     3 C + 2       ln_1, qkv: C to 3 C
 *     block         C               9 C + H + 4   all but gelu, proj: 4 C to C
 *
 * The last block's are still there when the backward pass begins: it is not run again.
 *
 * Letters: V vocabulary, T positions, L layers, H heads, C width, B sequences.
 */
#ifndef CLLM_MODEL_GPT_H
#define CLLM_MODEL_GPT_H

#include "base/arena.h"
#include "base/base.h"
#include "base/parameters.h"

struct cllm_ops;

/* ---- model/flops.c ---- */

/* Floating-point operations to train on one token at full context: 6 for each parameter
 * of a matrix product (a tied output matrix counts, look-ups do not) + 12 L H D T. */
double cllm_gpt_flops_per_token(const struct cllm_parameters *plan);

/* ---- model/init.c ---- */

/* Initial weights of elements [lo,hi) of the vector @w (which points at element 0): a
 * pure function of (plan, seed, element), so that any split into ranges gives the same
 * bits. Padding becomes 0. */
void cllm_gpt_init_range(const struct cllm_parameters *plan, float *w, uint64_t lo,
                         uint64_t hi, uint64_t seed);

/* ---- model/gpt.c ---- */

/* Called once a block and direction: a sign of life from long computations. */
typedef void (*cllm_gpt_progress_fn)(void *ctx);

/* Which activations are computed again in the backward pass, instead of kept. */
enum cllm_gpt_recompute {
    CLLM_GPT_RECOMPUTE_NONE = 0,
    CLLM_GPT_RECOMPUTE_ATTENTION,
    CLLM_GPT_RECOMPUTE_BLOCK
};

/* What memory is laid out for. */
struct cllm_gpt_shape {
    uint32_t B, T; /* sequences, tokens of each */
    bool train;    /* without it only cllm_gpt_loss() works, and @recompute is nothing */
    enum cllm_gpt_recompute recompute;
};

/* What the backward pass needs of a block; N = B T rows. Blocks share what is computed
 * again, and without train everything. */
struct cllm_gpt_block {
    float *x;             // (N,C) input of the block
    float *qkv;           // (N,3C)
    float *att;           // (N,C) attention, before its projection
    float *x2;            // (N,C) between the two halves
    float *fc;            // (N,4C) before GELU
    float *lse;           // (B,H,T)
    float *mean1, *rstd1; // (N)
    float *mean2, *rstd2; // (N)
};

struct cllm_gpt {
    const struct cllm_parameters *plan; /* must outlive this */
    const struct cllm_ops *ops;
    cllm_gpt_progress_fn progress; /* may be NULL; set by the owner after init */
    void *progress_ctx;
    uint32_t B, T;
    bool train;
    enum cllm_gpt_recompute recompute;

    uint32_t *targets;             // (N)
    struct cllm_gpt_block *blocks; // (L)
    float *x;                      // (N,C) residual stream at the end
    float *meanf, *rstdf;          // (N)
    float *norm;                   // (N,C) output of a norm
    float *act;                    // (N,4C) output of GELU; dqkv
    float *dx, *dnorm;             // (N,C); train only
    float *dact;                   // (N,4C); train only
    float *scratch;                // attention
    float *logits;                 // (chunk_rows,V)
    uint32_t chunk_rows;
};

/* Bytes that cllm_gpt_init() takes from an arena: exact, with all scratch. */
size_t cllm_gpt_arena_bytes(const struct cllm_parameters *plan,
                            const struct cllm_gpt_shape *shape);

/* Bytes of scratch that each thread but the first has for itself: f32. */
size_t cllm_gpt_thread_bytes(uint32_t T);

/*
 * Lay out activations for batches of @shape, 1 <= B, 1 <= T <= context. Without train
 * they hardly grow with the layers. Returns 0 or CLLM_ECONFIG with text. Nothing to
 * finish: the memory is the arena's.
 */
int cllm_gpt_init(struct cllm_gpt *gpt, const struct cllm_parameters *plan,
                  const struct cllm_ops *ops, const struct cllm_gpt_shape *shape,
                  struct cllm_arena *arena);

/*
 * @tokens is (B,T+1); token t + 1 is the target of position t; all below V (asserted:
 * whoever reads data checks it). Returns the SUM of token losses in nats and adds the
 * gradient of that sum to @dw. Never writes @w. Both are vectors of plan->n_elements,
 * 64-byte aligned. The bits do not depend on what is computed again.
 */
double cllm_gpt_forward_backward(struct cllm_gpt *gpt, const float *w, float *dw,
                                 const uint32_t *tokens);

/* Forward only: the SUM of token losses. */
double cllm_gpt_loss(struct cllm_gpt *gpt, const float *w, const uint32_t *tokens);

#endif /* CLLM_MODEL_GPT_H */
