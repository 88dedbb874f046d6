/*
 * model/muon.c - momentum, Newton-Schulz iterations, and one direction kept.
 */
#include "model/muon.h"

#include "base/fault.h"
#include "base/hash.h"

#define ITERATIONS 5
#define TINY       1e-7 /* keeps a matrix of zeros from 0 / 0 */

/* Of the polynomial: a x + b x^3 + c x^5, as steep at 0 as its values stay near 1. */
static const float poly_a = 3.4445f, poly_b = -4.7750f, poly_c = 2.0315f;

void cllm_muon_admit(struct cllm_muon *muon, uint64_t rows, uint64_t cols)
{
    muon->most = cllm_max_u64(muon->most, rows * cols);
    muon->most_side = cllm_max_u64(muon->most_side, cllm_min_u64(rows, cols));
}

static size_t matrix_bytes(const struct cllm_muon *muon)
{
    return cllm_align_up(muon->most * sizeof(float), CLLM_CACHELINE);
}

static size_t square_bytes(const struct cllm_muon *muon)
{
    return cllm_align_up(muon->most_side * muon->most_side * sizeof(float),
                         CLLM_CACHELINE);
}

size_t cllm_muon_arena_bytes(const struct cllm_muon *muon)
{
    return 2 * matrix_bytes(muon) + 2 * square_bytes(muon);
}

void cllm_muon_take(struct cllm_muon *muon, struct cllm_arena *arena)
{
    if (muon->most == 0)
        return;
    muon->x = cllm_arena_take(arena, matrix_bytes(muon));
    muon->y = cllm_arena_take(arena, matrix_bytes(muon));
    muon->a = cllm_arena_take(arena, square_bytes(muon));
    muon->b = cllm_arena_take(arena, square_bytes(muon));
}

void cllm_muon_begin(struct cllm_muon *muon)
{
    muon->checked = false;
}

static void live(const struct cllm_muon *muon)
{
    if (muon->progress)
        muon->progress(muon->progress_ctx);
}

static void multiply(const struct cllm_muon *muon, const struct cllm_ops *ops, float *c,
                     const float *a, const float *b, const struct cllm_matmul *shape)
{
    ops->matmul(c, a, b, shape);
    live(muon);
}

/* x (rows,cols) of norm at most 1 -> x with singular values near 1. */
static void orthogonalise(struct cllm_muon *muon, const struct cllm_ops *ops, size_t rows,
                          size_t cols)
{
    bool tall = rows > cols;
    size_t side = tall ? cols : rows;
    /* x x^T, or x^T x; its square; that times x, or x times that */
    const struct cllm_matmul gram = {
        .m = side, .n = side, .k = tall ? rows : cols, .trans_a = tall, .trans_b = !tall};
    const struct cllm_matmul square = {.m = side, .n = side, .k = side};
    const struct cllm_matmul apply = {.m = rows, .n = cols, .k = side};

    for (uint32_t i = 0; i < ITERATIONS; i++) {
        multiply(muon, ops, muon->a, muon->x, muon->x, &gram);
        multiply(muon, ops, muon->b, muon->a, muon->a, &square);
        ops->mix(muon->b, muon->a, muon->b, poly_b, poly_c, side * side);
        if (tall)
            multiply(muon, ops, muon->y, muon->x, muon->b, &apply);
        else
            multiply(muon, ops, muon->y, muon->b, muon->x, &apply);
        ops->mix(muon->x, muon->x, muon->y, poly_a, 1.0f, rows * cols);
        cllm_fault(CLLM_FAULT_muon_iterated);
    }
}

static void make(struct cllm_muon *muon, const struct cllm_ops *ops,
                 const struct cllm_muon_source *source)
{
    size_t n = source->rows * source->cols;
    float beta = source->momentum, rest = (1.0f - beta) * source->grad_scale;
    double norm;

    ops->mix(muon->y, source->m, source->g, beta, rest, n);
    ops->mix(muon->x, muon->y, source->g, beta, rest, n);
    norm = __builtin_sqrt(ops->sumsq(muon->x, n));
    ops->mix(muon->x, muon->x, muon->x, (float)(1 / (norm + TINY)), 0.0f, n);
    orthogonalise(muon, ops, source->rows, source->cols);
}

static uint64_t key_of(const struct cllm_muon_source *source)
{
    uint64_t bytes = source->rows * source->cols * sizeof(float);
    const float factors[2] = {source->momentum, source->grad_scale};
    uint64_t key = cllm_hash(factors, sizeof factors, source->cols);

    return cllm_hash(source->g, bytes, cllm_hash(source->m, bytes, key));
}

static bool same(const struct cllm_muon_source *x, const struct cllm_muon_source *y)
{
    return x->rows == y->rows && x->cols == y->cols && x->m == y->m && x->g == y->g &&
           x->momentum == y->momentum && x->grad_scale == y->grad_scale;
}

const float *cllm_muon_direction(struct cllm_muon *muon, const struct cllm_ops *ops,
                                 const struct cllm_muon_source *source)
{
    bool kept = muon->made && same(&muon->of, source);
    uint64_t key;

    CLLM_ASSERT(source->rows * source->cols <= muon->most);
    CLLM_ASSERT(cllm_min_u64(source->rows, source->cols) <= muon->most_side);
    if (kept && muon->checked)
        return muon->x;
    key = key_of(source);
    if (!kept || key != muon->key) {
        cllm_fault(CLLM_FAULT_muon_begun);
        make(muon, ops, source);
        cllm_fault(CLLM_FAULT_muon_made);
        kept = key_of(source) == key; /* or it was made of what others write by now */
    }
    muon->of = *source;
    muon->key = key;
    muon->made = muon->checked = kept;
    return muon->x;
}
