/*
 * base/parameters.c - the tables of tensors, written out for every layer.
 */
#include "base/parameters.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* A size in a table. */
enum dim {
    NO = 0, /* no second dimension */
    V,
    T,
    C,
    C3,
    F,
    L,
    H,
    QD, /* all heads of queries */
    KVD /* of keys, or of values */
};

struct row {
    const char *name;
    enum cllm_tensor_kind kind;
    enum dim rows, cols;
    enum cllm_tensor_init init;
};

/* In the order of the files. */
static const struct row gpt2_first[] = {
    {"transformer.wte.weight", CLLM_TENSOR_EMBEDDING, V, C, CLLM_INIT_NORMAL},
    {"transformer.wpe.weight", CLLM_TENSOR_POSITIONS, T, C, CLLM_INIT_NORMAL},
};
static const struct row gpt2_block[] = {
    {"ln_1.weight", CLLM_TENSOR_NORM1_W, C, NO, CLLM_INIT_ONE},
    {"ln_1.bias", CLLM_TENSOR_NORM1_B, C, NO, CLLM_INIT_ZERO},
    {"attn.c_attn.weight", CLLM_TENSOR_QKV_W, C, C3, CLLM_INIT_NORMAL},
    {"attn.c_attn.bias", CLLM_TENSOR_QKV_B, C3, NO, CLLM_INIT_ZERO},
    {"attn.c_proj.weight", CLLM_TENSOR_ATTN_W, C, C, CLLM_INIT_RESIDUAL},
    {"attn.c_proj.bias", CLLM_TENSOR_ATTN_B, C, NO, CLLM_INIT_ZERO},
    {"ln_2.weight", CLLM_TENSOR_NORM2_W, C, NO, CLLM_INIT_ONE},
    {"ln_2.bias", CLLM_TENSOR_NORM2_B, C, NO, CLLM_INIT_ZERO},
    {"mlp.c_fc.weight", CLLM_TENSOR_FC_W, C, F, CLLM_INIT_NORMAL},
    {"mlp.c_fc.bias", CLLM_TENSOR_FC_B, F, NO, CLLM_INIT_ZERO},
    {"mlp.c_proj.weight", CLLM_TENSOR_PROJ_W, F, C, CLLM_INIT_RESIDUAL},
    {"mlp.c_proj.bias", CLLM_TENSOR_PROJ_B, C, NO, CLLM_INIT_ZERO},
};
static const struct row gpt2_last[] = {
    {"transformer.ln_f.weight", CLLM_TENSOR_NORM_W, C, NO, CLLM_INIT_ONE},
    {"transformer.ln_f.bias", CLLM_TENSOR_NORM_B, C, NO, CLLM_INIT_ZERO},
};

static const struct row llama_first[] = {
    {"model.embed_tokens.weight", CLLM_TENSOR_EMBEDDING, V, C, CLLM_INIT_NORMAL},
};
static const struct row llama_block[] = {
    {"self_attn.q_proj.weight", CLLM_TENSOR_Q_W, QD, C, CLLM_INIT_NORMAL},
    {"self_attn.k_proj.weight", CLLM_TENSOR_K_W, KVD, C, CLLM_INIT_NORMAL},
    {"self_attn.v_proj.weight", CLLM_TENSOR_V_W, KVD, C, CLLM_INIT_NORMAL},
    {"self_attn.o_proj.weight", CLLM_TENSOR_ATTN_W, C, QD, CLLM_INIT_NORMAL},
    {"mlp.gate_proj.weight", CLLM_TENSOR_GATE_W, F, C, CLLM_INIT_NORMAL},
    {"mlp.up_proj.weight", CLLM_TENSOR_FC_W, F, C, CLLM_INIT_NORMAL},
    {"mlp.down_proj.weight", CLLM_TENSOR_PROJ_W, C, F, CLLM_INIT_NORMAL},
    {"input_layernorm.weight", CLLM_TENSOR_NORM1_W, C, NO, CLLM_INIT_ONE},
    {"post_attention_layernorm.weight", CLLM_TENSOR_NORM2_W, C, NO, CLLM_INIT_ONE},
};
static const struct row llama_last[] = {
    {"model.norm.weight", CLLM_TENSOR_NORM_W, C, NO, CLLM_INIT_ONE},
};

static const struct row head = {"lm_head.weight", CLLM_TENSOR_HEAD_W, V, C,
                                CLLM_INIT_NORMAL};
static const struct row gpt2_bias = {"transformer.crystalline_bias",
                                     CLLM_TENSOR_CRYSTALLINE, L, H, CLLM_INIT_ZERO};
static const struct row llama_bias = {"model.crystalline_bias", CLLM_TENSOR_CRYSTALLINE,
                                      L, H, CLLM_INIT_ZERO};

static const struct family {
    const char *prefix; /* of a block's names, before the layer's number */
    const struct row *first, *block, *last;
    uint32_t n_first, n_block, n_last;
    const struct row *bias;
} families[CLLM_N_ARCHS] = {
    [CLLM_ARCH_GPT2] = {"transformer.h", gpt2_first, gpt2_block, gpt2_last,
                        CLLM_LEN(gpt2_first), CLLM_LEN(gpt2_block), CLLM_LEN(gpt2_last),
                        &gpt2_bias},
    [CLLM_ARCH_LLAMA] = {"model.layers", llama_first, llama_block, llama_last,
                         CLLM_LEN(llama_first), CLLM_LEN(llama_block),
                         CLLM_LEN(llama_last), &llama_bias},
};

