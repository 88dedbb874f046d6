/*
 * base/lora.c - words to matrices, matrices to a table of adapters, adapters to weights.
 */
#include "base/lora.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/err.h"

#define BEFORE     "base_model.model." /* every name in peft's files */
#define WEIGHT     ".weight"
#define SEPARATORS " ,\t"

#define BIT(kind) (UINT32_C(1) << (kind))
_Static_assert(CLLM_N_TENSOR_KINDS <= 32, "a bit for every kind");

#define ATTENTION                                                           \
    (BIT(CLLM_TENSOR_QKV_W) | BIT(CLLM_TENSOR_Q_W) | BIT(CLLM_TENSOR_K_W) | \
     BIT(CLLM_TENSOR_V_W) | BIT(CLLM_TENSOR_ATTN_W))
#define MLP (BIT(CLLM_TENSOR_GATE_W) | BIT(CLLM_TENSOR_FC_W) | BIT(CLLM_TENSOR_PROJ_W))

/* ---- names ---- */

size_t cllm_lora_module(const struct cllm_tensor *weight, const char **name)
{
    const char *at = weight->name;
    size_t length;

    while (*at && (*at < '0' || *at > '9')) /* "transformer.h.3.": of the layer */
        at++;
    at += strspn(at, "0123456789");
    at += *at == '.';
    length = strlen(at);
    CLLM_ASSERT(length > strlen(WEIGHT));
    *name = at;
    return length - strlen(WEIGHT);
}

/* Is @word the module's name, its end behind a dot, or a pattern for it? */
static bool is_named(const struct cllm_tensor *weight, const char *word)
{
    char module[CLLM_TENSOR_NAME_BYTES];
    size_t n = strlen(word), length;
    const char *name;

    length = cllm_lora_module(weight, &name);
    (void)snprintf(module, sizeof module, "%.*s", (int)length, name);
    if (fnmatch(word, module, 0) == 0)
        return true;
    return n < length && module[length - n - 1] == '.' &&
           strcmp(module + length - n, word) == 0;
}

/* The kinds that @base has and that can have adapters. */
static uint32_t possible(const struct cllm_parameters *base)
{
    uint32_t kinds = 0;

    for (uint32_t kind = 0; kind < CLLM_N_TENSOR_KINDS; kind++)
        if (((ATTENTION | MLP) & BIT(kind)) != 0 &&
            cllm_parameters_have(base, (enum cllm_tensor_kind)kind))
            kinds |= BIT(kind);
    return kinds;
}

/* All of them by name. */
static void list(char text[CLLM_LORA_TEXT], const struct cllm_parameters *base)
{
    uint32_t kinds = possible(base);
    size_t used = 0;

    text[0] = '\0';
    for (uint32_t kind = 0; kind < CLLM_N_TENSOR_KINDS; kind++) {
        const char *name;
        size_t length;

        if ((kinds & BIT(kind)) == 0)
            continue;
        length = cllm_lora_module(
            cllm_parameters_at(base, (enum cllm_tensor_kind)kind, 0), &name);
        used += (size_t)snprintf(text + used, CLLM_LORA_TEXT - used, "%s%.*s",
                                 used > 0 ? ", " : "", (int)length, name);
        CLLM_ASSERT(used < CLLM_LORA_TEXT);
    }
}

int cllm_lora_target(uint32_t *targets, const char *word,
                     const struct cllm_parameters *base)
{
    uint32_t kinds = possible(base), found = 0;
    char text[CLLM_LORA_TEXT];
    int rc;

    if (strcmp(word, "all") == 0)
        found = kinds;
    else if (strcmp(word, "attention") == 0)
        found = kinds & ATTENTION;
    else if (strcmp(word, "mlp") == 0)
        found = kinds & MLP;
    for (uint32_t kind = 0; kind < CLLM_N_TENSOR_KINDS; kind++)
        if ((kinds & BIT(kind)) != 0 &&
            is_named(cllm_parameters_at(base, (enum cllm_tensor_kind)kind, 0), word))
            found |= BIT(kind);
    *targets |= found;
    if (found != 0)
        return 0;
    list(text, base);
    rc = cllm_err(CLLM_ECONFIG, "'%s' names no matrix of a block that can have adapters",
                  word);
    cllm_err_hint("attention, mlp, all, or of this model: %s", text);
    return rc;
}

