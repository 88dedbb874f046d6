/*
 * tests/test_recompute.c - models that compute again what they did not keep: the same
 * bits, the memory that this leaves free, and no more products than it must take.
 */
#include "tests/model_batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/numbers.h"

#define LLAMA .arch = CLLM_ARCH_LLAMA

static const enum cllm_model_recompute again[] = {CLLM_RECOMPUTE_ATTENTION,
                                                  CLLM_RECOMPUTE_BLOCK};

/* Loss and gradient of two batches, one after the other in the same memory, with a
 * validation between them. */
static void train_twice(struct model_batch *s, double loss[2])
{
    loss[0] = cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
    s->tokens[0] = s->plan.config.vocab - 1 - s->tokens[0];
    (void)cllm_model_loss(&s->model, s->w, s->tokens);
    s->tokens[1] = s->plan.config.vocab - 1 - s->tokens[1];
    loss[1] = cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
}

static void check_recompute(const struct cllm_model_config *config,
                            const struct cllm_ops *ops, uint32_t B, uint32_t T)
{
    struct cllm_model_shape shape = {.B = B, .T = T, .train = true};
    struct model_batch *kept = model_batch_shaped(config, ops, &shape, 0);
    size_t used = kept->arena.used;
    double expected[2], loss[2];

    train_twice(kept, expected);
    for (size_t i = 0; i < CLLM_LEN(again); i++) {
        struct model_batch *s;

        shape.recompute = again[i];
        s = model_batch_shaped(config, ops, &shape, i);
        train_twice(s, loss);
        assert_memory_equal(loss, expected, sizeof loss);
        assert_memory_equal(s->dw, kept->dw, s->plan.n_elements * sizeof *s->dw);
        assert_true(config->layers == 1 || s->arena.used - 64 * i < used);
        used = s->arena.used - 64 * i;
        model_batch_free(s);
    }
    model_batch_free(kept);
}

static void what_is_computed_again_has_the_same_bits(void **state)
{
    static const struct {
        struct cllm_model_config config;
        uint32_t B, T;
    } cases[] = {
        {{.vocab = 31, .context = 70, .layers = 4, .heads = 2, .width = 20}, 1, 67},
        {{.vocab = 31, .context = 70, .layers = 4, .heads = 2, .width = 20}, 3, 67},
        {{.vocab = 257, .context = 131, .layers = 3, .heads = 5, .width = 65}, 3, 130},
        {{.vocab = 11, .context = 9, .layers = 5, .heads = 3, .width = 3}, 1, 7},
        {{.vocab = 2, .context = 1, .layers = 2, .heads = 1, .width = 2}, 3, 1},
        {{.vocab = 29, .context = 70, .layers = 1, .heads = 2, .width = 20}, 3, 70},
        {{.vocab = 31,
          .context = 131,
          .layers = 4,
          .heads = 2,
          .width = 20,
          .crystalline_bias = 1},
         3,
         130},
        {{LLAMA, .vocab = 31, .context = 70, .layers = 3, .heads = 4, .width = 24,
          .kv_heads = 2, .crystalline_bias = 1},
         2,
         67},
        {{LLAMA, .vocab = 31, .context = 70, .layers = 4, .heads = 4, .width = 24,
          .kv_heads = 2},
         3,
         67},
        {{LLAMA, .vocab = 257, .context = 131, .layers = 3, .heads = 5, .width = 70,
          .kv_heads = 1, .hidden = 33, .untied = 1},
         3,
         130},
        {{LLAMA, .vocab = 2, .context = 1, .layers = 2, .heads = 1, .width = 2}, 3, 1},
    };
    const struct cllm_ops *bf16;

    (void)state;
    assert_int_equal(cllm_ops_pick(&bf16, CLLM_ISA_AUTO, CLLM_PRECISION_BF16), 0);
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        check_recompute(&cases[i].config, cllm_ops_select(), cases[i].B, cases[i].T);
        check_recompute(&cases[i].config, bf16, cases[i].B, cases[i].T);
    }
}

