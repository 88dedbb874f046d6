/*
 * base/lora.h - low-rank adapters (Hu and others: "LoRA: low-rank adaptation of large
 * language models", 2021): which matrices of a frozen model have them, and where they lie
 * in the parameter vector of a run that trains them alone.
 *
 * A linear layer from @in to @out elements with weight W and adapters A (rank,in) and B
 * (out,rank) gives
 *
 *     y = x W + (alpha / rank) (x A^T) B^T
 *
 * Names, shapes and orientation are those of Hugging Face's peft, whatever the
 * orientation of W is. Every block has adapters on the same matrices. Pure arithmetic on
 * numbers, as base/parameters.h.
 */
#ifndef CLLM_BASE_LORA_H
#define CLLM_BASE_LORA_H

#include "base/parameters.h"

/* Fixed-width and without gaps, for shared memory. */
struct cllm_lora {
    uint32_t rank;    /* 0: no adapters, all weights learn */
    uint32_t targets; /* bit k: matrices of kind k (enum cllm_tensor_kind) have them */
    double alpha;     /* outputs of adapters are multiplied by alpha / rank */
};

/* Space for the names of all matrices of a block that can have adapters, in one line. */
#define CLLM_LORA_TEXT 256

/* What the configuration says of a run with the model @base. Returns 0; CLLM_ECONFIG with
 * text: a word of targets that names nothing, or a rank beyond a matrix. */
int cllm_lora_from(struct cllm_lora *lora, const struct cllm_config *config,
                   const struct cllm_parameters *base);

/*
 * Add what @word names to *@targets: attention, mlp, all; the name of a module as peft
 * has it, whole or its end ("c_attn", "mlp.c_proj", "q_proj"); or a shell pattern for the
 * names within a block. CLLM_ECONFIG with text, which names what there is, when it names
 * nothing.
 */
int cllm_lora_target(uint32_t *targets, const char *word,
                     const struct cllm_parameters *base);

/* Is @lora possible with @base: some targets, all of them the model's, the rank at most
 * the lesser side of each? CLLM_ECONFIG with text. */
int cllm_lora_check(const struct cllm_lora *lora, const struct cllm_parameters *base);

/* alpha / rank. */
float cllm_lora_scale(const struct cllm_lora *lora);

/*
 * The table of the vector that is trained when the model @base is frozen: for each target
 * of each block A and then B, cllm_parameters_at() of the target's kind being A, which
 * starts at random, and what follows it B, which starts at zero. Returns 0, CLLM_ECONFIG
 * (cllm_lora_check()) or -ENOMEM with text; pair with cllm_parameters_fini().
 */
int cllm_lora_parameters(struct cllm_parameters *adapters,
                         const struct cllm_parameters *base,
                         const struct cllm_lora *lora);

/* The table of what a run trains: the model's own, or of its adapters. */
int cllm_lora_trained(struct cllm_parameters *trained,
                      const struct cllm_model_config *model,
                      const struct cllm_lora *lora);

/* Elements of an input row and of an output row of the layer whose weight is @weight. */
void cllm_lora_sides(const struct cllm_tensor *weight, enum cllm_arch arch, uint64_t *in,
                     uint64_t *out);

/* The module's name within a block: "attn.c_attn"; returns its length. */
size_t cllm_lora_module(const struct cllm_tensor *weight, const char **name);

/*
 * @w, the weight @weight of @base, becomes what is the same without adapters: W plus its
 * scaled product, A and B from @adapted, the vector of @adapters. A weight without
 * adapters stays as it is.
 */
void cllm_lora_merge(float *w, const struct cllm_tensor *weight,
                     const struct cllm_parameters *adapters, const float *adapted,
                     const struct cllm_lora *lora);

#endif /* CLLM_BASE_LORA_H */
