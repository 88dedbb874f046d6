/*
 * tools/bench_kernels.c - see tools/bench_kernels.h.
 *
 * An operation that multiplies matrices is measured in FLOP and held against the peak,
 * any other in the bytes that it must read and write and held against a copy between
 * arrays of that size, which lie in a cache or do not. Bytes are counted once, however
 * often an operation passes over them.
 */
#include "tools/bench_kernels.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/random.h"
#include "base/units.h"
#include "compute/ops.h"
#include "model/model.h"
#include "tools/bench_limits.h"
#include "tools/shm_json.h"

#define TRIALS        3
#define TRIAL_NS      (60 * CLLM_NS_PER_MS)
#define MOST_ROWS     8192       /* tokens of a micro-batch */
#define MOST_ELEMENTS (8u << 20) /* of a parameter vector: far more than a cache */
#define FOLD_LANES    4
#define VECTORS       7
#define MAX_ROWS      40

struct sizes {
    bool llama;
    size_t B, T, C, H, KV, F, V;
    size_t A;      /* elements of all heads */
    size_t wide;   /* elements of the widest row */
    size_t N;      /* B T */
    size_t rows;   /* of logits */
    size_t n;      /* elements of a parameter vector */
    size_t matrix; /* elements of the largest weight matrix */
};

struct row {
    char name[48];
    double work;  /* FLOP or bytes of one run */
    bool product; /* FLOP */
    double per_s, limit;
};

struct kernels {
    struct sizes s;
    const struct cllm_ops *ops;
    struct cllm_arena arena;
    float *x, *y, *z;       // (N,wide)
    float *w, *dw;          // (matrix)
    float *logits;          // (rows,V)
    double *losses;         // (rows)
    float *bias, *dbias;    // (wide)
    float *scale, *dscale;  // (wide)
    float *rope;            // (T,A / H)
    float *mean, *rstd;     // (N)
    float *lse;             // (B,H,T)
    float *scratch;         // attention
    float *vector[VECTORS]; // (n)
    uint32_t *tokens;       // (N), below V
    struct cllm_matmul product;
    float *a, *b, *c; /* of the product */
    struct cllm_bench_limits limits;
    struct row row[MAX_ROWS];
    uint32_t n_rows;
};

typedef void (*operation_fn)(struct kernels *k);

/* ---- sizes and memory ---- */

/* Rows of the largest micro-batch that the coordinator would choose. */
static size_t choose_sequences(const struct cllm_config *config)
{
    uint64_t share = config->train_batch / config->run_lanes;
    uint64_t n = config->train_micro_batch;

    if (n == CLLM_CONFIG_AUTO)
        for (n = share;
             n > 1 && (share % n != 0 || n * config->model_context > MOST_ROWS);)
            n--;
    return (size_t)cllm_max_u64(n, 1);
}

static struct cllm_attention attention_of(const struct sizes *s)
{
    return (struct cllm_attention){
        .B = s->B, .T = s->T, .C = s->A, .H = s->H, .KV = s->KV};
}

static void choose_sizes(struct sizes *s, const struct cllm_config *config,
                         const struct cllm_parameters *plan)
{
    const struct cllm_model_config *model = &plan->config;
    uint64_t n_elements = plan->n_elements;
    struct cllm_attention attention;

    s->llama = model->arch == CLLM_ARCH_LLAMA;
    s->B = choose_sequences(config);
    s->T = model->context;
    s->C = model->width;
    s->H = model->heads;
    s->KV = model->kv_heads;
    s->F = model->hidden;
    s->A = (size_t)model->heads * model->head_size;
    s->V = model->vocab;
    attention = attention_of(s);
    s->wide = cllm_max_u64(cllm_max_u64(s->F, 2 * s->A), cllm_attention_row(&attention));
    s->N = s->B * s->T;
    s->rows = cllm_model_chunk_rows(s->N, s->V);
    s->n = cllm_min_u64(n_elements, MOST_ELEMENTS);
    s->matrix = cllm_max_u64(s->V, s->wide) * s->C;
}