static uint64_t size_of(const struct cllm_model_config *config, enum dim dim)
{
    switch (dim) {
    case NO:
        return 1;
    case V:
        return config->vocab;
    case T:
        return config->context;
    case C:
        return config->width;
    case C3:
        return 3 * (uint64_t)config->width;
    case F:
        return config->hidden;
    case L:
        return config->layers;
    case H:
        return config->heads;
    case QD:
        return (uint64_t)config->heads * config->head_size;
    case KVD:
        return (uint64_t)config->kv_heads * config->head_size;
    }
    CLLM_ASSERT(false);
    return 0;
}

/* Append a tensor behind those there are. */
static void append(struct cllm_parameters *parameters, const struct row *row,
                   uint32_t layer)
{
    const struct family *family = &families[parameters->config.arch];
    struct cllm_tensor *tensor = &parameters->tensors[parameters->n_tensors];
    int bytes;

    bytes = layer == CLLM_NO_LAYER
                ? snprintf(tensor->name, sizeof tensor->name, "%s", row->name)
                : snprintf(tensor->name, sizeof tensor->name, "%s.%u.%s", family->prefix,
                           layer, row->name);
    CLLM_ASSERT(bytes > 0 && (size_t)bytes < sizeof tensor->name);
    if (layer == CLLM_NO_LAYER || layer == 0)
        parameters->place[row->kind] = parameters->n_tensors;
    tensor->kind = row->kind;
    tensor->layer = layer;
    tensor->rank = row->cols == NO ? 1 : 2;
    tensor->shape[0] = size_of(&parameters->config, row->rows);
    tensor->shape[1] = size_of(&parameters->config, row->cols);
    tensor->count = tensor->shape[0] * tensor->shape[1];
    tensor->off = cllm_align_up(parameters->n_elements, CLLM_TENSOR_ALIGN);
    tensor->decay = tensor->rank == 2 && row->kind != CLLM_TENSOR_CRYSTALLINE;
    tensor->init = row->init;
    parameters->n_elements = tensor->off + tensor->count;
    parameters->n_params += tensor->count;
    parameters->n_tensors++;
}

int cllm_parameters_init(struct cllm_parameters *parameters,
                         const struct cllm_model_config *config)
{
    const struct family *family;
    uint32_t count;
    int rc;

    *parameters = (struct cllm_parameters){.config = *config};
    cllm_model_config_complete(&parameters->config);
    rc = cllm_model_config_check(&parameters->config);
    if (rc != 0)
        return rc;
    family = &families[config->arch];
    count = family->n_first + config->layers * family->n_block + family->n_last +
            (config->untied != 0) + (config->crystalline_bias != 0);
    parameters->per_block = family->n_block;
    for (uint32_t kind = 0; kind < CLLM_N_TENSOR_KINDS; kind++)
        parameters->place[kind] = UINT32_MAX;
    parameters->tensors = calloc(count, sizeof *parameters->tensors);
    if (parameters->tensors == NULL)
        return cllm_err(-ENOMEM, "cannot plan the model");
    for (uint32_t i = 0; i < family->n_first; i++)
        append(parameters, &family->first[i], CLLM_NO_LAYER);
    for (uint32_t layer = 0; layer < config->layers; layer++)
        for (uint32_t i = 0; i < family->n_block; i++)
            append(parameters, &family->block[i], layer);
    for (uint32_t i = 0; i < family->n_last; i++)
        append(parameters, &family->last[i], CLLM_NO_LAYER);
    if (config->untied)
        append(parameters, &head, CLLM_NO_LAYER);
    if (config->crystalline_bias)
        append(parameters, family->bias, CLLM_NO_LAYER);
    CLLM_ASSERT(parameters->n_tensors == count);
    parameters->n_elements = cllm_align_up(parameters->n_elements, CLLM_VECTOR_ALIGN);
    return 0;
}

void cllm_parameters_fini(struct cllm_parameters *parameters)
{
    free(parameters->tensors);
    *parameters = (struct cllm_parameters){0};
}

bool cllm_parameters_have(const struct cllm_parameters *parameters,
                          enum cllm_tensor_kind kind)
{
    return parameters->place[kind] != UINT32_MAX;
}

const struct cllm_tensor *cllm_parameters_at(const struct cllm_parameters *parameters,
                                             enum cllm_tensor_kind kind, uint32_t layer)
{
    const struct cllm_tensor *tensor;

    CLLM_ASSERT(cllm_parameters_have(parameters, kind));
    tensor = &parameters->tensors[parameters->place[kind]];
    if (tensor->layer == CLLM_NO_LAYER)
        return tensor;
    CLLM_ASSERT(layer < parameters->config.layers);
    return tensor + layer * (size_t)parameters->per_block;
}

uint64_t cllm_parameters_off(const struct cllm_parameters *parameters,
                             enum cllm_tensor_kind kind, uint32_t layer)
{
    return cllm_parameters_at(parameters, kind, layer)->off;
}

const struct cllm_tensor *cllm_parameters_find(const struct cllm_parameters *parameters,
                                               const char *name)
{
    for (uint32_t i = 0; i < parameters->n_tensors; i++)
        if (strcmp(parameters->tensors[i].name, name) == 0)
            return &parameters->tensors[i];
    return NULL;
}
