/*
 * model/tensors.c - where every tensor lies in the parameter vector.
 *
 * Pure arithmetic on five numbers: every process plans for itself and gets the same.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/gpt.h"

/* A block's tensors in enum cllm_gpt_block_tensor's order; sizes in multiples of C, 0
 * where there is no second dimension. */
static const struct row {
    const char *name;
    uint32_t rows, cols;
    enum cllm_gpt_init_kind init;
} block_rows[CLLM_GPT_BLOCK_TENSORS] = {
    [CLLM_GPT_LN1_W] = {"ln_1.weight", 1, 0, CLLM_GPT_INIT_ONE},
    [CLLM_GPT_LN1_B] = {"ln_1.bias", 1, 0, CLLM_GPT_INIT_ZERO},
    [CLLM_GPT_QKV_W] = {"attn.c_attn.weight", 1, 3, CLLM_GPT_INIT_NORMAL},
    [CLLM_GPT_QKV_B] = {"attn.c_attn.bias", 3, 0, CLLM_GPT_INIT_ZERO},
    [CLLM_GPT_ATTN_W] = {"attn.c_proj.weight", 1, 1, CLLM_GPT_INIT_RESIDUAL},
    [CLLM_GPT_ATTN_B] = {"attn.c_proj.bias", 1, 0, CLLM_GPT_INIT_ZERO},
    [CLLM_GPT_LN2_W] = {"ln_2.weight", 1, 0, CLLM_GPT_INIT_ONE},
    [CLLM_GPT_LN2_B] = {"ln_2.bias", 1, 0, CLLM_GPT_INIT_ZERO},
    [CLLM_GPT_FC_W] = {"mlp.c_fc.weight", 1, 4, CLLM_GPT_INIT_NORMAL},
    [CLLM_GPT_FC_B] = {"mlp.c_fc.bias", 4, 0, CLLM_GPT_INIT_ZERO},
    [CLLM_GPT_PROJ_W] = {"mlp.c_proj.weight", 4, 1, CLLM_GPT_INIT_RESIDUAL},
    [CLLM_GPT_PROJ_B] = {"mlp.c_proj.bias", 1, 0, CLLM_GPT_INIT_ZERO},
};

static int check_limits(const struct cllm_gpt_config *config)
{
    const struct {
        const char *name;
        uint32_t value, min, max;
    } limits[] = {
        {"vocab", config->vocab, 2, 1048576}, {"context", config->context, 1, 65536},
        {"layers", config->layers, 1, 512},   {"heads", config->heads, 1, 1024},
        {"width", config->width, 1, 65536},
    };

    for (size_t i = 0; i < CLLM_LEN(limits); i++)
        if (limits[i].value < limits[i].min || limits[i].value > limits[i].max)
            return cllm_err(
                CLLM_ECONFIG, "cannot plan the model: %s = %u is not in %u to %u",
                limits[i].name, limits[i].value, limits[i].min, limits[i].max);
    if (config->width % config->heads != 0) {
        int rc = cllm_err(CLLM_ECONFIG,
                          "cannot plan the model: width %u is not a multiple of heads %u",
                          config->width, config->heads);
        uint32_t head = config->width / config->heads + 1;

        cllm_err_hint("every head gets width / heads elements: set width to %u, or heads "
                      "to a divisor of %u",
                      head * config->heads, config->width);
        return rc;
    }
    return 0;
}

/* Append a tensor behind those there are. @cols 0: a vector. */
static void append(struct cllm_gpt_plan *plan, const char *name, uint64_t rows,
                   uint64_t cols, enum cllm_gpt_init_kind init)
{
    struct cllm_gpt_tensor *tensor = &plan->tensors[plan->n_tensors++];
    size_t bytes = strlen(name) + 1;

    CLLM_ASSERT(bytes <= sizeof tensor->name);
    memcpy(tensor->name, name, bytes);
    tensor->rank = cols == 0 ? 1 : 2;
    tensor->shape[0] = rows;
    tensor->shape[1] = cols == 0 ? 1 : cols;
    tensor->count = tensor->shape[0] * tensor->shape[1];
    tensor->off = cllm_align_up(plan->n_elements, CLLM_GPT_ALIGN);
    tensor->decay = tensor->rank == 2;
    tensor->init = init;
    plan->n_elements = tensor->off + tensor->count;
    plan->n_params += tensor->count;
}

int cllm_gpt_plan_init(struct cllm_gpt_plan *plan, const struct cllm_gpt_config *config)
{
    uint32_t count = 2 + config->layers * CLLM_GPT_BLOCK_TENSORS + 2;
    uint64_t C = config->width;
    int rc = check_limits(config);

    *plan = (struct cllm_gpt_plan){.config = *config};
    if (rc != 0)
        return rc;
    plan->tensors = calloc(count, sizeof *plan->tensors);
    if (plan->tensors == NULL)
        return cllm_err(-ENOMEM, "cannot plan the model");
    append(plan, "transformer.wte.weight", config->vocab, C, CLLM_GPT_INIT_NORMAL);
    append(plan, "transformer.wpe.weight", config->context, C, CLLM_GPT_INIT_NORMAL);
    for (uint32_t layer = 0; layer < config->layers; layer++) {
        for (size_t i = 0; i < CLLM_GPT_BLOCK_TENSORS; i++) {
            const struct row *row = &block_rows[i];
            char name[CLLM_GPT_NAME_BYTES];

            (void)snprintf(name, sizeof name, "transformer.h.%u.%s", layer, row->name);
            append(plan, name, C * row->rows, C * row->cols, row->init);
        }
    }
    append(plan, "transformer.ln_f.weight", C, 0, CLLM_GPT_INIT_ONE);
    append(plan, "transformer.ln_f.bias", C, 0, CLLM_GPT_INIT_ZERO);
    CLLM_ASSERT(plan->n_tensors == count);
    plan->n_elements = cllm_align_up(plan->n_elements, CLLM_GPT_VECTOR_ALIGN);
    return 0;
}

void cllm_gpt_plan_fini(struct cllm_gpt_plan *plan)
{
    free(plan->tensors);
    *plan = (struct cllm_gpt_plan){0};
}

uint64_t cllm_gpt_block_off(const struct cllm_gpt_plan *plan, uint32_t layer,
                            enum cllm_gpt_block_tensor which)
{
    CLLM_ASSERT(layer < plan->config.layers);
    return plan->tensors[2 + layer * CLLM_GPT_BLOCK_TENSORS + (uint32_t)which].off;
}

uint64_t cllm_gpt_wte_off(const struct cllm_gpt_plan *plan)
{
    return plan->tensors[0].off;
}

uint64_t cllm_gpt_wpe_off(const struct cllm_gpt_plan *plan)
{
    return plan->tensors[1].off;
}

uint64_t cllm_gpt_lnf_off(const struct cllm_gpt_plan *plan, bool bias)
{
    return plan->tensors[plan->n_tensors - (bias ? 1 : 2)].off;
}

const struct cllm_gpt_tensor *cllm_gpt_plan_find(const struct cllm_gpt_plan *plan,
                                                 const char *name)
{
    for (uint32_t i = 0; i < plan->n_tensors; i++)
        if (strcmp(plan->tensors[i].name, name) == 0)
            return &plan->tensors[i];
    return NULL;
}

double cllm_gpt_flops_per_token(const struct cllm_gpt_plan *plan)
{
    double C = plan->config.width, L = plan->config.layers;
    double products = 12 * L * C * C + (double)plan->config.vocab * C;

    return 6 * products + 12 * L * C * (double)plan->config.context;
}