static float *take(struct kernels *k, size_t n, uint64_t stream)
{
    float *x = cllm_arena_take(&k->arena, n * sizeof *x);

    for (size_t i = 0; i < n; i++)
        x[i] = 0.1f * (cllm_random_f32(stream, CLLM_RANDOM_TEST, i) - 0.5f);
    return x;
}

static int lay_out(struct kernels *k)
{
    const struct sizes *s = &k->s;
    size_t wide = s->wide;
    size_t n = s->T * s->A / s->H + 3 * s->N * wide + 2 * s->matrix +
               s->rows * (s->V + 2) + 4 * wide + s->N * (3 + s->H) +
               cllm_attention_scratch(s->T) + VECTORS * s->n;
    int rc = cllm_arena_init(&k->arena, n * sizeof(float) + 64 * CLLM_CACHELINE);

    if (rc != 0)
        return rc;
    k->x = take(k, s->N * wide, 1);
    k->y = take(k, s->N * wide, 2);
    k->z = take(k, s->N * wide, 3);
    k->w = take(k, s->matrix, 4);
    k->dw = take(k, s->matrix, 5);
    k->logits = take(k, s->rows * s->V, 6);
    k->losses = cllm_arena_take(&k->arena, s->rows * sizeof *k->losses);
    k->bias = take(k, wide, 7);
    k->dbias = take(k, wide, 8);
    k->scale = take(k, wide, 9);
    k->dscale = take(k, wide, 10);
    k->mean = take(k, s->N, 11);
    k->rstd = take(k, s->N, 12);
    k->lse = take(k, s->N * s->H, 13);
    k->rope = take(k, s->T * s->A / s->H, 22);
    k->scratch = take(k, cllm_attention_scratch(s->T), 14);
    for (uint64_t i = 0; i < VECTORS; i++)
        k->vector[i] = take(k, s->n, 15 + i);
    for (size_t i = 0; i < s->n; i++)
        k->vector[5][i] *= k->vector[5][i]; /* a second moment */
    k->tokens = cllm_arena_take(&k->arena, s->N * sizeof *k->tokens);
    for (size_t i = 0; i < s->N; i++)
        k->tokens[i] = (uint32_t)(cllm_random_u64(1, CLLM_RANDOM_TEST, i) % s->V);
    return 0;
}

/* ---- measuring ---- */

static struct row *measure(struct kernels *k, const char *name, operation_fn run)
{
    struct row *row = &k->row[k->n_rows++];
    double best = 0.0;

    CLLM_ASSERT(k->n_rows <= MAX_ROWS);
    *row = (struct row){0};
    (void)snprintf(row->name, sizeof row->name, "%s", name);
    run(k);
    for (int i = 0; i < TRIALS; i++) {
        uint64_t began = cllm_now_ns(), spent, runs = 0;
        double rate;

        do {
            run(k);
            runs++;
            spent = cllm_now_ns() - began;
        } while (spent < TRIAL_NS);
        rate = (double)runs * 1e9 / (double)spent;
        best = rate > best ? rate : best;
    }
    row->per_s = best; /* runs, until the work of one is known */
    return row;
}

/* An operation of @flop. */
static void arithmetic(struct kernels *k, const char *name, operation_fn run, double flop)
{
    struct row *row = measure(k, name, run);

    row->work = flop;
    row->product = true;
    row->per_s *= flop;
    row->limit = k->limits.flops;
}

/* An operation that moves @floats. */
static void movement(struct kernels *k, const char *name, operation_fn run, size_t floats)
{
    struct row *row = measure(k, name, run);
    size_t bytes = floats * sizeof(float);

    row->work = (double)bytes;
    row->per_s *= row->work;
    row->limit = cllm_bench_copy_within(bytes);
}

