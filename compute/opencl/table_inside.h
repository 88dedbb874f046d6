/*
 * compute/opencl/table_inside.h - what the files of the table share. Inner header of
 * table.c, table_crystal.c, table_heads.c, table_product.c, table_tensor.c and variant.c.
 */
#ifndef CLLM_COMPUTE_OPENCL_TABLE_INSIDE_H
#define CLLM_COMPUTE_OPENCL_TABLE_INSIDE_H

#include "compute/opencl/launch.h"
#include "compute/opencl/table.h"
#include "compute/opencl/variant.h"

/* The style in use, never AUTO. */
enum cllm_opencl_style cllm_opencl_style(void);

/* Launch with a group of items for each of @rows rows; with @n items of which each does
 * one thing. */
void cllm_opencl_run_rows(struct cllm_cl_launch *launch, size_t rows);
void cllm_opencl_run_items(struct cllm_cl_launch *launch, size_t n);

/* Where kernels take uint. */
static inline uint32_t cllm_cl_size(size_t n)
{
    CLLM_ASSERT(n <= UINT32_MAX);
    return (uint32_t)n;
}

static inline void cllm_cl_sizes(struct cllm_cl_launch *launch, const size_t *n,
                                 size_t count)
{
    for (size_t i = 0; i < count; i++)
        cllm_cl_u32(launch, cllm_cl_size(n[i]));
}

/* ---- compute/opencl/table_product.c ---- */

void cllm_opencl_matmul(float *c, const float *a, const float *b,
                        const struct cllm_matmul *shape);

/* Bytes from the first element of a matrix to behind its last. */
size_t cllm_cl_matrix_bytes(size_t rows, size_t cols, size_t stride);

/* ---- compute/opencl/variant.c ---- */

/* Ways to sum: bits are the same within one. */
enum cllm_cl_family {
    CLLM_CL_FAMILY_ITEMS = CLLM_OPENCL_STYLE_ITEMS,
    CLLM_CL_FAMILY_GROUPS = CLLM_OPENCL_STYLE_GROUPS,
    CLLM_CL_FAMILY_TENSOR,  /* tensor cores, for bf16 */
    CLLM_CL_FAMILY_EMULATED /* the same kernels on any device, for tests */
};

struct cllm_cl_variant {
    enum cllm_cl_family family;
    const char *name;
    bool usual;      /* the rule may take it, and it is built at the beginning */
    size_t m, n;     /* of C, that a group computes */
    size_t items[2]; /* of a group, along n and along m */
    const char *sources, *kernel;
    const char *options[2]; /* for f32, for bf16 */
};

const struct cllm_cl_variant *cllm_cl_variant(size_t variant);
struct cllm_cl_kernel *cllm_cl_variant_kernel(size_t variant);

/* Builds the usual variants of @family, and those that were measured as the best. Returns
 * 0 or a negative code with text, after which another family can be begun. */
int cllm_cl_variants_begin(enum cllm_cl_family family);

/* ---- compute/opencl/table_tensor.c ---- */

/* Begins the variants: of tensor cores where there are some, they are wanted, and they
 * multiply right; else those of the style. */
int cllm_cl_tensor_begin(void);

/* Whether products are computed on tensor cores, and for people how products are
 * computed: "bf16 on tensor cores". */
bool cllm_cl_tensor(void);
const char *cllm_cl_tensor_text(void);

/* A product there, as cllm_opencl_matmul() begins it: with all strides, what is added in
 * place of accumulate, and the form. */
struct cllm_cl_product {
    float *c;
    const float *a, *b;
    struct cllm_matmul shape;
    unsigned form;
};
void cllm_cl_tensor_product(const struct cllm_cl_product *product, size_t variant);

/* ---- compute/opencl/table_heads.c ---- */

void cllm_opencl_attention(const struct cllm_ops *ops, float *out, float *lse,
                           const float *qkv, float *scratch,
                           const struct cllm_attention *sizes);
void cllm_opencl_attention_backward(const struct cllm_ops *ops, float *dqkv,
                                    const float *dout, const float *qkv, const float *out,
                                    const float *lse, float *scratch,
                                    const struct cllm_attention *sizes);

/* Builds the kernels for heads of @D elements; 0: none. */
int cllm_opencl_heads_begin(size_t D);

/* ---- compute/opencl/table_crystal.c ---- */

void cllm_opencl_crystal_points(float *points, size_t stride, const uint32_t *tokens,
                                size_t first, size_t n);
void cllm_opencl_crystal_pairs(float *similar, size_t ld, const float *points,
                               size_t stride, size_t first, size_t rows);
void cllm_opencl_similarities(float *c, uint32_t target, size_t V,
                              const struct cllm_smoothing *smoothing);
void cllm_opencl_smooth_cross_entropy(double *losses, float *logits,
                                      const uint32_t *targets, size_t rows, size_t V,
                                      bool backward,
                                      const struct cllm_smoothing *smoothing, float *c);

/* dbeta of the heads that @sizes names, out of by_query. */
void cllm_opencl_sum_biases(const struct cllm_attention *sizes, size_t count);

/* @options of the style, of static lifetime. Builds nothing: most models do without. */
void cllm_opencl_crystal_begin(const char *options);

#endif /* CLLM_COMPUTE_OPENCL_TABLE_INSIDE_H */
