/*
 * worker/selftest.c - a starting worker proves which numbers it makes.
 *
 * A wrong CPU feature mask, library, rounding mode or environment shows here, in the hash
 * of a tiny training step, and not in the weights of a run.
 */
#include "base/err.h"
#include "base/hash.h"
#include "base/random.h"
#include "compute/opencl/opencl.h"
#include "model/optimizer.h"
#include "worker/worker.h"

enum {
    SEQUENCES = 3,
    CONTEXT = CLLM_SELF_TEST_CONTEXT
}; /* odd shapes: tails of vector loops take part */

static const struct cllm_model_config configs[CLLM_N_ARCHS] = {
    [CLLM_ARCH_GPT2] =
        {.vocab = 197, .context = CONTEXT, .layers = 2, .heads = 3, .width = 72},
    [CLLM_ARCH_LLAMA] = {.arch = CLLM_ARCH_LLAMA,
                         .vocab = 197,
                         .context = CONTEXT,
                         .layers = 2,
                         .heads = 6,
                         .kv_heads = 2,
                         .width = 84,
                         .hidden = 117,
                         .untied = 1},
};

/* What a step may do beyond the usual. */
struct flavour {
    enum cllm_optimizer_kind optimizer;
    float dropout, attention_dropout, smoothing;
    bool bias;
};

struct vectors {
    float *w, *m, *v, *dw, *w1, *m1, *v1;
    uint32_t *tokens;
};

static void take_vectors(struct vectors *x, struct cllm_arena *arena, uint64_t n)
{
    float **all[] = {&x->w, &x->m, &x->v, &x->dw, &x->w1, &x->m1, &x->v1};

    for (size_t i = 0; i < CLLM_LEN(all); i++)
        *all[i] = cllm_arena_take(arena, n * sizeof(float));
    x->tokens = cllm_arena_take(arena, SEQUENCES * (CONTEXT + 1) * sizeof *x->tokens);
    for (uint32_t i = 0; i < SEQUENCES * (CONTEXT + 1); i++)
        x->tokens[i] =
            (uint32_t)(cllm_random_u64(1, CLLM_RANDOM_SELF_TEST, i) % configs[0].vocab);
}

/* The numbers are the same for every run: which kernels it uses is what matters. */
static struct cllm_optimizer_settings settings_of(const struct flavour *flavour)
{
    return (struct cllm_optimizer_settings){.kind = flavour->optimizer,
                                            .beta1 = 0.9f,
                                            .beta2 = 0.95f,
                                            .epsilon = 1e-8f,
                                            .weight_decay = 0.1f,
                                            .lion_beta1 = 0.9f,
                                            .lion_beta2 = 0.99f,
                                            .sgd_momentum = 0.9f,
                                            .sgd_nesterov = true,
                                            .muon_momentum = 0.95f,
                                            .muon_rate = 1.0f};
}

/* The loss, and its gradient into x->dw. */
static double compute(const struct cllm_parameters *plan, struct cllm_model *model,
                      const struct cllm_device_arrays *device, const struct vectors *x)
{
    size_t bytes = plan->n_elements * sizeof *x->w;
    double loss;
    int rc;

    if (device == NULL)
        return cllm_model_forward_backward(model, x->w, x->dw, x->tokens);
    rc = cllm_opencl_put(device->w, x->w, bytes, 1);
    loss = cllm_model_forward_backward(model, device->w, device->dw, x->tokens);
    if (rc == 0)
        (void)cllm_opencl_get(x->dw, device->dw, bytes); /* the error is kept */
    return loss;
}

static uint64_t train_once(const struct cllm_parameters *plan, const struct cllm_ops *ops,
                           struct cllm_model *model, struct cllm_optimizer *optimizer,
                           const struct cllm_device_arrays *device,
                           const struct vectors *x, uint64_t sum)
{
    const struct cllm_update update = {.ops = ops,
                                       .w = x->w,
                                       .m = x->m,
                                       .v = x->v,
                                       .whole = x->dw,
                                       .learning_rate = 1e-3f,
                                       .grad_scale = 1.0f / (SEQUENCES * CONTEXT),
                                       .step = 3};
    uint64_t bytes = plan->n_elements * sizeof(float);
    struct cllm_optimizer_walk walk;
    double loss, squares;

    cllm_model_initial_weights(plan, x->w, 0, plan->n_elements, 1);
    loss = compute(plan, model, device, x);
    squares = ops->sumsq(x->dw, plan->n_elements);
    cllm_optimizer_begin(&walk, optimizer, &update);
    cllm_optimizer_range(&walk, 0, plan->n_elements, x->dw, x->w1, x->m1, x->v1);
    sum = cllm_hash(&loss, sizeof loss, sum);
    sum = cllm_hash(&squares, sizeof squares, sum);
    sum = cllm_hash(x->dw, bytes, sum);
    return cllm_hash(x->w1, bytes, sum);
}