/* ---- matrix products ---- */

static void run_product(struct kernels *k)
{
    k->ops->matmul(k->c, k->a, k->b, &k->product);
}

static void product(struct kernels *k, const char *layer, const char *what)
{
    const struct cllm_matmul *p = &k->product;
    char name[48];

    (void)snprintf(name, sizeof name, "%s %s %zux%zux%zu", layer, what, p->m, p->n, p->k);
    arithmetic(k, name, run_product, 2.0 * (double)p->m * (double)p->n * (double)p->k);
}

/* y (N,out) = x (N,in) W, and the gradients of both factors. W is (in,out), of llama
 * (out,in). */
static void linear(struct kernels *k, const char *layer, size_t in, size_t out)
{
    bool llama = k->s.llama;

    k->product = (struct cllm_matmul){
        .m = k->s.N, .n = out, .k = in, .trans_b = llama, .bias = llama ? NULL : k->bias};
    k->c = k->y, k->a = k->x, k->b = k->w;
    product(k, layer, "forward");
    k->product = (struct cllm_matmul){.m = k->s.N, .n = in, .k = out, .trans_b = !llama};
    k->c = k->x, k->a = k->y, k->b = k->w;
    product(k, layer, "to input");
    k->product = (struct cllm_matmul){.m = llama ? out : in,
                                      .n = llama ? in : out,
                                      .k = k->s.N,
                                      .trans_a = true,
                                      .accumulate = true};
    k->c = k->dw, k->a = llama ? k->y : k->x, k->b = llama ? k->x : k->y;
    product(k, layer, "to weight");
}

/* logits (rows,V) = x (rows,C) wte (V,C)^T, and the gradients of both factors. */
static void head(struct kernels *k)
{
    const struct sizes *s = &k->s;

    k->product =
        (struct cllm_matmul){.m = s->rows, .n = s->V, .k = s->C, .trans_b = true};
    k->c = k->logits, k->a = k->x, k->b = k->w;
    product(k, "lm head", "forward");
    k->product = (struct cllm_matmul){.m = s->rows, .n = s->C, .k = s->V};
    k->c = k->x, k->a = k->logits, k->b = k->w;
    product(k, "lm head", "to input");
    k->product = (struct cllm_matmul){
        .m = s->V, .n = s->C, .k = s->rows, .trans_a = true, .accumulate = true};
    k->c = k->dw, k->a = k->logits, k->b = k->x;
    product(k, "lm head", "to weight");
}

/* ---- the others ---- */

static void run_attention(struct kernels *k)
{
    const struct cllm_attention a = attention_of(&k->s);

    k->ops->attention(k->ops, k->z, k->lse, k->x, k->scratch, &a);
}

static void run_attention_backward(struct kernels *k)
{
    const struct cllm_attention a = attention_of(&k->s);

    /* out and its gradient: both halves of z are (N,A) and more */
    k->ops->attention_backward(k->ops, k->y, k->z + k->s.N * k->s.wide / 2, k->x, k->z,
                               k->lse, k->scratch, &a);
}

static void run_layernorm(struct kernels *k)
{
    k->ops->layernorm(k->y, k->mean, k->rstd, k->x, k->scale, k->bias, 1e-5f, k->s.N,
                      k->s.C);
}

static void run_layernorm_backward(struct kernels *k)
{
    k->ops->layernorm_backward(k->z, k->dscale, k->dbias, k->y, k->x, k->mean, k->rstd,
                               k->scale, k->s.N, k->s.C);
}

static void run_gelu(struct kernels *k)
{
    k->ops->gelu(k->y, k->x, k->s.N * k->s.F);
}

static void run_gelu_backward(struct kernels *k)
{
    k->ops->gelu_backward(k->z, k->y, k->x, k->s.N * k->s.F);
}

static void run_rmsnorm(struct kernels *k)
{
    k->ops->rmsnorm(k->y, k->rstd, k->x, k->scale, 1e-5f, k->s.N, k->s.C);
}

