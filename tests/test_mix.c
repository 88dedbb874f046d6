/*
 * tests/test_mix.c - samples to sources: every rank once, exact over a cycle, never far
 * from what is due.
 */
#include "base/mix.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"

static const struct cllm_mix cases[] = {
    {1, {1}},
    {1, {7}},
    {2, {1, 1}},
    {2, {7, 3}},
    {2, {1000, 1}},
    {3, {5, 3, 2}},
    {4, {1, 1, 1, 1}},
    {5, {90, 4, 3, 2, 1}},
    {7, {64, 32, 16, 8, 4, 2, 1}},
    {12, {3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 1}},
};

/* H + 1 over 2, in samples. */
static double bound(uint32_t n)
{
    double harmonic = 0;

    for (uint32_t i = 1; i <= n; i++)
        harmonic += 1.0 / i;
    return (1 + harmonic) / 2;
}

static void check(const struct cllm_mix *mix, uint64_t samples)
{
    uint64_t total = cllm_mix_total(mix);
    uint64_t had[CLLM_MIX_MAX] = {0}, counts[CLLM_MIX_MAX];

    for (uint64_t k = 0; k < samples; k++) {
        uint64_t rank, sum = 0;
        uint32_t source;

        cllm_mix_count(mix, k, counts);
        for (uint32_t i = 0; i < mix->n; i++) {
            double due = (double)k * mix->weight[i] / (double)total;

            assert_int_equal(counts[i], had[i]);
            if (k % total == 0)
                assert_int_equal(counts[i], k / total * mix->weight[i]);
            assert_true((double)had[i] - due < bound(mix->n));
            assert_true(due - (double)had[i] < bound(mix->n));
            sum += had[i];
        }
        assert_int_equal(sum, k);
        cllm_mix_place(mix, k, &source, &rank);
        assert_true(source < mix->n);
        assert_int_equal(rank, had[source]); /* each rank once, in order */
        had[source]++;
    }
}

static void every_sample_is_the_next_of_its_source(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++)
        check(&cases[i], 3 * cllm_mix_total(&cases[i]) + 1);
}

static int falling(const void *a, const void *b)
{
    const uint32_t *left = a, *right = b;

    return *left < *right ? 1 : *left > *right ? -1 : 0;
}

static void random_weights_stay_near_what_is_due(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 200; i++) {
        struct cllm_mix mix = {
            .n = 1 + (uint32_t)(cllm_random_u64(1, CLLM_RANDOM_TEST, i) % CLLM_MIX_MAX)};

        for (uint32_t k = 0; k < mix.n; k++) {
            uint64_t word = cllm_random_u64(2 + i, CLLM_RANDOM_TEST, k);

            mix.weight[k] = 1 + (uint32_t)(word >> 20 & ((1u << word % 21) - 1));
        }
        qsort(mix.weight, mix.n, sizeof *mix.weight, falling);
        check(&mix, 2000);
    }
}

static void equal_weights_take_turns(void **state)
{
    const struct cllm_mix mix = {3, {1, 1, 1}};

    (void)state;
    for (uint64_t k = 0; k < 300; k += 3) {
        uint32_t seen = 0;

        for (uint64_t i = k; i < k + 3; i++) {
            uint64_t rank;
            uint32_t source;

            cllm_mix_place(&mix, i, &source, &rank);
            assert_int_equal(rank, k / 3);
            seen |= 1u << source;
        }
        assert_int_equal(seen, 7);
    }
}

static void the_largest_numbers_do_not_overflow(void **state)
{
    const struct cllm_mix mix = {3, {UINT32_MAX - 3, 2, 1}};
    uint64_t total = cllm_mix_total(&mix), counts[3], next[3];
    uint64_t cycles = (UINT64_C(1) << 62) / total;

    (void)state;
    cllm_mix_count(&mix, cycles * total, counts);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(counts[i], cycles * mix.weight[i]);
    for (uint64_t k = cycles * total; k < cycles * total + 1000; k++) {
        uint64_t rank;
        uint32_t source;

        cllm_mix_count(&mix, k, counts);
        cllm_mix_place(&mix, k, &source, &rank);
        assert_int_equal(rank, counts[source]);
        cllm_mix_count(&mix, k + 1, next);
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(next[i], counts[i] + (i == source));
    }
}

static void the_order_never_changes_between_versions(void **state)
{
    /* A run that is resumed by a newer program must see the same order. */
    static const uint8_t expected[] = {0, 1, 0, 2, 0, 1, 0, 2, 0, 1};
    const struct cllm_mix mix = {3, {5, 3, 2}};

    (void)state;
    for (uint64_t k = 0; k < 30; k++) {
        uint64_t rank;
        uint32_t source;

        cllm_mix_place(&mix, k, &source, &rank);
        assert_int_equal(source, expected[k % 10]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sample_is_the_next_of_its_source),
        cmocka_unit_test(random_weights_stay_near_what_is_due),
        cmocka_unit_test(equal_weights_take_turns),
        cmocka_unit_test(the_largest_numbers_do_not_overflow),
        cmocka_unit_test(the_order_never_changes_between_versions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
