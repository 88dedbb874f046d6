/*
 * tests/test_adamw.c - updates of ranges of the parameter vector.
 */
#include "model/adamw.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "compute/ops.h"
#include "model/model.h"
#include "tests/numbers.h"

static const struct cllm_model_config config = {
    .vocab = 17, .context = 11, .layers = 2, .heads = 1, .width = 9};

static const struct cllm_adamw settings = {.learning_rate = 3e-3f,
                                           .beta1 = 0.9f,
                                           .beta2 = 0.95f,
                                           .epsilon = 1e-8f,
                                           .weight_decay = 0.1f,
                                           .grad_scale = 0.5f,
                                           .step = 1};

/* Weights, moments of two versions and a gradient; padding is zero, as in a run. */
struct vectors {
    struct cllm_parameters plan;
    float *w0, *m0, *v0, *g, *w1, *m1, *v1;
};

static void clear_padding(const struct cllm_parameters *plan, float *x)
{
    uint64_t at = 0;

    for (uint32_t t = 0; t < plan->n_tensors; t++) {
        for (; at < plan->tensors[t].off; at++)
            x[at] = 0;
        at += plan->tensors[t].count;
    }
    for (; at < plan->n_elements; at++)
        x[at] = 0;
}

static void vectors_init(struct vectors *x)
{
    uint64_t n;

    assert_int_equal(cllm_parameters_init(&x->plan, &config), 0);
    n = x->plan.n_elements;
    x->w0 = numbers_new(n, 1, 1.0f);
    x->m0 = numbers_new(n, 2, 0.1f);
    x->v0 = numbers_new(n, 3, 0.1f);
    x->g = numbers_new(n, 4, 1.0f);
    for (uint64_t i = 0; i < n; i++)
        x->v0[i] = fabsf(x->v0[i]);
    clear_padding(&x->plan, x->w0);
    clear_padding(&x->plan, x->m0);
    clear_padding(&x->plan, x->v0);
    clear_padding(&x->plan, x->g);
    x->w1 = numbers_new(n, 5, 1.0f);
    x->m1 = numbers_new(n, 6, 1.0f);
    x->v1 = numbers_new(n, 7, 1.0f);
}

static void vectors_fini(struct vectors *x)
{
    free(x->w0);
    free(x->m0);
    free(x->v0);
    free(x->g);
    free(x->w1);
    free(x->m1);
    free(x->v1);
    cllm_parameters_fini(&x->plan);
}

static void update(const struct vectors *x, const struct cllm_adamw *adamw, uint64_t lo,
                   uint64_t hi)
{
    struct cllm_adamw_walk walk;

    cllm_adamw_begin(&walk, &x->plan, cllm_ops_select(), adamw);
    cllm_adamw_range(&walk, lo, hi, x->w0, x->m0, x->v0, x->g, x->w1 + lo, x->m1 + lo,
                     x->v1 + lo);
}

/* All of it in one walk, @step elements at a time. */
static void walk_over(const struct vectors *x, uint64_t step)
{
    uint64_t n = x->plan.n_elements;
    struct cllm_adamw_walk walk;

    cllm_adamw_begin(&walk, &x->plan, cllm_ops_select(), &settings);
    for (uint64_t lo = 0; lo < n; lo += step)
        cllm_adamw_range(&walk, lo, cllm_min_u64(lo + step, n), x->w0, x->m0, x->v0, x->g,
                         x->w1 + lo, x->m1 + lo, x->v1 + lo);
}

static void weights_do_not_depend_on_the_ranges(void **state)
{
    static const uint64_t steps[] = {1, 7, 16, 100, 1024};
    struct vectors whole, parts;
    uint64_t n, bytes;

    (void)state;
    vectors_init(&whole);
    n = whole.plan.n_elements;
    bytes = n * sizeof(float);
    update(&whole, &settings, 0, n);
    for (size_t k = 0; k < CLLM_LEN(steps); k++) {
        vectors_init(&parts);
        for (uint64_t lo = 0; lo < n; lo += steps[k])
            update(&parts, &settings, lo, cllm_min_u64(lo + steps[k], n));
        assert_memory_equal(whole.w1, parts.w1, bytes);
        memset(parts.w1, 0, bytes);
        walk_over(&parts, steps[k]);
        assert_memory_equal(whole.w1, parts.w1, bytes);
        assert_memory_equal(whole.m1, parts.m1, bytes);
        assert_memory_equal(whole.v1, parts.v1, bytes);
        vectors_fini(&parts);
    }
    vectors_fini(&whole);
}

