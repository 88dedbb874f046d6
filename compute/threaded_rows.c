/*
 * compute/threaded_rows.c - the threaded table's operations on rows and on single
 * elements: each row, or element, is one thread's.
 */
#include "compute/threaded.h"

enum {
    VECTOR = 16,  /* elements: what begins at a multiple begins at a cache line */
    DROPPED = 128 /* elements that share random blocks */
};

/* ---- rows ---- */

struct rows {
    struct cllm_cut cut;
    size_t cols;
    float *out, *mean, *rstd;
    const float *x, *weight, *bias;
    float epsilon;
};

static void layernorm_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct rows *r = ctx;
    size_t count, row = cllm_cut_piece(&r->cut, part, &count);

    (void)thread;
    cllm_threaded_base()->layernorm(r->out + row * r->cols, r->mean + row, r->rstd + row,
                                    r->x + row * r->cols, r->weight, r->bias, r->epsilon,
                                    count, r->cols);
}

static void layernorm(float *out, float *mean, float *rstd, const float *x,
                      const float *weight, const float *bias, float epsilon, size_t rows,
                      size_t cols)
{
    struct rows r = {.cut = cllm_cut_of(rows, VECTOR, rows * cols),
                     .cols = cols,
                     .out = out,
                     .mean = mean,
                     .rstd = rstd,
                     .x = x,
                     .weight = weight,
                     .bias = bias,
                     .epsilon = epsilon};

    cllm_threads_run(layernorm_part, &r, r.cut.n_parts);
}

static void rmsnorm_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct rows *r = ctx;
    size_t count, row = cllm_cut_piece(&r->cut, part, &count);

    (void)thread;
    cllm_threaded_base()->rmsnorm(r->out + row * r->cols, r->rstd + row,
                                  r->x + row * r->cols, r->weight, r->epsilon, count,
                                  r->cols);
}

static void rmsnorm(float *out, float *rstd, const float *x, const float *weight,
                    float epsilon, size_t rows, size_t cols)
{
    struct rows r = {.cut = cllm_cut_of(rows, VECTOR, rows * cols),
                     .cols = cols,
                     .out = out,
                     .rstd = rstd,
                     .x = x,
                     .weight = weight,
                     .epsilon = epsilon};

    cllm_threads_run(rmsnorm_part, &r, r.cut.n_parts);
}

struct norm_backward {
    struct cllm_cut by_rows, by_cols; /* dx; dweight and dbias */
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
        at = cllm_cut_piece(&b->by_rows, part, &count);
        cllm_threaded_base()->layernorm_backward(
            b->dx + at * b->cols, NULL, NULL, b->dout + at * b->cols, b->x + at * b->cols,
            b->mean + at, b->rstd + at, b->weight, count, b->cols);
    } else {
        at = cllm_cut_piece(&b->by_cols, part - b->by_rows.n_parts, &count);
        cllm_threaded_base()->layernorm_weights(b->dweight, b->dbias, b->dout, b->x,
                                                b->mean, b->rstd, b->rows, b->cols, at,
                                                count);
    }
}

static void layernorm_backward(float *dx, float *dweight, float *dbias, const float *dout,
                               const float *x, const float *mean, const float *rstd,
                               const float *weight, size_t rows, size_t cols)
{
    struct norm_backward b = {.by_rows = cllm_cut_of(rows, VECTOR, rows * cols),
                              .by_cols = cllm_cut_of(cols, VECTOR, rows * cols),
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
        cllm_threaded_base()->layernorm_backward(dx, dweight, dbias, dout, x, mean, rstd,
                                                 weight, rows, cols);
    else
        cllm_threads_run(layernorm_backward_part, &b,
                         b.by_rows.n_parts + b.by_cols.n_parts);
}

static void rmsnorm_backward_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct norm_backward *b = ctx;
    size_t count, at;

    (void)thread;
    if (part < b->by_rows.n_parts) {
        at = cllm_cut_piece(&b->by_rows, part, &count);
        cllm_threaded_base()->rmsnorm_backward(
            b->dx + at * b->cols, NULL, b->dout + at * b->cols, b->x + at * b->cols,
            b->rstd + at, b->weight, count, b->cols);
    } else {
        at = cllm_cut_piece(&b->by_cols, part - b->by_rows.n_parts, &count);
        cllm_threaded_base()->rmsnorm_weights(b->dweight, b->dout, b->x, b->rstd, b->rows,
                                              b->cols, at, count);
    }
}

static void rmsnorm_backward(float *dx, float *dweight, const float *dout, const float *x,
                             const float *rstd, const float *weight, size_t rows,
                             size_t cols)
{
    struct norm_backward b = {.by_rows = cllm_cut_of(rows, VECTOR, rows * cols),
                              .by_cols = cllm_cut_of(cols, VECTOR, rows * cols),
                              .rows = rows,
                              .cols = cols,
                              .dx = dx,
                              .dweight = dweight,
                              .dout = dout,
                              .x = x,
                              .rstd = rstd,
                              .weight = weight};

    if (b.by_rows.n_parts == 1 || dweight == NULL)
        cllm_threaded_base()->rmsnorm_backward(dx, dweight, dout, x, rstd, weight, rows,
                                               cols);
    else
        cllm_threads_run(rmsnorm_backward_part, &b,
                         b.by_rows.n_parts + b.by_cols.n_parts);
}

struct embedding {
    struct cllm_cut cut; /* of all B T positions */
    float *out;
    const uint32_t *tokens;
    size_t stride, V, T, C;
    const float *wte, *wpe;
};

