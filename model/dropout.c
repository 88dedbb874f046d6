/*
 * model/dropout.c - what is dropped where.
 *
 * A key for each site of each block out of the batch's key, then random numbers by
 * element (struct cllm_dropout): no state, so that any worker drops the same, and the
 * backward pass what the forward pass did.
 */
#include "base/random.h"
#include "model/inside.h"

struct cllm_dropout cllm_model_dropout(const struct cllm_model *model,
                                       enum cllm_dropout_site site, uint32_t layer)
{
    float share =
        site == CLLM_DROP_PROBABILITIES ? model->attention_dropout : model->dropout;
    uint64_t place = (uint64_t)site << 32 | layer;

    return (struct cllm_dropout){
        .key = cllm_random_u64(model->dropout_key, CLLM_RANDOM_DROPOUT, place),
        .threshold = (uint32_t)((double)share * 0x1p32),
        .scale = 1.0f / (1.0f - share)};
}

void cllm_model_drop(const struct cllm_model *model, float *out, const float *add,
                     const float *x, enum cllm_dropout_site site, uint32_t layer)
{
    const struct cllm_dropout dropout = cllm_model_dropout(model, site, layer);

    CLLM_ASSERT(model->dropping);
    model->ops->dropout(out, add, x, cllm_model_rows(model) * model->plan->config.width,
                        &dropout);
}

const float *cllm_model_undrop(const struct cllm_model *model,
                               enum cllm_dropout_site site, uint32_t layer)
{
    if (!model->dropping)
        return model->dx;
    cllm_model_drop(model, model->norm, NULL, model->dx, site, layer);
    return model->norm;
}
