/*
 * tests/test_random.c - Philox4x32-10 against the vectors published with Random123, and
 * what the rest of the program relies on: values depend on (key, stream, index) alone.
 */
#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

/*
 * kat_vectors of Random123 1.14, rows "philox4x32 10". cllm_random_block() always leaves
 * the fourth counter word zero, so only the first row fits through it as it is; the other
 * two are checked through the generator below, which differs in the counter alone.
 */
static const struct {
    uint32_t counter[4], key[2], expected[4];
} vectors[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

/* An independent Philox4x32-10, written from section 3.2 of the paper: any counter. */
static void philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t x[4] = {counter[0], counter[1], counter[2], counter[3]};

    for (uint32_t i = 0; i < 10; i++) {
        uint32_t k0 = key[0] + i * UINT32_C(0x9E3779B9);
        uint32_t k1 = key[1] + i * UINT32_C(0xBB67AE85);
        uint64_t even = (uint64_t)x[0] * UINT32_C(0xD2511F53);
        uint64_t odd = (uint64_t)x[2] * UINT32_C(0xCD9E8D57);
        uint32_t y[4] = {(uint32_t)(odd >> 32) ^ x[1] ^ k0, (uint32_t)odd,
                         (uint32_t)(even >> 32) ^ x[3] ^ k1, (uint32_t)even};

        for (int j = 0; j < 4; j++)
            x[j] = y[j];
    }
    for (int j = 0; j < 4; j++)
        out[j] = x[j];
}

static void the_published_vector_comes_out(void **state)
{
    uint32_t out[4];

    (void)state;
    cllm_random_block(out, 0, 0, 0);
    assert_memory_equal(out, vectors[0].expected, sizeof out);
}

static void the_second_writing_of_the_generator_gives_all_published_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(vectors); i++) {
        uint32_t out[4];

        philox(out, vectors[i].counter, vectors[i].key);
        assert_memory_equal(out, vectors[i].expected, sizeof out);
    }
}

/* Index in the low words, stream in the third, zero in the fourth, key low word first. */
static void counter_and_key_lie_where_the_header_says(void **state)
{
    static const struct {
        uint64_t key, index;
        uint32_t stream;
    } cases[] = {
        {0, 1, 0},
        {0, UINT64_C(1) << 32, 0},
        {0, 0, 1},
        {1, 0, 0},
        {UINT64_C(1) << 32, 0, 0},
        {UINT64_MAX, UINT64_MAX, UINT32_MAX},
        {UINT64_C(0x299f31d0a4093822), UINT64_C(0x85a308d3243f6a88), 0x13198a2e},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        uint32_t counter[4] = {(uint32_t)cases[i].index, (uint32_t)(cases[i].index >> 32),
                               cases[i].stream, 0};
        uint32_t key[2] = {(uint32_t)cases[i].key, (uint32_t)(cases[i].key >> 32)};
        uint32_t expected[4], out[4];

        philox(expected, counter, key);
        cllm_random_block(out, cases[i].key, cases[i].stream, cases[i].index);
        assert_memory_equal(out, expected, sizeof out);
    }
}

static void words_and_floats_come_from_the_same_block(void **state)
{
    (void)state;
    for (uint64_t index = 0; index < 1000; index++) {
        uint32_t block[4];
        float x = cllm_random_f32(7, CLLM_RANDOM_TEST, index);

        cllm_random_block(block, 7, CLLM_RANDOM_TEST, index);
        assert_true(cllm_random_u64(7, CLLM_RANDOM_TEST, index) ==
                    ((uint64_t)block[1] << 32 | block[0]));
        assert_true(x >= 0.0f && x < 1.0f);
        assert_true((double)x * 16777216.0 == (double)(block[0] >> 8));
    }
}

static void floats_are_uniform_enough_for_weights(void **state)
{
    enum { N = 200000, BINS = 20 };
    double sum = 0, squares = 0, chi2 = 0;
    uint32_t bin[BINS] = {0};

    (void)state;
    for (uint64_t i = 0; i < N; i++) {
        double x = (double)cllm_random_f32(1, CLLM_RANDOM_INIT, i);

        sum += x;
        squares += x * x;
        bin[(size_t)(x * BINS)]++;
    }
    for (size_t i = 0; i < BINS; i++) {
        double d = (double)bin[i] - (double)N / BINS;

        chi2 += d * d / ((double)N / BINS);
    }
    assert_true(sum / N > 0.497 && sum / N < 0.503);
    assert_true(squares / N > 0.330 && squares / N < 0.3367);
    assert_true(chi2 < 43.8); /* 19 degrees of freedom, p = 0.001 */
}

static void streams_keys_and_indices_do_not_repeat_each_other(void **state)
{
    enum { N = 512 };
    static uint64_t seen[3 * N];

    (void)state;
    for (uint32_t i = 0; i < N; i++) {
        seen[i] = cllm_random_u64(3, CLLM_RANDOM_TEST, i);
        seen[N + i] = cllm_random_u64(3, CLLM_RANDOM_TEST + 1 + i, 0);
        seen[2 * N + i] = cllm_random_u64(4 + i, CLLM_RANDOM_TEST, 0);
    }
    for (size_t i = 0; i < CLLM_LEN(seen); i++)
        for (size_t j = i + 1; j < CLLM_LEN(seen); j++)
            assert_true(seen[i] != seen[j]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_vector_comes_out),
        cmocka_unit_test(the_second_writing_of_the_generator_gives_all_published_vectors),
        cmocka_unit_test(counter_and_key_lie_where_the_header_says),
        cmocka_unit_test(words_and_floats_come_from_the_same_block),
        cmocka_unit_test(floats_are_uniform_enough_for_weights),
        cmocka_unit_test(streams_keys_and_indices_do_not_repeat_each_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
