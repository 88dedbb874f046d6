/*
 * tests/test_smoothing.c - the smoothed loss and its gradient against their formula in
 * double.
 */
#include "compute/ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/crystal.h"
#include "tests/numbers.h"

enum { V = 97, ROWS = 5 };

static struct cllm_smoothing smoothing_new(float epsilon)
{
    struct cllm_smoothing smoothing = {
        .epsilon = epsilon, .x = numbers_zero(V), .y = numbers_zero(V)};

    for (uint32_t i = 0; i < V; i++) {
        struct cllm_crystal_place at = cllm_crystal_place(i + 1);

        smoothing.x[i] = (float)at.x;
        smoothing.y[i] = (float)at.y;
    }
    return smoothing;
}

static void smoothing_free(struct cllm_smoothing *smoothing)
{
    free(smoothing->x);
    free(smoothing->y);
}

static void rows_of_similarities_are_those_of_pairs(void **state)
{
    const struct cllm_ops *ops = cllm_ops_reference();
    struct cllm_smoothing smoothing = smoothing_new(0.1f);
    float *c = numbers_zero(V);

    (void)state;
    for (uint32_t x = 0; x < V; x++) {
        double sum = 0;

        ops->similarities(c, x, V, &smoothing);
        for (uint32_t y = 0; y < V; y++)
            sum += cllm_crystal_similarity(x, y);
        for (uint32_t y = 0; y < V; y++)
            assert_true(fabs((double)c[y] - cllm_crystal_similarity(x, y) / sum) < 1e-6);
    }
    free(c);
    smoothing_free(&smoothing);
}

/* -sum q log p, and p - q, of one row. */
static double exact_row(double *d, const float *logits, uint32_t target, double epsilon)
{
    double sum = 0, all = 0, loss = 0;

    for (uint32_t j = 0; j < V; j++) {
        sum += exp((double)logits[j]);
        all += cllm_crystal_similarity(target, j);
    }
    for (uint32_t j = 0; j < V; j++) {
        double p = exp((double)logits[j]) / sum;
        double q = (j == target ? 1 - epsilon : 0) +
                   epsilon * cllm_crystal_similarity(target, j) / all;

        loss -= q * log(p);
        d[j] = p - q;
    }
    return loss;
}

static void the_smoothed_loss_and_its_gradient_follow_the_formula(void **state)
{
    const struct cllm_ops *tables[] = {cllm_ops_reference(), cllm_ops_select()};
    struct cllm_smoothing smoothing = smoothing_new(0.25f);
    float *z = numbers_new(ROWS * V, 3, 4.0f), *d = numbers_zero(ROWS * V);
    float *c = numbers_zero(V);
    const uint32_t targets[ROWS] = {0, 1, 41, 59, V - 1};

    (void)state;
    for (size_t t = 0; t < CLLM_LEN(tables); t++) {
        double exact[V], losses[ROWS], sum = 0, loss, alone;

        memcpy(d, z, ROWS * V * sizeof *d);
        tables[t]->smooth_cross_entropy(losses, d, targets, ROWS, V, true, &smoothing, c);
        loss = tables[t]->sum_losses(losses, ROWS, ROWS);
        for (size_t r = 0; r < ROWS; r++) {
            sum += exact_row(exact, z + r * V, targets[r], 0.25);
            for (size_t j = 0; j < V; j++)
                assert_true(fabs((double)d[r * V + j] - exact[j]) < 1e-6);
        }
        assert_true(fabs(loss - sum) < 1e-5 * sum);
        memcpy(d, z, ROWS * V * sizeof *d);
        tables[t]->smooth_cross_entropy(losses, d, targets, ROWS, V, false, &smoothing,
                                        c);
        alone = tables[t]->sum_losses(losses, ROWS, ROWS);
        assert_true(alone == loss);
    }
    free(z);
    free(d);
    free(c);
    smoothing_free(&smoothing);
}

static void every_table_gives_the_same_bits(void **state)
{
    struct cllm_smoothing smoothing = smoothing_new(0.1f);
    float *z = numbers_new(ROWS * V, 5, 3.0f), *one = numbers_zero(ROWS * V);
    float *other = numbers_zero(ROWS * V), *c = numbers_zero(V);
    const uint32_t targets[ROWS] = {5, 11, 6, 95, 2};
    double losses[ROWS], others[ROWS];

    (void)state;
    memcpy(one, z, ROWS * V * sizeof *z);
    memcpy(other, z, ROWS * V * sizeof *z);
    cllm_ops_reference()->smooth_cross_entropy(losses, one, targets, ROWS, V, true,
                                               &smoothing, c);
    cllm_ops_select()->smooth_cross_entropy(others, other, targets, ROWS, V, true,
                                            &smoothing, c);
    assert_memory_equal(losses, others, sizeof losses);
    assert_memory_equal(one, other, ROWS * V * sizeof *one);
    free(z);
    free(one);
    free(other);
    free(c);
    smoothing_free(&smoothing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_similarities_are_those_of_pairs),
        cmocka_unit_test(the_smoothed_loss_and_its_gradient_follow_the_formula),
        cmocka_unit_test(every_table_gives_the_same_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
