/*
 * compute/norm.c - layer and root mean square normalisation and their gradients, row by
 * row.
 */
#include "compute/kernels.h"

#include "compute/elementary.h"
#include "compute/reduce.h"

/* Rows that are computed side by side: in one alone each addition waits for the last. The
 * functions below are told so as a constant, or one for the rows that are left. */
enum { TOGETHER = 4 };
#define SIDE_BY_SIDE static inline __attribute__((always_inline)) void

/* Sums of @count rows of @x (count,cols). */
SIDE_BY_SIDE sum_rows(float *sum, const float *x, size_t count, size_t cols)
{
    float lane[TOGETHER][CLLM_LANES] = {0};
    size_t c = 0;

    for (; c + CLLM_LANES <= cols; c += CLLM_LANES) {
#pragma GCC unroll 4
        for (size_t r = 0; r < count; r++)
#pragma GCC unroll 1
            for (size_t j = 0; j < CLLM_LANES; j++)
                lane[r][j] += x[r * cols + c + j];
    }
#pragma GCC unroll 1
    for (size_t r = 0; r < count; r++) {
        for (size_t j = 0; c + j < cols; j++)
            lane[r][j] += x[r * cols + c + j];
        sum[r] = cllm_reduce_lanes(lane[r]);
    }
}

/* Likewise of (x - mean)^2. */
SIDE_BY_SIDE sum_squares(float *sum, const float *x, const float *mean, size_t count,
                         size_t cols)
{
    float lane[TOGETHER][CLLM_LANES] = {0};
    size_t c = 0;

    for (; c + CLLM_LANES <= cols; c += CLLM_LANES) {
#pragma GCC unroll 4
        for (size_t r = 0; r < count; r++)
#pragma GCC unroll 1
            for (size_t j = 0; j < CLLM_LANES; j++) {
                float far = x[r * cols + c + j] - mean[r];

                lane[r][j] += far * far;
            }
    }
#pragma GCC unroll 1
    for (size_t r = 0; r < count; r++) {
        for (size_t j = 0; c + j < cols; j++) {
            float far = x[r * cols + c + j] - mean[r];

            lane[r][j] += far * far;
        }
        sum[r] = cllm_reduce_lanes(lane[r]);
    }
}

SIDE_BY_SIDE layernorm_rows(float *restrict out, float *restrict mean,
                            float *restrict rstd, const float *restrict x,
                            const float *restrict weight, const float *restrict bias,
                            float epsilon, size_t count, size_t cols)
{
    float m[TOGETHER], s[TOGETHER];

    sum_rows(m, x, count, cols);
    for (size_t r = 0; r < count; r++)
        m[r] /= (float)cols;
    /* In two passes: x^2 - mean^2 would cancel. */
    sum_squares(s, x, m, count, cols);
    for (size_t r = 0; r < count; r++) {
        mean[r] = m[r];
        rstd[r] = s[r] = 1.0f / cllm_sqrtf(s[r] / (float)cols + epsilon);
    }
#pragma GCC unroll 1
    for (size_t r = 0; r < count; r++)
        for (size_t c = 0; c < cols; c++)
            out[r * cols + c] = (x[r * cols + c] - m[r]) * s[r] * weight[c] + bias[c];
}

void CLLM_KERNEL(layernorm)(float *out, float *mean, float *rstd, const float *x,
                            const float *weight, const float *bias, float epsilon,
                            size_t rows, size_t cols)
{
    size_t r = 0;

    for (; r + TOGETHER <= rows; r += TOGETHER)
        layernorm_rows(out + r * cols, mean + r, rstd + r, x + r * cols, weight, bias,
                       epsilon, TOGETHER, cols);
    for (; r < rows; r++)
        layernorm_rows(out + r * cols, mean + r, rstd + r, x + r * cols, weight, bias,
                       epsilon, 1, cols);
}

/*
 * With n = (x - mean) rstd and g = dout weight:
 * dx += rstd (g - mean(g) - n mean(g n)), dweight += dout n, dbias += dout.
 */
