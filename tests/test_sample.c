/*
 * tests/test_sample.c - which token comes out for which number.
 */
#include "model/sample.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"

/* Probabilities 1/8, 1/2, 1/8, 1/4. */
static const float logits[] = {-2.0794415f, -0.6931472f, -2.0794415f, -1.3862944f};

static uint32_t pick(struct cllm_sample sample, const float *from, uint32_t n, float u)
{
    struct cllm_sample_candidate room[64];

    assert_true(n <= CLLM_LEN(room));
    return cllm_sample_token(&sample, from, n, u, room);
}

static void temperature_zero_takes_the_likeliest_and_of_equals_the_first(void **state)
{
    const float equal[] = {1, 3, 3, 2}, broken[] = {NAN, 1, 2, NAN}, none[] = {NAN, NAN};

    (void)state;
    for (float u = 0; u < 1; u += 0.125f)
        assert_int_equal(pick((struct cllm_sample){.top_p = 1}, logits, 4, u), 1);
    assert_int_equal(cllm_sample_greedy(equal, 4), 1);
    assert_int_equal(cllm_sample_greedy(broken, 4), 2);
    assert_int_equal(cllm_sample_greedy(none, 2), 0);
}

static void candidates_stand_in_order_of_weight_then_token(void **state)
{
    const struct cllm_sample all = {.temperature = 1, .top_p = 1};

    (void)state;
    assert_int_equal(pick(all, logits, 4, 0.0f), 1);
    assert_int_equal(pick(all, logits, 4, 0.49f), 1);
    assert_int_equal(pick(all, logits, 4, 0.51f), 3);
    assert_int_equal(pick(all, logits, 4, 0.74f), 3);
    assert_int_equal(pick(all, logits, 4, 0.76f), 0);
    assert_int_equal(pick(all, logits, 4, 0.87f), 0);
    assert_int_equal(pick(all, logits, 4, 0.88f), 2);
    assert_int_equal(pick(all, logits, 4, 0.99999994f), 2);
}

static void top_k_keeps_the_k_likeliest(void **state)
{
    const struct cllm_sample two = {.temperature = 1, .top_p = 1, .top_k = 2};
    const struct cllm_sample many = {.temperature = 1, .top_p = 1, .top_k = 99};
    const struct cllm_sample one = {.temperature = 1, .top_p = 1, .top_k = 1};

    (void)state;
    assert_int_equal(pick(two, logits, 4, 0.66f), 1);
    assert_int_equal(pick(two, logits, 4, 0.67f), 3);
    assert_int_equal(pick(two, logits, 4, 0.999f), 3);
    assert_int_equal(pick(many, logits, 4, 0.999f), 2);
    assert_int_equal(pick(one, logits, 4, 0.999f), 1);
}

static void top_p_keeps_the_fewest_that_reach_p(void **state)
{
    (void)state;
    for (float u = 0; u < 1; u += 0.0625f) {
        const struct cllm_sample least = {.temperature = 1, .top_p = 1e-6f};
        const struct cllm_sample half = {.temperature = 1, .top_p = 0.45f};
        const struct cllm_sample more = {.temperature = 1, .top_p = 0.6f};
        uint32_t token = pick(more, logits, 4, u);

        assert_int_equal(pick(least, logits, 4, u), 1);
        assert_int_equal(pick(half, logits, 4, u), 1);
        assert_true(token == 1 || token == 3);
    }
}

static void temperature_sharpens_and_flattens(void **state)
{
    const struct cllm_sample cold = {.temperature = 0.5f, .top_p = 1};
    const struct cllm_sample hot = {.temperature = 1e6f, .top_p = 1};

    (void)state;
    /* Squares: 1/64, 1/4, 1/64, 1/16, of 22/64. */
    assert_int_equal(pick(cold, logits, 4, 0.72f), 1);
    assert_int_equal(pick(cold, logits, 4, 0.73f), 3);
    assert_int_equal(pick(hot, logits, 4, 0.26f), 3);
}

static void shares_come_out_as_probabilities(void **state)
{
    const struct cllm_sample all = {.temperature = 1, .top_p = 1};
    double count[4] = {0};

    (void)state;
    for (uint64_t i = 0; i < 20000; i++)
        count[pick(all, logits, 4, cllm_random_f32(1, CLLM_RANDOM_SAMPLE, i))] += 1;
    for (size_t i = 0; i < 4; i++)
        assert_true(fabs(count[i] / 20000 - exp((double)logits[i])) < 0.015);
}

static void broken_logits_give_a_token_all_the_same(void **state)
{
    const struct cllm_sample all = {.temperature = 1, .top_p = 1};
    const float broken[] = {NAN, 0, -INFINITY}, infinite[] = {0, INFINITY};

    (void)state;
    assert_int_equal(pick(all, broken, 3, 0.0f), 1);
    assert_int_equal(pick(all, broken, 3, 0.99999994f), 1);
    assert_int_equal(pick(all, infinite, 2, 0.5f), 1);
    assert_int_equal(pick(all, logits, 1, 0.5f), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(temperature_zero_takes_the_likeliest_and_of_equals_the_first),
        cmocka_unit_test(candidates_stand_in_order_of_weight_then_token),
        cmocka_unit_test(top_k_keeps_the_k_likeliest),
        cmocka_unit_test(top_p_keeps_the_fewest_that_reach_p),
        cmocka_unit_test(temperature_sharpens_and_flattens),
        cmocka_unit_test(shares_come_out_as_probabilities),
        cmocka_unit_test(broken_logits_give_a_token_all_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
