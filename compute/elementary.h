/*
 * compute/elementary.h - exp, log, tanh, sine, cosine and square root for f32.
 *
 * CLLM's own, because libm differs from machine to machine and the bits of a run must
 * not. Straight-line code without calls or tables, so that loops around it vectorise;
 * every multiply and add is rounded on its own (-ffp-contract=off), so that the bits are
 * the same at any vector width. Bounds are proved by tests/test_elementary.c.
 *
 * Polynomials are near-minimax fits over the reduced range, rounded to f32.
 */
#ifndef CLLM_COMPUTE_ELEMENTARY_H
#define CLLM_COMPUTE_ELEMENTARY_H

#include <string.h>

#include "base/base.h"

static inline uint32_t cllm_f32_bits(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float cllm_f32_from_bits(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The nearest whole number, ties to even, for |x| < 2^22: adding 1.5 x 2^23 leaves no
 * room for a fraction. The sum is returned in @shifted: its low bits are the number. */
static inline float cllm_f32_round(float x, uint32_t *shifted)
{
    const float magic = 0x1.8p23f;
    float sum = x + magic;

    *shifted = cllm_f32_bits(sum) - cllm_f32_bits(magic);
    return sum - magic;
}

/* Correctly rounded: the hardware's instruction (needs -fno-math-errno to be no call). */
static inline float cllm_sqrtf(float x)
{
    return __builtin_sqrtf(x);
}

/* e^x within 1 ulp, denormal results within 1 denormal step; exp(-inf) = 0. x = n ln 2 +
 * r (Cody, Waite), scaled by 2^n in two halves so that n may leave the exponent's range.
 */
static inline float cllm_expf(float x)
{
    const float low = -104.0f, high = 89.0f; /* beyond: 0 and inf; NaN passes */
    uint32_t n, half;
    float k, r, p;

    x = high < x ? high : x;
    x = low > x ? low : x;
    k = cllm_f32_round(x * 1.44269504f, &n);
    r = (x - k * 0.693115234f) - k * 3.19461833e-05f;
    p = 0.000199089045f;
    p = p * r + 0.00139345438f;
    p = p * r + 0.00833328441f;
    p = p * r + 0.0416664556f;
    p = p * r + 0.166666672f;
    p = p * r + 0.5f;
    p = 1.0f + (r + r * r * p);
    half = (uint32_t)((int32_t)n >> 1);
    return p * cllm_f32_from_bits((half + 127) << 23) *
           cllm_f32_from_bits((n - half + 127) << 23);
}

/* 1 / (1 + 2^-x) within 4 ulp, 0 below -127.5: the logistic function with a cheaper
 * exponential inside, since what it is added to hides its last digits. */
static inline float cllm_logistic2f(float x)
{
    float y = -x, r, p;
    uint32_t n;

    y = 128.0f < y ? 128.0f : y; /* the scale below is then 2^128, infinity */
    y = -126.0f > y ? -126.0f : y;
    r = y - cllm_f32_round(y, &n);
    p = 0.00132647238f;
    p = p * r + 0.00967151299f;
    p = p * r + 0.0555073358f;
    p = p * r + 0.240222424f;
    p = p * r + 0.693147004f;
    p = p * r + 1.0f;
    return 1.0f / (1.0f + p * cllm_f32_from_bits((n + 127) << 23));
}

/* Natural logarithm within 1 ulp; log(0) = -inf, of negative numbers NaN. x = 2^k m with
 * m in [sqrt(1/2), sqrt(2)). */
static inline float cllm_logf(float x)
{
    bool tiny = x < 0x1p-126f;
    uint32_t bits = cllm_f32_bits(tiny ? x * 0x1p23f : x);
    int32_t shift = tiny ? -23 : 0;
    int32_t n = (int32_t)(bits - 0x3f3504f3u) >> 23;
    float k = (float)(n + shift);
    float f = cllm_f32_from_bits(bits - ((uint32_t)n << 23)) - 1.0f;
    float square = f * f;
    float p = 0.0674660131f;

    p = p * f - 0.116756409f;
    p = p * f + 0.118881747f;
    p = p * f - 0.124055915f;
    p = p * f + 0.142195508f;
    p = p * f - 0.166679963f;
    p = p * f + 0.200021192f;
    p = p * f - 0.250000089f;
    p = p * f + 0.333333135f;
    p = f * square * p + k * 3.19461833e-05f;
    p = (f + (p - 0.5f * square)) + k * 0.693115234f;
    p = x < __builtin_inff() ? p : x; /* inf and NaN */
    p = x == 0.0f ? -__builtin_inff() : p;
    return x < 0.0f ? __builtin_nanf("") : p;
}

/* Hyperbolic tangent within 2 ulp. */
static inline float cllm_tanhf(float x)
{
    float a = __builtin_fabsf(x);
    float s = x * x;
    float far = 1.0f - 2.0f / (cllm_expf(a + a) + 1.0f);
    float p = -0.00611318834f;

    p = p * s + 0.0210100785f;
    p = p * s - 0.0538540706f;
    p = p * s + 0.133327946f;
    p = p * s - 0.333333284f;
    return __builtin_copysignf(a < 0.625f ? a + a * s * p : far, x);
}

/* Sine and cosine of @turns full turns (2 pi turns radians), |turns| < 2^19; each within
 * 2 ulp of 1. The reduction to an eighth of a turn is exact. */
static inline void cllm_sincos_turn(float turns, float *sine, float *cosine)
{
    uint32_t quarter;
    float nearest = cllm_f32_round(4.0f * turns, &quarter);
    float t = 2.0f * turns - 0.5f * nearest; /* half turns, |t| <= 1/4 */
    float s = t * t;
    float sn = t * (3.14159274f +
                    s * (-5.16771269f +
                         s * (2.55016351f + s * (-0.599228799f + s * 0.0812297985f))));
    float cs = 1.0f + s * (-4.93480206f +
                           s * (4.05871058f + s * (-1.33513784f + s * 0.23212634f)));
    float odd_sine = (quarter & 1) != 0 ? cs : sn;
    float odd_cosine = (quarter & 1) != 0 ? sn : cs;

    *sine = (quarter & 2) != 0 ? -odd_sine : odd_sine;
    *cosine = ((quarter + 1) & 2) != 0 ? -odd_cosine : odd_cosine;
}

#endif /* CLLM_COMPUTE_ELEMENTARY_H */
