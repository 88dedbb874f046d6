/*
 * compute/opencl/table.c - the operations of a device, but for products, attention and
 * similarities.
 */
#include "compute/opencl/table.h"

#include <stdio.h>

#include "base/random.h"
#include "compute/opencl/opencl.h"
#include "compute/opencl/table_inside.h"

/* By how kernels share work: VECTOR elements to an item; GROUP items to a row; COLUMNS
 * and PARTS to a strip of columns (common.cl, columns.cl). */
struct style {
    size_t vector, group, columns, parts;
    size_t items; /* of a group, where it does not matter */
    const char *options;
};

static const struct style styles[] = {
    [CLLM_OPENCL_STYLE_ITEMS] = {16, 1, 1, 1, 16,
                                 "-w -DVECTOR=16 -DGROUP=1 -DCOLUMNS=1 -DPARTS=1"},
    [CLLM_OPENCL_STYLE_GROUPS] = {1, 128, 32, 8, 128,
                                  "-w -DVECTOR=1 -DGROUP=128 -DCOLUMNS=32 -DPARTS=8"},
};

/* Name of each kernel, and its file. */
#define VECTORS "random.cl vector.cl"
#define KERNELS(K)                      \
    K(add_columns, "columns.cl")        \
    K(cross_entropy, "loss.cl")         \
    K(dropout, VECTORS)                 \
    K(embedding, "embedding.cl")        \
    K(embedding_places, "embedding.cl") \
    K(embedding_tokens, "embedding.cl") \
    K(gelu, "activation.cl")            \
    K(gelu_backward, "activation.cl")   \
    K(layernorm, "norm.cl")             \
    K(layernorm_backward, "norm.cl")    \
    K(layernorm_weights, "columns.cl")  \
    K(mixture, VECTORS)                 \
    K(next_tokens, "embedding.cl")      \
    K(rmsnorm, "norm.cl")               \
    K(rmsnorm_backward, "norm.cl")      \
    K(rmsnorm_weights, "columns.cl")    \
    K(rope, "rope.cl")                  \
    K(sum_losses, "loss.cl")            \
    K(swiglu, "activation.cl")          \
    K(swiglu_backward, "activation.cl")

enum {
#define ID(name, file) ID_##name,
    KERNELS(ID)
#undef ID
        N_KERNELS
};

static struct cllm_cl_kernel kernels[N_KERNELS] = {
#define KERNEL(name, file) [ID_##name] = {.sources = "common.cl " file, #name},
    KERNELS(KERNEL)
#undef KERNEL
};

/* Of the device that is open. */
static enum cllm_opencl_style current;
static float *sum; // (2), where sum_losses() leaves a pair

enum cllm_opencl_style cllm_opencl_style(void)
{
    return current;
}

/* ---- launches ---- */

#define BEGIN(launch, name) cllm_cl_begin(launch, &kernels[ID_##name])

static size_t floats(size_t n)
{
    return n * sizeof(float);
}

/* @n elements, VECTOR of them to an item. */
static void run_elements(struct cllm_cl_launch *launch, size_t n)
{
    const struct style *style = &styles[current];
    size_t items = cllm_div_up(n, style->vector);

    cllm_cl_run(launch, 1, (const size_t[]){cllm_align_up(items, style->items)},
                (const size_t[]){style->items});
}

void cllm_opencl_run_rows(struct cllm_cl_launch *launch, size_t rows)
{
    size_t group = styles[current].group;

    cllm_cl_run(launch, 1, (const size_t[]){rows * group}, (const size_t[]){group});
}

/* A strip of items for @cols columns. */
static void run_columns(struct cllm_cl_launch *launch, size_t cols)
{
    const struct style *style = &styles[current];
    size_t items = cllm_div_up(cols, style->vector);

    cllm_cl_run(launch, 2,
                (const size_t[]){cllm_align_up(items, style->columns), style->parts},
                (const size_t[]){style->columns, style->parts});
}

void cllm_opencl_run_items(struct cllm_cl_launch *launch, size_t n)
{
    size_t items = styles[current].items;

    cllm_cl_run(launch, 1, (const size_t[]){cllm_align_up(n, items)},
                (const size_t[]){items});
}

