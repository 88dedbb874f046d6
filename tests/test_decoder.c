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
#include "model/gpt.h"
#include "tests/gpt_double.h"
#include "tests/numbers.h"

static const struct cllm_model_config config = {
    .vocab = 31, .context = 70, .layers = 2, .heads = 3, .width = 27};

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
    assert_int_equal(cllm_parameters_init(&s->plan, &config), 0);
    assert_int_equal(cllm_arena_init(&s->arena, cllm_decoder_arena_bytes(&s->plan)), 0);
    cllm_decoder_init(&s->decoder, &s->plan, cllm_ops_select(), &s->arena);
    assert_int_equal(s->arena.used, cllm_decoder_arena_bytes(&s->plan));
    s->w = numbers_new(s->plan.n_elements, 5, 0.5f);
    for (uint64_t i = 0; i < CLLM_LEN(s->tokens); i++)
        s->tokens[i] = (uint32_t)(cllm_random_u64(6, CLLM_RANDOM_TEST, i) % config.vocab);
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
    double *w = calloc(s->plan.n_elements, sizeof *w);
    double *logits = calloc((size_t)config.context * config.vocab, sizeof *logits);

    assert_true(w != NULL && logits != NULL);
    for (uint64_t i = 0; i < s->plan.n_elements; i++)
        w[i] = (double)s->w[i];
    (void)gpt_double_loss(&s->plan, w, NULL, 1, config.context, s->tokens, logits);
    cllm_decoder_reset(&s->decoder);
    for (uint32_t t = 0; t < config.context; t++) {
        const float *got = cllm_decoder_step(&s->decoder, s->w, s->tokens[t]);

        assert_true(numbers_error(got, logits + (size_t)t * config.vocab, config.vocab) <
                    1e-5);
    }
    assert_int_equal(s->decoder.position, config.context);
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
        cmocka_unit_test(after_a_reset_nothing_is_remembered),
        cmocka_unit_test(the_weights_are_only_read),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
