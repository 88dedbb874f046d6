/*
 * model/optimizer.h - one update of the parameters by ranges, from one version into
 * another.
 *
 * The source version is never written, so a range can be done again after a crash; an
 * element's new bits do not depend on the range that it was computed in. Whatever the
 * optimizer, a version is weights and two moments; what an optimizer does not use is 0.
 *
 *     kind    first moment                 second moment         source
 *     adamw   mean of gradients            mean of squares       Loshchilov, Hutter 2019
 *     lion    mean of gradients            -                     Chen et al. 2023
 *     sgd     momentum                     -                     as torch.optim.SGD
 *     muon    momentum (matrices of        -                     Jordan et al. 2024
 *             blocks; the rest: AdamW)
 *
 * Muon's step is 0.2 sqrt(max(rows, cols)) times its direction, which has the size of a
 * step of AdamW (Liu et al., "Muon is scalable for LLM training", 2025, section 2.2), so
 * that learning rate and weight decay are AdamW's. It moves the matrices of blocks:
 * tensors of two dimensions that belong to a layer, not embeddings or the output matrix.
 */
#ifndef CLLM_MODEL_OPTIMIZER_H
#define CLLM_MODEL_OPTIMIZER_H

#include "model/groups.h"
#include "model/muon.h"

/* In the order of the choices of [train] optimizer. */
enum cllm_optimizer_kind {
    CLLM_OPTIMIZER_ADAMW = 0,
    CLLM_OPTIMIZER_LION,
    CLLM_OPTIMIZER_SGD,
    CLLM_OPTIMIZER_MUON,
    CLLM_N_OPTIMIZERS
};

struct cllm_optimizer_settings {
    enum cllm_optimizer_kind kind;
    float weight_decay;
    float beta1, beta2, epsilon; /* AdamW, also beside Muon */
    float lion_beta1, lion_beta2;
    float sgd_momentum;
    bool sgd_nesterov;
    float muon_momentum;
    float muon_rate; /* factor of the learning rate for its matrices */
};

struct cllm_optimizer {
    struct cllm_optimizer_settings settings;
    const struct cllm_parameters *plan;
    struct cllm_groups groups;
    struct cllm_muon muon;
};

/* What an update reads, and with what; vectors point at element 0. */
struct cllm_update {
    const struct cllm_ops *ops;
    const float *w, *m, *v; /* the version before */
    const float *whole;     /* gradient; NULL where no tensor is needed as a whole */
    float learning_rate;
    float grad_scale; /* multiplies the gradient: 1 / tokens, times the clipping factor */
    uint64_t step;    /* of this update, from 1: for AdamW's bias corrections */
};

/* One walk over ascending ranges. */
struct cllm_optimizer_walk {
    struct cllm_optimizer *optimizer;
    struct cllm_update update;
    float correction1, correction2; /* AdamW */
    uint32_t tensor;                /* those before it end before the last range's end */
};

/* What the configuration says. */
struct cllm_optimizer_settings cllm_optimizer_settings(const struct cllm_config *config);

/* A kind's word, as in the configuration; whether a moment is more than zeros. */
const char *cllm_optimizer_name(enum cllm_optimizer_kind kind);
bool cllm_optimizer_has_second(enum cllm_optimizer_kind kind);

/*
 * @plan must outlive the optimizer; @groups, lines of [train] group, may be NULL. Returns
 * 0 or a negative code with text, as cllm_groups_init().
 */
int cllm_optimizer_init(struct cllm_optimizer *optimizer,
                        const struct cllm_parameters *plan,
                        const struct cllm_optimizer_settings *settings,
                        const struct cllm_config_list *groups);
void cllm_optimizer_fini(struct cllm_optimizer *optimizer);

/* What moves tensor @tensor: the run's kind, or AdamW beside Muon. */
enum cllm_optimizer_kind cllm_optimizer_of(const struct cllm_optimizer *optimizer,
                                           uint32_t tensor);

/* @sum, continued with all that changes the bits; as it is for AdamW without groups,
 * whose settings the caller hashes himself. */
uint64_t cllm_optimizer_hash(const struct cllm_optimizer *optimizer, uint64_t sum);

/* Private memory that updates take, and where it is to be; exact. */
size_t cllm_optimizer_arena_bytes(const struct cllm_optimizer *optimizer);
void cllm_optimizer_take(struct cllm_optimizer *optimizer, struct cllm_arena *arena);

/* Does an update of elements [lo,hi) need whole tensors? Such ranges are walked by one
 * thread at a time, which may use others for products; they share the memory above. */
bool cllm_optimizer_is_whole(const struct cllm_optimizer *optimizer, uint64_t lo,
                             uint64_t hi);

void cllm_optimizer_begin(struct cllm_optimizer_walk *walk,
                          struct cllm_optimizer *optimizer,
                          const struct cllm_update *update);

/*
 * Elements [lo,hi), not before those of the last call, with gradient @g: the new version
 * out. All four point at element @lo. Tensors with rate 0 are copied, moments too;
 * padding becomes 0.
 */
void cllm_optimizer_range(struct cllm_optimizer_walk *walk, uint64_t lo, uint64_t hi,
                          const float *g, float *w, float *m, float *v);

/* Sum of the squares of elements [lo,hi) of the gradient, @g at element @lo, but for
 * tensors with rate 0. */
double cllm_optimizer_sumsq(const struct cllm_optimizer *optimizer,
                            const struct cllm_ops *ops, const float *g, uint64_t lo,
                            uint64_t hi);

#endif /* CLLM_MODEL_OPTIMIZER_H */