static void backward_row(float *restrict dx, float *restrict dweight,
                         float *restrict dbias, const float *restrict dout,
                         const float *restrict x, const float *restrict weight, float m,
                         float s, size_t cols)
{
    float sum[CLLM_LANES] = {0}, dot[CLLM_LANES] = {0};
    float mean_g, mean_gn;
    size_t c = 0;

    for (; c + CLLM_LANES <= cols; c += CLLM_LANES) {
#pragma GCC unroll 1
        for (size_t j = 0; j < CLLM_LANES; j++) {
            float g = dout[c + j] * weight[c + j];

            sum[j] += g;
            dot[j] += g * ((x[c + j] - m) * s);
        }
    }
    for (size_t j = 0; c + j < cols; j++) {
        sum[j] += dout[c + j] * weight[c + j];
        dot[j] += dout[c + j] * weight[c + j] * ((x[c + j] - m) * s);
    }
    mean_g = cllm_reduce_lanes(sum) / (float)cols;
    mean_gn = cllm_reduce_lanes(dot) / (float)cols;
    if (dweight == NULL) {
        for (c = 0; c < cols; c++)
            dx[c] += s * (dout[c] * weight[c] - mean_g - (x[c] - m) * s * mean_gn);
        return;
    }
    for (c = 0; c < cols; c++) {
        float n = (x[c] - m) * s;

        dx[c] += s * (dout[c] * weight[c] - mean_g - n * mean_gn);
        dweight[c] += dout[c] * n;
        dbias[c] += dout[c];
    }
}

void CLLM_KERNEL(layernorm_backward)(float *dx, float *dweight, float *dbias,
                                     const float *dout, const float *x, const float *mean,
                                     const float *rstd, const float *weight, size_t rows,
                                     size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        backward_row(dx + r * cols, dweight, dbias, dout + r * cols, x + r * cols, weight,
                     mean[r], rstd[r], cols);
}

void CLLM_KERNEL(layernorm_weights)(float *restrict dweight, float *restrict dbias,
                                    const float *restrict dout, const float *restrict x,
                                    const float *mean, const float *rstd, size_t rows,
                                    size_t cols, size_t first, size_t n)
{
    for (size_t r = 0; r < rows; r++) {
        const float *from = x + r * cols, *d = dout + r * cols;
        float m = mean[r], s = rstd[r];

        for (size_t c = first; c < first + n; c++) {
            dweight[c] += d[c] * ((from[c] - m) * s);
            dbias[c] += d[c];
        }
    }
}

/* ---- root mean square ---- */

void CLLM_KERNEL(rmsnorm)(float *restrict out, float *restrict rstd,
                          const float *restrict x, const float *restrict weight,
                          float epsilon, size_t rows, size_t cols)
{
    float count = (float)cols;

    for (size_t r = 0; r < rows; r++) {
        const float *from = x + r * cols;
        float *to = out + r * cols;
        float square = cllm_reduce_dot(from, from, cols) / count;
        float s = 1.0f / cllm_sqrtf(square + epsilon);

        for (size_t c = 0; c < cols; c++)
            to[c] = from[c] * s * weight[c];
        rstd[r] = s;
    }
}

/* With n = x rstd and g = dout weight: dx += rstd (g - n mean(g n)), dweight += dout n.
 */
static void rms_backward_row(float *restrict dx, float *restrict dweight,
                             const float *restrict dout, const float *restrict x,
                             const float *restrict weight, float s, size_t cols)
{
    float dot[CLLM_LANES] = {0};
    float mean_gn;
    size_t c = 0;

    for (; c + CLLM_LANES <= cols; c += CLLM_LANES)
#pragma GCC unroll 1
        for (size_t j = 0; j < CLLM_LANES; j++)
            dot[j] += dout[c + j] * weight[c + j] * (x[c + j] * s);
    for (size_t j = 0; c + j < cols; j++)
        dot[j] += dout[c + j] * weight[c + j] * (x[c + j] * s);
    mean_gn = cllm_reduce_lanes(dot) / (float)cols;
    if (dweight == NULL) {
        for (c = 0; c < cols; c++)
            dx[c] += s * (dout[c] * weight[c] - x[c] * s * mean_gn);
        return;
    }
    for (c = 0; c < cols; c++) {
        float n = x[c] * s;

        dx[c] += s * (dout[c] * weight[c] - n * mean_gn);
        dweight[c] += dout[c] * n;
    }
}

void CLLM_KERNEL(rmsnorm_backward)(float *dx, float *dweight, const float *dout,
                                   const float *x, const float *rstd, const float *weight,
                                   size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        rms_backward_row(dx + r * cols, dweight, dout + r * cols, x + r * cols, weight,
                         rstd[r], cols);
}

void CLLM_KERNEL(rmsnorm_weights)(float *restrict dweight, const float *restrict dout,
                                  const float *restrict x, const float *rstd, size_t rows,
                                  size_t cols, size_t first, size_t n)
{
    for (size_t r = 0; r < rows; r++) {
        const float *from = x + r * cols, *d = dout + r * cols;
        float s = rstd[r];

        for (size_t c = first; c < first + n; c++)
            dweight[c] += d[c] * (from[c] * s);
    }
}
