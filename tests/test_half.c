/*
 * tests/test_half.c - f16, bf16 and q8_0 against definitions written another way.
 */
#include "tests/formats_temp.h"

#include <math.h>

#include "base/random.h"
#include "formats/half.h"

static float from_bits(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t to_bits(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* The value of a half by its definition, in double. */
static double value_of(uint16_t half)
{
    int exponent = half >> 10 & 31, fraction = half & 1023;
    double sign = half >> 15 ? -1 : 1;

    if (exponent == 31)
        return fraction != 0 ? (double)NAN : sign * (double)INFINITY;
    return exponent == 0 ? sign * ldexp(fraction, -24)
                         : sign * ldexp(1024 + fraction, exponent - 25);
}

/* The half nearest to @x by looking at its neighbours among all; ties to even. */
static uint16_t nearest(float x)
{
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    double magnitude = fabs((double)x);
    uint16_t lo = 0, hi = 0x7c00;

    if (magnitude >= 65520)
        return (uint16_t)(sign | 0x7c00);
    while (hi - lo > 1) { /* value_of(lo) <= magnitude < value_of(hi) */
        uint16_t mid = (uint16_t)((lo + hi) / 2);
        if (value_of(mid) <= magnitude)
            lo = mid;
        else
            hi = mid;
    }
    double above = hi == 0x7c00 ? 65536 : value_of(hi);
    double down = magnitude - value_of(lo), up = above - magnitude;
    return (uint16_t)(sign | (down < up || (down == up && lo % 2 == 0) ? lo : hi));
}

static void every_f16_is_decoded_exactly_and_comes_back(void **state)
{
    uint16_t half, again;
    float x;

    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        half = (uint16_t)i;
        cllm_half_f16_decode(&x, &half, 1);
        cllm_half_f16_encode(&again, &x, 1);
        if (isnan(value_of(half))) {
            assert_true(isnan(x));
            assert_int_equal(again, half | 0x200); /* quiet, payload and sign kept */
            continue;
        }
        assert_true((double)x == value_of(half));
        assert_int_equal(signbit(x) != 0, half >> 15);
        assert_int_equal(again, half);
    }
}

static void f16_rounds_to_the_nearest_even(void **state)
{
    uint16_t found;

    (void)state;
    for (uint32_t i = 0; i < 65535; i++) { /* both sides of the middle of neighbours */
        if ((i & 0x7fff) >= 0x7bff)
            continue;
        float middle = (float)((value_of((uint16_t)i) + value_of((uint16_t)(i + 1))) / 2);
        const float around[] = {middle, nextafterf(middle, INFINITY),
                                nextafterf(middle, -INFINITY)};
        for (size_t k = 0; k < CLLM_LEN(around); k++) {
            cllm_half_f16_encode(&found, &around[k], 1);
            assert_int_equal(found, nearest(around[k]));
        }
    }
    for (uint64_t i = 0; i < 200000; i++) {
        float x = from_bits((uint32_t)cllm_random_u64(7, CLLM_RANDOM_TEST, i));
        if (isnan(x))
            continue;
        cllm_half_f16_encode(&found, &x, 1);
        if (found != nearest(x))
            fail_msg("%a: expected %04x, found %04x", (double)x, nearest(x), found);
    }
}

static void bf16_is_the_upper_half_rounded(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t half = (uint16_t)i, found;
        float x;
        cllm_half_bf16_decode(&x, &half, 1);
        assert_int_equal(to_bits(x), i << 16);
        cllm_half_bf16_encode(&found, &x, 1);
        assert_int_equal(found, isnan(x) ? half | 0x40 : half);
        if (isnan(x) || isinf(x))
            continue;
        const struct {
            uint32_t low, up;
        } cases[] = {{0x7fff, 0}, {0x8000, i & 1}, {0x8001, 1}, {1, 0}, {0xffff, 1}};
        for (size_t k = 0; k < CLLM_LEN(cases); k++) {
            x = from_bits(i << 16 | cases[k].low);
            cllm_half_bf16_encode(&found, &x, 1);
            assert_int_equal(found, (uint16_t)(i + cases[k].up));
        }
    }
}

