/*
 * model/muon.h - the direction in which Muon moves a matrix: its momentum, with all
 * singular values brought near 1.
 *
 * After Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024,
 * and its code:
 *
 *     m = beta m + (1 - beta) g;   u = beta m + (1 - beta) g      (Nesterov)
 *     X = u / (|u| + 1e-7), then 5 times  A = X X^T,  X = 3.4445 X + (-4.7750 A + 2.0315
 * A A) X
 *
 * with A = X^T X on the other side where that is smaller. The products are the run's:
 * f32, or with operands rounded to bf16.
 *
 * The direction is one of the whole matrix, but parameters are updated by chunk. Whoever
 * gets a chunk of a matrix therefore makes all of its direction, out of frozen bytes, in
 * memory of its own, and keeps it for the chunks that follow. What is kept is known by a
 * hash of the bytes that it was made from, looked at once for each update: a direction
 * made from bytes that were found damaged later is never used again.
 */
#ifndef CLLM_MODEL_MUON_H
#define CLLM_MODEL_MUON_H

#include "base/arena.h"
#include "compute/ops.h"

/* Called after each product: a sign of life from long computations. */
typedef void (*cllm_muon_progress_fn)(void *ctx);

/* A matrix (rows,cols) and where its update begins. */
struct cllm_muon_source {
    uint64_t rows, cols;
    const float *m, *g; // (rows,cols) momentum before the update, gradient
    float momentum;
    float grad_scale; /* multiplies the gradient */
};

struct cllm_muon {
    cllm_muon_progress_fn progress; /* may be NULL; set by the owner after init */
    void *progress_ctx;
    float *x, *y;             // (rows,cols) of the largest matrix; x is the direction
    float *a, *b;             // (side,side), side = the shorter of rows and cols
    uint64_t most, most_side; /* elements; what there is room for */

    bool made, checked;
    struct cllm_muon_source of; /* what x is the direction of */
    uint64_t key;               /* hash of the bytes that it was made from */
};

/* Make room for matrices of (rows,cols) too; before cllm_muon_take(). */
void cllm_muon_admit(struct cllm_muon *muon, uint64_t rows, uint64_t cols);

/* Bytes that cllm_muon_take() takes; 0 when no matrix was admitted. */
size_t cllm_muon_arena_bytes(const struct cllm_muon *muon);
void cllm_muon_take(struct cllm_muon *muon, struct cllm_arena *arena);

/* Other bytes may be frozen from here on: what is kept must prove itself again. */
void cllm_muon_begin(struct cllm_muon *muon);

/* The direction (rows,cols) of @source, valid until the next call. */
const float *cllm_muon_direction(struct cllm_muon *muon, const struct cllm_ops *ops,
                                 const struct cllm_muon_source *source);

#endif /* CLLM_MODEL_MUON_H */
