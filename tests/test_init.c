/*
 * tests/test_init.c - the weights that training starts from.
 */
#include "model/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "tests/numbers.h"

static const struct cllm_model_config small = {
    .vocab = 37, .context = 19, .layers = 3, .heads = 3, .width = 21};

static void initial_weights_do_not_depend_on_the_ranges(void **state)
{
    static const uint64_t steps[] = {1, 3, 16, 777, 4096};
    struct cllm_parameters plan;
    float *whole, *parts;

    (void)state;
    assert_int_equal(cllm_parameters_init(&plan, &small), 0);
    whole = numbers_zero(plan.n_elements);
    cllm_model_initial_weights(&plan, whole, 0, plan.n_elements, 42);
    for (size_t k = 0; k < CLLM_LEN(steps); k++) {
        parts = numbers_new(plan.n_elements, 1, 9.0f); /* all is overwritten */
        for (uint64_t lo = 0; lo < plan.n_elements; lo += steps[k])
            cllm_model_initial_weights(&plan, parts + lo, lo,
                                       cllm_min_u64(lo + steps[k], plan.n_elements), 42);
        assert_memory_equal(whole, parts, plan.n_elements * sizeof *whole);
        free(parts);
    }
    parts = numbers_zero(plan.n_elements);
    cllm_model_initial_weights(&plan, parts, 0, plan.n_elements, 43);
    assert_memory_not_equal(whole, parts, plan.n_elements * sizeof *whole);
    free(parts);
    free(whole);
    cllm_parameters_fini(&plan);
}

/* Mean, deviation and fourth moment of one tensor. */
static void check_normal(const float *w, const struct cllm_tensor *tensor,
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
    const struct cllm_model_config config = {
        .vocab = 256, .context = 128, .layers = 2, .heads = 2, .width = 96};
    struct cllm_parameters plan;
    double sum = 0;
    float *w;

    (void)state;
    assert_int_equal(cllm_parameters_init(&plan, &config), 0);
    w = numbers_zero(plan.n_elements);
    cllm_model_initial_weights(&plan, w, 0, plan.n_elements, 1);
    for (uint32_t t = 0; t < plan.n_tensors; t++) {
        const struct cllm_tensor *tensor = &plan.tensors[t];
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
    cllm_parameters_fini(&plan);
}

/* Deviation 0.02 throughout, norms at one. */
static void initial_weights_are_llamas(void **state)
{
    const struct cllm_model_config config = {.arch = CLLM_ARCH_LLAMA,
                                             .vocab = 256,
                                             .context = 128,
                                             .layers = 2,
                                             .heads = 4,
                                             .kv_heads = 2,
                                             .width = 96,
                                             .untied = 1};
    struct cllm_parameters plan;
    float *w;

    (void)state;
    assert_int_equal(cllm_parameters_init(&plan, &config), 0);
    w = numbers_zero(plan.n_elements);
    cllm_model_initial_weights(&plan, w, 0, plan.n_elements, 1);
    for (uint32_t t = 0; t < plan.n_tensors; t++) {
        const struct cllm_tensor *tensor = &plan.tensors[t];

        if (tensor->rank == 2)
            check_normal(w, tensor, 0.02);
        for (uint64_t i = 0; tensor->rank == 1 && i < tensor->count; i++)
            assert_true(w[tensor->off + i] == 1.0f);
    }
    free(w);
    cllm_parameters_fini(&plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(initial_weights_do_not_depend_on_the_ranges),
        cmocka_unit_test(initial_weights_are_gpt2s),
        cmocka_unit_test(initial_weights_are_llamas),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
