/*
 * formats/gguf_model.c - one table of names, and what is turned on the way.
 */
#include "formats/gguf_model.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "formats/half.h"
#include "formats/relayout.h"

#define ROPE_DIVISORS "rope_freqs.weight"
#define TWO_PI        6.283185307179586

/* Of a block: behind "blk.N.". */
static const struct {
    const char *gpt2, *llama; /* NULL: the family has none */
} names[CLLM_N_TENSOR_KINDS] = {
    [CLLM_TENSOR_EMBEDDING] = {"token_embd.weight", "token_embd.weight"},
    [CLLM_TENSOR_POSITIONS] = {"position_embd.weight", NULL},
    [CLLM_TENSOR_NORM1_W] = {"attn_norm.weight", "attn_norm.weight"},
    [CLLM_TENSOR_NORM1_B] = {"attn_norm.bias", NULL},
    [CLLM_TENSOR_QKV_W] = {"attn_qkv.weight", NULL},
    [CLLM_TENSOR_QKV_B] = {"attn_qkv.bias", NULL},
    [CLLM_TENSOR_Q_W] = {NULL, "attn_q.weight"},
    [CLLM_TENSOR_K_W] = {NULL, "attn_k.weight"},
    [CLLM_TENSOR_V_W] = {NULL, "attn_v.weight"},
    [CLLM_TENSOR_ATTN_W] = {"attn_output.weight", "attn_output.weight"},
    [CLLM_TENSOR_ATTN_B] = {"attn_output.bias", NULL},
    [CLLM_TENSOR_NORM2_W] = {"ffn_norm.weight", "ffn_norm.weight"},
    [CLLM_TENSOR_NORM2_B] = {"ffn_norm.bias", NULL},
    [CLLM_TENSOR_GATE_W] = {NULL, "ffn_gate.weight"},
    [CLLM_TENSOR_FC_W] = {"ffn_up.weight", "ffn_up.weight"},
    [CLLM_TENSOR_FC_B] = {"ffn_up.bias", NULL},
    [CLLM_TENSOR_PROJ_W] = {"ffn_down.weight", "ffn_down.weight"},
    [CLLM_TENSOR_PROJ_B] = {"ffn_down.bias", NULL},
    [CLLM_TENSOR_NORM_W] = {"output_norm.weight", "output_norm.weight"},
    [CLLM_TENSOR_NORM_B] = {"output_norm.bias", NULL},
    [CLLM_TENSOR_HEAD_W] = {"output.weight", "output.weight"},
};

static void name_of(const struct cllm_parameters *parameters,
                    const struct cllm_tensor *tensor, char name[CLLM_GGUF_NAME_BYTES])
{
    const char *end = parameters->config.arch == CLLM_ARCH_LLAMA
                          ? names[tensor->kind].llama
                          : names[tensor->kind].gpt2;

    CLLM_ASSERT(end != NULL);
    if (tensor->layer == CLLM_NO_LAYER)
        (void)snprintf(name, CLLM_GGUF_NAME_BYTES, "%s", end);
    else
        (void)snprintf(name, CLLM_GGUF_NAME_BYTES, "blk.%u.%s", tensor->layer, end);
}

/* How the file's matrix comes from Hugging Face's. */
static enum cllm_relayout relayout_of(const struct cllm_parameters *parameters,
                                      const struct cllm_tensor *tensor)
{
    if (parameters->config.arch == CLLM_ARCH_LLAMA)
        return tensor->kind == CLLM_TENSOR_Q_W || tensor->kind == CLLM_TENSOR_K_W
                   ? CLLM_RELAYOUT_INTERLEAVED
                   : CLLM_RELAYOUT_SAME;
    switch (tensor->kind) {
    case CLLM_TENSOR_QKV_W:
    case CLLM_TENSOR_ATTN_W:
    case CLLM_TENSOR_FC_W:
    case CLLM_TENSOR_PROJ_W:
        return CLLM_RELAYOUT_TRANSPOSED;
    default:
        return CLLM_RELAYOUT_SAME;
    }
}

/* The file's row-major shape. */
static void shape_of(const struct cllm_parameters *parameters,
                     const struct cllm_tensor *tensor, uint64_t shape[2])
{
    bool turned = relayout_of(parameters, tensor) == CLLM_RELAYOUT_TRANSPOSED;

    shape[0] = tensor->shape[turned ? 1 : 0];
    shape[1] = tensor->shape[turned ? 0 : 1];
}

/* ---- reading: numbers ---- */

