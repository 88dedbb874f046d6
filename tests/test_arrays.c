/*
 * tests/test_arrays.c - the model leaves its arrays to the operations: they lie in memory
 * that nobody may touch but while an operation runs, as if they were on a device.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/mman.h>

#include "model/model.h"
#include "tests/numbers.h"

static struct {
    const struct cllm_ops *ops; /* that compute */
    void *base;                 /* the guarded memory */
    size_t bytes;
} self;

static void allow(int protection)
{
    assert_int_equal(mprotect(self.base, self.bytes, protection), 0);
}

#define GUARD(name, parameters, ...)   \
    static void name parameters        \
    {                                  \
        allow(PROT_READ | PROT_WRITE); \
        self.ops->name(__VA_ARGS__);   \
        allow(PROT_NONE);              \
    }

GUARD(put, (void *to, const void *from, size_t bytes), to, from, bytes)
GUARD(zero, (float *x, size_t n), x, n)
GUARD(matmul, (float *c, const float *a, const float *b, const struct cllm_matmul *shape),
      c, a, b, shape)
GUARD(add_columns, (float *sum, const float *x, size_t rows, size_t cols), sum, x, rows,
      cols)
GUARD(dropout,
      (float *out, const float *add, const float *x, size_t n,
       const struct cllm_dropout *drop),
      out, add, x, n, drop)
GUARD(layernorm,
      (float *out, float *mean, float *rstd, const float *x, const float *weight,
       const float *bias, float epsilon, size_t rows, size_t cols),
      out, mean, rstd, x, weight, bias, epsilon, rows, cols)
GUARD(layernorm_backward,
      (float *dx, float *dweight, float *dbias, const float *dout, const float *x,
       const float *mean, const float *rstd, const float *weight, size_t rows,
       size_t cols),
      dx, dweight, dbias, dout, x, mean, rstd, weight, rows, cols)
GUARD(rmsnorm,
      (float *out, float *rstd, const float *x, const float *weight, float epsilon,
       size_t rows, size_t cols),
      out, rstd, x, weight, epsilon, rows, cols)
GUARD(rmsnorm_backward,
      (float *dx, float *dweight, const float *dout, const float *x, const float *rstd,
       const float *weight, size_t rows, size_t cols),
      dx, dweight, dout, x, rstd, weight, rows, cols)
GUARD(gelu, (float *out, const float *x, size_t n), out, x, n)
GUARD(gelu_backward, (float *d, float *out, const float *x, size_t n), d, out, x, n)
GUARD(swiglu, (float *out, const float *gate, const float *up, size_t n), out, gate, up,
      n)
GUARD(swiglu_backward,
      (float *d, float *dup, float *out, const float *gate, const float *up, size_t n), d,
      dup, out, gate, up, n)
GUARD(embedding,
      (float *out, const uint32_t *tokens, size_t stride, const float *wte,
       const float *wpe, size_t V, size_t B, size_t T, size_t C),
      out, tokens, stride, wte, wpe, V, B, T, C)
GUARD(embedding_backward,
      (float *dwte, float *dwpe, const uint32_t *tokens, size_t stride, const float *dout,
       size_t V, size_t B, size_t T, size_t C),
      dwte, dwpe, tokens, stride, dout, V, B, T, C)
GUARD(next_tokens, (uint32_t * targets, const uint32_t *tokens, size_t B, size_t T),
      targets, tokens, B, T)
GUARD(rope,
      (float *qkv, const float *table, const struct cllm_attention *sizes, size_t first,
       size_t rows, bool inverse),
      qkv, table, sizes, first, rows, inverse)
GUARD(crystal_points,
      (float *points, size_t stride, const uint32_t *tokens, size_t first, size_t n),
      points, stride, tokens, first, n)
GUARD(crystal_pairs,
      (float *similar, size_t ld, const float *points, size_t stride, size_t first,
       size_t rows),
      similar, ld, points, stride, first, rows)
GUARD(cross_entropy,
      (double *losses, float *logits, const uint32_t *targets, size_t rows, size_t V,
       bool backward),
      losses, logits, targets, rows, V, backward)
GUARD(smooth_cross_entropy,
      (double *losses, float *logits, const uint32_t *targets, size_t rows, size_t V,
       bool backward, const struct cllm_smoothing *smoothing, float *c),
      losses, logits, targets, rows, V, backward, smoothing, c)

static void attention(const struct cllm_ops *ops, float *out, float *lse,
                      const float *qkv, float *scratch,
                      const struct cllm_attention *sizes)
{
    (void)ops;
    allow(PROT_READ | PROT_WRITE);
    self.ops->attention(self.ops, out, lse, qkv, scratch, sizes);
    allow(PROT_NONE);
}

static void attention_backward(const struct cllm_ops *ops, float *dqkv, const float *dout,
                               const float *qkv, const float *out, const float *lse,
                               float *scratch, const struct cllm_attention *sizes)
{
    (void)ops;
    allow(PROT_READ | PROT_WRITE);
    self.ops->attention_backward(self.ops, dqkv, dout, qkv, out, lse, scratch, sizes);
    allow(PROT_NONE);
}