/* Sizes at which every buffer ends at a cache line. @attention and @block: floats a token
 * that are computed again. */
static void check_memory(const struct cllm_model_config *config, size_t attention,
                         size_t block)
{
    struct cllm_model_shape shape = {.B = 3, .T = 48, .train = true};
    size_t N = 3 * 48, others = config->layers - 1, bytes, loss_only;
    struct cllm_parameters plan;

    assert_int_equal(cllm_parameters_init(&plan, config), 0);
    bytes = cllm_model_arena_bytes(&plan, &shape);
    shape.recompute = CLLM_RECOMPUTE_ATTENTION;
    assert_int_equal(bytes - cllm_model_arena_bytes(&plan, &shape),
                     others * N * attention * sizeof(float));
    shape.recompute = CLLM_RECOMPUTE_BLOCK;
    assert_int_equal(bytes - cllm_model_arena_bytes(&plan, &shape),
                     others * N * block * sizeof(float));
    shape.train = false;
    loss_only = cllm_model_arena_bytes(&plan, &shape);
    shape.recompute = CLLM_RECOMPUTE_NONE;
    assert_int_equal(cllm_model_arena_bytes(&plan, &shape), loss_only);
    cllm_parameters_fini(&plan);
}

static void what_is_computed_again_takes_memory_once(void **state)
{
    const struct cllm_model_config gpt = {
        .vocab = 29, .context = 48, .layers = 7, .heads = 2, .width = 20};
    const struct cllm_model_config llama = {LLAMA,       .vocab = 29,    .context = 48,
                                            .layers = 7, .heads = 4,     .kv_heads = 2,
                                            .width = 20, .head_size = 6, .hidden = 13};
    enum { C = 20, H = 4, A = 4 * 6, Q = 8 * 6, F = 13 };

    (void)state;
    check_memory(&gpt, 3 * C + 2, 9 * C + 2 + 4);
    check_memory(&llama, Q + 1, Q + 1 + A + C + 2 * F + H + 1);
}

static uint32_t products;

static void count_product(float *c, const float *a, const float *b,
                          const struct cllm_matmul *shape)
{
    products++;
    cllm_ops_reference()->matmul(c, a, b, shape);
}

static uint32_t products_of(uint32_t arch, uint32_t layers,
                            enum cllm_model_recompute recompute)
{
    const struct cllm_model_config config = {
        .arch = arch, .vocab = 5, .context = 7, .layers = layers, .heads = 1, .width = 4};
    const struct cllm_model_shape shape = {
        .B = 1, .T = 7, .train = true, .recompute = recompute};
    struct cllm_ops counting = *cllm_ops_reference();
    struct model_batch *s;

    counting.matmul = count_product;
    s = model_batch_shaped(&config, &counting, &shape, 0);
    products = 0;
    (void)cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
    model_batch_free(s);
    return products;
}

/* qkv is one product (gpt2), or three; a block up to its middle has those, two in
 * attention, its projection, and fc, or gate and up. */
static void only_what_was_lost_is_computed_again(void **state)
{
    static const uint32_t qkv[CLLM_N_ARCHS] = {1, 3}, block[CLLM_N_ARCHS] = {5, 8};

    (void)state;
    for (uint32_t arch = 0; arch < CLLM_N_ARCHS; arch++)
        for (uint32_t layers = 1; layers < 5; layers++) {
            uint32_t n = products_of(arch, layers, CLLM_RECOMPUTE_NONE);
            uint32_t others = layers - 1;

            assert_int_equal(products_of(arch, layers, CLLM_RECOMPUTE_ATTENTION),
                             n + qkv[arch] * others);
            assert_int_equal(products_of(arch, layers, CLLM_RECOMPUTE_BLOCK),
                             n + block[arch] * others);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_computed_again_has_the_same_bits),
        cmocka_unit_test(what_is_computed_again_takes_memory_once),
        cmocka_unit_test(only_what_was_lost_is_computed_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
