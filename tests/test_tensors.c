/*
 * tests/test_tensors.c - the layout of the parameter vector, and the weights it begins
 * with.
 */
#include "model/gpt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "formats/gpt2_names.h"
#include "tests/numbers.h"

static const struct cllm_gpt_config small = {
    .vocab = 37, .context = 19, .layers = 3, .heads = 3, .width = 21};

static void gpt2_has_124_million_parameters_in_hugging_faces_order(void **state)
{
    const struct cllm_gpt_config config = {
        .vocab = 50257, .context = 1024, .layers = 12, .heads = 12, .width = 768};
    struct cllm_gpt_plan plan;

    (void)state;
    assert_int_equal(cllm_gpt_plan_init(&plan, &config), 0);
    assert_int_equal(plan.n_params, 124439808);
    assert_int_equal(plan.n_tensors, 148);
    assert_string_equal(plan.tensors[0].name, "transformer.wte.weight");
    assert_string_equal(plan.tensors[147].name, "transformer.ln_f.bias");
    assert_string_equal(plan.tensors[2 + 12 * 11 + 4].name,
                        "transformer.h.11.attn.c_proj.weight");
    assert_true(fabs(cllm_gpt_flops_per_token(&plan) - 854438400.0) < 1);
    cllm_gpt_plan_fini(&plan);
}

/* The saver and the tools plan without the model: the two tables must be one. */
static void the_plan_equals_the_table_of_the_formats(void **state)
{
    struct cllm_tensor_desc *desc;
    struct cllm_gpt_plan plan;
    uint32_t n;

    (void)state;
    assert_int_equal(cllm_gpt_plan_init(&plan, &small), 0);
    desc = cllm_gpt2_tensors(small.vocab, small.context, small.layers, small.width, &n);
    assert_non_null(desc);
    assert_int_equal(n, plan.n_tensors);
    for (uint32_t i = 0; i < n; i++) {
        assert_string_equal(desc[i].name, plan.tensors[i].name);
        assert_int_equal(desc[i].rank, plan.tensors[i].rank);
        assert_int_equal(desc[i].shape[0], plan.tensors[i].shape[0]);
        assert_int_equal(desc[i].shape[1], plan.tensors[i].shape[1]);
        assert_int_equal(desc[i].offset, plan.tensors[i].off);
        assert_int_equal(desc[i].n_elements, plan.tensors[i].count);
    }
    assert_int_equal(cllm_gpt2_vector_elements(desc, n), plan.n_elements);
    assert_int_equal(cllm_gpt2_params(desc, n), plan.n_params);
    free(desc);
    cllm_gpt_plan_fini(&plan);
}

static void tensors_are_aligned_in_order_and_decay_only_when_matrices(void **state)
{
    struct cllm_gpt_plan plan;
    uint64_t end = 0;

    (void)state;
    assert_int_equal(cllm_gpt_plan_init(&plan, &small), 0);
    for (uint32_t i = 0; i < plan.n_tensors; i++) {
        const struct cllm_gpt_tensor *tensor = &plan.tensors[i];

        assert_true(tensor->off >= end && tensor->off < end + CLLM_GPT_ALIGN);
        assert_int_equal(tensor->off % CLLM_GPT_ALIGN, 0);
        assert_true(tensor->decay == (tensor->rank == 2));
        assert_ptr_equal(cllm_gpt_plan_find(&plan, tensor->name), tensor);
        end = tensor->off + tensor->count;
    }
    assert_true(plan.n_elements >= end);
    assert_null(cllm_gpt_plan_find(&plan, "lm_head.weight"));
    assert_int_equal(cllm_gpt_block_off(&plan, 2, CLLM_GPT_FC_B),
                     cllm_gpt_plan_find(&plan, "transformer.h.2.mlp.c_fc.bias")->off);
    assert_int_equal(cllm_gpt_lnf_off(&plan, true),
                     cllm_gpt_plan_find(&plan, "transformer.ln_f.bias")->off);
    cllm_gpt_plan_fini(&plan);
}

