/*
 * tests/test_elementary.c - the bounds stated in compute/elementary.h, over a dense
 * sample of all floats, against libm in double. tests/math/math_all.c tries all of them.
 */
#include "compute/elementary.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

#define STRIDE 1021u /* prime: over 4 million floats of all signs and exponents */

/* Distance in units of the last place of a float near @exact. */
static double ulps(float got, double exact)
{
    int exponent;
    double unit;

    if (isnan(exact))
        return isnan(got) ? 0 : HUGE_VAL;
    if (isinf(exact) || fabs(exact) >= 0x1.ffffffp127)
        return isinf(got) && (got > 0) == (exact > 0) ? 0 : HUGE_VAL;
    if (!isfinite(got))
        return fabs(exact) > (double)FLT_MAX ? 1 : HUGE_VAL;
    (void)frexp(exact, &exponent);
    unit = ldexp(1, exponent - 24 < -149 ? -149 : exponent - 24);
    return fabs((double)got - exact) / unit;
}

static double worst(float (*f)(float), double (*exact)(double))
{
    double most = 0;

    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += STRIDE) {
        float x = cllm_f32_from_bits((uint32_t)bits);
        double distance = ulps(f(x), exact((double)x));

        if (distance > most)
            most = distance;
    }
    return most;
}

static void exp_is_within_1_ulp_of_every_float(void **state)
{
    (void)state;
    assert_true(worst(cllm_expf, exp) <= 1.0);
}

/* Where results are numbers of ordinary size the sample is made denser. */
static void exp_below_has_the_bits_of_exp_up_to_43(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < UINT32_MAX - STRIDE; bits += STRIDE) {
        float x = cllm_f32_from_bits(bits);

        if (x <= 43.0f)
            assert_int_equal(cllm_f32_bits(cllm_expf_below(x)),
                             cllm_f32_bits(cllm_expf(x)));
    }
    assert_true(cllm_expf_below(-INFINITY) == 0.0f && isnan(cllm_expf_below(NAN)));
}

static void exp_is_within_1_ulp_between_minus_104_and_89(void **state)
{
    (void)state;
    for (double x = -104; x < 89; x += 0x1.3p-13)
        assert_true(ulps(cllm_expf((float)x), exp((double)(float)x)) <= 1.0);
}

static void log_is_within_1_ulp_of_every_float(void **state)
{
    (void)state;
    assert_true(worst(cllm_logf, log) <= 1.0);
}

static void log_keeps_its_accuracy_beside_1(void **state)
{
    uint32_t one = cllm_f32_bits(1.0f);

    (void)state;
    for (uint32_t bits = one - 200000; bits < one + 200000; bits++) {
        float x = cllm_f32_from_bits(bits);

        assert_true(ulps(cllm_logf(x), log((double)x)) <= 1.0);
    }
}

static void tanh_is_within_2_ulp_of_every_float(void **state)
{
    (void)state;
    assert_true(worst(cllm_tanhf, tanh) <= 2.0);
}

static void erf_is_within_1_and_a_half_ulp_of_every_float(void **state)
{
    (void)state;
    assert_true(worst(cllm_erff, erf) <= 1.5);
}

/* Where the two polynomials meet, and where the result becomes 1. */
static void erf_keeps_its_accuracy_between_a_half_and_4(void **state)
{
    (void)state;
    for (double x = 0.5; x < 4.5; x += 0x1.3p-19)
        assert_true(ulps(cllm_erff((float)x), erf((double)(float)x)) <= 1.5);
}

static double rsqrt(double x)
{
    return 1 / sqrt(x);
}

static void reciprocal_roots_are_within_1_and_a_half_ulp_of_every_float(void **state)
{
    (void)state;
    assert_true(worst(cllm_rsqrtf, rsqrt) <= 1.5);
}

static double sine(double x)
{
    return fabs(x) <= 0x1p27 ? sin(x) : (double)NAN;
}

static double cosine(double x)
{
    return fabs(x) <= 0x1p27 ? cos(x) : (double)NAN;
}

static void sine_and_cosine_of_radians_are_within_their_bound_of_every_float(void **state)
{
    (void)state;
    assert_true(worst(cllm_sinf, sine) <= 0.51);
    assert_true(worst(cllm_cosf, cosine) <= 0.51);
}

/* The floats next to multiples of pi/2, where a reduction loses most. */
static void sine_keeps_its_accuracy_beside_its_zeros(void **state)
{
    (void)state;
    for (uint32_t k = 1; k < 80000000; k += 1 + k / 64) {
        float near = (float)(1.5707963267948966 * (double)k);

        for (float x = nextafterf(near, 0); x <= near; x = nextafterf(x, INFINITY)) {
            assert_true(ulps(cllm_sinf(x), sin((double)x)) <= 0.51);
            assert_true(ulps(cllm_cosf(x), cos((double)x)) <= 0.51);
        }
    }
}

static double logistic2(double x)
{
    return x <= -127.5 ? 0 : 1 / (1 + exp2(-x));
}

/* Where its exponential turns infinite it jumps to 0 from less than any normal float. */
static void logistic_is_within_4_ulp_of_every_float(void **state)
{
    (void)state;
    assert_true(worst(cllm_logistic2f, logistic2) <= 4.0);
    for (double x = -127; x < 30; x += 0x1.3p-13)
        assert_true(ulps(cllm_logistic2f((float)x), logistic2((double)(float)x)) <= 4.0);
}

