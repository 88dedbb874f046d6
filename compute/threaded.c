/*
 * compute/threaded.c - the operations table of several threads.
 *
 * Every operation is cut where its elements do not meet, and the table below does the
 * pieces: products by columns or rows of C (never along k, whose order is part of the
 * bits), attention by heads, norms and losses by rows, the rest by elements. What is
 * added in the order of rows stays on one thread (embedding_backward), or is cut between
 * columns. Passes over parameters and gradients are not cut here: the worker hands out
 * their chunks itself.
 */
#include "compute/threaded.h"

#include <stdio.h>
#include <string.h>

enum {
    LEAST = 16384,  /* elements of a part: some microseconds, many times a hand-over */
    SHARES = 2,     /* parts for each thread: who is late leaves some to others */
    TILE_COLS = 32, /* of a matrix product: no tile is cut */
    TILE_ROWS = 12, /* likewise */
    PRODUCTS = 16   /* multiply-adds that cost as much as an element */
};

static struct {
    const struct cllm_ops *base;
    size_t least;
    struct cllm_ops table;
    char name[64];
} self;

const struct cllm_ops *cllm_threaded_base(void)
{
    return self.base;
}

/* ---- cutting ---- */

struct cllm_cut cllm_cut_of(size_t n, size_t unit, size_t work)
{
    uint64_t parts = cllm_min_u64(cllm_div_up(n, unit), work / self.least);

    parts = cllm_min_u64(parts, (uint64_t)SHARES * cllm_threads_count());
    return (struct cllm_cut){
        .n = n, .unit = unit, .n_parts = (uint32_t)cllm_max_u64(parts, 1)};
}

/* Where @part begins; it ends where the next begins. */
static size_t begin_of(const struct cllm_cut *cut, uint32_t part)
{
    return cllm_min_u64(cllm_div_up(cut->n, cut->unit) * part / cut->n_parts * cut->unit,
                        cut->n);
}

size_t cllm_cut_piece(const struct cllm_cut *cut, uint32_t part, size_t *count)
{
    size_t begin = begin_of(cut, part);

    *count = begin_of(cut, part + 1) - begin;
    return begin;
}

/* ---- matrix products ---- */

struct product {
    struct cllm_cut cut;
    bool by_cols;
    float *c;
    const float *a, *b;
    struct cllm_matmul shape; /* without zeros for leading dimensions */
};

static void multiply_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct product *x = ctx;
    struct cllm_matmul shape = x->shape;
    size_t count, at = cllm_cut_piece(&x->cut, part, &count);
    size_t of_c = x->by_cols ? at : at * shape.ldc;

    (void)thread;
    shape.add = shape.add == NULL ? NULL : shape.add + of_c;
    if (x->by_cols) {
        shape.n = count;
        shape.bias = shape.bias == NULL ? NULL : shape.bias + at;
        self.base->matmul(x->c + of_c, x->a, x->b + (shape.trans_b ? at * shape.ldb : at),
                          &shape);
    } else {
        shape.m = count;
        self.base->matmul(x->c + of_c, x->a + (shape.trans_a ? at : at * shape.lda), x->b,
                          &shape);
    }
}

static void matmul(float *c, const float *a, const float *b,
                   const struct cllm_matmul *shape)
{
    struct product x = {
        .by_cols = shape->n >= shape->m, .c = c, .a = a, .b = b, .shape = *shape};
    size_t work = shape->m * shape->n * shape->k / PRODUCTS;

    if (shape->lda == 0)
        x.shape.lda = shape->trans_a ? shape->m : shape->k;
    if (shape->ldb == 0)
        x.shape.ldb = shape->trans_b ? shape->k : shape->n;
    if (shape->ldc == 0)
        x.shape.ldc = shape->n;
    x.cut = x.by_cols ? cllm_cut_of(shape->n, TILE_COLS, work)
                      : cllm_cut_of(shape->m, TILE_ROWS, work);
    cllm_threads_run(multiply_part, &x, x.cut.n_parts);
}

/* ---- attention ---- */

