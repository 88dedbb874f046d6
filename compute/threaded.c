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
#include <stdio.h>
#include <string.h>

#include "compute/threads.h"

enum {
    LEAST = 16384,   /* elements of a part: some microseconds, many times a hand-over */
    SHARES = 2,      /* parts for each thread: who is late leaves some to others */
    VECTOR = 16,     /* elements: what begins at a multiple begins at a cache line */
    TILE_COLS = 32,  /* of a matrix product: no tile is cut */
    TILE_ROWS = 12,  /* likewise */
    PRODUCTS = 16,   /* multiply-adds that cost as much as an element */
    LOSS_ROWS = 1024 /* whose losses are kept until they are added */
};

static struct {
    const struct cllm_ops *base;
    size_t least;
    struct cllm_ops table;
    char name[64];
} self;

/* ---- cutting ---- */

/* @n things, @unit of them never apart, in parts. */
struct cut {
    size_t n, unit;
    uint32_t n_parts;
};

/* All of them together cost as much as @work elements. */
static struct cut cut(size_t n, size_t unit, size_t work)
{
    uint64_t parts = cllm_min_u64(cllm_div_up(n, unit), work / self.least);

    parts = cllm_min_u64(parts, (uint64_t)SHARES * cllm_threads_count());
    return (struct cut){
        .n = n, .unit = unit, .n_parts = (uint32_t)cllm_max_u64(parts, 1)};
}

/* Where @part begins; it ends where the next begins. */
static size_t begin_of(const struct cut *cut, uint32_t part)
{
    return cllm_min_u64(cllm_div_up(cut->n, cut->unit) * part / cut->n_parts * cut->unit,
                        cut->n);
}

/* The first of @part, and how many it has. */
static size_t piece_of(const struct cut *cut, uint32_t part, size_t *count)
{
    size_t begin = begin_of(cut, part);

    *count = begin_of(cut, part + 1) - begin;
    return begin;
}

/* ---- matrix products ---- */

struct product {
    struct cut cut;
    bool by_cols;
    float *c;
    const float *a, *b;
    struct cllm_matmul shape; /* without zeros for leading dimensions */
};

static void multiply_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct product *x = ctx;
    struct cllm_matmul shape = x->shape;
    size_t count, at = piece_of(&x->cut, part, &count);

    (void)thread;
    if (x->by_cols) {
        shape.n = count;
        self.base->matmul(x->c + at, x->a, x->b + (shape.trans_b ? at * shape.ldb : at),
                          &shape);
    } else {
        shape.m = count;
        self.base->matmul(x->c + at * shape.ldc,
                          x->a + (shape.trans_a ? at : at * shape.lda), x->b, &shape);
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
    x.cut = x.by_cols ? cut(shape->n, TILE_COLS, work) : cut(shape->m, TILE_ROWS, work);
    cllm_threads_run(multiply_part, &x, x.cut.n_parts);
}

/* ---- attention ---- */

struct attention {
    struct cut cut;
    float *to, *lse_to; /* forward: out, lse; backward: dqkv */
    const float *dout, *qkv, *out, *lse;
    float *scratch; /* of the first thread */
    const struct cllm_attention *sizes;
};

/* The heads of @part. */
static struct cllm_attention heads_of(const struct attention *x, uint32_t part)
{
    struct cllm_attention heads = *x->sizes;

    heads.first = piece_of(&x->cut, part, &heads.count);
    return heads;
}

static float *scratch_of(const struct attention *x, uint32_t thread)
{
    if (thread == 0)
        return x->scratch;
    CLLM_ASSERT(cllm_attention_scratch(x->sizes->T) <= cllm_threads_scratch_elements());
    return cllm_threads_scratch(thread);
}

static struct cut cut_heads(const struct cllm_attention *sizes)
{
    size_t heads = sizes->B * sizes->H, T = sizes->T;

    CLLM_ASSERT(sizes->count == 0);
    return cut(heads, 1, heads * T * T * (1 + sizes->C / sizes->H / PRODUCTS));
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

/* ---- rows ---- */

struct rows {
    struct cut cut;
    size_t cols;
    float *out, *mean, *rstd;
    const float *x, *weight, *bias;
};

static void add_bias_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct rows *r = ctx;
    size_t count, row = piece_of(&r->cut, part, &count);

    (void)thread;
    self.base->add_bias(r->out + row * r->cols, r->x ? r->x + row * r->cols : NULL,
                        r->bias, count, r->cols);
}

static void add_bias(float *out, const float *x, const float *bias, size_t rows,
                     size_t cols)
{
    struct rows r = {.cut = cut(rows, VECTOR, rows * cols),
                     .cols = cols,
                     .out = out,
                     .x = x,
                     .bias = bias};

    cllm_threads_run(add_bias_part, &r, r.cut.n_parts);
}

static void layernorm_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct rows *r = ctx;
    size_t count, row = piece_of(&r->cut, part, &count);

    (void)thread;
    self.base->layernorm(r->out + row * r->cols, r->mean + row, r->rstd + row,
                         r->x + row * r->cols, r->weight, r->bias, count, r->cols);
}

static void layernorm(float *out, float *mean, float *rstd, const float *x,
                      const float *weight, const float *bias, size_t rows, size_t cols)
{
    struct rows r = {.cut = cut(rows, VECTOR, rows * cols),
                     .cols = cols,
                     .out = out,
                     .mean = mean,
                     .rstd = rstd,
                     .x = x,
                     .weight = weight,
                     .bias = bias};

    cllm_threads_run(layernorm_part, &r, r.cut.n_parts);
}