static void square_roots_are_rounded_correctly(void **state)
{
    (void)state;
    assert_true(worst(cllm_sqrtf, sqrt) <= 0.5);
}

static void sine_and_cosine_are_within_2_ulp_of_1(void **state)
{
    const double turn = 6.283185307179586476925;

    (void)state;
    for (double at = -3; at < 3; at += 0x1.7p-17) {
        float x = (float)at, sine, cosine;

        cllm_sincos_turn(x, &sine, &cosine);
        assert_true(fabs((double)sine - sin(turn * (double)x)) <= 2 * 0x1p-24);
        assert_true(fabs((double)cosine - cos(turn * (double)x)) <= 2 * 0x1p-24);
    }
}

static void quarter_turns_are_exact(void **state)
{
    static const struct {
        float turns, sine, cosine;
    } cases[] = {{0, 0, 1}, {0.25f, 1, 0},   {0.5f, 0, -1},  {0.75f, -1, 0},
                 {1, 0, 1}, {-0.25f, -1, 0}, {-0.5f, 0, -1}, {100000.75f, -1, 0}};

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        float sine, cosine;

        cllm_sincos_turn(cases[i].turns, &sine, &cosine);
        assert_true(sine == cases[i].sine && cosine == cases[i].cosine);
    }
}

static void special_values_come_out_as_the_standard_says(void **state)
{
    (void)state;
    assert_true(cllm_expf(-INFINITY) == 0.0f);
    assert_true(cllm_expf(INFINITY) == INFINITY);
    assert_true(cllm_expf(0.0f) == 1.0f);
    assert_true(cllm_expf(-103.0f) > 0.0f); /* the smallest denormal, not zero */
    assert_true(isnan(cllm_expf(NAN)));
    assert_true(cllm_logf(0.0f) == -INFINITY);
    assert_true(cllm_logf(-0.0f) == -INFINITY);
    assert_true(cllm_logf(1.0f) == 0.0f);
    assert_true(cllm_logf(INFINITY) == INFINITY);
    assert_true(isnan(cllm_logf(-1.0f)) && isnan(cllm_logf(-INFINITY)));
    assert_true(isnan(cllm_logf(NAN)));
    assert_true(cllm_tanhf(INFINITY) == 1.0f && cllm_tanhf(-INFINITY) == -1.0f);
    assert_true(cllm_logistic2f(INFINITY) == 1.0f && cllm_logistic2f(-INFINITY) == 0.0f);
    assert_true(cllm_logistic2f(0.0f) == 0.5f && isnan(cllm_logistic2f(NAN)));
    assert_true(signbit(cllm_tanhf(-0.0f)) && isnan(cllm_tanhf(NAN)));
    assert_true(cllm_sqrtf(INFINITY) == INFINITY && isnan(cllm_sqrtf(-1.0f)));
    assert_true(cllm_erff(INFINITY) == 1.0f && cllm_erff(-INFINITY) == -1.0f);
    assert_true(signbit(cllm_erff(-0.0f)) && isnan(cllm_erff(NAN)));
    assert_true(cllm_rsqrtf(0.0f) == INFINITY && cllm_rsqrtf(-0.0f) == -INFINITY);
    assert_true(cllm_rsqrtf(INFINITY) == 0.0f && isnan(cllm_rsqrtf(-1.0f)));
    assert_true(signbit(cllm_sinf(-0.0f)) && !signbit(cllm_sinf(0.0f)));
    assert_true(cllm_cosf(0.0f) == 1.0f && cllm_sinf(0x1p-149f) == 0x1p-149f);
    assert_true(!isnan(cllm_sinf(0x1p27f)) && isnan(cllm_sinf(0x1.000002p27f)));
    assert_true(!isnan(cllm_cosf(-0x1p27f)) && isnan(cllm_cosf(-0x1.000002p27f)));
    assert_true(isnan(cllm_sinf(INFINITY)) && isnan(cllm_cosf(NAN)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_1_ulp_of_every_float),
        cmocka_unit_test(exp_below_has_the_bits_of_exp_up_to_43),
        cmocka_unit_test(exp_is_within_1_ulp_between_minus_104_and_89),
        cmocka_unit_test(log_is_within_1_ulp_of_every_float),
        cmocka_unit_test(log_keeps_its_accuracy_beside_1),
        cmocka_unit_test(tanh_is_within_2_ulp_of_every_float),
        cmocka_unit_test(erf_is_within_1_and_a_half_ulp_of_every_float),
        cmocka_unit_test(erf_keeps_its_accuracy_between_a_half_and_4),
        cmocka_unit_test(reciprocal_roots_are_within_1_and_a_half_ulp_of_every_float),
        cmocka_unit_test(
            sine_and_cosine_of_radians_are_within_their_bound_of_every_float),
        cmocka_unit_test(sine_keeps_its_accuracy_beside_its_zeros),
        cmocka_unit_test(logistic_is_within_4_ulp_of_every_float),
        cmocka_unit_test(square_roots_are_rounded_correctly),
        cmocka_unit_test(sine_and_cosine_are_within_2_ulp_of_1),
        cmocka_unit_test(quarter_turns_are_exact),
        cmocka_unit_test(special_values_come_out_as_the_standard_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
