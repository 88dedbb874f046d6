/*
 * tests/test_crystal_pairs.c - similarities of all pairs of a sequence against those of
 * two numbers in double, for ids of all sizes and by every instruction set.
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

enum { T = 131, STRIDE = 144, MOST = (1 << 20) - 1 };

/* Ids whose numbers (one more) make Euclid's algorithm short, long and even. */
static void fill(uint32_t ids[T])
{
    static const uint32_t numbers[] = {1,       2,       3,       4,      6,
                                       1048576, 1048575, 1048573, 524288, 524287,
                                       832040,  514229,  317811,  720720, 360360};
    size_t n = CLLM_LEN(numbers);

    for (size_t i = 0; i < T; i++)
        ids[i] = i < n ? numbers[i] - 1
                       : (uint32_t)(cllm_random_u64(4, CLLM_RANDOM_TEST, i) >> (i % 21)) &
                             (MOST >> i % 20);
}

static void check(const struct cllm_ops *ops, const uint32_t *ids)
{
    float *points = numbers_zero(3 * STRIDE), *similar = numbers_zero(T * T);

    for (size_t i = 0; i < T * T; i++)
        similar[i] = -1;
    /* In two parts, as a decoder does. */
    ops->crystal_points(points, STRIDE, ids, 0, 40);
    ops->crystal_points(points, STRIDE, ids, 40, T - 40);
    ops->crystal_pairs(similar, T, points, STRIDE, 0, 64);
    ops->crystal_pairs(similar + 64 * T, T, points, STRIDE, 64, T - 64);
    for (size_t i = 0; i < T; i++) {
        for (size_t j = 0; j <= i; j++)
            assert_true(fabs((double)similar[i * T + j] -
                             cllm_crystal_similarity(ids[i], ids[j])) < 2e-7);
        assert_true(fabs((double)similar[i * T + i] - 1) < 2e-7);
        for (size_t j = i + 1; j < T; j++)
            assert_true(similar[i * T + j] == -1.0f);
    }
    free(points);
    free(similar);
}

static void pairs_of_all_sizes_agree_with_double_precision(void **state)
{
    uint32_t ids[T];

    (void)state;
    fill(ids);
    check(cllm_ops_reference(), ids);
    check(cllm_ops_select(), ids);
}

/* The divisor is found exactly: of neighbours at the upper end, of squares, of multiples.
 */
static void divisors_are_exact_up_to_the_last_id(void **state)
{
    uint32_t ids[T];

    (void)state;
    for (uint32_t i = 0; i < T; i++)
        ids[i] = MOST - i * i;
    check(cllm_ops_select(), ids);
    for (uint32_t i = 0; i < T; i++)
        ids[i] = (i % 2 == 0 ? 1024u * (1024u - i) : 1021u * (1000u - i)) - 1;
    check(cllm_ops_select(), ids);
}

static void blocks_of_pairs_lie_one_behind_the_other(void **state)
{
    (void)state;
    assert_int_equal(cllm_attention_pairs_before(0), 0);
    assert_int_equal(cllm_attention_pairs_before(64), 64 * 64);
    assert_int_equal(cllm_attention_pairs_before(128), 64 * 64 + 64 * 128);
    assert_int_equal(cllm_attention_pairs(64), 64 * 64);
    assert_int_equal(cllm_attention_pairs(128), cllm_attention_pairs_before(128));
    assert_int_equal(cllm_attention_pairs(1), 16); /* a line of the cache */
    assert_int_equal(cllm_attention_pairs(130),
                     cllm_align_up(cllm_attention_pairs_before(128) + 2 * 130, 16));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_of_all_sizes_agree_with_double_precision),
        cmocka_unit_test(divisors_are_exact_up_to_the_last_id),
        cmocka_unit_test(blocks_of_pairs_lie_one_behind_the_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
