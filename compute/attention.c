/*
 * compute/attention.c - causal self-attention by blocks of query rows.
 *
 * A block of 64 queries meets the keys up to its own end and no more, so nearly half of
 * the square is never computed, and no T x T matrix exists: the scores of a block are
 * scratch. The backward pass computes the probabilities again from the scores and the
 * logarithm of each row's sum (Dao: "FlashAttention-2", section 3.1), and where some are
 * dropped, which ones.
 *
 * q, k and v of a head are strips of the rows of qkv; with D = C / H and the query's key
 * g = h KV / H: q at h D, k at C + g D, v at C + KV D + g D.
 */
#include "compute/kernels.h"

#include <string.h>

#include "compute/exponentials.h"

enum { BLOCK = CLLM_ATTENTION_BLOCK };

/* One head of one sequence. */
struct head {
    const struct cllm_ops *ops;
    size_t T, C, D, row;
    float scale;                 /* 1 / sqrt(D) */
    const float *q, *k, *v;      // (T,D), row apart
    const float *out, *dout;     // (T,D), C apart
    float *dq, *dk, *dv;         // (T,D), row apart
    const float *lse;            // (T)
    float *scores, *dscores;     // (BLOCK,whole vectors of T)
    float beta;                  /* of the bias */
    const float *similar;        // (pairs) of the sequence, or NULL: no bias
    struct cllm_dropout dropout; /* first: that of the probability (0,0) */
};

/* One past the last head to be computed. */
static size_t end_of(const struct cllm_attention *sizes)
{
    return sizes->count == 0 ? sizes->B * sizes->H : sizes->first + sizes->count;
}

static float scale_of(size_t D)
{
    return 1.0f / cllm_sqrtf((float)D);
}

/* Elements from row to row of a block's scores. */
static size_t row_of_scores(size_t keys)
{
    return cllm_align_up(keys, CLLM_LANES);
}

/* scores (rows,keys) = q k^T, not scaled, for queries @first and after. */
static void scores_of_block(const struct head *head, size_t first, size_t rows,
                            size_t keys)
{
    const struct cllm_matmul shape = {.m = rows,
                                      .n = keys,
                                      .k = head->D,
                                      .lda = head->row,
                                      .ldb = head->row,
                                      .ldc = row_of_scores(keys),
                                      .trans_b = true};

    head->ops->matmul(head->scores, head->q + first * head->row, head->k, &shape);
}

/* The scores of one row with all that belongs to them. */
static void add_bias(float *restrict scores, const float *restrict similar, size_t seen,
                     float scale, float beta)
{
    for (size_t j = 0; j < seen; j++)
        scores[j] = scores[j] * scale + beta * similar[j];
}

/* The similarities of query @t to all keys before it; there is a bias. */
static const float *similar_of(const struct head *head, size_t first, size_t keys,
                               size_t t)
{
    return head->similar + cllm_attention_pairs_before(first) + (t - first) * keys;
}

/* What is dropped of the probabilities of query @t; their elements begin at a multiple of
 * what is decided at once. */
static struct cllm_dropout dropout_of(const struct head *head, size_t t)
{
    struct cllm_dropout dropout = head->dropout;

    dropout.first += t * cllm_align_up(head->T, CLLM_DROPOUT_GROUP);
    return dropout;
}

/* The softmax of the scores of query @t as probabilities, zeros up to whole vectors;
 * returns the greatest score and the sum of exponentials below it. */
static float softmax_row(float *row, size_t seen, float scale, float *top)
{
    float sum, inverse;

    *top = cllm_reduce_max(row, seen) * scale;
    sum = cllm_exponentials_padded(row, scale, *top, seen);
    inverse = 1.0f / sum;
    for (size_t j = 0; j < cllm_align_up(seen, CLLM_LANES); j++)
        row[j] *= inverse;
    return sum;
}

/* What lies behind the vectors of what is seen: too little for a call, and compilers make
 * of a length that they do not know one instruction, which is slow to begin. */
static void clear_unseen(float *row, size_t seen, size_t ld)
{
    for (size_t j = cllm_align_up(seen, CLLM_LANES); j < ld; j += CLLM_LANES)
        memset(row + j, 0, CLLM_LANES * sizeof *row);
}

