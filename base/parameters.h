/*
 * base/parameters.h - which tensors a model has, and where they lie in the parameter
 * vector.
 *
 * One table for each family; workers, saver, coordinator and tools all use it, and files
 * have the same names and order. Pure arithmetic on the model's numbers: every process
 * plans for itself and gets the same.
 *
 * A tensor begins at a multiple of CLLM_TENSOR_ALIGN elements; what lies between the
 * tensors, and behind the last, is zero, stays zero and is not in files. Orientation is
 * that of Hugging Face's files: GPT-2's linear weights are (in,out), so y = x W + b;
 * Llama's are (out,in), so y = x W^T. While the output matrix is the token embedding it
 * is not a tensor of its own.
 */
#ifndef CLLM_BASE_PARAMETERS_H
#define CLLM_BASE_PARAMETERS_H

#include "base/base.h"
#include "base/model_config.h"

#define CLLM_TENSOR_NAME_BYTES 80
#define CLLM_TENSOR_ALIGN      16   /* elements: one cache line */
#define CLLM_VECTOR_ALIGN      1024 /* elements: the whole vector */

/* What a tensor is for. Of a block's tensors every layer has one. */
enum cllm_tensor_kind {
    CLLM_TENSOR_EMBEDDING = 0, // (V,C)
    CLLM_TENSOR_POSITIONS,     // (T,C) gpt2
    CLLM_TENSOR_NORM1_W,       // (C) before attention
    CLLM_TENSOR_NORM1_B,       // (C) gpt2
    CLLM_TENSOR_QKV_W,         // (C,3C) gpt2
    CLLM_TENSOR_QKV_B,         // (3C) gpt2
    CLLM_TENSOR_Q_W,           // (H D,C) llama
    CLLM_TENSOR_K_W,           // (KV D,C) llama
    CLLM_TENSOR_V_W,           // (KV D,C) llama
    CLLM_TENSOR_ATTN_W,        // (C,C) gpt2, (C,H D) llama: behind attention
    CLLM_TENSOR_ATTN_B,        // (C) gpt2
    CLLM_TENSOR_NORM2_W,       // (C) before the MLP
    CLLM_TENSOR_NORM2_B,       // (C) gpt2
    CLLM_TENSOR_GATE_W,        // (F,C) llama
    CLLM_TENSOR_FC_W,          // (C,F) gpt2, (F,C) llama: into the MLP
    CLLM_TENSOR_FC_B,          // (F) gpt2
    CLLM_TENSOR_PROJ_W,        // (F,C) gpt2, (C,F) llama: out of it
    CLLM_TENSOR_PROJ_B,        // (C) gpt2
    CLLM_TENSOR_NORM_W,        // (C) the last norm
    CLLM_TENSOR_NORM_B,        // (C) gpt2
    CLLM_TENSOR_HEAD_W,        // (V,C) untied
    CLLM_TENSOR_CRYSTALLINE,   // (L,H) with crystalline_bias: last, so that all others
                               // lie, and begin, as without it
    CLLM_N_TENSOR_KINDS
};

/* What training starts from. */
enum cllm_tensor_init {
    CLLM_INIT_ZERO = 0,
    CLLM_INIT_ONE,
    CLLM_INIT_NORMAL,   /* standard deviation 0.02 */
    CLLM_INIT_RESIDUAL, /* 0.02 / sqrt(2 L): what is added to the residual stream */
    CLLM_INIT_UNIFORM   /* within 1 / sqrt(columns) of 0: adapters */
};

#define CLLM_NO_LAYER UINT32_MAX

struct cllm_tensor {
    char name[CLLM_TENSOR_NAME_BYTES]; /* "transformer.h.3.attn.c_attn.weight" */
    enum cllm_tensor_kind kind;
    uint32_t layer;    /* or CLLM_NO_LAYER */
    uint32_t rank;     /* 1 or 2 */
    uint64_t shape[2]; /* shape[1] is 1 for rank 1 */
    uint64_t off;      /* of element 0 in the vector; a multiple of CLLM_TENSOR_ALIGN */
    uint64_t count;    /* product of the shape */
    bool decay;        /* weight decay: the 2-D tensors but the bias */
    enum cllm_tensor_init init;
};

struct cllm_parameters {
    struct cllm_model_config config; /* completed */
    uint32_t n_tensors;
    struct cllm_tensor *tensors; /* ascending by off; heap */
    uint64_t n_elements; /* length of the vector, a multiple of CLLM_VECTOR_ALIGN */
    uint64_t n_params;   /* without padding */
    uint32_t per_block;  /* tensors of a block */
    uint32_t place[CLLM_N_TENSOR_KINDS]; /* index, for a block's kinds that of layer 0 */
};

/* Complete and check @config, lay out the vector. Returns 0; CLLM_ECONFIG or -ENOMEM with
 * text, and then there is nothing to finish. */
int cllm_parameters_init(struct cllm_parameters *parameters,
                         const struct cllm_model_config *config);
void cllm_parameters_fini(struct cllm_parameters *parameters);

/* Does this model have such a tensor? */
bool cllm_parameters_have(const struct cllm_parameters *parameters,
                          enum cllm_tensor_kind kind);

/* The tensor @kind, of block @layer if it is a block's (otherwise @layer is nothing). It
 * must exist. */
const struct cllm_tensor *cllm_parameters_at(const struct cllm_parameters *parameters,
                                             enum cllm_tensor_kind kind, uint32_t layer);

/* Its first element in the vector. */
uint64_t cllm_parameters_off(const struct cllm_parameters *parameters,
                             enum cllm_tensor_kind kind, uint32_t layer);

/* The tensor with that name, or NULL. */
const struct cllm_tensor *cllm_parameters_find(const struct cllm_parameters *parameters,
                                               const char *name);

#endif /* CLLM_BASE_PARAMETERS_H */