static void key_of(char key[96], uint32_t arch, const char *end)
{
    (void)snprintf(key, 96, "%s.%s", cllm_arch_names[arch], end);
}

/* A number from 1 to @max; 0 when @optional and not there. */
static int get_size(const struct cllm_gguf *gguf, uint32_t arch, const char *end,
                    uint32_t max, bool optional, uint32_t *out)
{
    uint64_t value = 0;
    char key[96];
    int rc;

    key_of(key, arch, end);
    if (optional && cllm_gguf_find(gguf, key) == NULL)
        return 0;
    rc = cllm_gguf_get_u64(gguf, key, &value);
    if (rc == 0 && (value < 1 || value > max))
        rc = cllm_err(CLLM_EDATA, "%s: %s: expected 1 to %u, found %" PRIu64, gguf->path,
                      key, max, value);
    *out = (uint32_t)value;
    return rc;
}

static int get_sizes(const struct cllm_gguf *gguf, struct cllm_model_config *config)
{
    const struct {
        const char *end;
        uint32_t max;
        bool optional;
        uint32_t *out;
    } sizes[] = {
        {"context_length", 65536, false, &config->context},
        {"embedding_length", 65536, false, &config->width},
        {"block_count", 512, false, &config->layers},
        {"feed_forward_length", 262144, false, &config->hidden},
        {"attention.head_count", 1024, false, &config->heads},
        {"attention.head_count_kv", 1024, true, &config->kv_heads},
        {"attention.key_length", 65536, true, &config->head_size},
    };
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < CLLM_LEN(sizes); i++)
        rc = get_size(gguf, config->arch, sizes[i].end, sizes[i].max, sizes[i].optional,
                      sizes[i].out);
    return rc;
}

/* Is there a key @end, and is it a text other than @usual? */
static bool says_other(const struct cllm_gguf *gguf, uint32_t arch, const char *end,
                       const char *usual)
{
    const char *text;
    uint64_t bytes;
    char key[96];

    key_of(key, arch, end);
    return cllm_gguf_find(gguf, key) != NULL &&
           (cllm_gguf_get_text(gguf, key, &text, &bytes) != 0 || bytes != strlen(usual) ||
            memcmp(text, usual, (size_t)bytes) != 0);
}

static bool has(const struct cllm_gguf *gguf, uint32_t arch, const char *end)
{
    char key[96];

    key_of(key, arch, end);
    return cllm_gguf_find(gguf, key) != NULL;
}

/* The base of the angles, and how they are scaled. */
static int get_rope(const struct cllm_gguf *gguf, struct cllm_model_config *config)
{
    const uint32_t arch = config->arch;
    int rc = 0;

    if (has(gguf, arch, "rope.freq_base"))
        rc = cllm_gguf_get_f64(gguf, "llama.rope.freq_base", &config->rope_theta);
    if (rc == 0 && has(gguf, arch, "rope.dimension_count")) {
        uint64_t rotated = 0;
        rc = cllm_gguf_get_u64(gguf, "llama.rope.dimension_count", &rotated);
        if (rc == 0 && rotated != config->head_size)
            rc = cllm_err(CLLM_EDATA,
                          "%s: llama.rope.dimension_count: expected %u, a whole head, "
                          "found %" PRIu64,
                          gguf->path, config->head_size, rotated);
    }
    if (rc != 0 || !says_other(gguf, arch, "rope.scaling.type", "none"))
        return rc;
    if (!says_other(gguf, arch, "rope.scaling.type", "linear"))
        config->rope_scaling = CLLM_ROPE_LINEAR;
    else if (!says_other(gguf, arch, "rope.scaling.type", "yarn"))
        config->rope_scaling = CLLM_ROPE_YARN;
    else
        return cllm_err(CLLM_EDATA,
                        "%s: llama.rope.scaling.type: expected none, linear or yarn",
                        gguf->path);
    rc = cllm_gguf_get_f64(gguf, "llama.rope.scaling.factor", &config->rope_factor);
    if (rc == 0)
        rc = get_size(gguf, arch, "rope.scaling.original_context_length", 65536, true,
                      &config->rope_original);
    return rc;
}

static int get_arch(const struct cllm_gguf *gguf, uint32_t *arch)
{
    const char *text = NULL;
    uint64_t bytes = 0;
    int rc = cllm_gguf_get_text(gguf, "general.architecture", &text, &bytes);

    if (rc != 0)
        return rc;
    for (*arch = 0; *arch < CLLM_N_ARCHS; ++*arch)
        if (strlen(cllm_arch_names[*arch]) == bytes &&
            memcmp(text, cllm_arch_names[*arch], (size_t)bytes) == 0)
            return 0;
    return cllm_err(CLLM_EDATA,
                    "%s: general.architecture: expected gpt2 or llama, found %.*s",
                    gguf->path, (int)cllm_min_u64(bytes, 64), text);
}

