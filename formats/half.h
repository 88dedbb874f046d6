/*
 * formats/half.h - numbers of fewer than 32 bits, as files hold them.
 *
 *     f16    IEEE 754 half precision: 5 bits of exponent, 10 of fraction
 *     bf16   the upper half of a float: 8 bits of exponent, 7 of fraction
 *     q8     ggml's q8_0: 32 numbers share a scale; f16 scale, then 32 int8
 *
 * Encoding rounds to the nearest, ties to even; a NaN stays a NaN with its sign and what
 * fits of its payload. q8 rounds ties away from zero, as ggml does, so that its bytes are
 * those of llama.cpp's converter. Decoding is exact. Bulk: one call for many numbers.
 */
#ifndef CLLM_FORMATS_HALF_H
#define CLLM_FORMATS_HALF_H

#include "base/base.h"

#define CLLM_HALF_F16_MAX  65504.0f /* beyond 65519 it becomes infinite */
#define CLLM_HALF_Q8_BLOCK 32       /* numbers */
#define CLLM_HALF_Q8_BYTES 34       /* of a block */

/* @n numbers each way; the arrays do not overlap. */
void cllm_half_f16_encode(uint16_t *out, const float *in, size_t n);
void cllm_half_f16_decode(float *out, const uint16_t *in, size_t n);
void cllm_half_bf16_encode(uint16_t *out, const float *in, size_t n);
void cllm_half_bf16_decode(float *out, const uint16_t *in, size_t n);

/*
 * @n_blocks blocks of 32 numbers and 34 bytes. The scale of a block is its greatest
 * magnitude / 127; a block of zeros has scale 0. Encoding wants numbers that
 * cllm_half_q8_fits().
 */
void cllm_half_q8_encode(uint8_t *out, const float *in, size_t n_blocks);
void cllm_half_q8_decode(float *out, const uint8_t *in, size_t n_blocks);

/* The first of @n numbers that the format cannot hold, or @n. For f16: finite, but
 * infinite when rounded. For q8: not finite, or too large for the scale. */
size_t cllm_half_f16_fits(const float *in, size_t n);
size_t cllm_half_q8_fits(const float *in, size_t n);

#endif /* CLLM_FORMATS_HALF_H */