static void many_numbers_are_as_one_by_one(void **state)
{
    float in[131], out[131];
    uint16_t many[131], one;

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(in); i++)
        in[i] = from_bits((uint32_t)cllm_random_u64(9, CLLM_RANDOM_TEST, i));
    cllm_half_f16_encode(many, in, CLLM_LEN(in));
    for (size_t i = 0; i < CLLM_LEN(in); i++) {
        cllm_half_f16_encode(&one, &in[i], 1);
        assert_int_equal(many[i], one);
    }
    cllm_half_f16_decode(out, many, CLLM_LEN(in));
    for (size_t i = 0; i < CLLM_LEN(in); i++) {
        float x;
        cllm_half_f16_decode(&x, &many[i], 1);
        assert_int_equal(to_bits(out[i]), to_bits(x));
    }
}

static void q8_is_as_its_definition(void **state)
{
    float in[64], out[64];
    uint8_t blocks[2 * CLLM_HALF_Q8_BYTES];

    (void)state;
    for (uint64_t round = 0; round < 2000; round++) {
        for (size_t i = 0; i < 64; i++)
            in[i] = (cllm_random_f32(round, CLLM_RANDOM_TEST, i) - 0.5f) *
                    ldexpf(1, (int)(round % 40) - 20);
        cllm_half_q8_encode(blocks, in, 2);
        cllm_half_q8_decode(out, blocks, 2);
        for (size_t b = 0; b < 2; b++) {
            float most = 0, scale, inverse;
            uint16_t half, stored;
            for (size_t i = 0; i < 32; i++)
                most = fmaxf(most, fabsf(in[32 * b + i]));
            scale = most / 127;
            inverse = scale != 0 ? 1 / scale : 0;
            half = nearest(scale);
            memcpy(&stored, blocks + b * CLLM_HALF_Q8_BYTES, 2);
            assert_int_equal(stored, half);
            for (size_t i = 0; i < 32; i++) {
                int8_t q = (int8_t)blocks[b * CLLM_HALF_Q8_BYTES + 2 + i];
                assert_int_equal(q, (int)roundf(in[32 * b + i] * inverse));
                assert_true((double)out[32 * b + i] == (double)(float)value_of(half) * q);
            }
        }
    }
}

static void zeros_and_tiny_numbers_are_zeros_in_q8(void **state)
{
    float in[32] = {0}, out[32];
    uint8_t block[CLLM_HALF_Q8_BYTES];

    (void)state;
    for (int round = 0; round < 2; round++) {
        cllm_half_q8_encode(block, in, 1);
        cllm_half_q8_decode(out, block, 1);
        for (size_t i = 0; i < 32; i++)
            assert_true(out[i] == 0);
        in[3] = 1e-42f;
    }
}

static void what_does_not_fit_is_named(void **state)
{
    float in[5] = {1, -2, 65519, 65520, NAN};

    (void)state;
    assert_int_equal(cllm_half_f16_fits(in, 3), 3);
    assert_int_equal(cllm_half_f16_fits(in, 5), 3);
    in[3] = -INFINITY; /* f16 has infinities and NaNs */
    assert_int_equal(cllm_half_f16_fits(in, 5), 5);
    assert_int_equal(cllm_half_q8_fits(in, 5), 3);
    in[3] = 8e6f;
    assert_int_equal(cllm_half_q8_fits(in, 5), 4);
    in[0] = 9e6f;
    assert_int_equal(cllm_half_q8_fits(in, 5), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_f16_is_decoded_exactly_and_comes_back),
        cmocka_unit_test(f16_rounds_to_the_nearest_even),
        cmocka_unit_test(bf16_is_the_upper_half_rounded),
        cmocka_unit_test(many_numbers_are_as_one_by_one),
        cmocka_unit_test(q8_is_as_its_definition),
        cmocka_unit_test(zeros_and_tiny_numbers_are_zeros_in_q8),
        cmocka_unit_test(what_does_not_fit_is_named),
    };

    return cmocka_run_group_tests_name("half", tests, NULL, NULL);
}