static void forward_block(const struct head *head, float *out, float *lse, size_t first,
                          size_t rows)
{
    size_t keys = first + rows, ld = row_of_scores(keys);
    const struct cllm_matmul shape = {
        .m = rows, .n = head->D, .k = keys, .lda = ld, .ldb = head->row, .ldc = head->C};
    float sum[BLOCK];

    scores_of_block(head, first, rows, keys);
    for (size_t r = 0; r < rows; r++) {
        float *row = head->scores + r * ld;
        size_t seen = first + r + 1;

        if (head->similar != NULL)
            add_bias(row, similar_of(head, first, keys, first + r), seen, head->scale,
                     head->beta);
        sum[r] = softmax_row(row, seen, head->similar != NULL ? 1.0f : head->scale,
                             lse + first + r);
        if (head->dropout.threshold > 0) {
            const struct cllm_dropout dropout = dropout_of(head, first + r);

            CLLM_KERNEL(dropout)
            (row, NULL, row, cllm_align_up(seen, CLLM_LANES), &dropout);
        }
        clear_unseen(row, seen, ld);
    }
    for (size_t r = 0; r < rows; r++)
        lse[first + r] += cllm_logf(sum[r]);
    head->ops->matmul(out + first * head->C, head->scores, head->v, &shape);
}

/* Head @h of sequence @b, for the forward pass. */
static struct head head_of(const struct cllm_ops *ops, const float *qkv, float *scratch,
                           const struct cllm_attention *sizes, size_t b, size_t h)
{
    size_t T = sizes->T, C = sizes->C, D = C / sizes->H;
    size_t group = cllm_attention_group(sizes), row = cllm_attention_row(sizes);
    const float *of_sequence = qkv + b * T * row;
    const float *k = of_sequence + C + h / group * D;
    struct cllm_dropout dropout = sizes->dropout;

    dropout.first = (b * sizes->H + h) * T * cllm_align_up(T, CLLM_DROPOUT_GROUP);
    return (struct head){.ops = ops,
                         .T = T,
                         .C = C,
                         .D = D,
                         .row = row,
                         .scale = scale_of(D),
                         .q = of_sequence + h * D,
                         .k = k,
                         .v = k + C / group,
                         .scores = scratch,
                         .beta = sizes->beta == NULL ? 0 : sizes->beta[h],
                         .similar = sizes->beta == NULL
                                        ? NULL
                                        : sizes->similar + b * cllm_attention_pairs(T),
                         .dropout = dropout};
}

void CLLM_KERNEL(attention)(const struct cllm_ops *ops, float *out, float *lse,
                            const float *qkv, float *scratch,
                            const struct cllm_attention *sizes)
{
    size_t T = sizes->T, C = sizes->C, H = sizes->H, D = C / H;
    size_t end = end_of(sizes);

    for (size_t i = sizes->first; i < end; i++) {
        size_t b = i / H, h = i % H;
        const struct head head = head_of(ops, qkv, scratch, sizes, b, h);

        for (size_t first = 0; first < T; first += BLOCK)
            forward_block(&head, out + b * T * C + h * D, lse + i * T, first,
                          cllm_min_u64(BLOCK, T - first));
    }
}

/* What a row of scores becomes probabilities by, and their gradients. */
struct terms {
    float scale, lse;
    float dot;           /* dP.P, computed as dout.out, which is the same number */
    const float *factor; /* of each, where some are dropped; else NULL */
};

/*
 * 16 elements, of which @count count and the others become 0: scores become probabilities
 * P, @ds (dP) becomes dS = P (dP - dP.P) scale. Where some are dropped, with M their
 * factors, out = (P M) v, so dP = M (dout v^T), and P M is what dv wants.
 */
static inline __attribute__((always_inline)) void backward_lanes(
    float *restrict p, float *restrict ds, const struct terms *terms, size_t at,
    int32_t count)
{
    const float scale = terms->scale, lse = terms->lse, dot = terms->dot;

#pragma GCC unroll 1
    for (int32_t j = 0; j < CLLM_LANES; j++) {
        float factor = terms->factor == NULL ? 1.0f : terms->factor[at + (size_t)j];
        float probability = cllm_expf_below(p[j] * scale - lse);
        float slope = probability * (ds[j] * factor - dot) * scale;

        p[j] = j < count ? probability * factor : 0.0f;
        ds[j] = j < count ? slope : 0.0f;
    }
}

static inline __attribute__((always_inline)) void backward_row(float *restrict p,
                                                               float *restrict ds,
                                                               size_t n,
                                                               const struct terms *terms)
{
    size_t i = 0;

    for (; i + CLLM_LANES <= n; i += CLLM_LANES)
        backward_lanes(p + i, ds + i, terms, i, CLLM_LANES);
    if (i < n)
        backward_lanes(p + i, ds + i, terms, i, (int32_t)(n - i));
}

static void backward_dropped(float *restrict p, float *restrict ds, size_t seen,
                             struct terms terms, struct cllm_dropout dropout)
{
    float factor[CLLM_DROPOUT_GROUP];

    terms.factor = factor;
    for (size_t at = 0; at < seen; at += CLLM_DROPOUT_GROUP) {
        CLLM_KERNEL(dropout_factors)(factor, &dropout);
        dropout.first += CLLM_DROPOUT_GROUP;
        backward_row(p + at, ds + at, cllm_min_u64(CLLM_DROPOUT_GROUP, seen - at),
                     &terms);
    }
}

