/*
 * tests/test_vector.c - passes over parameter vectors: optimizers, fold, sum of squares,
 * finite.
 */
#include "compute/ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/numbers.h"

static const size_t lengths[] = {1, 3, 15, 16, 17, 65, 1023, 1024, 1025, 5000};

static void adamw_follows_the_formula(void **state)
{
    enum { N = 1001 };
    float *w0 = numbers_new(N, 1, 1.0f), *m0 = numbers_new(N, 2, 1.0f);
    float *v0 = numbers_new(N, 3, 1.0f), *g = numbers_new(N, 4, 1.0f);
    float *w1 = numbers_zero(N), *m1 = numbers_zero(N), *v1 = numbers_zero(N);

    (void)state;
    for (size_t i = 0; i < N; i++)
        v0[i] = fabsf(v0[i]);
    cllm_ops_select()->adamw(w1, m1, v1, w0, m0, v0, g, N, &numbers_adamw);
    for (size_t i = 0; i < N; i++) {
        double grad = (double)g[i] / 4;
        double m = 0.9 * (double)m0[i] + 0.1 * grad;
        double v = 0.95 * (double)v0[i] + 0.05 * grad * grad;
        double w =
            (double)w0[i] - 0.01 * (2 * m / (sqrt(4 * v) + 1e-8) + 0.1 * (double)w0[i]);

        assert_true(fabs((double)m1[i] - m) < 2e-7);
        assert_true(fabs((double)v1[i] - v) < 2e-7);
        assert_true(fabs((double)w1[i] - w) < 1e-6);
    }
    free(w0);
    free(m0);
    free(v0);
    free(g);
    free(w1);
    free(m1);
    free(v1);
}

static void lion_follows_the_formula(void **state)
{
    enum { N = 1001 };
    float *w0 = numbers_new(N, 1, 1.0f), *m0 = numbers_new(N, 2, 1.0f);
    float *g = numbers_new(N, 4, 1.0f), *w1 = numbers_zero(N), *m1 = numbers_zero(N);

    (void)state;
    m0[7] = g[7] = 0; /* nothing moves, but what decays */
    cllm_ops_select()->lion(w1, m1, w0, m0, g, N, &numbers_lion);
    for (size_t i = 0; i < N; i++) {
        double grad = (double)g[i] / 4, blend = 0.9 * (double)m0[i] + 0.1 * grad;
        double sign = blend > 0 ? 1 : blend < 0 ? -1 : 0;
        double w = (double)w0[i] - 0.01 * (sign + 0.1 * (double)w0[i]);

        assert_true(fabs((double)m1[i] - (0.99 * (double)m0[i] + 0.01 * grad)) < 2e-7);
        assert_true(fabs(blend) > 1e-7 || i == 7);
        assert_true(fabs((double)w1[i] - w) < 2e-7);
    }
    free(w0);
    free(m0);
    free(g);
    free(w1);
    free(m1);
}

static void sgd_follows_the_formula(void **state)
{
    enum { N = 1001 };
    float *w0 = numbers_new(N, 1, 1.0f), *m0 = numbers_new(N, 2, 1.0f);
    float *g = numbers_new(N, 4, 1.0f), *w1 = numbers_zero(N), *m1 = numbers_zero(N);

    (void)state;
    for (int nesterov = 0; nesterov < 2; nesterov++) {
        struct cllm_sgd_terms terms = numbers_sgd;

        terms.nesterov = nesterov != 0;
        cllm_ops_select()->sgd(w1, m1, w0, m0, g, N, &terms);
        for (size_t i = 0; i < N; i++) {
            double grad = (double)g[i] / 4 + 0.1 * (double)w0[i];
            double m = 0.9 * (double)m0[i] + grad;
            double step = nesterov ? grad + 0.9 * m : m;

            assert_true(fabs((double)m1[i] - m) < 4e-7);
            assert_true(fabs((double)w1[i] - ((double)w0[i] - 0.01 * step)) < 2e-7);
        }
    }
    free(w0);
    free(m0);
    free(g);
    free(w1);
    free(m1);
}