static void embedding_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct embedding *x = ctx;
    size_t count, at = cllm_cut_piece(&x->cut, part, &count), end = at + count;

    (void)thread;
    while (at < end) {
        size_t b = at / x->T, t = at % x->T, some = cllm_min_u64(end - at, x->T - t);

        cllm_threaded_base()->embedding(
            x->out + at * x->C, x->tokens + b * x->stride + t, x->stride, x->wte,
            x->wpe == NULL ? NULL : x->wpe + t * x->C, x->V, 1, some, x->C);
        at += some;
    }
}

static void embedding(float *out, const uint32_t *tokens, size_t stride, const float *wte,
                      const float *wpe, size_t V, size_t B, size_t T, size_t C)
{
    struct embedding x = {.cut = cllm_cut_of(B * T, VECTOR, B * T * C),
                          .out = out,
                          .tokens = tokens,
                          .stride = stride,
                          .V = V,
                          .T = T,
                          .C = C,
                          .wte = wte,
                          .wpe = wpe};

    cllm_threads_run(embedding_part, &x, x.cut.n_parts);
}

struct losses {
    struct cllm_cut cut;
    float *logits;
    const uint32_t *targets;
    size_t V;
    bool backward;
    double *losses; /* of rows */
};

static void loss_part(void *ctx, uint32_t part, uint32_t thread)
{
    struct losses *x = ctx;
    size_t count, row = cllm_cut_piece(&x->cut, part, &count);

    (void)thread;
    cllm_threaded_base()->cross_entropy(x->losses + row, x->logits + row * x->V,
                                        x->targets + row, count, x->V, x->backward);
}

static void cross_entropy(double *losses, float *logits, const uint32_t *targets,
                          size_t rows, size_t V, bool backward)
{
    struct losses x = {.cut = cllm_cut_of(rows, 1, rows * V),
                       .logits = logits,
                       .targets = targets,
                       .V = V,
                       .backward = backward,
                       .losses = losses};

    cllm_threads_run(loss_part, &x, x.cut.n_parts);
}

/* ---- elements ---- */

struct elements {
    struct cllm_cut cut;
    float *out, *d, *dup;
    const float *x, *up;
};

static void gelu_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct elements *e = ctx;
    size_t count, at = cllm_cut_piece(&e->cut, part, &count);

    (void)thread;
    cllm_threaded_base()->gelu(e->out + at, e->x + at, count);
}

static void gelu(float *out, const float *x, size_t n)
{
    struct elements e = {.cut = cllm_cut_of(n, VECTOR, n), .out = out, .x = x};

    cllm_threads_run(gelu_part, &e, e.cut.n_parts);
}

static void gelu_backward_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct elements *e = ctx;
    size_t count, at = cllm_cut_piece(&e->cut, part, &count);

    (void)thread;
    cllm_threaded_base()->gelu_backward(e->d + at, e->out + at, e->x + at, count);
}

static void gelu_backward(float *d, float *out, const float *x, size_t n)
{
    struct elements e = {.cut = cllm_cut_of(n, VECTOR, n), .out = out, .d = d, .x = x};

    cllm_threads_run(gelu_backward_part, &e, e.cut.n_parts);
}

static void swiglu_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct elements *e = ctx;
    size_t count, at = cllm_cut_piece(&e->cut, part, &count);

    (void)thread;
    cllm_threaded_base()->swiglu(e->out + at, e->x + at, e->up + at, count);
}

static void swiglu(float *out, const float *gate, const float *up, size_t n)
{
    struct elements e = {
        .cut = cllm_cut_of(n, VECTOR, n), .out = out, .x = gate, .up = up};

    cllm_threads_run(swiglu_part, &e, e.cut.n_parts);
}

static void swiglu_backward_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct elements *e = ctx;
    size_t count, at = cllm_cut_piece(&e->cut, part, &count);

    (void)thread;
    cllm_threaded_base()->swiglu_backward(e->d + at, e->dup + at, e->out + at, e->x + at,
                                          e->up + at, count);
}

static void swiglu_backward(float *d, float *dup, float *out, const float *gate,
                            const float *up, size_t n)
{
    struct elements e = {.cut = cllm_cut_of(n, VECTOR, n),
                         .out = out,
                         .d = d,
                         .dup = dup,
                         .x = gate,
                         .up = up};

    cllm_threads_run(swiglu_backward_part, &e, e.cut.n_parts);
}

struct dropping {
    struct cllm_cut cut;
    float *out;
    const float *add, *x;
    const struct cllm_dropout *dropout;
};

static void dropout_part(void *ctx, uint32_t part, uint32_t thread)
{
    const struct dropping *d = ctx;
    size_t count, at = cllm_cut_piece(&d->cut, part, &count);
    struct cllm_dropout here = *d->dropout;

    (void)thread;
    here.first += at;
    cllm_threaded_base()->dropout(d->out + at, d->add == NULL ? NULL : d->add + at,
                                  d->x + at, count, &here);
}

static void dropout(float *out, const float *add, const float *x, size_t n,
                    const struct cllm_dropout *dropout)
{
    struct dropping d = {.cut = cllm_cut_of(n, DROPPED, n),
                         .out = out,
                         .add = add,
                         .x = x,
                         .dropout = dropout};

    cllm_threads_run(dropout_part, &d, d.cut.n_parts);
}

void cllm_threaded_rows(struct cllm_ops *table)
{
    table->dropout = dropout;
    table->layernorm = layernorm;
    table->layernorm_backward = layernorm_backward;
    table->rmsnorm = rmsnorm;
    table->rmsnorm_backward = rmsnorm_backward;
    table->gelu = gelu;
    table->gelu_backward = gelu_backward;
    table->swiglu = swiglu;
    table->swiglu_backward = swiglu_backward;
    table->embedding = embedding;
    table->cross_entropy = cross_entropy;
}