/* ---- numbers ---- */

float cllm_lora_scale(const struct cllm_lora *lora)
{
    return (float)(lora->alpha / lora->rank);
}

void cllm_lora_sides(const struct cllm_tensor *weight, enum cllm_arch arch, uint64_t *in,
                     uint64_t *out)
{
    bool out_first = arch == CLLM_ARCH_LLAMA;

    *in = weight->shape[out_first];
    *out = weight->shape[!out_first];
}

int cllm_lora_check(const struct cllm_lora *lora, const struct cllm_parameters *base)
{
    /* Written so that a NaN is refused too. */
    if (lora->rank == 0 || !(lora->alpha > 0) || lora->targets == 0 ||
        (lora->targets & ~possible(base)) != 0)
        return cllm_err(CLLM_ECONFIG,
                        "there are no adapters of rank %u and alpha %g for "
                        "matrices %#x of this model",
                        lora->rank, lora->alpha, lora->targets);
    if (base->config.crystalline_bias)
        return cllm_err(CLLM_ECONFIG,
                        "a model with a crystalline bias of attention has no adapters");
    for (uint32_t kind = 0; kind < CLLM_N_TENSOR_KINDS; kind++) {
        const struct cllm_tensor *weight;
        uint64_t least;
        int rc;

        if ((lora->targets & BIT(kind)) == 0)
            continue;
        weight = cllm_parameters_at(base, (enum cllm_tensor_kind)kind, 0);
        least = cllm_min_u64(weight->shape[0], weight->shape[1]);
        if (lora->rank <= least)
            continue;
        rc = cllm_err(CLLM_ECONFIG,
                      "rank %u is more than %s has, which is %" PRIu64 " x %" PRIu64,
                      lora->rank, weight->name, weight->shape[0], weight->shape[1]);
        cllm_err_hint("at most %" PRIu64 "; 4 to 64 is usual", least);
        return rc;
    }
    return 0;
}

int cllm_lora_from(struct cllm_lora *lora, const struct cllm_config *config,
                   const struct cllm_parameters *base)
{
    const char *at = config->lora_targets;
    int rc = 0;

    *lora = (struct cllm_lora){0};
    if (config->lora_rank == 0)
        return 0;
    lora->rank = (uint32_t)config->lora_rank;
    lora->alpha = config->lora_alpha;
    while (rc == 0 && *(at += strspn(at, SEPARATORS)) != '\0') {
        size_t length = strcspn(at, SEPARATORS);
        char word[CLLM_TENSOR_NAME_BYTES];

        (void)snprintf(word, sizeof word, "%.*s", (int)length, at);
        rc = cllm_lora_target(&lora->targets, word, base);
        at += length;
    }
    if (rc == 0 && lora->targets == 0)
        rc = cllm_err(CLLM_ECONFIG, "there is no word in it");
    if (rc != 0) {
        cllm_err_add("[lora] targets = %s", config->lora_targets);
        return rc;
    }
    rc = cllm_lora_check(lora, base);
    if (rc != 0)
        cllm_err_add("[lora] rank");
    return rc;
}

/* ---- the table ---- */

