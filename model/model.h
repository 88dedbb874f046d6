/*
 * model/model.h - a model of either family: initial weights, loss, gradient.
 *
 * Arithmetic on pointers it is given: weights and gradients are single vectors of f32,
 * laid out by the plan (base/parameters.h). What the families share is here and in
 * model.c, layout.c and loss.c; each has its blocks in a file of its own, gpt.c and
 * llama.c.
 *
 * Outputs of norms, of GELU and SwiGLU, and attention probabilities are never kept from
 * forward to backward, but computed again. What else is kept of each layer is a matter of
 * memory against time and no part of the bits. Floats a token, with A = H D and
 * Q = (H + 2 KV) D:
 *
 *     gpt2         of each layer        once              run again
 *     none         6 C + F + H + 4      0                 nothing
 *     attention    3 C + F + H + 2      3 C + 2           ln_1, qkv
 *     block        C                    5 C + F + H + 4   all but gelu, proj
 *
 *     llama        of each layer        once              run again
 *     none         2 C + A + Q + 2 F    0                 nothing
 *                  + H + 2
 *     attention    2 C + A + 2 F        Q + 1             norm, q, k, v, rope
 *                  + H + 1
 *     block        C                    the rest          all but swiglu, down
 *
 * The last block's are still there when the backward pass begins: it is not run again.
 *
 * Dropout, where it is wanted, is where GPT-2 has it: behind the embedding, and in each
 * block on what attention and MLP add to the residual stream; with a share of its own,
 * on the probabilities of attention. Which elements are dropped is a function of the
 * batch's key and of their place, and computed again in the backward pass.
 * cllm_model_loss() drops nothing.
 *
 * With a crystalline bias (base/crystal.h) the similarities of all pairs of tokens of a
 * sequence are computed once a batch and kept for all layers, heads and both directions:
 * about T x T / 2 floats a sequence, without train too.
 *
 * With adapters (base/lora.h) the model's own weights are frozen: they are model->frozen,
 * and the vectors of weights and gradients that functions take are those of the adapters.
 * Of what is frozen no gradient is computed, but for that which leads to adapters.
 *
 * Letters: V vocabulary, T positions, L layers, H heads, KV of keys, D their size, C
 * width, F hidden, B sequences.
 */
#ifndef CLLM_MODEL_MODEL_H
#define CLLM_MODEL_MODEL_H

#include "base/arena.h"
#include "base/base.h"
#include "base/parameters.h"
#include "compute/ops.h"

/* ---- model/flops.c ---- */

/* Floating-point operations to train on one token at full context: 6 for each parameter
 * of a matrix product (a tied output matrix counts, look-ups do not) + 12 L H D T, of
 * which causal attention needs half. */
double cllm_model_flops_per_token(const struct cllm_parameters *plan);
double cllm_model_flops_of_attention(const struct cllm_parameters *plan);

/* ---- model/init.c ---- */

/* Initial weights of elements [lo,hi) of the vector, @w pointing at element @lo: a pure
 * function of (plan, seed, element), so that any split into ranges gives the same
 * bits. Padding becomes 0. */
void cllm_model_initial_weights(const struct cllm_parameters *plan, float *w, uint64_t lo,
                                uint64_t hi, uint64_t seed);

/* ---- model/model.c ---- */

/* Called once a block and direction: a sign of life from long computations. */
typedef void (*cllm_model_progress_fn)(void *ctx);

/* Which activations are computed again in the backward pass, instead of kept. In the
 * order of the choices of [compute] recompute. */
enum cllm_model_recompute {
    CLLM_RECOMPUTE_NONE = 0,
    CLLM_RECOMPUTE_ATTENTION,
    CLLM_RECOMPUTE_BLOCK
};

/* What memory is laid out for. */
struct cllm_model_shape {
    uint32_t B, T; /* sequences, tokens of each */
    bool train; /* without it only cllm_model_loss() works, and @recompute is nothing */
    enum cllm_model_recompute recompute;
    float epsilon; /* of the training loss: struct cllm_smoothing; 0: plain */
    const struct cllm_parameters *adapters; /* base/lora.h; NULL: the weights learn */
    float adapter_scale;                    /* alpha / rank */
    void *arrays; /* where all that only operations touch lies, cllm_model_array_bytes()
                     at a multiple of 64; NULL: in the arena, like the rest */
};

/* What the backward pass needs of a block; N = B T rows. Blocks share what is computed
 * again, and without train everything. */