static void nothing_outside_the_range_is_written(void **state)
{
    struct vectors x, old;
    uint64_t n, lo = 101, hi = 333;

    (void)state;
    vectors_init(&x);
    vectors_init(&old);
    n = x.plan.n_elements;
    update(&x, &settings, lo, hi);
    update(&x, &settings, lo, lo);
    assert_memory_equal(x.w1, old.w1, lo * sizeof(float));
    assert_memory_equal(x.v1, old.v1, lo * sizeof(float));
    assert_memory_equal(x.m1 + hi, old.m1 + hi, (n - hi) * sizeof(float));
    assert_memory_equal(x.w0, old.w0, n * sizeof(float));
    vectors_fini(&x);
    vectors_fini(&old);
}

static void padding_becomes_zero(void **state)
{
    struct vectors x;
    float *expected;
    uint64_t n;

    (void)state;
    vectors_init(&x);
    n = x.plan.n_elements;
    update(&x, &settings, 0, n);
    expected = numbers_zero(n);
    memcpy(expected, x.w1, n * sizeof *expected);
    clear_padding(&x.plan, expected);
    assert_memory_equal(expected, x.w1, n * sizeof *expected);
    free(expected);
    vectors_fini(&x);
}

static void only_matrices_decay(void **state)
{
    struct cllm_adamw idle = settings;
    struct vectors x;

    (void)state;
    idle.grad_scale = 0;
    vectors_init(&x);
    memset(x.m0, 0, x.plan.n_elements * sizeof(float));
    update(&x, &idle, 0, x.plan.n_elements);
    for (uint32_t t = 0; t < x.plan.n_tensors; t++) {
        const struct cllm_tensor *tensor = &x.plan.tensors[t];

        for (uint64_t i = tensor->off; i < tensor->off + tensor->count; i++) {
            double factor = tensor->rank == 2 ? 1 - 3e-3 * 0.1 : 1;

            assert_true(fabs((double)x.w1[i] - factor * (double)x.w0[i]) < 1e-7);
        }
    }
    vectors_fini(&x);
}

/* The first step of Adam from zero moments has the length of the learning rate. */
static void the_bias_correction_makes_the_first_step_whole(void **state)
{
    struct cllm_adamw first = settings;
    struct vectors x;

    (void)state;
    first.weight_decay = 0;
    vectors_init(&x);
    memset(x.m0, 0, x.plan.n_elements * sizeof(float));
    memset(x.v0, 0, x.plan.n_elements * sizeof(float));
    update(&x, &first, 0, x.plan.n_elements);
    for (uint64_t i = 0; i < x.plan.tensors[0].count; i++)
        assert_true(fabs(fabs((double)x.w1[i] - (double)x.w0[i]) - 3e-3) < 1e-6);
    vectors_fini(&x);
}

static void the_bias_correction_follows_the_step(void **state)
{
    static const uint64_t steps[] = {1, 2, 3, 10, 1000, 1000000, UINT64_MAX};
    struct vectors x;

    (void)state;
    vectors_init(&x);
    for (size_t k = 0; k < CLLM_LEN(steps); k++) {
        struct cllm_adamw adamw = settings;
        double step = (double)steps[k], b1 = (double)0.9f, b2 = (double)0.95f;

        adamw.step = steps[k];
        update(&x, &adamw, 0, 100);
        for (size_t i = 0; i < 100; i++) {
            double g = (double)x.g[i] / 2, w = (double)x.w0[i];
            double m = b1 * (double)x.m0[i] + (1 - b1) * g;
            double v = b2 * (double)x.v0[i] + (1 - b2) * g * g;
            double move =
                m / (1 - pow(b1, step)) / (sqrt(v / (1 - pow(b2, step))) + 1e-8);

            w -= 3e-3 * (move + 0.1 * w);
            assert_true(fabs((double)x.w1[i] - w) < 3e-7);
        }
    }
    vectors_fini(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_do_not_depend_on_the_ranges),
        cmocka_unit_test(nothing_outside_the_range_is_written),
        cmocka_unit_test(padding_becomes_zero),
        cmocka_unit_test(only_matrices_decay),
        cmocka_unit_test(the_bias_correction_makes_the_first_step_whole),
        cmocka_unit_test(the_bias_correction_follows_the_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