static void run_rmsnorm_backward(struct kernels *k)
{
    k->ops->rmsnorm_backward(k->z, k->dscale, k->y, k->x, k->rstd, k->scale, k->s.N,
                             k->s.C);
}

static void run_rope(struct kernels *k)
{
    const struct cllm_attention a = attention_of(&k->s);

    k->ops->rope(k->x, k->rope, &a, 0, k->s.N, false);
}

static void run_swiglu(struct kernels *k)
{
    k->ops->swiglu(k->y, k->x, k->z, k->s.N * k->s.F);
}

/* Both gradients in halves of y, the input's halves in x: as many elements. */
static void run_swiglu_backward(struct kernels *k)
{
    size_t half = k->s.N * k->s.F / 2 / 16 * 16;

    k->ops->swiglu_backward(k->y, k->y + half, k->z, k->x, k->x + half, half);
}

static void run_add_columns(struct kernels *k)
{
    k->ops->add_columns(k->dbias, k->x, k->s.N, k->s.F);
}

static void run_embedding_backward(struct kernels *k)
{
    k->ops->embedding_backward(k->dw, k->s.llama ? NULL : k->z, k->tokens, k->s.T, k->x,
                               k->s.V, k->s.B, k->s.T, k->s.C);
}

static void run_cross_entropy(struct kernels *k)
{
    k->ops->cross_entropy(k->losses, k->logits, k->tokens, k->s.rows, k->s.V, true);
}

static void run_adamw(struct kernels *k)
{
    static const struct cllm_adamw_terms terms = {.learning_rate = 1e-3f,
                                                  .beta1 = 0.9f,
                                                  .beta2 = 0.95f,
                                                  .epsilon = 1e-8f,
                                                  .weight_decay = 0.1f,
                                                  .grad_scale = 1.0f,
                                                  .correction1 = 10.0f,
                                                  .correction2 = 20.0f};

    k->ops->adamw(k->vector[0], k->vector[1], k->vector[2], k->vector[3], k->vector[4],
                  k->vector[5], k->vector[6], k->s.n, &terms);
}

static void run_fold(struct kernels *k)
{
    const float *const lanes[FOLD_LANES] = {k->vector[2], k->vector[3], k->vector[4],
                                            k->vector[6]};

    k->ops->fold(k->vector[0], k->vector[1], lanes, FOLD_LANES, k->s.n);
}

static void run_sumsq(struct kernels *k)
{
    k->scratch[0] = (float)k->ops->sumsq(k->vector[6], k->s.n);
}

static void measure_gpt(struct kernels *k)
{
    size_t N = k->s.N, C = k->s.C, F = k->s.F;

    linear(k, "qkv", C, 3 * C);
    linear(k, "projection", C, C);
    linear(k, "fc", C, F);
    linear(k, "fc projection", F, C);
    movement(k, "layernorm", run_layernorm, 2 * N * C);
    movement(k, "layernorm backward", run_layernorm_backward, 4 * N * C);
    movement(k, "gelu", run_gelu, 2 * N * F);
    movement(k, "gelu backward", run_gelu_backward, 4 * N * F);
    movement(k, "bias gradient", run_add_columns, N * F);
    movement(k, "embedding backward", run_embedding_backward, 5 * N * C);
}

static void measure_llama(struct kernels *k)
{
    size_t N = k->s.N, C = k->s.C, F = k->s.F, keys = k->s.A / k->s.H * k->s.KV;

    linear(k, "queries", C, k->s.A);
    linear(k, "keys, values", C, keys);
    linear(k, "projection", k->s.A, C);
    linear(k, "gate, up", C, F);
    linear(k, "down", F, C);
    movement(k, "rmsnorm", run_rmsnorm, 2 * N * C);
    movement(k, "rmsnorm backward", run_rmsnorm_backward, 4 * N * C);
    movement(k, "rope", run_rope, 2 * N * (k->s.A + keys));
    movement(k, "swiglu", run_swiglu, 3 * N * F);
    movement(k, "swiglu backward", run_swiglu_backward, 3 * N * F);
    movement(k, "embedding backward", run_embedding_backward, 3 * N * C);
}

