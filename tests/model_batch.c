/*
 * tests/model_batch.c - see tests/model_batch.h.
 */
#include "tests/model_batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/numbers.h"

#define LLAMA .arch = CLLM_ARCH_LLAMA

const struct cllm_model_config model_two_layers[] = {
    {.vocab = 29, .context = 70, .layers = 2, .heads = 2, .width = 20},
    {.vocab = 29,
     .context = 70,
     .layers = 2,
     .heads = 2,
     .width = 20,
     .norm_epsilon = 1e-3},
    {LLAMA, .vocab = 29, .context = 70, .layers = 2, .heads = 4, .width = 24,
     .kv_heads = 2, .hidden = 36, .untied = 1},
    {LLAMA, .vocab = 29, .context = 70, .layers = 2, .heads = 3, .width = 20,
     .kv_heads = 1, .head_size = 10, .norm_epsilon = 1e-3, .rope_theta = 500},
    {.vocab = 29,
     .context = 70,
     .layers = 2,
     .heads = 2,
     .width = 20,
     .crystalline_bias = 1},
    {LLAMA, .vocab = 29, .context = 70, .layers = 2, .heads = 4, .width = 24,
     .kv_heads = 2, .hidden = 36, .untied = 1, .crystalline_bias = 1},
};

struct model_batch *model_batch_shaped(const struct cllm_model_config *config,
                                       const struct cllm_ops *ops,
                                       const struct cllm_model_shape *shape, size_t shift)
{
    uint32_t n_tokens = shape->B * (shape->T + 1);
    struct model_batch *s = calloc(1, sizeof *s);
    size_t bytes;

    assert_non_null(s);
    assert_int_equal(cllm_parameters_init(&s->plan, config), 0);
    bytes = cllm_model_arena_bytes(&s->plan, shape);
    assert_int_equal(cllm_arena_init(&s->arena, bytes + 64 * shift), 0);
    (void)cllm_arena_take(&s->arena, 64 * shift);
    assert_int_equal(cllm_model_init(&s->model, &s->plan, ops, shape, &s->arena), 0);
    assert_int_equal(s->arena.used, bytes + 64 * shift);
    s->w = numbers_weights(&s->plan);
    s->dw = numbers_zero(s->plan.n_elements);
    s->tokens = numbers_tokens(n_tokens, config->vocab);
    return s;
}

struct model_batch *model_batch_new(const struct cllm_model_config *config,
                                    const struct cllm_ops *ops, uint32_t B, uint32_t T,
                                    bool train, size_t shift)
{
    const struct cllm_model_shape shape = {.B = B, .T = T, .train = train};

    return model_batch_shaped(config, ops, &shape, shift);
}

void model_batch_free(struct model_batch *s)
{
    cllm_arena_fini(&s->arena);
    cllm_parameters_fini(&s->plan);
    free(s->w);
    free(s->dw);
    free(s->tokens);
    free(s);
}