static void a_mix_may_be_written_over_what_it_is_of(void **state)
{
    (void)state;
    for (size_t k = 0; k < CLLM_LEN(lengths); k++) {
        size_t n = lengths[k];
        float *x = numbers_new(n, 1, 1.0f), *y = numbers_new(n, 2, 1.0f);
        float *out = numbers_zero(n), *over = numbers_new(n, 1, 1.0f);

        cllm_ops_select()->mix(out, x, y, 3.4445f, -0.5f, n);
        for (size_t i = 0; i < n; i++)
            assert_true(out[i] == 3.4445f * x[i] + -0.5f * y[i]);
        cllm_ops_select()->mix(over, over, y, 3.4445f, -0.5f, n);
        assert_memory_equal(over, out, n * sizeof *out);
        cllm_ops_select()->mix(y, x, y, 3.4445f, -0.5f, n);
        assert_memory_equal(y, out, n * sizeof *out);
        free(x);
        free(y);
        free(out);
        free(over);
    }
}

/* Whatever vector loops and their tails do, one element alone gives the same bits. */
static void an_element_does_not_depend_on_its_place_in_the_range(void **state)
{
    enum { N = 67 };
    float *w0 = numbers_new(N, 1, 1.0f), *m0 = numbers_new(N, 2, 1e-3f);
    float *v0 = numbers_zero(N), *g = numbers_new(N, 4, 1.0f);
    float *w1 = numbers_zero(N), *m1 = numbers_zero(N), *v1 = numbers_zero(N);

    (void)state;
    cllm_ops_select()->adamw(w1, m1, v1, w0, m0, v0, g, N, &numbers_adamw);
    for (size_t i = 0; i < N; i++) {
        float w, m, v;

        cllm_ops_select()->adamw(&w, &m, &v, w0 + i, m0 + i, v0 + i, g + i, 1,
                                 &numbers_adamw);
        assert_true(w == w1[i] && m == m1[i] && v == v1[i]);
    }
    cllm_ops_select()->lion(w1, m1, w0, m0, g, N, &numbers_lion);
    cllm_ops_select()->mix(v1, w0, g, 0.3f, 0.7f, N);
    for (size_t i = 0; i < N; i++) {
        float w, m, v;

        cllm_ops_select()->lion(&w, &m, w0 + i, m0 + i, g + i, 1, &numbers_lion);
        cllm_ops_select()->mix(&v, w0 + i, g + i, 0.3f, 0.7f, 1);
        assert_true(w == w1[i] && m == m1[i] && v == v1[i]);
    }
    cllm_ops_select()->sgd(w1, m1, w0, m0, g, N, &numbers_sgd);
    for (size_t i = 0; i < N; i++) {
        float w, m;

        cllm_ops_select()->sgd(&w, &m, w0 + i, m0 + i, g + i, 1, &numbers_sgd);
        assert_true(w == w1[i] && m == m1[i]);
    }
    free(w0);
    free(m0);
    free(v0);
    free(g);
    free(w1);
    free(m1);
    free(v1);
}

static void fold_adds_lanes_strictly_from_the_left(void **state)
{
    enum { LANES = 5 };

    (void)state;
    for (size_t k = 0; k < CLLM_LEN(lengths); k++) {
        size_t n = lengths[k];
        float *acc = numbers_new(n, 9, 1.0f), *dst = numbers_zero(n), *lane[LANES];
        const float *lanes[LANES];

        for (uint64_t l = 0; l < LANES; l++)
            lanes[l] = lane[l] = numbers_new(n, 10 + l, 100.0f);
        cllm_ops_select()->fold(dst, acc, lanes, LANES, n);
        for (size_t i = 0; i < n; i++)
            assert_true(
                dst[i] ==
                ((((acc[i] + lanes[0][i]) + lanes[1][i]) + lanes[2][i]) + lanes[3][i]) +
                    lanes[4][i]);
        cllm_ops_select()->fold(dst, NULL, lanes, 2, n);
        for (size_t i = 0; i < n; i++)
            assert_true(dst[i] == lanes[0][i] + lanes[1][i]);
        for (size_t l = 0; l < LANES; l++)
            free(lane[l]);
        free(acc);
        free(dst);
    }
}

