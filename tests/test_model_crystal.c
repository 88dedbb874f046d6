/*
 * tests/test_model_crystal.c - models with the learned bias of attention: what it changes
 * at the start of a run, and its own gradient.
 */
#include "tests/model_batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "tests/model_double.h"
#include "tests/numbers.h"

/* The same weights in the plan of @to: tensors by name, what has no counterpart stays. */
static void copy_tensors(const struct model_batch *from, struct model_batch *to,
                         const float *of, float *into)
{
    for (uint32_t i = 0; i < from->plan.n_tensors; i++) {
        const struct cllm_tensor *one = &from->plan.tensors[i];
        const struct cllm_tensor *other = cllm_parameters_find(&to->plan, one->name);

        if (other != NULL)
            memcpy(into + other->off, of + one->off, one->count * sizeof *into);
    }
}

/* As a run begins: loss and gradient of all else have the bits of a model without. */
static void a_bias_of_zero_changes_no_bit(void **state)
{
    (void)state;
    FOR_EACH_MODEL(config)
    {
        struct cllm_model_config with = *config, without = *config;
        struct model_batch *a, *b;
        float *expected;

        with.crystalline_bias = 1;
        without.crystalline_bias = 0;
        a = model_batch_new(&without, cllm_ops_select(), 3, 70, true, 0);
        b = model_batch_new(&with, cllm_ops_select(), 3, 70, true, 0);
        memset(b->w, 0, b->plan.n_elements * sizeof *b->w);
        copy_tensors(a, b, a->w, b->w);
        assert_true(cllm_model_forward_backward(&a->model, a->w, a->dw, a->tokens) ==
                    cllm_model_forward_backward(&b->model, b->w, b->dw, b->tokens));
        expected = numbers_zero(b->plan.n_elements);
        copy_tensors(a, b, a->dw, expected);
        for (uint32_t i = 0; i < b->plan.n_tensors; i++) {
            const struct cllm_tensor *tensor = &b->plan.tensors[i];
            bool bias = tensor->kind == CLLM_TENSOR_CRYSTALLINE;

            if (!bias)
                assert_memory_equal(b->dw + tensor->off, expected + tensor->off,
                                    tensor->count * sizeof *expected);
            for (uint64_t j = 0; bias && j < tensor->count; j++)
                assert_true(b->dw[tensor->off + j] != 0.0f);
        }
        free(expected);
        model_batch_free(a);
        model_batch_free(b);
    }
}

/* A device's operations may lack it: said, not met while computing. */
static void operations_without_similarities_are_refused(void **state)
{
    const struct cllm_model_config config = {.vocab = 7,
                                             .context = 9,
                                             .layers = 1,
                                             .heads = 1,
                                             .width = 4,
                                             .crystalline_bias = 1};
    const struct cllm_model_shape shape = {.B = 1, .T = 9};
    struct cllm_ops ops = *cllm_ops_select();
    struct cllm_parameters plan;
    struct cllm_arena arena;
    struct cllm_model model;

    (void)state;
    ops.crystal_pairs = NULL;
    assert_int_equal(cllm_parameters_init(&plan, &config), 0);
    assert_int_equal(cllm_arena_init(&arena, cllm_model_arena_bytes(&plan, &shape)), 0);
    assert_int_equal(cllm_model_init(&model, &plan, &ops, &shape, &arena), CLLM_ECONFIG);
    assert_non_null(strstr(cllm_err_text(), "crystalline bias of attention"));
    assert_int_equal(arena.used, 0);
    cllm_arena_fini(&arena);
    cllm_parameters_fini(&plan);
}

/* Each head's bias of each layer, against the exact loss at both sides of it. */
static void gradients_of_biases_agree_with_central_differences(void **state)
{
    const double h = 1e-5;

    (void)state;
    FOR_EACH_MODEL(config)
    {
        struct model_batch *s =
            model_batch_new(config, cllm_ops_select(), 2, 67, true, 0);
        double *w = numbers_doubles(s->w, s->plan.n_elements);

        (void)cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
        for (uint32_t layer = 0; config->crystalline_bias && layer < config->layers;
             layer++)
            for (uint32_t head = 0; head < config->heads; head++) {
                uint64_t at = cllm_parameters_off(&s->plan, CLLM_TENSOR_CRYSTALLINE, 0) +
                              layer * (uint64_t)config->heads + head;
                double kept = w[at], slope;

                w[at] = kept + h;
                slope = model_double_loss(&s->plan, w, NULL, 2, 67, s->tokens, NULL);
                w[at] = kept - h;
                slope -= model_double_loss(&s->plan, w, NULL, 2, 67, s->tokens, NULL);
                slope /= 2 * h;
                w[at] = kept;
                assert_true(fabs((double)s->dw[at] - slope) < 1e-4 * fabs(slope) + 1e-4);
                assert_true(fabs(slope) > 1e-3);
            }
        free(w);
        model_batch_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bias_of_zero_changes_no_bit),
        cmocka_unit_test(operations_without_similarities_are_refused),
        cmocka_unit_test(gradients_of_biases_agree_with_central_differences),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