/* ---- vectors ---- */

static void put(void *to, const void *from, size_t bytes)
{
    cllm_cl_write(to, from, bytes);
}

static void zero(float *x, size_t n)
{
    cllm_cl_zero(x, floats(n));
}

static void mix(float *out, const float *x, const float *y, float a, float b, size_t n)
{
    struct cllm_cl_launch launch;

    BEGIN(&launch, mixture);
    cllm_cl_inout(&launch, out, floats(n));
    cllm_cl_in(&launch, x, floats(n));
    cllm_cl_in(&launch, y, floats(n));
    cllm_cl_u64(&launch, n);
    cllm_cl_f32(&launch, a);
    cllm_cl_f32(&launch, b);
    run_elements(&launch, n);
}

static void add_columns(float *to, const float *x, size_t rows, size_t cols)
{
    struct cllm_cl_launch launch;

    BEGIN(&launch, add_columns);
    cllm_cl_inout(&launch, to, floats(cols));
    cllm_cl_in(&launch, x, floats(rows * cols));
    cllm_cl_sizes(&launch, (const size_t[]){rows, cols}, 2);
    run_columns(&launch, cols);
}

static void dropout(float *out, const float *add, const float *x, size_t n,
                    const struct cllm_dropout *drop)
{
    struct cllm_cl_launch launch;

    CLLM_ASSERT(drop->first % 128 == 0);
    BEGIN(&launch, dropout);
    cllm_cl_inout(&launch, out, floats(n));
    cllm_cl_in(&launch, add, add == NULL ? 0 : floats(n));
    cllm_cl_in(&launch, x, floats(n));
    cllm_cl_u64(&launch, n);
    cllm_cl_u64(&launch, drop->key);
    cllm_cl_u64(&launch, drop->first);
    cllm_cl_u32(&launch, drop->threshold);
    cllm_cl_f32(&launch, drop->scale);
    cllm_cl_u32(&launch, CLLM_RANDOM_DROPOUT);
    cllm_cl_u32(&launch, add != NULL);
    cllm_opencl_run_items(&launch, cllm_div_up(n, 128) * 32);
}

/* ---- norms ---- */

static void layernorm(float *out, float *mean, float *rstd, const float *x,
                      const float *weight, const float *bias, float epsilon, size_t rows,
                      size_t cols)
{
    struct cllm_cl_launch launch;

    BEGIN(&launch, layernorm);
    cllm_cl_out(&launch, out, floats(rows * cols));
    cllm_cl_out(&launch, mean, floats(rows));
    cllm_cl_out(&launch, rstd, floats(rows));
    cllm_cl_in(&launch, x, floats(rows * cols));
    cllm_cl_in(&launch, weight, floats(cols));
    cllm_cl_in(&launch, bias, floats(cols));
    cllm_cl_f32(&launch, epsilon);
    cllm_cl_sizes(&launch, &cols, 1);
    cllm_opencl_run_rows(&launch, rows);
}

static void layernorm_weights(float *dweight, float *dbias, const float *dout,
                              const float *x, const float *mean, const float *rstd,
                              size_t rows, size_t cols, size_t first, size_t n)
{
    size_t bytes = floats(rows * cols - first);
    struct cllm_cl_launch launch;

    BEGIN(&launch, layernorm_weights);
    cllm_cl_inout(&launch, dweight + first, floats(n));
    cllm_cl_inout(&launch, dbias + first, floats(n));
    cllm_cl_in(&launch, dout + first, bytes);
    cllm_cl_in(&launch, x + first, bytes);
    cllm_cl_in(&launch, mean, floats(rows));
    cllm_cl_in(&launch, rstd, floats(rows));
    cllm_cl_sizes(&launch, (const size_t[]){rows, cols, n}, 3);
    run_columns(&launch, n);
}

