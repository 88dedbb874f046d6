/*
 * tests/test_sample.c - which token comes out for which number.
 */
#include "model/sample.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- against a plain way in double ---- */

#define MOST 700

struct plain {
    double weight;
    uint32_t token;
};

static int by_weight(const void *a, const void *b)
{
    const struct plain *left = a, *right = b;

    if (left->weight != right->weight)
        return left->weight > right->weight ? -1 : 1;
    return left->token < right->token ? -1 : left->token > right->token;
}

/* The token, and in *@edge how far @u is from where another would come out. */
static uint32_t plainly(const struct cllm_sample *sample, const float *from, uint32_t n,
                        double u, double *edge)
{
    struct plain list[MOST];
    double top = -HUGE_VAL, total = 0, share = 0, walked = 0;
    uint32_t kept = 0;

    *edge = 1;
    for (uint32_t i = 0; i < n; i++)
        top = fmax(top, (double)from[i]);
    for (uint32_t i = 0; i < n; i++)
        list[i] =
            (struct plain){exp(((double)from[i] - top) / (double)sample->temperature), i};
    qsort(list, n, sizeof *list, by_weight);
    if (sample->top_k > 0 && sample->top_k < n)
        n = sample->top_k;
    for (uint32_t i = 0; i < n; i++)
        total += list[i].weight;
    while (kept < n && (kept == 0 || share < (double)sample->top_p * total)) {
        share += list[kept++].weight;
        *edge = fmin(*edge, fabs(share / total - (double)sample->top_p));
    }
    if (sample->top_p == 1.0f)
        *edge = 1;
    for (uint32_t i = 0; i < kept; i++) {
        walked += list[i].weight;
        *edge = fmin(*edge, fabs(u - walked / share));
        if (u * share < walked)
            return list[i].token;
    }
    return list[kept - 1].token;
}

static void tokens_are_those_of_the_plain_way_in_double(void **state)
{
    struct cllm_sample_candidate room[MOST];
    uint32_t compared = 0;
    float from[MOST];

    (void)state;
    for (uint64_t i = 0; i < 4000; i++) {
        uint64_t word = cllm_random_u64(5, CLLM_RANDOM_TEST, i);
        uint32_t n = 1 + (uint32_t)(word % MOST);
        float u = cllm_random_f32(6, CLLM_RANDOM_TEST, i);
        struct cllm_sample sample = {
            .temperature = 0.25f + (float)(word >> 20 & 7) / 4,
            .top_k = word >> 30 & 1 ? (uint32_t)(word >> 40) % 90 : 0,
            .top_p = word >> 31 & 1 ? (float)(word >> 50 & 63) / 64.0f : 1.0f};
        double edge;

        for (uint32_t t = 0; t < n; t++)
            from[t] = 12 * cllm_random_f32(i, CLLM_RANDOM_TEST, t) - 6;
        uint32_t expected = plainly(&sample, from, n, (double)u, &edge);
        if (edge < 1e-5) /* rounding decides */
            continue;
        compared++;
        assert_int_equal(cllm_sample_token(&sample, from, n, u, room), expected);
    }
    assert_true(compared > 3000);
}

static void a_penalty_makes_what_was_said_less_likely_once(void **state)
{
    const float from[] = {2, -1, 0.5f, 0};
    const uint32_t recent[] = {0, 1, 0, 0, 3};
    float out[4];

    (void)state;
    cllm_sample_penalise(out, from, 4, recent, 5, 1.25f);
    assert_true(out[0] == 2 / 1.25f);
    assert_true(out[1] == -1.25f);
    assert_true(out[2] == 0.5f);
    assert_true(out[3] == 0);
    cllm_sample_penalise(out, from, 4, recent, 5, 1);
    assert_memory_equal(out, from, sizeof from);
    cllm_sample_penalise(out, from, 4, recent, 0, 2);
    assert_memory_equal(out, from, sizeof from);
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
        cmocka_unit_test(tokens_are_those_of_the_plain_way_in_double),
        cmocka_unit_test(a_penalty_makes_what_was_said_less_likely_once),
        cmocka_unit_test(broken_logits_give_a_token_all_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
