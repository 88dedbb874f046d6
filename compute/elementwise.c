/*
 * compute/elementwise.c - gradients of biases, GELU, SwiGLU, embedding: each value read
 * and written once.
 */
#include "compute/kernels.h"

#include <string.h>

#include "compute/elementary.h"

/* A strip of columns at a time, so that its sums stay in registers. */
void CLLM_KERNEL(add_columns)(float *sum, const float *x, size_t rows, size_t cols)
{
    enum { STRIP = 32 };
    size_t c = 0;

    for (; c + STRIP <= cols; c += STRIP) {
        float strip[STRIP] = {0};

        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < STRIP; j++)
                strip[j] += x[r * cols + c + j];
        for (size_t j = 0; j < STRIP; j++)
            sum[c + j] += strip[j];
    }
    for (; c < cols; c++) {
        float one = 0.0f;

        for (size_t r = 0; r < rows; r++)
            one += x[r * cols + c];
        sum[c] += one;
    }
}

/*
 * 1/2 (1 + tanh(u)) is the logistic function of 2u, which keeps the relative accuracy of
 * large negative x that 1 + tanh loses. With u = sqrt(2/pi) (x + 0.044715 x^3):
 */
#define GATE_1  2.3022082f   /* 2 sqrt(2/pi) / ln 2 */
#define GATE_3  0.10294324f  /* 0.044715 of it */
#define SLOPE_0 1.59576912f  /* 2u' = 2 sqrt(2/pi) ... */
#define SLOPE_2 0.214064449f /* ... + 3 * 0.044715 of it x^2 */

static inline float gate(float x)
{
    return cllm_logistic2f(x * (GATE_1 + GATE_3 * (x * x)));
}

void CLLM_KERNEL(gelu)(float *restrict out, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = x[i] * gate(x[i]);
}

/* With s the gate: d/dx (x s) = s + x s (1 - s) 2u'. */
void CLLM_KERNEL(gelu_backward)(float *restrict d, float *restrict out,
                                const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float s = gate(x[i]);
        float y = x[i] * s;
        float slope = SLOPE_0 + SLOPE_2 * (x[i] * x[i]);

        out[i] = y;
        d[i] *= s + y * (1.0f - s) * slope;
    }
}

#define LOG2_E 1.44269504f

void CLLM_KERNEL(swiglu)(float *restrict out, const float *restrict gate,
                         const float *restrict up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = gate[i] * cllm_logistic2f(gate[i] * LOG2_E) * up[i];
}

/* With s the logistic function of x: d/dx (x s) = s + x s (1 - s). */
void CLLM_KERNEL(swiglu_backward)(float *restrict d, float *restrict dup,
                                  float *restrict out, const float *restrict gate,
                                  const float *restrict up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float s = cllm_logistic2f(gate[i] * LOG2_E);
        float y = gate[i] * s;

        out[i] = y * up[i];
        dup[i] = d[i] * y;
        d[i] = d[i] * up[i] * (s + y * (1.0f - s));
    }
}

void CLLM_KERNEL(embedding)(float *out, const uint32_t *tokens, size_t stride,
                            const float *wte, const float *wpe, size_t V, size_t B,
                            size_t T, size_t C)
{
    (void)V;
    for (size_t b = 0; b < B; b++) {
        for (size_t t = 0; t < T; t++) {
            float *to = out + (b * T + t) * C;
            const float *token = wte + tokens[b * stride + t] * C;
            const float *place;

            if (wpe == NULL) {
                memcpy(to, token, C * sizeof *to);
                continue;
            }
            place = wpe + t * C;
            for (size_t c = 0; c < C; c++)
                to[c] = token[c] + place[c];
        }
    }
}

void CLLM_KERNEL(embedding_backward)(float *dwte, float *dwpe, const uint32_t *tokens,
                                     size_t stride, const float *dout, size_t V, size_t B,
                                     size_t T, size_t C)
{
    (void)V;
    for (size_t b = 0; b < B; b++) {
        for (size_t t = 0; t < T; t++) {
            const float *from = dout + (b * T + t) * C;
            float *token = dwte + tokens[b * stride + t] * C;
            float *place;

            for (size_t c = 0; c < C; c++)
                token[c] += from[c];
            if (dwpe == NULL)
                continue;
            place = dwpe + t * C;
            for (size_t c = 0; c < C; c++)
                place[c] += from[c];
        }
    }
}

void CLLM_KERNEL(next_tokens)(uint32_t *targets, const uint32_t *tokens, size_t B,
                              size_t T)
{
    for (size_t b = 0; b < B; b++)
        memcpy(targets + b * T, tokens + b * (T + 1) + 1, T * sizeof *targets);
}