static void layernorm_backward(float *dx, float *dweight, float *dbias, const float *dout,
                               const float *x, const float *mean, const float *rstd,
                               const float *weight, size_t rows, size_t cols)
{
    struct cllm_cl_launch launch;

    BEGIN(&launch, layernorm_backward);
    cllm_cl_inout(&launch, dx, floats(rows * cols));
    cllm_cl_in(&launch, dout, floats(rows * cols));
    cllm_cl_in(&launch, x, floats(rows * cols));
    cllm_cl_in(&launch, mean, floats(rows));
    cllm_cl_in(&launch, rstd, floats(rows));
    cllm_cl_in(&launch, weight, floats(cols));
    cllm_cl_sizes(&launch, &cols, 1);
    cllm_opencl_run_rows(&launch, rows);
    if (dweight != NULL)
        layernorm_weights(dweight, dbias, dout, x, mean, rstd, rows, cols, 0, cols);
}

static void rmsnorm(float *out, float *rstd, const float *x, const float *weight,
                    float epsilon, size_t rows, size_t cols)
{
    struct cllm_cl_launch launch;

    BEGIN(&launch, rmsnorm);
    cllm_cl_out(&launch, out, floats(rows * cols));
    cllm_cl_out(&launch, rstd, floats(rows));
    cllm_cl_in(&launch, x, floats(rows * cols));
    cllm_cl_in(&launch, weight, floats(cols));
    cllm_cl_f32(&launch, epsilon);
    cllm_cl_sizes(&launch, &cols, 1);
    cllm_opencl_run_rows(&launch, rows);
}

static void rmsnorm_weights(float *dweight, const float *dout, const float *x,
                            const float *rstd, size_t rows, size_t cols, size_t first,
                            size_t n)
{
    size_t bytes = floats(rows * cols - first);
    struct cllm_cl_launch launch;

    BEGIN(&launch, rmsnorm_weights);
    cllm_cl_inout(&launch, dweight + first, floats(n));
    cllm_cl_in(&launch, dout + first, bytes);
    cllm_cl_in(&launch, x + first, bytes);
    cllm_cl_in(&launch, rstd, floats(rows));
    cllm_cl_sizes(&launch, (const size_t[]){rows, cols, n}, 3);
    run_columns(&launch, n);
}

static void rmsnorm_backward(float *dx, float *dweight, const float *dout, const float *x,
                             const float *rstd, const float *weight, size_t rows,
                             size_t cols)
{
    struct cllm_cl_launch launch;

    BEGIN(&launch, rmsnorm_backward);
    cllm_cl_inout(&launch, dx, floats(rows * cols));
    cllm_cl_in(&launch, dout, floats(rows * cols));
    cllm_cl_in(&launch, x, floats(rows * cols));
    cllm_cl_in(&launch, rstd, floats(rows));
    cllm_cl_in(&launch, weight, floats(cols));
    cllm_cl_sizes(&launch, &cols, 1);
    cllm_opencl_run_rows(&launch, rows);
    if (dweight != NULL)
        rmsnorm_weights(dweight, dout, x, rstd, rows, cols, 0, cols);
}

/* ---- activations ---- */

static void gelu(float *out, const float *x, size_t n)
{
    struct cllm_cl_launch launch;

    BEGIN(&launch, gelu);
    cllm_cl_out(&launch, out, floats(n));
    cllm_cl_in(&launch, x, floats(n));
    cllm_cl_u64(&launch, n);
    run_elements(&launch, n);
}

static void gelu_backward(float *d, float *out, const float *x, size_t n)
{
    struct cllm_cl_launch launch;

    BEGIN(&launch, gelu_backward);
    cllm_cl_inout(&launch, d, floats(n));
    cllm_cl_out(&launch, out, floats(n));
    cllm_cl_in(&launch, x, floats(n));
    cllm_cl_u64(&launch, n);
    run_elements(&launch, n);
}

static void swiglu(float *out, const float *gate, const float *up, size_t n)
{
    struct cllm_cl_launch launch;

    BEGIN(&launch, swiglu);
    cllm_cl_out(&launch, out, floats(n));
    cllm_cl_in(&launch, gate, floats(n));
    cllm_cl_in(&launch, up, floats(n));
    cllm_cl_u64(&launch, n);
    run_elements(&launch, n);
}

