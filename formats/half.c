/*
 * formats/half.c - f16, bf16 and q8_0, branch-free so that the compiler vectorises.
 *
 * Both ways go through the bits of a float. The denormal numbers of f16 are whole
 * multiples of 2^-24, which is the distance of floats between 0.5 and 1: adding 0.5 lets
 * the processor do their rounding, subtracting its bits leaves the multiple.
 */
#include "formats/half.h"

#include <string.h>

#define SIGN       0x80000000u
#define INFINITE   0x7f800000u /* bits of infinity; NaNs are above */
#define F16_NORMAL 0x38800000u /* 2^-14: the least normal f16 */
#define F16_BEYOND 0x47800000u /* 2^16 */
#define REBIAS     0x38000000u /* (127 - 15) << 23 */
#define ONE_HALF   0x3f000000u

static inline uint32_t bits_of(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint16_t to_f16(float x)
{
    uint32_t bits = bits_of(x);
    uint32_t magnitude = bits & ~SIGN;
    uint32_t normal = (magnitude + 0xfff + (magnitude >> 13 & 1) - REBIAS) >> 13;
    uint32_t small = bits_of(float_of(magnitude) + 0.5f) - ONE_HALF;
    uint32_t nan = 0x7e00 | (magnitude >> 13 & 0x3ff);
    uint32_t out = magnitude < F16_NORMAL ? small : normal;

    out = magnitude >= F16_BEYOND ? 0x7c00 : out;
    out = magnitude > INFINITE ? nan : out;
    return (uint16_t)(out | bits >> 31 << 15);
}

static inline float from_f16(uint16_t half)
{
    uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13;
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t normal = magnitude + REBIAS;
    /* As if it had an implicit one, which is then taken away. */
    uint32_t small = bits_of(float_of(magnitude + F16_NORMAL) - 0x1p-14f);
    uint32_t out = magnitude < 0x800000 ? small : normal;

    out = magnitude >= 0xf800000 ? magnitude | INFINITE : out;
    return float_of(out | sign);
}

static inline uint16_t to_bf16(float x)
{
    uint32_t bits = bits_of(x);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;

    return (uint16_t)((bits & ~SIGN) > INFINITE ? bits >> 16 | 0x40 : rounded);
}

void cllm_half_f16_encode(uint16_t *restrict out, const float *restrict in, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = to_f16(in[i]);
}

void cllm_half_f16_decode(float *restrict out, const uint16_t *restrict in, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = from_f16(in[i]);
}

void cllm_half_bf16_encode(uint16_t *restrict out, const float *restrict in, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = to_bf16(in[i]);
}

void cllm_half_bf16_decode(float *restrict out, const uint16_t *restrict in, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = float_of((uint32_t)in[i] << 16);
}

static float greatest(const float *in)
{
    uint32_t most = 0;

    for (size_t i = 0; i < CLLM_HALF_Q8_BLOCK; i++) {
        uint32_t magnitude = bits_of(in[i]) & ~SIGN;
        most = magnitude > most ? magnitude : most;
    }
    return float_of(most);
}

void cllm_half_q8_encode(uint8_t *restrict out, const float *restrict in, size_t n_blocks)
{
    for (size_t b = 0; b < n_blocks; b++) {
        const float *x = in + b * CLLM_HALF_Q8_BLOCK;
        uint8_t *block = out + b * CLLM_HALF_Q8_BYTES;
        float scale = greatest(x) / 127;
        float inverse = scale > 0 ? 1 / scale : 0;
        uint16_t half = to_f16(scale);

        /* The inverse of a scale below 2^-128 is infinite: such a block is zeros. */
        inverse = inverse > 0x1.fffffep127f ? 0 : inverse;
        memcpy(block, &half, sizeof half);
        for (size_t i = 0; i < CLLM_HALF_Q8_BLOCK; i++) {
            float value = x[i] * inverse;
            int32_t whole = (int32_t)value;
            float rest = value - (float)whole;

            whole += (rest >= 0.5f) - (rest <= -0.5f);
            block[sizeof half + i] = (uint8_t)(int8_t)whole;
        }
    }
}

void cllm_half_q8_decode(float *restrict out, const uint8_t *restrict in, size_t n_blocks)
{
    for (size_t b = 0; b < n_blocks; b++) {
        const uint8_t *block = in + b * CLLM_HALF_Q8_BYTES;
        uint16_t half;

        memcpy(&half, block, sizeof half);
        float scale = from_f16(half);
        for (size_t i = 0; i < CLLM_HALF_Q8_BLOCK; i++)
            out[b * CLLM_HALF_Q8_BLOCK + i] =
                scale * (float)(int8_t)block[sizeof half + i];
    }
}

size_t cllm_half_f16_fits(const float *in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t magnitude = bits_of(in[i]) & ~SIGN;
        if (magnitude >= bits_of(65520.0f) && magnitude < INFINITE)
            return i;
    }
    return n;
}

size_t cllm_half_q8_fits(const float *in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if ((bits_of(in[i]) & ~SIGN) > bits_of(127 * CLLM_HALF_F16_MAX))
            return i;
    }
    return n;
}