/* The vocabulary is how many rows the embedding has. */
static int get_vocab(const struct cllm_gguf *gguf, struct cllm_model_config *config)
{
    const struct cllm_gguf_tensor *tensor = cllm_gguf_tensor(gguf, "token_embd.weight");

    if (tensor == NULL)
        return cllm_err(CLLM_EDATA, "%s: there is no tensor \"token_embd.weight\"",
                        gguf->path);
    if (tensor->rank != 2 || tensor->ne[1] < 2 || tensor->ne[1] > 1048576)
        return cllm_err(CLLM_EDATA,
                        "%s: tensor \"token_embd.weight\": expected 2 to 1048576 rows, "
                        "found %" PRIu64,
                        gguf->path, tensor->ne[1]);
    config->vocab = (uint32_t)tensor->ne[1];
    return 0;
}

int cllm_gguf_model_config(const struct cllm_gguf *gguf, struct cllm_model_config *config)
{
    int rc;

    *config = (struct cllm_model_config){0};
    rc = get_arch(gguf, &config->arch);
    if (rc == 0)
        rc = get_sizes(gguf, config);
    if (rc == 0)
        rc = get_vocab(gguf, config);
    if (rc == 0)
        rc = config->arch == CLLM_ARCH_LLAMA
                 ? cllm_gguf_get_f64(gguf, "llama.attention.layer_norm_rms_epsilon",
                                     &config->norm_epsilon)
                 : cllm_gguf_get_f64(gguf, "gpt2.attention.layer_norm_epsilon",
                                     &config->norm_epsilon);
    if (rc != 0)
        return rc;
    config->untied = cllm_gguf_tensor(gguf, "output.weight") != NULL;
    if (config->head_size == 0)
        config->head_size = config->width / config->heads;
    if (config->arch == CLLM_ARCH_LLAMA)
        rc = get_rope(gguf, config);
    if (rc != 0)
        return rc;
    /* f32 in the file: 1e-5 is not exactly the double of that name. */
    if (fabs(config->norm_epsilon - CLLM_NORM_EPSILON) < 1e-11)
        config->norm_epsilon = CLLM_NORM_EPSILON;
    else if (fabs(config->norm_epsilon - 1e-6) < 1e-12)
        config->norm_epsilon = 1e-6;
    cllm_model_config_complete(config);
    if (cllm_model_config_check(config) == 0)
        return 0;
    cllm_err_add("%s", gguf->path);
    return CLLM_EDATA;
}

/* ---- reading: tensors ---- */

static int check_tensor(const struct cllm_gguf *gguf,
                        const struct cllm_parameters *parameters,
                        const struct cllm_tensor *tensor)
{
    char name[CLLM_GGUF_NAME_BYTES];
    const struct cllm_gguf_tensor *found;
    uint64_t shape[2];
    int rc;

    name_of(parameters, tensor, name);
    shape_of(parameters, tensor, shape);
    found = cllm_gguf_tensor(gguf, name);
    if (found == NULL)
        return cllm_err(CLLM_EDATA, "%s: there is no tensor \"%s\"", gguf->path, name);
    if (tensor->rank == 1) { /* ne has the fastest first */
        shape[1] = shape[0];
        shape[0] = 1;
    }
    if (found->ne[0] != shape[1] || found->ne[1] != shape[0] ||
        found->n_elements != tensor->count) {
        rc = cllm_err(CLLM_EDATA, "%s: tensor \"%s\": its shape is not that of its keys",
                      gguf->path, name);
        cllm_err_detail("expected ne (%" PRIu64 ", %" PRIu64 "), found (%" PRIu64
                        ", %" PRIu64 ")",
                        shape[1], shape[0], found->ne[0], found->ne[1]);
        return rc;
    }
    /* A read of nothing says whether the type can be read. */
    return gguf->fd < 0 ? 0 : cllm_gguf_read(gguf, found, 0, 0, NULL);
}

