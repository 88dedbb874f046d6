/*
 * compute/opencl/table_heads.c - attention: kernels for each size of a head, with a
 * learned bias and without, with dropout and without.
 */
#include <stdio.h>

#include "base/err.h"
#include "base/random.h"
#include "compute/elementary.h"
#include "compute/opencl/opencl.h"
#include "compute/opencl/table_inside.h"

enum { MOST = 256, OPTIONS = 144 };

/* The kernels for one size of a head, with and without a bias, with and without dropout.
 */
struct heads {
    struct cllm_cl_kernel forward, queries, keys;
    char options[OPTIONS];
};

static struct heads heads[MOST + 1][2][2];

/* Rows of their own that a group of items has: matches the options below. */
static size_t rows_of_group(void)
{
    return cllm_opencl_style() == CLLM_OPENCL_STYLE_ITEMS ? 16 : 64;
}

static size_t items_of_group(void)
{
    return cllm_opencl_style() == CLLM_OPENCL_STYLE_ITEMS ? 1 : 64;
}

static struct heads *heads_of(size_t D, bool bias, bool drop)
{
    static const char sources[] = "common.cl random.cl attention.cl";
    struct heads *of;
    int n;

    CLLM_ASSERT(D >= 1 && D <= MOST);
    of = &heads[D][bias][drop];
    n = snprintf(of->options, OPTIONS, "%s%s -DD=%zu -DBIAS=%d -DDROP=%d -DBLOCK=%d",
                 cllm_opencl_style() == CLLM_OPENCL_STYLE_ITEMS
                     ? "-w -DVECTOR=16 -DGROUP=1 -DITEMS=1 -DTILE=32 -DSHARE=0"
                     : "-w -DVECTOR=1 -DGROUP=1 -DITEMS=64 -DTILE=16 -DSHARE=1",
                 cllm_opencl_device()->kind == CLLM_OPENCL_CPU ? " -DCOMPACT" : "", D,
                 bias, drop, CLLM_ATTENTION_BLOCK);
    CLLM_ASSERT(n > 0 && n < OPTIONS);
    of->forward.sources = of->queries.sources = of->keys.sources = sources;
    of->forward.options = of->queries.options = of->keys.options = of->options;
    of->forward.name = "attention";
    of->queries.name = "attention_queries";
    of->keys.name = "attention_keys";
    return of;
}

int cllm_opencl_heads_begin(size_t D)
{
    struct heads *of;
    int rc;

    if (D == 0)
        return 0;
    if (D > MOST)
        return cllm_err(CLLM_ECONFIG,
                        "cannot train with heads of %zu elements on a device: it has "
                        "kernels for up to %d",
                        D, MOST);
    of = heads_of(D, false, false);
    rc = cllm_cl_prepare(&of->forward, NULL);
    if (rc == 0)
        rc = cllm_cl_prepare(&of->queries, NULL);
    if (rc == 0)
        rc = cllm_cl_prepare(&of->keys, NULL);
    return rc;
}

/* The kernels that @sizes wants. */
static struct heads *heads_for(const struct cllm_attention *sizes)
{
    return heads_of(sizes->C / sizes->H, sizes->beta != NULL,
                    sizes->dropout.threshold > 0);
}

/* What an attention's kernels take after their arrays; and how many of their own rows,
 * and heads, there are. */
static void run(struct cllm_cl_launch *launch, const struct cllm_attention *sizes,
                size_t first, size_t count)
{
    size_t group = cllm_attention_group(sizes), row = cllm_attention_row(sizes);
    size_t D = sizes->C / sizes->H, items = items_of_group();

    if (sizes->dropout.threshold > 0) {
        cllm_cl_u64(launch, sizes->dropout.key);
        cllm_cl_u32(launch, CLLM_RANDOM_DROPOUT);
        cllm_cl_u32(launch, sizes->dropout.threshold);
        cllm_cl_f32(launch, sizes->dropout.scale);
    }
    cllm_cl_sizes(launch,
                  (const size_t[]){sizes->T, sizes->C, sizes->H, group, row, first}, 6);
    cllm_cl_f32(launch, 1.0f / cllm_sqrtf((float)D));
    cllm_cl_run(launch, 2,
                (const size_t[]){cllm_div_up(sizes->T, rows_of_group()) * items, count},
                (const size_t[]){items, 1});
}