struct cllm_model_block {
    float *x;             // (N,C) input of the block
    float *qkv;           // (N,Q)
    float *att;           // (N,A) attention, before its projection
    float *x2;            // (N,C) between the two halves
    float *gate;          // (N,F) llama, before SwiGLU
    float *fc;            // (N,F) before GELU; llama's other half
    float *lse;           // (B,H,T)
    float *mean1, *rstd1; // (N); means: gpt2
    float *mean2, *rstd2; // (N)
};

struct cllm_model {
    const struct cllm_parameters *plan; /* must outlive this */
    const struct cllm_ops *ops;
    cllm_model_progress_fn progress; /* may be NULL; set by the owner after init */
    void *progress_ctx;
    const struct cllm_parameters *adapters; /* must outlive this; NULL: none */
    float adapter_scale;
    size_t rank;         /* of the adapters */
    const float *frozen; /* with adapters the model's own weights; by the owner */
    float dropout;       /* share of activations dropped while training; by the owner */
    float attention_dropout;           /* of attention's probabilities, likewise */
    uint64_t dropout_key;              /* of this batch: decides which; by the owner */
    bool dropping, dropping_attention; /* in this pass */
    bool overwrite; /* the gradient holds nothing yet, whatever is there; by the owner */
    uint32_t B, T;
    bool train;
    enum cllm_model_recompute recompute;

    struct cllm_model_block *blocks; // (L)
    float *staging;                  /* tables on their way into arrays, at the start */

    /* Arrays: none of them is read or written but by operations. */
    uint32_t *tokens;                // (B,T+1)
    uint32_t *targets;               // (N)
    double *losses;                  // (N) of rows
    float *x;                        // (N,C) residual stream at the end
    float *meanf, *rstdf;            // (N)
    float *norm;                     // (N,C) output of a norm
    float *act;                      // (N,F) output of the MLP's activation; dqkv
    float *dx;                       // (N,C); train only, as all that follow
    float *dnorm;                    // (N,C); datt
    float *dact;                     // (N,F); dgate
    float *dup;                      // (N,F) llama
    float *scratch;                  // attention
    float *logits;                   // (chunk_rows,V)
    float *points;                   // (3,T) with crystalline_bias, to the next 16
    float *pairs;                    // (B,cllm_attention_pairs(T)) likewise
    float *dbeta;                    // (B,H) likewise; train only
    float *by_query;                 // (B,H,T) likewise
    struct cllm_smoothing smoothing; /* of the training loss */
    float *similar;                  // (V) with smoothing
    float *rope;                     // (T,D) llama
    float *low, *dlow;               // (N,rank) between the adapters; dlow: train
    uint32_t chunk_rows;
};

/* Bytes that cllm_model_init() takes from an arena: exact, with all scratch; without the
 * arrays where shape->arrays has them. */
size_t cllm_model_arena_bytes(const struct cllm_parameters *plan,
                              const struct cllm_model_shape *shape);
/* Bytes of the arrays. */
size_t cllm_model_array_bytes(const struct cllm_parameters *plan,
                              const struct cllm_model_shape *shape);
/* How many arrays; with @begin (so many; may be NULL) where each begins, ascending. */
size_t cllm_model_arrays(const struct cllm_parameters *plan,
                         const struct cllm_model_shape *shape, size_t *begin);

/* Rows of logits at a time, of @N in all and a vocabulary of @V. */
uint32_t cllm_model_chunk_rows(size_t N, size_t V);

/* Bytes of scratch that each thread but the first has for itself: f32. */
size_t cllm_model_thread_bytes(uint32_t T);

/*
 * Lay out activations for batches of @shape, 1 <= B, 1 <= T <= context. Without train
 * they hardly grow with the layers. Returns 0 or CLLM_ECONFIG with text. Nothing to
 * finish: the memory is the arena's.
 */
int cllm_model_init(struct cllm_model *model, const struct cllm_parameters *plan,
                    const struct cllm_ops *ops, const struct cllm_model_shape *shape,
                    struct cllm_arena *arena);

/*
 * @tokens is (B,T+1), plain memory; token t + 1 is the target of position t; all below V
 * (asserted: whoever reads data checks it). Returns the SUM of token losses in nats,
 * smoothed if the shape says so, and adds the gradient of that sum to @dw, or with
 * model->overwrite makes it that. Never writes @w. Both are arrays of the plan's
 * n_elements, or of the adapters', 64-byte aligned, which only operations touch. The bits
 * do not depend on what is computed again.
 */
double cllm_model_forward_backward(struct cllm_model *model, const float *w, float *dw,
                                   const uint32_t *tokens);

/* Forward only: the SUM of token losses, never smoothed. */
double cllm_model_loss(struct cllm_model *model, const float *w, const uint32_t *tokens);

#endif /* CLLM_MODEL_MODEL_H */
