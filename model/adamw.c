/*
 * model/adamw.c - cut a range at the borders of tensors and hand the pieces to the table.
 */
#include "model/adamw.h"

#include <string.h>

#include "compute/ops.h"
#include "model/gpt.h"

/* By squaring, in double: a fixed number of roundings, no libm. */
static double power(double base, uint64_t exponent)
{
    double result = 1;

    for (; exponent > 0; exponent /= 2) {
        if (exponent % 2 == 1)
            result *= base;
        base *= base;
    }
    return result;
}

static struct cllm_adamw_terms terms_of(const struct cllm_adamw *adamw)
{
    CLLM_ASSERT(adamw->step > 0);
    return (struct cllm_adamw_terms){
        .learning_rate = adamw->learning_rate,
        .beta1 = adamw->beta1,
        .beta2 = adamw->beta2,
        .epsilon = adamw->epsilon,
        .grad_scale = adamw->grad_scale,
        .correction1 = (float)(1 / (1 - power((double)adamw->beta1, adamw->step))),
        .correction2 = (float)(1 / (1 - power((double)adamw->beta2, adamw->step)))};
}

static void clear(float *w1, float *m1, float *v1, uint64_t lo, uint64_t hi)
{
    if (lo >= hi)
        return;
    memset(w1 + lo, 0, (hi - lo) * sizeof *w1);
    memset(m1 + lo, 0, (hi - lo) * sizeof *m1);
    memset(v1 + lo, 0, (hi - lo) * sizeof *v1);
}

void cllm_adamw_range(const struct cllm_gpt_plan *plan, const struct cllm_ops *ops,
                      const struct cllm_adamw *adamw, uint64_t lo, uint64_t hi,
                      const float *w0, const float *m0, const float *v0, const float *g,
                      float *w1, float *m1, float *v1)
{
    struct cllm_adamw_terms terms = terms_of(adamw);
    uint64_t done = lo;

    CLLM_ASSERT(lo <= hi && hi <= plan->n_elements);
    for (uint32_t t = 0; t < plan->n_tensors; t++) {
        const struct cllm_gpt_tensor *tensor = &plan->tensors[t];
        uint64_t from = cllm_max_u64(lo, tensor->off);
        uint64_t to = cllm_min_u64(hi, tensor->off + tensor->count);

        if (from >= to)
            continue;
        clear(w1, m1, v1, done, from);
        terms.weight_decay = tensor->decay ? adamw->weight_decay : 0.0f;
        ops->adamw(w1 + from, m1 + from, v1 + from, w0 + from, m0 + from, v0 + from,
                   g + from, to - from, &terms);
        done = to;
    }
    clear(w1, m1, v1, done, hi);
}