/* So that one lane in two groups of workers, or one group, is one and the same sum. */
static void folding_in_two_goes_equals_folding_in_one(void **state)
{
    enum { N = 1500 };
    float *lane[4], *half = numbers_zero(N), *two = numbers_zero(N);
    float *one = numbers_zero(N);
    const float *lanes[4];

    (void)state;
    for (uint64_t l = 0; l < 4; l++)
        lanes[l] = lane[l] = numbers_new(N, l + 1, 10.0f);
    cllm_ops_select()->fold(one, NULL, lanes, 4, N);
    cllm_ops_select()->fold(half, NULL, lanes, 3, N);
    cllm_ops_select()->fold(two, half, lanes + 3, 1, N);
    assert_memory_equal(one, two, N * sizeof *one);
    for (size_t l = 0; l < 4; l++)
        free(lane[l]);
    free(half);
    free(two);
    free(one);
}

static void a_negative_zero_survives_the_fold(void **state)
{
    const float zero[2] = {-0.0f, 0.0f};
    const float *const lanes[1] = {zero};
    float dst[2];

    (void)state;
    cllm_ops_select()->fold(dst, NULL, lanes, 1, 2);
    assert_true(signbit(dst[0]) && !signbit(dst[1]));
}

static void a_copy_past_the_caches_is_a_copy(void **state)
{
    enum { N = 300, EDGE = 20 };
    float *from = numbers_new(N + EDGE, 1, 1.0f),
          *to = numbers_new(N + 2 * EDGE, 2, 1.0f);
    float *want = numbers_zero(N + 2 * EDGE);

    (void)state;
    for (size_t n = 0; n <= N; n += n < 70 ? 1 : 77) {
        for (size_t at = 0; at < EDGE; at++) {
            memcpy(want, to, (N + 2 * EDGE) * sizeof *to);
            memcpy(want + at, from + n % EDGE, n * sizeof *to);
            cllm_ops_select()->stream(to + at, from + n % EDGE, n);
            assert_memory_equal(to, want, (N + 2 * EDGE) * sizeof *to);
        }
    }
    free(from);
    free(to);
    free(want);
}

static void the_sum_of_squares_agrees_and_does_not_overflow(void **state)
{
    const float huge[3] = {3e38f, 3e38f, -3e38f};

    (void)state;
    for (size_t k = 0; k < CLLM_LEN(lengths); k++) {
        float *x = numbers_new(lengths[k], 1, 5.0f);
        long double exact = 0;

        for (size_t i = 0; i < lengths[k]; i++)
            exact += (long double)x[i] * (long double)x[i];
        assert_true(fabs(cllm_ops_select()->sumsq(x, lengths[k]) - (double)exact) <=
                    1e-14 * (double)exact);
        free(x);
    }
    assert_true(cllm_ops_select()->sumsq(huge, 0) == 0);
    assert_true(isfinite(cllm_ops_select()->sumsq(huge, 3)));
}

static void every_non_finite_element_is_found_wherever_it_is(void **state)
{
    static const float broken[] = {INFINITY, -INFINITY, NAN, -NAN};
    enum { N = 67 };
    float *x = numbers_new(N, 1, 3e38f);

    (void)state;
    x[3] = 0x1p-149f;
    x[4] = -3.40282347e38f;
    assert_true(cllm_ops_select()->is_finite(x, N));
    assert_true(cllm_ops_select()->is_finite(x, 0));
    for (size_t i = 0; i < N; i++) {
        for (size_t k = 0; k < CLLM_LEN(broken); k++) {
            float kept = x[i];

            x[i] = broken[k];
            assert_false(cllm_ops_select()->is_finite(x, N));
            x[i] = kept;
        }
    }
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_follows_the_formula),
        cmocka_unit_test(lion_follows_the_formula),
        cmocka_unit_test(sgd_follows_the_formula),
        cmocka_unit_test(a_mix_may_be_written_over_what_it_is_of),
        cmocka_unit_test(an_element_does_not_depend_on_its_place_in_the_range),
        cmocka_unit_test(fold_adds_lanes_strictly_from_the_left),
        cmocka_unit_test(folding_in_two_goes_equals_folding_in_one),
        cmocka_unit_test(a_negative_zero_survives_the_fold),
        cmocka_unit_test(a_copy_past_the_caches_is_a_copy),
        cmocka_unit_test(the_sum_of_squares_agrees_and_does_not_overflow),
        cmocka_unit_test(every_non_finite_element_is_found_wherever_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