struct attention {
    struct cllm_cut cut;
    float *to, *lse_to; /* forward: out, lse; backward: dqkv */
    const float *dout, *qkv, *out, *lse;
    float *scratch; /* of the first thread */
    const struct cllm_attention *sizes;
};

/* The heads of @part. */
static struct cllm_attention heads_of(const struct attention *x, uint32_t part)
{
    struct cllm_attention heads = *x->sizes;

    heads.first = cllm_cut_piece(&x->cut, part, &heads.count);
    return heads;
}

static float *scratch_of(const struct attention *x, uint32_t thread)
{
    if (thread == 0)
        return x->scratch;
    CLLM_ASSERT(cllm_attention_scratch(x->sizes->T) <= cllm_threads_scratch_elements());
    return cllm_threads_scratch(thread);
}

static struct cllm_cut cut_heads(const struct cllm_attention *sizes)
{
    size_t heads = sizes->B * sizes->H, T = sizes->T;

    CLLM_ASSERT(sizes->count == 0);
    return cllm_cut_of(heads, cllm_attention_group(sizes),
                       heads * T * T * (1 + sizes->C / sizes->H / PRODUCTS));
}

static void attend_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct attention *x = ctx;
    const struct cllm_attention heads = heads_of(x, part);

    self.base->attention(self.base, x->to, x->lse_to, x->qkv, scratch_of(x, thread),
                         &heads);
}

static void attention(const struct cllm_ops *ops, float *out, float *lse,
                      const float *qkv, float *scratch,
                      const struct cllm_attention *sizes)
{
    struct attention x = {.cut = cut_heads(sizes),
                          .to = out,
                          .lse_to = lse,
                          .qkv = qkv,
                          .scratch = scratch,
                          .sizes = sizes};

    (void)ops;
    cllm_threads_run(attend_part, &x, x.cut.n_parts);
}

static void attend_backward_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct attention *x = ctx;
    const struct cllm_attention heads = heads_of(x, part);

    self.base->attention_backward(self.base, x->to, x->dout, x->qkv, x->out, x->lse,
                                  scratch_of(x, thread), &heads);
}

static void attention_backward(const struct cllm_ops *ops, float *dqkv, const float *dout,
                               const float *qkv, const float *out, const float *lse,
                               float *scratch, const struct cllm_attention *sizes)
{
    struct attention x = {.cut = cut_heads(sizes),
                          .to = dqkv,
                          .dout = dout,
                          .qkv = qkv,
                          .out = out,
                          .lse = lse,
                          .scratch = scratch,
                          .sizes = sizes};

    (void)ops;
    cllm_threads_run(attend_backward_part, &x, x.cut.n_parts);
}

struct turning {
    struct cllm_cut cut; /* of rows */
    float *qkv;
    const float *table;
    const struct cllm_attention *sizes;
    bool inverse;
};

static void rope_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct turning *x = ctx;
    size_t count, row = cllm_cut_piece(&x->cut, part, &count);

    (void)thread;
    self.base->rope(x->qkv, x->table, x->sizes, row, count, x->inverse);
}

static void rope(float *qkv, const float *table, const struct cllm_attention *sizes,
                 size_t first, size_t rows, bool inverse)
{
    size_t row = cllm_attention_row(sizes);
    struct turning x = {.cut = cllm_cut_of(rows, 1, rows * row),
                        .qkv = qkv,
                        .table = table,
                        .sizes = sizes,
                        .inverse = inverse};

    CLLM_ASSERT(first == 0);
    cllm_threads_run(rope_part, &x, x.cut.n_parts);
}

/* ---- the table ---- */

const struct cllm_ops *cllm_ops_threaded(const struct cllm_ops *base, size_t least)
{
    if (cllm_threads_count() == 1)
        return base;
    self.base = base;
    self.least = least > 0 ? least : LEAST;
    (void)snprintf(self.name, sizeof self.name, "%s, %u threads", base->name,
                   cllm_threads_count());
    self.table = *base; /* softmax is a part of attention; sums keep their order */
    self.table.name = self.name;
    self.table.matmul = matmul;
    self.table.attention = attention;
    self.table.attention_backward = attention_backward;
    self.table.rope = rope;
    cllm_threaded_rows(&self.table);
    return &self.table;
}
