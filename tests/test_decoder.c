/*
 * tests/test_decoder.c - logits one token at a time against whole sequences in double.
 */
#include "model/decoder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "compute/ops.h"
#include "model/model.h"
#include "tests/model_double.h"
#include "tests/numbers.h"

/* Of each family, and Llama with all queries on one key and an output of its own; both
 * with the learned bias. */
static const struct cllm_model_config configs[] = {
    {.vocab = 31, .context = 70, .layers = 2, .heads = 3, .width = 27},
    {.arch = CLLM_ARCH_LLAMA,
     .vocab = 31,
     .context = 70,
     .layers = 2,
     .heads = 4,
     .kv_heads = 2,
     .width = 24,
     .hidden = 37},
    {.arch = CLLM_ARCH_LLAMA,
     .vocab = 31,
     .context = 70,
     .layers = 2,
     .heads = 3,
     .kv_heads = 1,
     .width = 25,
     .head_size = 10,
     .untied = 1},
    {.vocab = 31,
     .context = 70,
     .layers = 2,
     .heads = 3,
     .width = 27,
     .crystalline_bias = 1},
    {.arch = CLLM_ARCH_LLAMA,
     .vocab = 31,
     .context = 70,
     .layers = 2,
     .heads = 4,
     .kv_heads = 2,
     .width = 24,
     .hidden = 37,
     .crystalline_bias = 1},
};
static const struct cllm_model_config *config = configs;

struct setup {
    struct cllm_parameters plan;
    struct cllm_arena arena;
    struct cllm_decoder decoder;
    float *w;
    uint32_t tokens[71];
};

static int setup(void **state)
{
    struct setup *s = calloc(1, sizeof *s);

    assert_non_null(s);
    assert_int_equal(cllm_parameters_init(&s->plan, config), 0);
    assert_int_equal(cllm_arena_init(&s->arena, cllm_decoder_arena_bytes(&s->plan)), 0);
    cllm_decoder_init(&s->decoder, &s->plan, cllm_ops_select(), &s->arena);
    assert_int_equal(s->arena.used, cllm_decoder_arena_bytes(&s->plan));
    s->w = numbers_new(s->plan.n_elements, 5, 0.5f);
    for (uint64_t i = 0; i < CLLM_LEN(s->tokens); i++)
        s->tokens[i] =
            (uint32_t)(cllm_random_u64(6, CLLM_RANDOM_TEST, i) % config->vocab);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct setup *s = *state;

    cllm_arena_fini(&s->arena);
    cllm_parameters_fini(&s->plan);
    free(s->w);
    free(s);
    return 0;
}

static void logits_of_every_position_agree_with_double_precision(void **state)
{
    struct setup *s = *state;
    double *w = numbers_doubles(s->w, s->plan.n_elements);
    double *logits = calloc((size_t)config->context * config->vocab, sizeof *logits);

    assert_non_null(logits);
    (void)model_double_loss(&s->plan, w, NULL, 1, config->context, s->tokens, logits);
    cllm_decoder_reset(&s->decoder);
    for (uint32_t t = 0; t < config->context; t++) {
        const float *got = cllm_decoder_step(&s->decoder, s->w, s->tokens[t]);

        assert_true(
            numbers_error(got, logits + (size_t)t * config->vocab, config->vocab) < 1e-5);
    }
    assert_int_equal(s->decoder.position, config->context);
    free(w);
    free(logits);
}

static void after_a_reset_nothing_is_remembered(void **state)
{
    struct setup *s = *state;
    float first[31];

    cllm_decoder_reset(&s->decoder);
    memcpy(first, cllm_decoder_step(&s->decoder, s->w, 7), sizeof first);
    for (uint32_t t = 0; t < 20; t++)
        (void)cllm_decoder_step(&s->decoder, s->w, s->tokens[t]);
    cllm_decoder_reset(&s->decoder);
    assert_memory_equal(first, cllm_decoder_step(&s->decoder, s->w, 7), sizeof first);
}

/* Logits after each of the tokens, one by one. */
static float *one_by_one(struct setup *s)
{
    size_t V = config->vocab;
    float *logits = numbers_zero(config->context * V);

    cllm_decoder_reset(&s->decoder);
    for (uint32_t t = 0; t < config->context; t++)
        memcpy(logits + t * V, cllm_decoder_step(&s->decoder, s->w, s->tokens[t]),
               V * sizeof *logits);
    return logits;
}

static void a_text_in_parts_of_any_size_gives_the_same_bits(void **state)
{
    static const uint32_t parts[] = {1, 2, 3, 7, 31, 32, 33, 64, 69, 70};
    struct setup *s = *state;
    float *logits = one_by_one(s);
    size_t V = config->vocab;

    for (size_t p = 0; p < CLLM_LEN(parts); p++) {
        cllm_decoder_reset(&s->decoder);
        for (uint32_t at = 0, n; at < config->context; at += n) {
            n = parts[p] < config->context - at ? parts[p] : config->context - at;
            assert_memory_equal(
                cllm_decoder_feed(&s->decoder, s->w, s->tokens + at, n, NULL),
                logits + (at + n - 1) * V, V * sizeof *logits);
            assert_int_equal(s->decoder.position, at + n);
        }
    }
    free(logits);
}

static void losses_are_those_of_the_logits_and_a_rewind_forgets(void **state)
{
    struct setup *s = *state;
    float *logits = one_by_one(s);
    double losses[2][71];
    size_t V = config->vocab;

    cllm_decoder_reset(&s->decoder);
    (void)cllm_decoder_feed(&s->decoder, s->w, s->tokens, 70, losses[0]);
    for (uint32_t t = 0; t + 1 < 70; t++) {
        const float *row = logits + t * V;
        double sum = 0;

        for (uint32_t v = 0; v < V; v++)
            sum += exp((double)row[v]);
        assert_true(fabs(log(sum) - (double)row[s->tokens[t + 1]] - losses[0][t]) < 1e-4);
    }
    cllm_decoder_rewind(&s->decoder, 23);
    (void)cllm_decoder_feed(&s->decoder, s->w, s->tokens + 23, 47, losses[1]);
    assert_memory_equal(losses[1], losses[0] + 23, 46 * sizeof(double));
    free(logits);
}

static void the_weights_are_only_read(void **state)
{
    struct setup *s = *state;
    float *before = numbers_new(s->plan.n_elements, 5, 0.5f);

    cllm_decoder_reset(&s->decoder);
    (void)cllm_decoder_step(&s->decoder, s->w, 1);
    assert_memory_equal(before, s->w, s->plan.n_elements * sizeof *before);
    free(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_of_every_position_agree_with_double_precision),
        cmocka_unit_test(a_text_in_parts_of_any_size_gives_the_same_bits),
        cmocka_unit_test(losses_are_those_of_the_logits_and_a_rewind_forgets),
        cmocka_unit_test(after_a_reset_nothing_is_remembered),
        cmocka_unit_test(the_weights_are_only_read),
    };

    int failed = 0;

    for (; config < configs + CLLM_LEN(configs); config++)
        failed += cmocka_run_group_tests(tests, setup, teardown);
    return failed;
}
