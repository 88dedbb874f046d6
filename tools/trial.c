/*
 * tools/trial.c - see tools/trial.h.
 *
 * Every operation is run by the reference table and by the chosen one on the same
 * numbers. An operation is a small function from the shared inputs to one output vector,
 * so that running, comparing and timing are written once.
 */
#include "tools/trial.h"

#include <assert.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/random.h"
#include "compute/ops.h"

/* B sequences of T positions of width C with H heads; R = B T rows. */
enum { B = 2, T = 128, C = 128, H = 4, R = B * T, V = 256, N = R * 3 * C };

#define MIN_NS (40 * CLLM_NS_PER_MS) /* time each operation for so long at least */

struct bench {
    struct cllm_arena arena;
    float *a, *b, *c; /* (N) inputs, in [-1, 1) */
    float *out;       /* (N) output of the run that goes on */
    float *want;      /* (N) output of the reference */
    float *scratch;   /* (2 N), and attention's */
    uint32_t *tokens; /* (R) below V */
};

/* Write an output vector to bench->out; returns its length. */
typedef size_t (*operation_fn)(struct bench *bench, const struct cllm_ops *ops);

static size_t run_matmul(struct bench *bench, const struct cllm_ops *ops)
{
    const struct cllm_matmul shape = {.m = R, .n = 3 * C, .k = C, .trans_b = true};

    ops->matmul(bench->out, bench->a, bench->b, &shape); /* (R,C) (3C,C)^T */
    return (size_t)R * 3 * C;
}

static size_t run_layernorm(struct bench *bench, const struct cllm_ops *ops)
{
    ops->layernorm(bench->out, bench->scratch, bench->scratch + R, bench->a, bench->b,
                   bench->c, 1e-5f, R, C);
    return (size_t)R * C;
}

static size_t run_gelu(struct bench *bench, const struct cllm_ops *ops)
{
    ops->gelu(bench->out, bench->a, N);
    return N;
}

static size_t run_softmax(struct bench *bench, const struct cllm_ops *ops)
{
    memcpy(bench->out, bench->a, (size_t)R * V * sizeof(float));
    for (size_t r = 0; r < R; r++)
        (void)ops->softmax(bench->out + r * V, V, 1.0f);
    return (size_t)R * V;
}

static size_t run_attention(struct bench *bench, const struct cllm_ops *ops)
{
    const struct cllm_attention sizes = {.B = B, .T = T, .C = C, .H = H};
    float *lse = bench->scratch + cllm_align_up(cllm_attention_scratch(T), 16);

    ops->attention(ops, bench->out, lse, bench->a, bench->scratch, &sizes);
    return (size_t)R * C;
}

static size_t run_cross_entropy(struct bench *bench, const struct cllm_ops *ops)
{
    memcpy(bench->out, bench->a, (size_t)R * V * sizeof(float));
    ops->cross_entropy((double *)(void *)bench->scratch, bench->out, bench->tokens, R, V,
                       true);
    return (size_t)R * V;
}

static size_t run_adamw(struct bench *bench, const struct cllm_ops *ops)
{
    static const struct cllm_adamw_terms terms = {.learning_rate = 1e-3f,
                                                  .beta1 = 0.9f,
                                                  .beta2 = 0.95f,
                                                  .epsilon = 1e-8f,
                                                  .weight_decay = 0.1f,
                                                  .grad_scale = 1.0f,
                                                  .correction1 = 10.0f,
                                                  .correction2 = 20.0f};

    /* scratch as first moment: zeros; its second half is overwritten */
    memset(bench->scratch, 0, N * sizeof(float));
    ops->adamw(bench->out, bench->scratch + N, bench->scratch + 2 * (size_t)N, bench->a,
               bench->scratch, bench->scratch, bench->b, N, &terms);
    return N;
}

static size_t run_fold(struct bench *bench, const struct cllm_ops *ops)
{
    const float *const lanes[] = {bench->b, bench->c};

    ops->fold(bench->out, bench->a, lanes, 2, N);
    return N;
}