int cllm_gguf_model_check(const struct cllm_gguf *gguf,
                          const struct cllm_parameters *parameters)
{
    uint32_t n = parameters->n_tensors;
    char name[CLLM_GGUF_NAME_BYTES];
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < n; i++)
        rc = check_tensor(gguf, parameters, &parameters->tensors[i]);
    if (rc != 0 || gguf->n_tensors == n)
        return rc;
    if (cllm_gguf_tensor(gguf, ROPE_DIVISORS) != NULL) {
        rc = cllm_err(CLLM_EDATA, "%s: tensor \"" ROPE_DIVISORS "\" is not known here",
                      gguf->path);
        cllm_err_hint("Llama 3's scaling of positions cannot be told from it: import the "
                      "model from its Hugging Face directory");
        return rc;
    }
    for (uint32_t t = 0; t < gguf->n_tensors; t++) {
        bool known = false;
        for (uint32_t i = 0; !known && i < n; i++) {
            name_of(parameters, &parameters->tensors[i], name);
            known = strcmp(gguf->tensor[t].name, name) == 0;
        }
        if (!known)
            return cllm_err(CLLM_EDATA, "%s: tensor \"%s\" is none of a %s model of CLLM",
                            gguf->path, gguf->tensor[t].name,
                            cllm_arch_names[parameters->config.arch]);
    }
    return 0;
}

int cllm_gguf_model_read(const struct cllm_gguf *gguf,
                         const struct cllm_parameters *parameters,
                         const struct cllm_tensor *tensor, float *out, float *room)
{
    enum cllm_relayout relayout = relayout_of(parameters, tensor);
    char name[CLLM_GGUF_NAME_BYTES];
    const struct cllm_gguf_tensor *found;
    int rc;

    name_of(parameters, tensor, name);
    found = cllm_gguf_tensor(gguf, name);
    CLLM_ASSERT(found != NULL && found->n_elements == tensor->count);
    rc = cllm_gguf_read(gguf, found, 0, tensor->count,
                        relayout == CLLM_RELAYOUT_SAME ? out : room);
    if (rc == 0 && relayout == CLLM_RELAYOUT_TRANSPOSED)
        cllm_relayout_transpose(out, room, tensor->shape[1], tensor->shape[0]);
    if (rc == 0 && relayout == CLLM_RELAYOUT_INTERLEAVED)
        cllm_relayout_split(out, room, tensor->shape[0], tensor->shape[1],
                            parameters->config.head_size);
    return rc;
}

/* ---- writing ---- */

enum cllm_gguf_type cllm_gguf_model_type(const struct cllm_parameters *parameters,
                                         const struct cllm_tensor *tensor,
                                         enum cllm_gguf_type type)
{
    uint64_t shape[2];

    if (tensor->rank == 1 || tensor->kind == CLLM_TENSOR_POSITIONS)
        return CLLM_GGUF_TYPE_F32;
    shape_of(parameters, tensor, shape);
    return type == CLLM_GGUF_TYPE_Q8_0 && shape[1] % CLLM_HALF_Q8_BLOCK != 0
               ? CLLM_GGUF_TYPE_F16
               : type;
}

static void put_size(struct cllm_gguf_writer *writer, uint32_t arch, const char *end,
                     uint32_t value)
{
    char key[96];

    key_of(key, arch, end);
    cllm_gguf_put_u32(writer, key, value);
}

static void put_llama(struct cllm_gguf_writer *writer,
                      const struct cllm_model_config *config)
{
    put_size(writer, config->arch, "attention.key_length", config->head_size);
    put_size(writer, config->arch, "attention.value_length", config->head_size);
    put_size(writer, config->arch, "rope.dimension_count", config->head_size);
    put_size(writer, config->arch, "vocab_size", config->vocab);
    cllm_gguf_put_f32(writer, "llama.rope.freq_base", (float)config->rope_theta);
    cllm_gguf_put_f32(writer, "llama.attention.layer_norm_rms_epsilon",
                      (float)config->norm_epsilon);
    if (config->rope_scaling != CLLM_ROPE_LINEAR &&
        config->rope_scaling != CLLM_ROPE_YARN)
        return;
    cllm_gguf_put_text(writer, "llama.rope.scaling.type",
                       cllm_rope_scaling_names[config->rope_scaling]);
    cllm_gguf_put_f32(writer, "llama.rope.scaling.factor", (float)config->rope_factor);
    put_size(writer, config->arch, "rope.scaling.original_context_length",
             config->rope_original);
}

void cllm_gguf_model_put(struct cllm_gguf_writer *writer,
                         const struct cllm_parameters *parameters,
                         enum cllm_gguf_type type, const char *name)
{
    const struct cllm_model_config *config = &parameters->config;
    uint32_t file_type = type == CLLM_GGUF_TYPE_F32    ? 0
                         : type == CLLM_GGUF_TYPE_F16  ? 1
                         : type == CLLM_GGUF_TYPE_Q8_0 ? 7
                                                       : 32;