static void impossible_models_are_refused_with_a_reason(void **state)
{
    static const struct {
        struct cllm_gpt_config config;
        const char *reason;
    } cases[] = {
        {{1, 8, 1, 1, 8}, "vocab = 1"},
        {{1048577, 8, 1, 1, 8}, "vocab = 1048577"},
        {{256, 0, 1, 1, 8}, "context = 0"},
        {{256, 8, 0, 1, 8}, "layers = 0"},
        {{256, 8, 513, 1, 8}, "layers = 513"},
        {{256, 8, 1, 0, 8}, "heads = 0"},
        {{256, 8, 1, 1, 0}, "width = 0"},
        {{256, 8, 1, 1, 65537}, "width = 65537"},
        {{256, 8, 1, 3, 8}, "width 8 is not a multiple of heads 3"},
        {{256, 8, 1, 9, 8}, "width 8 is not a multiple of heads 9"},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        struct cllm_gpt_plan plan;

        assert_int_equal(cllm_gpt_plan_init(&plan, &cases[i].config), CLLM_ECONFIG);
        assert_non_null(strstr(cllm_err_text(), cases[i].reason));
        cllm_gpt_plan_fini(&plan);
    }
}

static void initial_weights_do_not_depend_on_the_ranges(void **state)
{
    static const uint64_t steps[] = {1, 3, 16, 777, 4096};
    struct cllm_gpt_plan plan;
    float *whole, *parts;

    (void)state;
    assert_int_equal(cllm_gpt_plan_init(&plan, &small), 0);
    whole = numbers_zero(plan.n_elements);
    cllm_gpt_init_range(&plan, whole, 0, plan.n_elements, 42);
    for (size_t k = 0; k < CLLM_LEN(steps); k++) {
        parts = numbers_new(plan.n_elements, 1, 9.0f); /* all is overwritten */
        for (uint64_t lo = 0; lo < plan.n_elements; lo += steps[k])
            cllm_gpt_init_range(&plan, parts, lo,
                                cllm_min_u64(lo + steps[k], plan.n_elements), 42);
        assert_memory_equal(whole, parts, plan.n_elements * sizeof *whole);
        free(parts);
    }
    parts = numbers_zero(plan.n_elements);
    cllm_gpt_init_range(&plan, parts, 0, plan.n_elements, 43);
    assert_memory_not_equal(whole, parts, plan.n_elements * sizeof *whole);
    free(parts);
    free(whole);
    cllm_gpt_plan_fini(&plan);
}

/* Mean, deviation and fourth moment of one tensor. */
static void check_normal(const float *w, const struct cllm_gpt_tensor *tensor,
                         double deviation)
{
    double mean = 0, square = 0, fourth = 0, n = (double)tensor->count;

    for (uint64_t i = 0; i < tensor->count; i++) {
        double x = (double)w[tensor->off + i] / deviation;

        assert_true(fabs(x) < 6);
        mean += x / n;
        square += x * x / n;
        fourth += x * x * x * x / n;
    }
    assert_true(fabs(mean) < 4 / sqrt(n));
    assert_true(fabs(square - 1) < 4 * sqrt(2 / n));
    assert_true(fabs(fourth - 3) < 4 * sqrt(96 / n));
}

static void initial_weights_are_gpt2s(void **state)
{
    const struct cllm_gpt_config config = {
        .vocab = 256, .context = 128, .layers = 2, .heads = 2, .width = 96};
    struct cllm_gpt_plan plan;
    double sum = 0;
    float *w;

    (void)state;
    assert_int_equal(cllm_gpt_plan_init(&plan, &config), 0);
    w = numbers_zero(plan.n_elements);
    cllm_gpt_init_range(&plan, w, 0, plan.n_elements, 1);
    for (uint32_t t = 0; t < plan.n_tensors; t++) {
        const struct cllm_gpt_tensor *tensor = &plan.tensors[t];
        bool norm = strstr(tensor->name, "ln_") != NULL;
        bool residual = strstr(tensor->name, "c_proj") != NULL;

        if (tensor->rank == 2)
            check_normal(w, tensor, residual ? 0.01 : 0.02); /* 1 / sqrt(4) */
        for (uint64_t i = 0; tensor->rank == 1 && i < tensor->count; i++)
            assert_true(w[tensor->off + i] ==
                        (norm && strstr(tensor->name, "weight") ? 1.0f : 0.0f));
    }
    /* Neighbours are independent. */
    for (uint64_t i = 0; i + 1 < plan.tensors[0].count; i++)
        sum += (double)w[i] * (double)w[i + 1] / (0.02 * 0.02);
    assert_true(fabs(sum) < 4 * sqrt((double)plan.tensors[0].count));
    free(w);
    cllm_gpt_plan_fini(&plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_has_124_million_parameters_in_hugging_faces_order),
        cmocka_unit_test(the_plan_equals_the_table_of_the_formats),
        cmocka_unit_test(tensors_are_aligned_in_order_and_decay_only_when_matrices),
        cmocka_unit_test(impossible_models_are_refused_with_a_reason),
        cmocka_unit_test(initial_weights_do_not_depend_on_the_ranges),
        cmocka_unit_test(initial_weights_are_gpt2s),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