/* Row @t of both; zeros up to whole vectors. Returns its part of the bias' gradient, the
 * sum of P (dP - dP.P) times the similarity; without a bias 0. */
static float differentiate_row(const struct head *head, float *p, float *ds,
                               const float *similar, size_t t)
{
    size_t seen = t + 1;
    struct terms terms = {.scale = similar == NULL ? head->scale : 1.0f,
                          .lse = head->lse[t],
                          .dot = cllm_reduce_dot(head->dout + t * head->C,
                                                 head->out + t * head->C, head->D)};
    float dbeta;

    if (similar != NULL)
        add_bias(p, similar, seen, head->scale, head->beta);
    if (head->dropout.threshold > 0)
        backward_dropped(p, ds, seen, terms, dropout_of(head, t));
    else
        backward_row(p, ds, seen, &terms);
    if (similar == NULL)
        return 0.0f;
    dbeta = cllm_reduce_dot(ds, similar, seen);
    for (size_t j = 0; j < seen; j++)
        ds[j] *= head->scale;
    return dbeta;
}

/* dP = dout v^T, then both blocks in place; what is above the diagonal becomes 0. Returns
 * the block's part of the bias' gradient, its rows in order. */
static double differentiate_block(const struct head *head, size_t first, size_t rows,
                                  size_t keys)
{
    size_t ld = row_of_scores(keys);
    const struct cllm_matmul shape = {.m = rows,
                                      .n = keys,
                                      .k = head->D,
                                      .lda = head->C,
                                      .ldb = head->row,
                                      .ldc = ld,
                                      .trans_b = true};
    double dbeta = 0;

    head->ops->matmul(head->dscores, head->dout + first * head->C, head->v, &shape);
    for (size_t r = 0; r < rows; r++) {
        float *p = head->scores + r * ld, *ds = head->dscores + r * ld;
        size_t t = first + r;
        const float *similar =
            head->similar != NULL ? similar_of(head, first, keys, t) : NULL;

        dbeta += (double)differentiate_row(head, p, ds, similar, t);
        clear_unseen(p, t + 1, ld);
        clear_unseen(ds, t + 1, ld);
    }
    return dbeta;
}

/* The last block covers all keys; who comes first writes, the others add to it. Returns
 * the block's part of the bias' gradient. */
static double backward_block(const struct head *head, size_t first, size_t rows, bool add)
{
    size_t keys = first + rows, row = head->row, ld = row_of_scores(keys);
    double dbeta;
    const struct cllm_ops *ops = head->ops;
    const struct cllm_matmul to_dq = {
        .m = rows, .n = head->D, .k = keys, .lda = ld, .ldb = row, .ldc = row};
    const struct cllm_matmul to_dk = {.m = keys,
                                      .n = head->D,
                                      .k = rows,
                                      .lda = ld,
                                      .ldb = row,
                                      .ldc = row,
                                      .trans_a = true,
                                      .accumulate = add};
    struct cllm_matmul to_dv = to_dk;

    to_dv.ldb = head->C;
    scores_of_block(head, first, rows, keys);
    dbeta = differentiate_block(head, first, rows, keys);
    ops->matmul(head->dq + first * row, head->dscores, head->k, &to_dq);
    ops->matmul(head->dk, head->dscores, head->q + first * row, &to_dk);
    ops->matmul(head->dv, head->scores, head->dout + first * head->C, &to_dv);
    return dbeta;
}

void CLLM_KERNEL(attention_backward)(const struct cllm_ops *ops, float *dqkv,
                                     const float *dout, const float *qkv,
                                     const float *out, const float *lse, float *scratch,
                                     const struct cllm_attention *sizes)
{
    size_t T = sizes->T, C = sizes->C, H = sizes->H, D = C / H;
    size_t last = (T - 1) / BLOCK * BLOCK, end = end_of(sizes);
    size_t group = cllm_attention_group(sizes);

    CLLM_ASSERT(sizes->first % group == 0);
    for (size_t i = sizes->first; i < end; i++) {
        size_t b = i / H, h = i % H;
        struct head head = head_of(ops, qkv, scratch, sizes, b, h);
        double dbeta = 0; /* blocks from the last to the first */

        head.out = out + b * T * C + h * D;
        head.dout = dout + b * T * C + h * D;
        head.dq = dqkv + (head.q - qkv);
        head.dk = dqkv + (head.k - qkv);
        head.dv = dqkv + (head.v - qkv);
        head.lse = lse + i * T;
        head.dscores = scratch + cllm_min_u64(T, BLOCK) * row_of_scores(T);
        for (size_t first = last;; first -= BLOCK) {
            dbeta += backward_block(&head, first, cllm_min_u64(BLOCK, T - first),
                                    first != last || h % group != 0);
            if (first == 0)
                break;
        }
        if (sizes->beta != NULL)
            sizes->dbeta[i] = (float)dbeta;
    }
}