static size_t run_sumsq(struct bench *bench, const struct cllm_ops *ops)
{
    bench->out[0] = (float)ops->sumsq(bench->a, N);
    return 1;
}

static const struct {
    const char *name;
    operation_fn run;
    double work; /* FLOP or bytes moved, of one run */
    const char *unit;
} operations[] = {
    {"matmul", run_matmul, 2.0 * R * 3 * C *C, "GFLOP/s"},
    {"layernorm", run_layernorm, 8.0 * R *C, "GB/s"},
    {"gelu", run_gelu, 8.0 * N, "GB/s"},
    {"softmax", run_softmax, 8.0 * R *V, "GB/s"},
    {"attention", run_attention, 4.0 * B *T *T *C / 2, "GFLOP/s"},
    {"cross_entropy", run_cross_entropy, 8.0 * R *V, "GB/s"},
    {"adamw", run_adamw, 28.0 * N, "GB/s"},
    {"fold", run_fold, 16.0 * N, "GB/s"},
    {"sumsq", run_sumsq, 4.0 * N, "GB/s"},
};
static_assert(CLLM_LEN(operations) <= CLLM_TRIAL_MAX, "a row for each operation");

static int init(struct bench *bench)
{
    size_t n_scratch = 3 * (size_t)N + cllm_attention_scratch(T) + R * H + 64;
    int rc = cllm_arena_init(&bench->arena,
                             (5 * (size_t)N + n_scratch + R) * sizeof(float) + 4096);

    if (rc != 0)
        return rc;
    bench->a = cllm_arena_take(&bench->arena, N * sizeof(float));
    bench->b = cllm_arena_take(&bench->arena, N * sizeof(float));
    bench->c = cllm_arena_take(&bench->arena, N * sizeof(float));
    bench->out = cllm_arena_take(&bench->arena, N * sizeof(float));
    bench->want = cllm_arena_take(&bench->arena, N * sizeof(float));
    bench->scratch = cllm_arena_take(&bench->arena, n_scratch * sizeof(float));
    bench->tokens = cllm_arena_take(&bench->arena, R * sizeof(uint32_t));
    for (uint64_t i = 0; i < N; i++) {
        bench->a[i] = 2.0f * cllm_random_f32(1, CLLM_RANDOM_SELF_TEST, i) - 1.0f;
        bench->b[i] = 2.0f * cllm_random_f32(2, CLLM_RANDOM_SELF_TEST, i) - 1.0f;
        bench->c[i] = 2.0f * cllm_random_f32(3, CLLM_RANDOM_SELF_TEST, i) - 1.0f;
    }
    for (uint64_t i = 0; i < R; i++)
        bench->tokens[i] = (uint32_t)(cllm_random_u64(4, CLLM_RANDOM_SELF_TEST, i) % V);
    return 0;
}

static void run_operation(struct bench *bench, struct cllm_trial_row *row, size_t i)
{
    const struct cllm_ops *chosen = cllm_ops_select();
    uint64_t begun, spent = 0, runs = 0;
    size_t n = operations[i].run(bench, cllm_ops_reference());

    memcpy(bench->want, bench->out, n * sizeof(float));
    memset(bench->out, 0xff, n * sizeof(float)); /* NaN: what is not written shows */
    n = operations[i].run(bench, chosen);
    *row = (struct cllm_trial_row){
        .operation = operations[i].name,
        .same_bits = memcmp(bench->out, bench->want, n * sizeof(float)) == 0,
        .unit = operations[i].unit};
    begun = cllm_now_ns();
    for (; spent < MIN_NS; runs++) {
        (void)operations[i].run(bench, chosen);
        spent = cllm_now_ns() - begun;
    }
    row->per_s = operations[i].work * (double)runs * 1e9 / (double)spent;
}

int cllm_trial_run(struct cllm_trial *trial)
{
    struct bench bench = {0};
    int rc = init(&bench);

    *trial = (struct cllm_trial){0};
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < CLLM_LEN(operations); i++)
        run_operation(&bench, &trial->row[trial->n++], i);
    cllm_arena_fini(&bench.arena);
    return 0;
}