/* A or B behind the tensors there are. */
static void append(struct cllm_parameters *adapters, const struct cllm_tensor *weight,
                   char half, uint64_t rows, uint64_t cols)
{
    struct cllm_tensor *tensor = &adapters->tensors[adapters->n_tensors++];
    int length = (int)(strlen(weight->name) - strlen(WEIGHT)), bytes;

    bytes = snprintf(tensor->name, sizeof tensor->name, BEFORE "%.*s.lora_%c" WEIGHT,
                     length, weight->name, half);
    CLLM_ASSERT(bytes > 0 && (size_t)bytes < sizeof tensor->name);
    tensor->kind = weight->kind;
    tensor->layer = weight->layer;
    tensor->rank = 2;
    tensor->shape[0] = rows;
    tensor->shape[1] = cols;
    tensor->count = rows * cols;
    tensor->off = cllm_align_up(adapters->n_elements, CLLM_TENSOR_ALIGN);
    tensor->decay = true;
    tensor->init = half == 'A' ? CLLM_INIT_UNIFORM : CLLM_INIT_ZERO;
    adapters->n_elements = tensor->off + tensor->count;
    adapters->n_params += tensor->count;
}

int cllm_lora_parameters(struct cllm_parameters *adapters,
                         const struct cllm_parameters *base, const struct cllm_lora *lora)
{
    uint32_t targets = (uint32_t)__builtin_popcount(lora->targets);
    int rc = cllm_lora_check(lora, base);

    *adapters =
        (struct cllm_parameters){.config = base->config, .per_block = 2 * targets};
    if (rc != 0)
        return rc;
    for (uint32_t kind = 0; kind < CLLM_N_TENSOR_KINDS; kind++)
        adapters->place[kind] = UINT32_MAX;
    adapters->tensors = calloc((size_t)base->config.layers * adapters->per_block,
                               sizeof *adapters->tensors);
    if (adapters->tensors == NULL)
        return cllm_err(-ENOMEM, "cannot plan the adapters");
    for (uint32_t t = 0; t < base->n_tensors; t++) {
        const struct cllm_tensor *weight = &base->tensors[t];
        uint64_t in, out;

        if ((lora->targets & BIT(weight->kind)) == 0)
            continue;
        if (weight->layer == 0)
            adapters->place[weight->kind] = adapters->n_tensors;
        cllm_lora_sides(weight, (enum cllm_arch)base->config.arch, &in, &out);
        append(adapters, weight, 'A', lora->rank, in);
        append(adapters, weight, 'B', out, lora->rank);
    }
    CLLM_ASSERT(adapters->n_tensors == base->config.layers * adapters->per_block);
    adapters->n_elements = cllm_align_up(adapters->n_elements, CLLM_VECTOR_ALIGN);
    return 0;
}

int cllm_lora_trained(struct cllm_parameters *trained,
                      const struct cllm_model_config *model, const struct cllm_lora *lora)
{
    struct cllm_parameters base;
    int rc;

    *trained = (struct cllm_parameters){0};
    rc = cllm_parameters_init(lora->rank == 0 ? trained : &base, model);
    if (rc != 0 || lora->rank == 0)
        return rc;
    rc = cllm_lora_parameters(trained, &base, lora);
    cllm_parameters_fini(&base);
    return rc;
}

/* ---- merging ---- */

void cllm_lora_merge(float *w, const struct cllm_tensor *weight,
                     const struct cllm_parameters *adapters, const float *adapted,
                     const struct cllm_lora *lora)
{
    enum cllm_arch arch = (enum cllm_arch)adapters->config.arch;
    bool out_first = arch == CLLM_ARCH_LLAMA;
    float scale = cllm_lora_scale(lora);
    const struct cllm_tensor *a;
    const float *A, *B; // (rank,in), (out,rank)
    uint64_t in, out;

    if (weight->layer == CLLM_NO_LAYER || !cllm_parameters_have(adapters, weight->kind))
        return;
    a = cllm_parameters_at(adapters, weight->kind, weight->layer);
    A = adapted + a[0].off;
    B = adapted + a[1].off;
    cllm_lora_sides(weight, arch, &in, &out);
    for (uint64_t row = 0; row < weight->shape[0]; row++)
        for (uint64_t column = 0; column < weight->shape[1]; column++) {
            uint64_t o = out_first ? row : column, n = out_first ? column : row;
            float sum = 0;

            for (uint32_t r = 0; r < lora->rank; r++)
                sum += B[o * lora->rank + r] * A[r * in + n];
            w[row * weight->shape[1] + column] += scale * sum;
        }
}