static double sum_losses(const double *losses, size_t n, size_t chunk)
{
    double sum;

    allow(PROT_READ | PROT_WRITE);
    sum = self.ops->sum_losses(losses, n, chunk);
    allow(PROT_NONE);
    return sum;
}

/* All that a model may call. */
#define OP(name) .name = name
static const struct cllm_ops guarded = {
    .name = "guarded",
    OP(put),
    OP(zero),
    OP(matmul),
    OP(add_columns),
    OP(dropout),
    OP(layernorm),
    OP(layernorm_backward),
    OP(rmsnorm),
    OP(rmsnorm_backward),
    OP(gelu),
    OP(gelu_backward),
    OP(swiglu),
    OP(swiglu_backward),
    OP(embedding),
    OP(embedding_backward),
    OP(next_tokens),
    OP(rope),
    OP(attention),
    OP(attention_backward),
    OP(crystal_points),
    OP(crystal_pairs),
    OP(cross_entropy),
    OP(smooth_cross_entropy),
    OP(sum_losses),
};
#undef OP

/* Loss and gradient of one batch, with arrays in the arena, or apart and guarded. */
static void train(const struct cllm_parameters *plan, struct cllm_model_shape shape,
                  bool apart, double *loss, float *gradient)
{
    size_t n = plan->n_elements, bytes = cllm_align_up(n * sizeof(float), 64);
    uint32_t n_tokens = shape.B * (shape.T + 1);
    float *values = numbers_new(n, 5, 0.3f), *w, *dw;
    uint32_t *tokens = calloc(n_tokens, sizeof *tokens);
    struct cllm_arena arena;
    struct cllm_model model;
    uint8_t *base;

    assert_non_null(tokens);
    for (uint32_t i = 0; i < n_tokens; i++)
        tokens[i] = (i * i * 7 + 3) % plan->config.vocab;
    self.ops = cllm_ops_select();
    self.bytes = cllm_align_up(2 * bytes + cllm_model_array_bytes(plan, &shape), 4096);
    base = mmap(NULL, self.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                0);
    assert_true(base != MAP_FAILED);
    self.base = base;
    w = (float *)(void *)base;
    dw = (float *)(void *)(base + bytes);
    memcpy(w, values, n * sizeof *w);
    shape.arrays = apart ? base + 2 * bytes : NULL;
    assert_int_equal(cllm_arena_init(&arena, cllm_model_arena_bytes(plan, &shape)), 0);
    if (apart)
        allow(PROT_NONE);
    assert_int_equal(
        cllm_model_init(&model, plan, apart ? &guarded : self.ops, &shape, &arena), 0);
    assert_int_equal(arena.used, cllm_model_arena_bytes(plan, &shape));
    model.dropout = 0.1f;
    model.attention_dropout = 0.2f;
    loss[0] = cllm_model_forward_backward(&model, w, dw, tokens);
    model.dropout = model.attention_dropout = 0;
    loss[1] = cllm_model_loss(&model, w, tokens);
    allow(PROT_READ | PROT_WRITE);
    memcpy(gradient, dw, n * sizeof *dw);
    assert_int_equal(munmap(base, self.bytes), 0);
    cllm_arena_fini(&arena);
    free(tokens);
    free(values);
}

static void check(const struct cllm_model_config *config, float epsilon,
                  enum cllm_model_recompute recompute)
{
    const struct cllm_model_shape shape = {
        .B = 3, .T = 33, .train = true, .recompute = recompute, .epsilon = epsilon};
    struct cllm_parameters plan;
    double want[2], got[2];
    float *one, *other;

    assert_int_equal(cllm_parameters_init(&plan, config), 0);
    one = numbers_zero(plan.n_elements);
    other = numbers_zero(plan.n_elements);
    train(&plan, shape, false, want, one);
    train(&plan, shape, true, got, other);
    assert_memory_equal(want, got, sizeof want);
    assert_memory_equal(one, other, plan.n_elements * sizeof *one);
    free(one);
    free(other);
    cllm_parameters_fini(&plan);
}

static void a_model_touches_no_array_but_by_operations(void **state)
{
    static const struct cllm_model_config configs[] = {
        {.vocab = 97, .context = 40, .layers = 3, .heads = 3, .width = 24},
        {.arch = CLLM_ARCH_LLAMA,
         .vocab = 97,
         .context = 40,
         .layers = 3,
         .heads = 4,
         .kv_heads = 2,
         .width = 24,
         .hidden = 33,
         .untied = 1},
        {.vocab = 97,
         .context = 40,
         .layers = 2,
         .heads = 3,
         .width = 24,
         .crystalline_bias = 1},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(configs); i++) {
        check(&configs[i], 0, CLLM_RECOMPUTE_NONE);
        check(&configs[i], 0.1f, CLLM_RECOMPUTE_ATTENTION);
        check(&configs[i], 0, CLLM_RECOMPUTE_BLOCK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_touches_no_array_but_by_operations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