struct norm_backward {
    struct cut by_rows, by_cols; /* dx; dweight and dbias */
    size_t rows, cols;
    float *dx, *dweight, *dbias;
    const float *dout, *x, *mean, *rstd, *weight;
};

static void layernorm_backward_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct norm_backward *b = ctx;
    size_t count, at;

    (void)thread;
    if (part < b->by_rows.n_parts) {
        at = piece_of(&b->by_rows, part, &count);
        self.base->layernorm_backward(
            b->dx + at * b->cols, NULL, NULL, b->dout + at * b->cols, b->x + at * b->cols,
            b->mean + at, b->rstd + at, b->weight, count, b->cols);
    } else {
        at = piece_of(&b->by_cols, part - b->by_rows.n_parts, &count);
        self.base->layernorm_weights(b->dweight, b->dbias, b->dout, b->x, b->mean,
                                     b->rstd, b->rows, b->cols, at, count);
    }
}

static void layernorm_backward(float *dx, float *dweight, float *dbias, const float *dout,
                               const float *x, const float *mean, const float *rstd,
                               const float *weight, size_t rows, size_t cols)
{
    struct norm_backward b = {.by_rows = cut(rows, VECTOR, rows * cols),
                              .by_cols = cut(cols, VECTOR, rows * cols),
                              .rows = rows,
                              .cols = cols,
                              .dx = dx,
                              .dweight = dweight,
                              .dbias = dbias,
                              .dout = dout,
                              .x = x,
                              .mean = mean,
                              .rstd = rstd,
                              .weight = weight};

    if (b.by_rows.n_parts == 1 || dweight == NULL)
        self.base->layernorm_backward(dx, dweight, dbias, dout, x, mean, rstd, weight,
                                      rows, cols);
    else
        cllm_threads_run(layernorm_backward_part, &b,
                         b.by_rows.n_parts + b.by_cols.n_parts);
}

struct embedding {
    struct cut cut; /* of all B T positions */
    float *out;
    const uint32_t *tokens;
    size_t stride, T, C;
    const float *wte, *wpe;
};

static void embedding_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct embedding *x = ctx;
    size_t count, at = piece_of(&x->cut, part, &count), end = at + count;

    (void)thread;
    while (at < end) {
        size_t b = at / x->T, t = at % x->T, some = cllm_min_u64(end - at, x->T - t);

        self.base->embedding(x->out + at * x->C, x->tokens + b * x->stride + t, x->stride,
                             x->wte, x->wpe + t * x->C, 1, some, x->C);
        at += some;
    }
}

static void embedding(float *out, const uint32_t *tokens, size_t stride, const float *wte,
                      const float *wpe, size_t B, size_t T, size_t C)
{
    struct embedding x = {.cut = cut(B * T, VECTOR, B * T * C),
                          .out = out,
                          .tokens = tokens,
                          .stride = stride,
                          .T = T,
                          .C = C,
                          .wte = wte,
                          .wpe = wpe};

    cllm_threads_run(embedding_part, &x, x.cut.n_parts);
}

struct losses {
    struct cut cut;
    float *logits;
    const uint32_t *targets;
    size_t V;
    bool backward;
    double of_row[LOSS_ROWS];
};

static void loss_part(void *ctx, uint32_t part, uint32_t thread)
{
    struct losses *x = ctx;
    size_t count, row = piece_of(&x->cut, part, &count), end = row + count;

    (void)thread;
    for (; row < end; row++)
        x->of_row[row] = self.base->cross_entropy(x->logits + row * x->V,
                                                  x->targets + row, 1, x->V, x->backward);
}

/* Losses are added in the order of rows, as one thread adds them. */
static double cross_entropy(float *logits, const uint32_t *targets, size_t rows, size_t V,
                            bool backward)
{
    struct losses x = {.V = V, .backward = backward};
    double loss = 0;

    for (size_t first = 0; first < rows; first += LOSS_ROWS) {
        size_t n = cllm_min_u64(LOSS_ROWS, rows - first);

        x.cut = cut(n, 1, n * V);
        x.logits = logits + first * V;
        x.targets = targets + first;
        cllm_threads_run(loss_part, &x, x.cut.n_parts);
        for (size_t r = 0; r < n; r++)
            loss += x.of_row[r];
    }
    return loss;
}

/* ---- elements ---- */

struct elements {
    struct cut cut;
    float *out, *d;
    const float *x;
};

static void gelu_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct elements *e = ctx;
    size_t count, at = piece_of(&e->cut, part, &count);

    (void)thread;
    self.base->gelu(e->out + at, e->x + at, count);
}

static void gelu(float *out, const float *x, size_t n)
{
    struct elements e = {.cut = cut(n, VECTOR, n), .out = out, .x = x};

    cllm_threads_run(gelu_part, &e, e.cut.n_parts);
}

static void gelu_backward_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct elements *e = ctx;
    size_t count, at = piece_of(&e->cut, part, &count);

    (void)thread;
    self.base->gelu_backward(e->d + at, e->out + at, e->x + at, count);
}

static void gelu_backward(float *d, float *out, const float *x, size_t n)
{
    struct elements e = {.cut = cut(n, VECTOR, n), .out = out, .d = d, .x = x};

    cllm_threads_run(gelu_backward_part, &e, e.cut.n_parts);
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
    self.table.add_bias = add_bias;
    self.table.layernorm = layernorm;
    self.table.layernorm_backward = layernorm_backward;
    self.table.gelu = gelu;
    self.table.gelu_backward = gelu_backward;
    self.table.embedding = embedding;
    self.table.attention = attention;
    self.table.attention_backward = attention_backward;
    self.table.cross_entropy = cross_entropy;
    return &self.table;
}