static size_t count_of(const struct cllm_attention *sizes)
{
    return sizes->count == 0 ? sizes->B * sizes->H : sizes->count;
}

/* Bytes of arrays: (B,T,row), (B,T,C), (B,H,T). */
static size_t qkv_bytes(const struct cllm_attention *sizes)
{
    return sizes->B * sizes->T * cllm_attention_row(sizes) * sizeof(float);
}

static size_t out_bytes(const struct cllm_attention *sizes)
{
    return sizes->B * sizes->T * sizes->C * sizeof(float);
}

static size_t lse_bytes(const struct cllm_attention *sizes)
{
    return sizes->B * sizes->H * sizes->T * sizeof(float);
}

/* What they take before that with a bias. */
static void add_bias(struct cllm_cl_launch *launch, const struct cllm_attention *sizes)
{
    if (sizes->beta == NULL)
        return;
    cllm_cl_in(launch, sizes->beta, sizes->H * sizeof(float));
    cllm_cl_in(launch, sizes->similar,
               sizes->B * cllm_attention_pairs(sizes->T) * sizeof(float));
}

void cllm_opencl_attention(const struct cllm_ops *ops, float *out, float *lse,
                           const float *qkv, float *scratch,
                           const struct cllm_attention *sizes)
{
    struct cllm_cl_launch launch;

    (void)ops;
    (void)scratch;
    cllm_cl_begin(&launch, &heads_for(sizes)->forward);
    cllm_cl_inout(&launch, out, out_bytes(sizes));
    cllm_cl_inout(&launch, lse, lse_bytes(sizes));
    cllm_cl_in(&launch, qkv, qkv_bytes(sizes));
    add_bias(&launch, sizes);
    run(&launch, sizes, sizes->first, count_of(sizes));
}

static void begin_backward(struct cllm_cl_launch *launch, struct cllm_cl_kernel *kernel,
                           float *dqkv, const float *dout, const float *qkv,
                           const float *out, const float *lse,
                           const struct cllm_attention *sizes)
{
    cllm_cl_begin(launch, kernel);
    cllm_cl_inout(launch, dqkv, qkv_bytes(sizes));
    cllm_cl_in(launch, dout, out_bytes(sizes));
    cllm_cl_in(launch, qkv, qkv_bytes(sizes));
    cllm_cl_in(launch, out, out_bytes(sizes));
    cllm_cl_in(launch, lse, lse_bytes(sizes));
}

void cllm_opencl_attention_backward(const struct cllm_ops *ops, float *dqkv,
                                    const float *dout, const float *qkv, const float *out,
                                    const float *lse, float *scratch,
                                    const struct cllm_attention *sizes)
{
    struct heads *of = heads_for(sizes);
    size_t group = cllm_attention_group(sizes), count = count_of(sizes);
    struct cllm_cl_launch launch;

    (void)ops;
    (void)scratch;
    CLLM_ASSERT(sizes->first % group == 0 && count % group == 0);
    begin_backward(&launch, &of->queries, dqkv, dout, qkv, out, lse, sizes);
    if (sizes->beta != NULL)
        cllm_cl_inout(&launch, sizes->by_query, lse_bytes(sizes));
    add_bias(&launch, sizes);
    run(&launch, sizes, sizes->first, count);
    begin_backward(&launch, &of->keys, dqkv, dout, qkv, out, lse, sizes);
    add_bias(&launch, sizes);
    run(&launch, sizes, sizes->first / group, count / group);
    if (sizes->beta != NULL)
        cllm_opencl_sum_biases(sizes, count);
}
