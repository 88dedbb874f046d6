/*
 * compute/norm.c - layer and root mean square normalisation and their gradients, row by
 * row.
 */
#include "compute/kernels.h"

#include "compute/elementary.h"
#include "compute/reduce.h"

void CLLM_KERNEL(layernorm)(float *restrict out, float *restrict mean,
                            float *restrict rstd, const float *restrict x,
                            const float *restrict weight, const float *restrict bias,
                            float epsilon, size_t rows, size_t cols)
{
    float count = (float)cols;

    for (size_t r = 0; r < rows; r++) {
        const float *from = x + r * cols;
        float *to = out + r * cols;
        float m = cllm_reduce_sum(from, cols) / count;
        /* In two passes: x^2 - mean^2 would cancel. */
        float variance = cllm_reduce_squares(from, m, cols) / count;
        float s = 1.0f / cllm_sqrtf(variance + epsilon);

        for (size_t c = 0; c < cols; c++)
            to[c] = (from[c] - m) * s * weight[c] + bias[c];
        mean[r] = m;
        rstd[r] = s;
    }
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