static void swiglu_backward(float *d, float *dup, float *out, const float *gate,
                            const float *up, size_t n)
{
    struct cllm_cl_launch launch;

    BEGIN(&launch, swiglu_backward);
    cllm_cl_inout(&launch, d, floats(n));
    cllm_cl_out(&launch, dup, floats(n));
    cllm_cl_out(&launch, out, floats(n));
    cllm_cl_in(&launch, gate, floats(n));
    cllm_cl_in(&launch, up, floats(n));
    cllm_cl_u64(&launch, n);
    run_elements(&launch, n);
}

/* ---- tokens ---- */

/* Bytes of B sequences of T tokens, @stride apart. */
static size_t token_bytes(size_t B, size_t T, size_t stride)
{
    return ((B - 1) * stride + T) * sizeof(uint32_t);
}

static void embedding(float *out, const uint32_t *tokens, size_t stride, const float *wte,
                      const float *wpe, size_t V, size_t B, size_t T, size_t C)
{
    struct cllm_cl_launch launch;

    BEGIN(&launch, embedding);
    cllm_cl_out(&launch, out, floats(B * T * C));
    cllm_cl_in(&launch, tokens, token_bytes(B, T, stride));
    cllm_cl_in(&launch, wte, floats(V * C));
    cllm_cl_in(&launch, wpe, wpe == NULL ? 0 : floats(T * C));
    cllm_cl_sizes(&launch, (const size_t[]){stride, T, C, wpe != NULL}, 4);
    cllm_opencl_run_rows(&launch, B * T);
}

static void embedding_backward(float *dwte, float *dwpe, const uint32_t *tokens,
                               size_t stride, const float *dout, size_t V, size_t B,
                               size_t T, size_t C)
{
    struct cllm_cl_launch launch;

    BEGIN(&launch, embedding_tokens);
    cllm_cl_inout(&launch, dwte, floats(V * C));
    cllm_cl_in(&launch, tokens, token_bytes(B, T, stride));
    cllm_cl_in(&launch, dout, floats(B * T * C));
    cllm_cl_sizes(&launch, (const size_t[]){stride, T, C, B * T}, 4);
    cllm_opencl_run_rows(&launch, B * T);
    if (dwpe == NULL)
        return;
    BEGIN(&launch, embedding_places);
    cllm_cl_inout(&launch, dwpe, floats(T * C));
    cllm_cl_in(&launch, dout, floats(B * T * C));
    cllm_cl_sizes(&launch, (const size_t[]){B, T, C}, 3);
    cllm_opencl_run_rows(&launch, T);
}

static void next_tokens(uint32_t *targets, const uint32_t *tokens, size_t B, size_t T)
{
    struct cllm_cl_launch launch;

    BEGIN(&launch, next_tokens);
    cllm_cl_out(&launch, targets, B * T * sizeof *targets);
    cllm_cl_in(&launch, tokens, B * (T + 1) * sizeof *tokens);
    cllm_cl_sizes(&launch, (const size_t[]){T, B * T}, 2);
    cllm_opencl_run_items(&launch, B * T);
}

static void rope(float *qkv, const float *table, const struct cllm_attention *sizes,
                 size_t first, size_t rows, bool inverse)
{
    size_t D = sizes->C / sizes->H, row = cllm_attention_row(sizes);
    size_t pairs = (sizes->C + sizes->C / cllm_attention_group(sizes)) / 2;
    size_t items = styles[current].items;
    struct cllm_cl_launch launch;

    BEGIN(&launch, rope);
    cllm_cl_inout(&launch, qkv, floats((first + rows) * row));
    cllm_cl_in(&launch, table, floats(sizes->T * D));
    cllm_cl_sizes(&launch, (const size_t[]){sizes->T, D, row, pairs, first}, 5);
    cllm_cl_f32(&launch, inverse ? -1.0f : 1.0f);
    cllm_cl_run(&launch, 2, (const size_t[]){cllm_align_up(pairs, items), rows},
                (const size_t[]){items, 1});
}

/* ---- loss ---- */

