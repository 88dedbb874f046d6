/*
 * tools/bench_shapes.c - see tools/bench_shapes.h.
 */
#include "tools/bench_shapes.h"

#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/lora.h"
#include "compute/opencl/opencl.h"
#include "model/model.h"

#define MOST_TOKENS 8192 /* of a micro-batch, as the coordinator chooses it */

/* Where products are noted: an operation has no context. */
static struct cllm_bench_shapes *noted;

static bool is_same(const struct cllm_matmul *x, const struct cllm_matmul *y)
{
    return x->m == y->m && x->n == y->n && x->k == y->k && x->trans_a == y->trans_a &&
           x->trans_b == y->trans_b;
}

/* What is added to something, to C: the arrays are gone when it is measured. */
static struct cllm_matmul to_itself(const struct cllm_matmul *shape)
{
    struct cllm_matmul same = *shape;

    same.accumulate = shape->accumulate || shape->add != NULL || shape->bias != NULL;
    same.add = same.bias = NULL;
    return same;
}

/* In place of the product, whose values nobody needs. */
static void note(float *c, const float *a, const float *b,
                 const struct cllm_matmul *shape)
{
    size_t i = 0;

    (void)c;
    (void)a;
    (void)b;
    while (i < noted->n && !is_same(&noted->shape[i], shape))
        i++;
    if (i == CLLM_BENCH_SHAPES) {
        noted->left_out++;
        return;
    }
    if (i == noted->n)
        noted->shape[noted->n++] = to_itself(shape);
    noted->calls[i]++;
}

static void no_attention(const struct cllm_ops *ops, float *out, float *lse,
                         const float *qkv, float *scratch,
                         const struct cllm_attention *sizes)
{
    (void)ops;
    (void)out;
    (void)lse;
    (void)qkv;
    (void)scratch;
    (void)sizes;
}

static void no_attention_backward(const struct cllm_ops *ops, float *dqkv,
                                  const float *dout, const float *qkv, const float *out,
                                  const float *lse, float *scratch,
                                  const struct cllm_attention *sizes)
{
    (void)ops;
    (void)dqkv;
    (void)dout;
    (void)qkv;
    (void)out;
    (void)lse;
    (void)scratch;
    (void)sizes;
}

/* Sequences of a micro-batch: as many as the coordinator would take (plan.c). */
static uint32_t sequences_of(const struct cllm_config *config)
{
    uint64_t share = cllm_max_u64(config->train_batch / config->run_lanes, 1);
    uint64_t eval =
        config->data_valid.n > 0 ? config->train_eval_batch / config->run_lanes : 0;
    uint64_t n = share;

    if (config->train_micro_batch != CLLM_CONFIG_AUTO)
        return (uint32_t)config->train_micro_batch;
    while (n > 1 &&
           (share % n != 0 || eval % n != 0 || n * config->model_context > MOST_TOKENS))
        n--;
    return (uint32_t)n;
}

/* One micro-batch of tokens 0, both ways. @frozen: what adapters are added to. */
static int run_once(const struct cllm_parameters *plan, const struct cllm_ops *ops,
                    struct cllm_model_shape *shape, float *w, float *dw,
                    const float *frozen)
{
    uint32_t *tokens = calloc((size_t)shape->B * (shape->T + 1), sizeof *tokens);
    struct cllm_arena arena;
    struct cllm_model model;
    int rc = tokens ? cllm_arena_init(&arena, cllm_model_arena_bytes(plan, shape))
                    : cllm_err(-ENOMEM, "cannot run the model once");

    if (rc != 0) {
        free(tokens);
        return rc;
    }
    rc = cllm_model_init(&model, plan, ops, shape, &arena);
    if (rc == 0) {
        model.frozen = frozen;
        (void)cllm_model_forward_backward(&model, w, dw, tokens);
        rc = cllm_opencl_wait();
    }
    cllm_arena_fini(&arena);
    free(tokens);
    return rc;
}

/* Addresses of the device for a vector of @plan; no tensor lies in two buffers. */
static int reserve_vector(void **at, const struct cllm_parameters *plan)
{
    size_t *cuts = calloc(plan->n_tensors, sizeof *cuts);
    int rc;

    if (cuts == NULL)
        return cllm_err(-ENOMEM, "cannot lay out the device's memory");
    for (uint32_t t = 0; t < plan->n_tensors; t++)
        cuts[t] = plan->tensors[t].off * sizeof(float);
    rc = cllm_opencl_reserve(at, plan->n_elements * sizeof(float), cuts + 1,
                             plan->n_tensors - 1);
    free(cuts);
    return rc;
}

static int reserve_activations(void **at, const struct cllm_parameters *plan,
                               const struct cllm_model_shape *shape)
{
    size_t n = cllm_model_arrays(plan, shape, NULL);
    size_t *cuts = calloc(n, sizeof *cuts);
    int rc;

    if (cuts == NULL)
        return cllm_err(-ENOMEM, "cannot lay out the device's memory");
    (void)cllm_model_arrays(plan, shape, cuts);
    rc = cllm_opencl_reserve(at, cllm_model_array_bytes(plan, shape), cuts + 1, n - 1);
    free(cuts);
    return rc;
}

/* With the model's arrays there: what learns, its gradient, activations, what does not
 * learn. */
static int run_there(const struct cllm_parameters *plan, const struct cllm_ops *ops,
                     struct cllm_model_shape *shape)
{
    const struct cllm_parameters *learns = shape->adapters ? shape->adapters : plan;
    void *at[4] = {NULL};
    int rc = reserve_vector(&at[0], learns);

    if (rc == 0)
        rc = reserve_vector(&at[1], learns);
    if (rc == 0)
        rc = reserve_activations(&at[2], plan, shape);
    if (rc == 0 && shape->adapters != NULL)
        rc = reserve_vector(&at[3], plan);
    shape->arrays = at[2];
    if (rc == 0)
        rc = run_once(plan, ops, shape, at[0], at[1], at[3]);
    for (size_t i = 0; i < CLLM_LEN(at); i++)
        if (at[i] != NULL)
            cllm_opencl_forget(at[i]);
    return rc;
}

int cllm_bench_shapes_find(struct cllm_bench_shapes *shapes,
                           const struct cllm_config *config, const struct cllm_ops *ops)
{
    const struct cllm_model_config sizes = cllm_model_config_from(config);
    struct cllm_ops noting = *ops;
    struct cllm_parameters plan, adapters = {0};
    struct cllm_lora lora = {0};
    struct cllm_model_shape shape = {
        .train = true, .recompute = (enum cllm_model_recompute)config->compute_recompute};
    int rc = cllm_parameters_init(&plan, &sizes);

    if (rc != 0)
        return rc;
    *shapes =
        (struct cllm_bench_shapes){.B = sequences_of(config), .T = plan.config.context};
    shape.B = shapes->B;
    shape.T = shapes->T;
    noted = shapes;
    noting.matmul = note;
    noting.attention = no_attention;
    noting.attention_backward = no_attention_backward;
    if (config->lora_rank > 0) {
        rc = cllm_lora_from(&lora, config, &plan);
        if (rc == 0)
            rc = cllm_lora_parameters(&adapters, &plan, &lora);
        shape.adapters = &adapters;
        shape.adapter_scale = cllm_lora_scale(&lora);
    }
    if (rc == 0)
        rc = run_there(&plan, &noting, &shape);
    noted = NULL;
    cllm_parameters_fini(&adapters);
    cllm_parameters_fini(&plan);
    return rc;
}
