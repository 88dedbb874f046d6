/*
 * compute/elementary.h - exp, log, tanh, erf, sine, cosine and roots for f32.
 *
 * CLLM's own, because libm differs from machine to machine and the bits of a run must
 * not. Straight-line code without calls or tables, so that loops around it vectorise;
 * every multiply and add is rounded on its own (-ffp-contract=off), so that the bits are
 * the same at any vector width. Bounds are in units of the last place of the true value
 * (ulp; below 2^-126 one denormal step) and hold for every float: tests/math/math_all.c
 * tries them all. NaN gives NaN.
 *
 * Polynomials are near-minimax fits over the reduced range, rounded to f32 (f64 where the
 * arithmetic is).
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

/* 1 / sqrt(x) within 1.5 ulp: two operations, each rounded correctly. Of 0 and -0 inf and
 * -inf, of inf 0, of negative numbers NaN. */
static inline float cllm_rsqrtf(float x)
{
    return 1.0f / cllm_sqrtf(x);
}

/* e^x = 2^n times what this returns, for |x| < 2^21. x = n ln 2 + r (Cody, Waite). */
static inline float cllm_expf_parts(float x, uint32_t *n)
{
    float k = cllm_f32_round(x * 1.44269504f, n);
    float r = (x - k * 0.693115234f) - k * 3.19461833e-05f;
    float p = 0.000199089045f;

    p = p * r + 0.00139345438f;
    p = p * r + 0.00833328441f;
    p = p * r + 0.0416664556f;
    p = p * r + 0.166666672f;
    p = p * r + 0.5f;
    return 1.0f + (r + r * r * p);
}

/* e^x within 1 ulp, denormal results within 1 denormal step; exp(-inf) = 0. Scaled by 2^n
 * in two halves so that n may leave the exponent's range. What is beyond all numbers is
 * put in at the end: compilers make a detour of an argument that is moved to a bound. */
static inline float cllm_expf(float x)
{
    uint32_t n, half;
    float p = cllm_expf_parts(x, &n);

    half = (uint32_t)((int32_t)n >> 1);
    p = p * cllm_f32_from_bits((half + 127) << 23) *
        cllm_f32_from_bits((n - half + 127) << 23);
    p = x < -104.0f ? 0.0f : p;
    return x > 89.0f ? __builtin_inff() : p; /* NaN passes */
}

/* The same for x <= 43, as in a softmax: a fixed part of the scale needs no halving. */
static inline float cllm_expf_below(float x)
{
    uint32_t n;
    float p = cllm_expf_parts(x, &n);

    p = p * cllm_f32_from_bits((n + 127 + 64) << 23) * 0x1p-64f;
    return x < -104.0f ? 0.0f : p;
}

/* 1 / (1 + 2^-x) within 4 ulp, 0 from -127.5 down: the logistic function with a cheaper
 * exponential inside, since what it is added to hides its last digits. */
static inline float cllm_logistic2f(float x)
{
    float y = -x, r, p;
    uint32_t n;

    r = y - cllm_f32_round(y, &n);
    p = 0.00132647238f;
    p = p * r + 0.00967151299f;
    p = p * r + 0.0555073358f;
    p = p * r + 0.240222424f;
    p = p * r + 0.693147004f;
    p = p * r + 1.0f;
    p = 1.0f / (1.0f + p * cllm_f32_from_bits((n + 127) << 23)); /* n 128: of infinity */
    p = x < -128.0f ? 0.0f : p;
    return x > 126.0f ? 1.0f : p; /* NaN passes */
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

/* The error function within 1.5 ulp, denormal results too. Up to 1 x + x P(x^2), beyond
 * 1 - e^P(x), where e^P is the complement; from 4 on that is less than half an ulp of 1.
 */
static inline float cllm_erff(float x)
{
    float a = __builtin_fabsf(x);
    float s = x * x;
    float far = 4.0f < a ? 4.0f : a; /* NaN passes */
    float p = 0.000186375561f, q = 7.80690389e-05f;

    p = p * far - 0.0029476278f;
    p = p * far + 0.0218379628f;
    p = p * far - 0.103106588f;
    p = p * far - 0.63814497f;
    p = p * far - 1.12708914f;
    p = p * far - 0.000341525243f;
    q = q * s - 0.00079978531f;
    q = q * s + 0.0051871622f;
    q = q * s - 0.0268533472f;
    q = q * s + 0.112835787f;
    q = q * s - 0.37612626f;
    q = q * s + 0.128379166f;
    return __builtin_copysignf(a < 1.0f ? a + a * q : 1.0f - cllm_expf(p), x);
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

/*
 * Sine and cosine of @x radians, |x| <= 2^27, to be rounded to f32: within 0.01 of its
 * last places. x = k pi/2 + r, pi/2 in three parts, of which the first two have so few
 * bits that their products and differences are exact.
 */
static inline void cllm_sincos_wide(double x, double *sine, double *cosine)
{
    const double magic = 0x1.8p52; /* as in cllm_f32_round */
    double shifted = x * 0x1.45f306dc9c883p-1 + magic;
    double k = shifted - magic;
    double r = ((x - k * 0x1.921fb5p+0) - k * 0x1.110b46p-26) - k * 0x1.1a62633145c07p-54;
    double s = r * r, sn, cs, odd_sine, odd_cosine;
    uint64_t quarter;

    memcpy(&quarter, &shifted, sizeof quarter);
    sn = 2.7181216028145375e-06;
    sn = sn * s - 0.0001983931226689297;
    sn = sn * s + 0.00833332930483412;
    sn = sn * s - 0.1666666664079695;
    sn = r * (1.0 + s * sn); /* keeps the sign of zero */
    cs = -2.7237020214896735e-07;
    cs = cs * s + 2.479989872827639e-05;
    cs = cs * s - 0.0013888885479550906;
    cs = cs * s + 0.04166666664793473;
    cs = (1.0 - 0.5 * s) + s * s * cs;
    odd_sine = (quarter & 1) != 0 ? cs : sn;
    odd_cosine = (quarter & 1) != 0 ? sn : cs;
    *sine = (quarter & 2) != 0 ? -odd_sine : odd_sine;
    *cosine = ((quarter + 1) & 2) != 0 ? -odd_cosine : odd_cosine;
}

/* Sine and cosine of @x radians, each within 0.51 ulp for |x| <= 2^27, beyond and of
 * infinities NaN. In double, for the reduction's sake. */
static inline void cllm_sincosf(float x, float *sine, float *cosine)
{
    bool inside = __builtin_fabsf(x) <= 0x1p27f;
    double wide_sine, wide_cosine;

    cllm_sincos_wide((double)x, &wide_sine, &wide_cosine);
    *sine = inside ? (float)wide_sine : __builtin_nanf("");
    *cosine = inside ? (float)wide_cosine : __builtin_nanf("");
}

static inline float cllm_sinf(float x)
{
    float sine, cosine;

    cllm_sincosf(x, &sine, &cosine);
    return sine;
}

static inline float cllm_cosf(float x)
{
    float sine, cosine;

    cllm_sincosf(x, &sine, &cosine);
    return cosine;
}

#endif /* CLLM_COMPUTE_ELEMENTARY_H */
