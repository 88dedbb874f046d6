/*
 * model/flops.c - what training costs, in operations.
 */
#include "model/model.h"

double cllm_model_flops_of_attention(const struct cllm_parameters *plan)
{
    const struct cllm_model_config *config = &plan->config;

    return 12.0 * config->layers * config->heads * config->head_size *
           (double)config->context;
}

double cllm_model_flops_per_token(const struct cllm_parameters *plan)
{
    double products = (double)plan->config.vocab * plan->config.width; /* to logits */

    for (uint32_t i = 0; i < plan->n_tensors; i++)
        if (plan->tensors[i].layer != CLLM_NO_LAYER && plan->tensors[i].rank == 2)
            products += (double)plan->tensors[i].count;
    return 6 * products + cllm_model_flops_of_attention(plan);
}
