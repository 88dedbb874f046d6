/*
 * compute/opencl/table_crystal.c - similarities of token ids, and the loss whose targets
 * they smooth. Built when first used.
 */
#include "compute/opencl/table_inside.h"

#define SOURCES "common.cl crystal.cl"

static struct cllm_cl_kernel points_kernel = {SOURCES, .name = "crystal_points"};
static struct cllm_cl_kernel pairs_kernel = {SOURCES, .name = "crystal_pairs"};
static struct cllm_cl_kernel sum_kernel = {SOURCES, .name = "sum_biases"};
static struct cllm_cl_kernel row_kernel = {SOURCES, .name = "similarities"};
static struct cllm_cl_kernel loss_kernel = {SOURCES, .name = "smooth_cross_entropy"};

void cllm_opencl_crystal_begin(const char *options)
{
    points_kernel.options = options;
    pairs_kernel.options = options;
    sum_kernel.options = options;
    row_kernel.options = options;
    loss_kernel.options = options;
}

static size_t floats(size_t n)
{
    return n * sizeof(float);
}

/* ---- pairs ---- */

void cllm_opencl_crystal_points(float *points, size_t stride, const uint32_t *tokens,
                                size_t first, size_t n)
{
    struct cllm_cl_launch launch;

    cllm_cl_begin(&launch, &points_kernel);
    cllm_cl_inout(&launch, points, floats(2 * stride + first + n));
    cllm_cl_in(&launch, tokens, (first + n) * sizeof *tokens);
    cllm_cl_sizes(&launch, (const size_t[]){stride, first, n}, 3);
    cllm_opencl_run_items(&launch, n);
}

void cllm_opencl_crystal_pairs(float *similar, size_t ld, const float *points,
                               size_t stride, size_t first, size_t rows)
{
    struct cllm_cl_launch launch;

    cllm_cl_begin(&launch, &pairs_kernel);
    cllm_cl_inout(&launch, similar, floats((rows - 1) * ld + first + rows));
    cllm_cl_in(&launch, points, floats(2 * stride + first + rows));
    cllm_cl_sizes(&launch, (const size_t[]){ld, stride, first}, 3);
    cllm_opencl_run_rows(&launch, rows);
}

void cllm_opencl_sum_biases(const struct cllm_attention *sizes, size_t count)
{
    const size_t T = sizes->T, first = sizes->first;
    struct cllm_cl_launch launch;

    cllm_cl_begin(&launch, &sum_kernel);
    cllm_cl_inout(&launch, sizes->dbeta + first, floats(count));
    cllm_cl_in(&launch, sizes->by_query + first * T, floats(count * T));
    cllm_cl_sizes(&launch, &T, 1);
    cllm_opencl_run_rows(&launch, count);
}

/* ---- one id and all others ---- */

void cllm_opencl_similarities(float *c, uint32_t target, size_t V,
                              const struct cllm_smoothing *smoothing)
{
    struct cllm_cl_launch launch;

    cllm_cl_begin(&launch, &row_kernel);
    cllm_cl_out(&launch, c, floats(V));
    cllm_cl_in(&launch, smoothing->x, floats(V));
    cllm_cl_in(&launch, smoothing->y, floats(V));
    cllm_cl_sizes(&launch, (const size_t[]){target, V}, 2);
    cllm_opencl_run_rows(&launch, 1);
}

void cllm_opencl_smooth_cross_entropy(double *losses, float *logits,
                                      const uint32_t *targets, size_t rows, size_t V,
                                      bool backward,
                                      const struct cllm_smoothing *smoothing, float *c)
{
    struct cllm_cl_launch launch;

    (void)c; /* computed where it is needed: rows are side by side */
    cllm_cl_begin(&launch, &loss_kernel);
    cllm_cl_out(&launch, losses, rows * sizeof *losses);
    cllm_cl_inout(&launch, logits, floats(rows * V));
    cllm_cl_in(&launch, targets, rows * sizeof *targets);
    cllm_cl_in(&launch, smoothing->x, floats(V));
    cllm_cl_in(&launch, smoothing->y, floats(V));
    cllm_cl_sizes(&launch, (const size_t[]){V, backward}, 2);
    cllm_cl_f32(&launch, smoothing->epsilon);
    cllm_opencl_run_rows(&launch, rows);
}
