/*
 * model/adamw.c - cut a range at the borders of tensors and hand the pieces to the table.
 */
#include "model/adamw.h"

#include <string.h>

#include "model/model.h"

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

static void clear(float *w1, float *m1, float *v1, uint64_t n)
{
    memset(w1, 0, n * sizeof *w1);
    memset(m1, 0, n * sizeof *m1);
    memset(v1, 0, n * sizeof *v1);
}

void cllm_adamw_begin(struct cllm_adamw_walk *walk, const struct cllm_parameters *plan,
                      const struct cllm_ops *ops, const struct cllm_adamw *adamw)
{
    *walk = (struct cllm_adamw_walk){.plan = plan,
                                     .ops = ops,
                                     .terms = terms_of(adamw),
                                     .weight_decay = adamw->weight_decay};
}

void cllm_adamw_range(struct cllm_adamw_walk *walk, uint64_t lo, uint64_t hi,
                      const float *w0, const float *m0, const float *v0, const float *g,
                      float *w1, float *m1, float *v1)
{
    const struct cllm_parameters *plan = walk->plan;
    uint64_t done = lo;

    CLLM_ASSERT(lo <= hi && hi <= plan->n_elements);
    for (; walk->tensor < plan->n_tensors; walk->tensor++) {
        const struct cllm_tensor *tensor = &plan->tensors[walk->tensor];
        uint64_t from = cllm_max_u64(lo, tensor->off), end = tensor->off + tensor->count;
        uint64_t to = cllm_min_u64(hi, end);

        if (from < to) {
            clear(w1 + (done - lo), m1 + (done - lo), v1 + (done - lo), from - done);
            walk->terms.weight_decay = tensor->decay ? walk->weight_decay : 0.0f;
            walk->ops->adamw(w1 + (from - lo), m1 + (from - lo), v1 + (from - lo),
                             w0 + from, m0 + from, v0 + from, g + from, to - from,
                             &walk->terms);
            done = to;
        }
        if (end > hi)
            break;
    }
    clear(w1 + (done - lo), m1 + (done - lo), v1 + (done - lo), hi - done);
}