static void measure_all(struct kernels *k)
{
    const struct sizes *s = &k->s;
    /* scores and values, the masked half not counted; backward computes scores again */
    double scores = 2.0 * (double)s->N * (double)s->T * (double)s->A / 2.0;

    if (s->llama)
        measure_llama(k);
    else
        measure_gpt(k);
    head(k);
    arithmetic(k, "attention", run_attention, 2.0 * scores);
    arithmetic(k, "attention backward", run_attention_backward, 5.0 * scores);
    movement(k, "cross entropy", run_cross_entropy, 2 * s->rows * s->V);
    movement(k, "adamw", run_adamw, VECTORS * s->n);
    movement(k, "fold of 4 lanes", run_fold, (FOLD_LANES + 2) * s->n);
    movement(k, "sum of squares", run_sumsq, s->n);
}

/* ---- printing ---- */

static void print_text(const struct kernels *k)
{
    (void)printf("kernels: %s; one process; %zu sequence%s of %zu tokens\n"
                 "peak %.1f GFLOP/s (%s)\n\n%-36s %18s %18s %9s\n",
                 k->ops->name, k->s.B, cllm_plural(k->s.B), k->s.T, k->limits.flops / 1e9,
                 k->limits.peak, "operation", "reached", "limit", "share");
    for (uint32_t i = 0; i < k->n_rows; i++) {
        const struct row *row = &k->row[i];
        const char *unit = row->product ? "GFLOP/s" : "GB/s";

        (void)printf("%-36s %10.1f %-7s %10.1f %-7s %7.1f %%\n", row->name,
                     row->per_s / 1e9, unit, row->limit / 1e9, unit,
                     row->limit > 0.0 ? 100.0 * row->per_s / row->limit : 0.0);
    }
}

static int print_json(const struct kernels *k)
{
    json_t *rows = json_array();

    for (uint32_t i = 0; i < k->n_rows; i++) {
        const struct row *row = &k->row[i];

        (void)json_array_append_new(
            rows, json_pack("{s:s, s:s, s:f, s:f, s:f}", "operation", row->name, "unit",
                            row->product ? "GFLOP/s" : "GB/s", "reached",
                            row->per_s / 1e9, "limit", row->limit / 1e9, "share",
                            row->limit > 0.0 ? row->per_s / row->limit : 0.0));
    }
    return cllm_shm_json_print(json_pack("{s:s, s:s, s:f, s:o}", "kernels", k->ops->name,
                                         "instructions", k->limits.peak, "peak_gflops",
                                         k->limits.flops / 1e9, "operations", rows));
}

int cllm_bench_kernels(const struct cllm_config *config, bool json)
{
    const struct cllm_model_config sizes = cllm_model_config_from(config);
    struct kernels k = {.limits = {.processes = 1}};
    struct cllm_parameters plan;
    int rc = cllm_parameters_init(&plan, &sizes);

    if (rc != 0)
        return rc;
    choose_sizes(&k.s, config, &plan);
    cllm_parameters_fini(&plan);
    rc = cllm_ops_pick(&k.ops, (enum cllm_isa)config->compute_isa,
                       (enum cllm_precision)config->compute_precision);
    if (rc == 0)
        rc = lay_out(&k);
    if (rc != 0)
        return rc;
    rc = cllm_bench_limits_measure(&k.limits,
                                   (enum cllm_precision)config->compute_precision);
    if (rc == 0) {
        measure_all(&k);
        rc = json ? print_json(&k) : (print_text(&k), 0);
    }
    cllm_arena_fini(&k.arena);
    return rc;
}