/* In place of a double a row has two floats, whose sum is its loss (loss.cl). */
static void cross_entropy(double *losses, float *logits, const uint32_t *targets,
                          size_t rows, size_t V, bool backward)
{
    struct cllm_cl_launch launch;

    BEGIN(&launch, cross_entropy);
    cllm_cl_out(&launch, losses, rows * sizeof *losses);
    cllm_cl_inout(&launch, logits, floats(rows * V));
    cllm_cl_in(&launch, targets, rows * sizeof *targets);
    cllm_cl_sizes(&launch, (const size_t[]){V, backward}, 2);
    cllm_opencl_run_rows(&launch, rows);
}

/* NaN where that failed: cllm_opencl_error() says why. */
static double sum_losses(const double *losses, size_t n, size_t chunk)
{
    float pair[2];
    struct cllm_cl_launch launch;

    (void)chunk;
    BEGIN(&launch, sum_losses);
    cllm_cl_out(&launch, sum, sizeof pair);
    cllm_cl_in(&launch, losses, n * sizeof *losses);
    cllm_cl_sizes(&launch, &n, 1);
    cllm_opencl_run_rows(&launch, 1);
    if (cllm_opencl_get(pair, sum, sizeof pair) != 0)
        return __builtin_nan("");
    return (double)pair[0] + (double)pair[1];
}

/* ---- all of it ---- */

static const struct cllm_ops table = {
    .add_columns = add_columns,
    .attention = cllm_opencl_attention,
    .attention_backward = cllm_opencl_attention_backward,
    .cross_entropy = cross_entropy,
    .crystal_pairs = cllm_opencl_crystal_pairs,
    .crystal_points = cllm_opencl_crystal_points,
    .dropout = dropout,
    .embedding = embedding,
    .embedding_backward = embedding_backward,
    .gelu = gelu,
    .gelu_backward = gelu_backward,
    .layernorm = layernorm,
    .layernorm_backward = layernorm_backward,
    .layernorm_weights = layernorm_weights,
    .matmul = cllm_opencl_matmul,
    .mix = mix,
    .next_tokens = next_tokens,
    .put = put,
    .rmsnorm = rmsnorm,
    .rmsnorm_backward = rmsnorm_backward,
    .rmsnorm_weights = rmsnorm_weights,
    .rope = rope,
    .similarities = cllm_opencl_similarities,
    .smooth_cross_entropy = cllm_opencl_smooth_cross_entropy,
    .sum_losses = sum_losses,
    .swiglu = swiglu,
    .swiglu_backward = swiglu_backward,
    .zero = zero,
};

/* With the name of what is open. */
static struct cllm_ops mine;
static char name[64];

int cllm_opencl_ops(const struct cllm_ops **ops, enum cllm_opencl_style style, size_t D)
{
    void *address = NULL;
    int rc;

    /* Blocks of matmul_cpu.cl are in local memory, too. */
    if (style == CLLM_OPENCL_STYLE_AUTO)
        style = cllm_opencl_device()->local_is_fast ||
                        cllm_opencl_device()->local_bytes < 512 << 10
                    ? CLLM_OPENCL_STYLE_GROUPS
                    : CLLM_OPENCL_STYLE_ITEMS;
    current = style;
    rc = cllm_cl_tensor_begin(); /* first: it may open the device again */
    if (rc == 0)
        rc = cllm_opencl_reserve(&address, 2 * sizeof *sum, NULL, 0);
    if (rc != 0)
        return rc;
    sum = address;
    for (size_t i = 0; i < N_KERNELS; i++) {
        kernels[i].options = styles[current].options;
        rc = cllm_cl_prepare(&kernels[i], NULL);
        if (rc != 0)
            return rc;
    }
    cllm_opencl_crystal_begin(styles[current].options);
    rc = cllm_opencl_heads_begin(D);
    if (rc != 0)
        return rc;
    mine = table;
    (void)snprintf(name, sizeof name, "opencl, %s%s", cllm_cl_tensor_text(),
                   cllm_opencl_tuned() > 0 ? ", tuned" : "");
    mine.name = name;
    *ops = &mine;
    return 0;
}