/* One step; what comes out is hashed into *@sum. */
static int test(const struct cllm_ops *ops, const struct cllm_ops *device,
                enum cllm_arch arch, const struct flavour *flavour, uint64_t *sum)
{
    const struct cllm_optimizer_settings settings = settings_of(flavour);
    struct cllm_model_shape shape = {
        .B = SEQUENCES, .T = CONTEXT, .train = true, .epsilon = flavour->smoothing};
    struct cllm_device_arrays arrays = {0};
    struct cllm_optimizer optimizer;
    struct cllm_parameters plan;
    struct cllm_arena arena;
    struct cllm_model model;
    struct vectors x;
    size_t bytes;
    struct cllm_model_config config = configs[arch];
    int rc;

    config.crystalline_bias = flavour->bias;
    rc = cllm_parameters_init(&plan, &config);
    if (rc != 0)
        return rc;
    rc = cllm_optimizer_init(&optimizer, &plan, &settings, NULL);
    if (rc != 0)
        goto fini_plan;
    if (device != NULL)
        rc = cllm_device_reserve(&arrays, &plan, plan.n_elements, &shape);
    if (rc != 0)
        goto fini_optimizer;
    bytes = cllm_model_arena_bytes(&plan, &shape) +
            cllm_optimizer_arena_bytes(&optimizer) +
            7 * cllm_align_up(plan.n_elements * sizeof(float), CLLM_CACHELINE) +
            cllm_align_up(SEQUENCES * (CONTEXT + 1) * sizeof(uint32_t), CLLM_CACHELINE);
    rc = cllm_arena_init(&arena, bytes);
    if (rc != 0)
        goto fini_optimizer;
    rc = cllm_model_init(&model, &plan, device != NULL ? device : ops, &shape, &arena);
    if (rc == 0) {
        model.dropout = flavour->dropout;
        model.attention_dropout = flavour->attention_dropout;
        model.dropout_key = 1;
        model.overwrite = true;
        cllm_optimizer_take(&optimizer, &arena);
        take_vectors(&x, &arena, plan.n_elements);
        *sum = train_once(&plan, ops, &model, &optimizer, device != NULL ? &arrays : NULL,
                          &x, *sum);
    }
    if (rc == 0 && device != NULL) {
        cllm_device_forget(&arrays);
        rc = cllm_opencl_error() != 0 ? CLLM_EDEVICE : 0;
    }
    cllm_arena_fini(&arena);
fini_optimizer:
    cllm_optimizer_fini(&optimizer);
fini_plan:
    cllm_parameters_fini(&plan);
    return rc;
}

int cllm_worker_self_test(const struct cllm_ops *ops, const struct cllm_ops *device,
                          enum cllm_arch arch, const struct cllm_config *config,
                          uint64_t *numerics)
{
    static const struct flavour plain = {.optimizer = CLLM_OPTIMIZER_ADAMW};
    const struct flavour own = {
        .optimizer = (enum cllm_optimizer_kind)config->train_optimizer,
        .dropout = config->train_dropout > 0 ? 0.25f : 0,
        .attention_dropout = config->train_attention_dropout > 0 ? 0.25f : 0,
        .smoothing = config->loss_crystalline > 0 ? 0.3f : 0,
        .bias = config->model_crystalline_bias};
    int rc;

    *numerics = 0;
    rc = test(ops, device, arch, &plain, numerics);
    if (rc != 0 || (own.optimizer == plain.optimizer && own.dropout <= 0 &&
                    own.attention_dropout <= 0 && own.smoothing <= 0 && !own.bias))
        return rc;
    return test(ops, device, arch, &own, numerics);
}
