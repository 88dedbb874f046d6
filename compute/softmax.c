/*
 * compute/softmax.c - softmax of a row, and the loss that sits on one.
 *
 * The maximum may pass over a NaN; the sum of exponentials meets it again, so a row with
 * a NaN or with an infinity comes out as NaN and the loss says so.
 */
#include "compute/kernels.h"

#include "compute/exponentials.h"

float CLLM_KERNEL(softmax)(float *x, size_t n, float scale)
{
    float top = cllm_reduce_max(x, n) * scale;
    float sum = cllm_exponentials(x, scale, top, n);
    float inverse = 1.0f / sum;

    for (size_t i = 0; i < n; i++)
        x[i] *= inverse;
    return top + cllm_logf(sum);
}

void CLLM_KERNEL(cross_entropy)(double *losses, float *logits, const uint32_t *targets,
                                size_t rows, size_t V, bool backward)
{
    for (size_t r = 0; r < rows; r++) {
        float *row = logits + r * V; // (V)
        float target = row[targets[r]];
        float top = cllm_reduce_max(row, V);
        float sum = cllm_exponentials(row, 1.0f, top, V);
        float inverse;

        losses[r] = (double)cllm_logf(sum) + ((double)top - (double)target);
        if (!backward)
            continue;
        inverse = 1.0f / sum;
        for (size_t i = 0; i < V; i++)
            row[i] *= inverse;
        row[targets[r]] -= 1.0f;
    }
}

double CLLM_KERNEL(sum_losses)(const double *losses, size_t n, size_t chunk)
{
    double sum = 0;

    for (size_t first = 0; first < n; first += chunk) {
        size_t end = cllm_min_u64(first + chunk, n);
        double part = 0;

        for (size_t r = first; r < end; r++)
            part += losses[r];
        sum += part;
    }
    return sum;
}
