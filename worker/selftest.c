/*
 * worker/selftest.c - a starting worker proves which numbers it makes.
 *
 * A wrong CPU feature mask, library, rounding mode or environment shows here, in the hash
 * of a tiny training step, and not in the weights of a run.
 */
#include "base/hash.h"
#include "base/random.h"
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

static const struct cllm_model_shape shape = {
    .B = SEQUENCES, .T = CONTEXT, .train = true};

/* The same for every run, whatever its optimizer. */
static const struct cllm_optimizer_settings settings = {.kind = CLLM_OPTIMIZER_ADAMW,
                                                        .beta1 = 0.9f,
                                                        .beta2 = 0.95f,
                                                        .epsilon = 1e-8f,
                                                        .weight_decay = 0.1f};

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

static uint64_t train_once(const struct cllm_parameters *plan, const struct cllm_ops *ops,
                           struct cllm_model *model, struct cllm_optimizer *optimizer,
                           const struct vectors *x)
{
    const struct cllm_update update = {.ops = ops,
                                       .w = x->w,
                                       .m = x->m,
                                       .v = x->v,
                                       .g = x->dw,
                                       .learning_rate = 1e-3f,
                                       .grad_scale = 1.0f / (SEQUENCES * CONTEXT),
                                       .step = 3};
    uint64_t bytes = plan->n_elements * sizeof(float);
    struct cllm_optimizer_walk walk;
    double loss, squares;
    uint64_t sum;

    cllm_model_initial_weights(plan, x->w, 0, plan->n_elements, 1);
    loss = cllm_model_forward_backward(model, x->w, x->dw, x->tokens);
    squares = ops->sumsq(x->dw, plan->n_elements);
    cllm_optimizer_begin(&walk, optimizer, &update);
    cllm_optimizer_range(&walk, 0, plan->n_elements, x->w1, x->m1, x->v1);
    sum = cllm_hash(&loss, sizeof loss, 0);
    sum = cllm_hash(&squares, sizeof squares, sum);
    sum = cllm_hash(x->dw, bytes, sum);
    return cllm_hash(x->w1, bytes, sum);
}

int cllm_worker_self_test(const struct cllm_ops *ops, enum cllm_arch arch,
                          uint64_t *numerics)
{
    struct cllm_optimizer optimizer;
    struct cllm_parameters plan;
    struct cllm_arena arena;
    struct cllm_model model;
    struct vectors x;
    size_t bytes;
    int rc = cllm_parameters_init(&plan, &configs[arch]);

    if (rc != 0)
        return rc;
    rc = cllm_optimizer_init(&optimizer, &plan, &settings, NULL);
    if (rc != 0)
        goto fini_plan;
    bytes = cllm_model_arena_bytes(&plan, &shape) +
            7 * cllm_align_up(plan.n_elements * sizeof(float), CLLM_CACHELINE) +
            cllm_align_up(SEQUENCES * (CONTEXT + 1) * sizeof(uint32_t), CLLM_CACHELINE);
    rc = cllm_arena_init(&arena, bytes);
    if (rc != 0)
        goto fini_optimizer;
    rc = cllm_model_init(&model, &plan, ops, &shape, &arena);
    if (rc == 0) {
        take_vectors(&x, &arena, plan.n_elements);
        *numerics = train_once(&plan, ops, &model, &optimizer, &x);
    }
    cllm_arena_fini(&arena);
fini_optimizer:
    cllm_optimizer_fini(&optimizer);
fini_plan:
    cllm_parameters_fini(&plan);
    return rc;
}