    cllm_gguf_put_text(writer, "general.architecture", cllm_arch_names[config->arch]);
    cllm_gguf_put_text(writer, "general.name", name);
    cllm_gguf_put_u32(writer, "general.file_type", file_type);
    cllm_gguf_put_u32(writer, "general.alignment", CLLM_GGUF_ALIGN);
    if (type == CLLM_GGUF_TYPE_Q8_0)
        cllm_gguf_put_u32(writer, "general.quantization_version", 2);
    put_size(writer, config->arch, "context_length", config->context);
    put_size(writer, config->arch, "embedding_length", config->width);
    put_size(writer, config->arch, "block_count", config->layers);
    put_size(writer, config->arch, "feed_forward_length", config->hidden);
    put_size(writer, config->arch, "attention.head_count", config->heads);
    put_size(writer, config->arch, "attention.head_count_kv", config->kv_heads);
    if (config->arch == CLLM_ARCH_LLAMA)
        put_llama(writer, config);
    else
        cllm_gguf_put_f32(writer, "gpt2.attention.layer_norm_epsilon",
                          (float)config->norm_epsilon);
}

/* Llama 3's scaling is not a key but a tensor. */
static bool has_divisors(const struct cllm_model_config *config)
{
    return config->arch == CLLM_ARCH_LLAMA && config->rope_scaling == CLLM_ROPE_LLAMA3;
}

void cllm_gguf_model_add(struct cllm_gguf_writer *writer,
                         const struct cllm_parameters *parameters,
                         enum cllm_gguf_type type)
{
    const uint64_t half = parameters->config.head_size / 2;
    char name[CLLM_GGUF_NAME_BYTES];
    uint64_t shape[2];

    for (uint32_t i = 0; i < parameters->n_tensors; i++) {
        const struct cllm_tensor *tensor = &parameters->tensors[i];
        name_of(parameters, tensor, name);
        shape_of(parameters, tensor, shape);
        cllm_gguf_add_tensor(writer, name, cllm_gguf_model_type(parameters, tensor, type),
                             shape, tensor->rank);
    }
    if (has_divisors(&parameters->config))
        cllm_gguf_add_tensor(writer, ROPE_DIVISORS, CLLM_GGUF_TYPE_F32, &half, 1);
}

int cllm_gguf_model_write(struct cllm_gguf_writer *writer,
                          const struct cllm_parameters *parameters, uint32_t index,
                          float *data, float *room)
{
    const struct cllm_tensor *tensor = &parameters->tensors[index];

    switch (relayout_of(parameters, tensor)) {
    case CLLM_RELAYOUT_TRANSPOSED:
        cllm_relayout_transpose(room, data, tensor->shape[0], tensor->shape[1]);
        return cllm_gguf_writer_put(writer, index, room);
    case CLLM_RELAYOUT_INTERLEAVED:
        cllm_relayout_interleave(room, data, tensor->shape[0], tensor->shape[1],
                                 parameters->config.head_size);
        return cllm_gguf_writer_put(writer, index, room);
    case CLLM_RELAYOUT_SAME:
        break;
    }
    return cllm_gguf_writer_put(writer, index, data);
}

/* By how much angle @i is divided: slow ones by the factor, fast ones not at all, between
 * them a ramp over the number of turns in the original context. */
static double divisor(const struct cllm_model_config *config, uint32_t i)
{
    double frequency = pow(config->rope_theta, -2.0 * i / config->head_size);
    double turns = config->rope_original * frequency / TWO_PI;
    double ramp = (turns - config->rope_low) / (config->rope_high - config->rope_low);

    if (turns < config->rope_low)
        return config->rope_factor;
    if (turns > config->rope_high)
        return 1;
    return 1 / ((1 - ramp) / config->rope_factor + ramp);
}

int cllm_gguf_model_write_last(struct cllm_gguf_writer *writer,
                               const struct cllm_parameters *parameters)
{
    const struct cllm_model_config *config = &parameters->config;
    uint32_t half = config->head_size / 2;
    float *divisors;
    int rc;

    if (!has_divisors(config))
        return 0;
    divisors = malloc(half * sizeof *divisors); // (D/2)
    if (divisors == NULL)
        return cllm_err(-ENOMEM, "cannot write the divisors of angles");
    for (uint32_t i = 0; i < half; i++)
        divisors[i] = (float)divisor(config, i);
    rc = cllm_gguf_writer_put(writer, parameters->n_tensors, divisors);
    free(divisors);
    return rc;
}
