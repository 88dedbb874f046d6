/*
 * compute/ops.h - the operations table: every numeric operation behind one pointer.
 *
 * compute/ knows arrays and sizes, never models, files or processes; it has no state. All
 * arrays are row-major f32, start at multiples of 64 bytes unless said otherwise, and
 * outputs do not overlap inputs unless said otherwise. Letters: B sequences, T positions,
 * C width, H heads, V vocabulary.
 *
 * The rule that everything rests on: the bits of a result are a function of the input
 * bits and of the table, not of addresses (beyond 64-byte alignment), threads, time or
 * earlier calls. Sums are taken in an order written down in the code (compute/reduce.h),
 * so that a variant for another instruction set can be held to the same bits as the
 * reference.
 *
 * The kernels of every table are the same source, compiled for another instruction set
 * (compute/kernels.h); compute/select.c picks the table for this machine. Operations that
 * use others (attention) get the table as their first argument, so that a replaced matmul
 * reaches them.
 */
#ifndef CLLM_COMPUTE_OPS_H
#define CLLM_COMPUTE_OPS_H

#include "base/base.h"

/*
 * C(m,n) = op(A)(m,k) op(B)(k,n); with accumulate C += that; with add, bias (for every
 * row), or both, which are not for accumulate: C = (add + bias) + that.
 */
struct cllm_matmul {
    size_t m, n, k;
    size_t lda, ldb, ldc; /* elements from row to row as stored; 0 = no gap */
    bool trans_a;         /* A is stored (k,m) */
    bool trans_b;         /* B is stored (n,k) */
    bool accumulate;
    const float *add;  // (m,n), rows as far apart as C's; may be C
    const float *bias; // (n)
};

/*
 * Which elements of an array are dropped: those whose 32 random bits are below the
 * threshold; the others are multiplied by the scale. Of 128 elements, from 128 i on,
 * element 32 k + j has word k of the block with index 32 i + j of stream
 * CLLM_RANDOM_DROPOUT (base/random.h).
 */
struct cllm_dropout {
    uint64_t key;
    uint32_t threshold; /* 2^32 times the share that is dropped */
    float scale;        /* 1 / (1 - share) */
    uint64_t first;     /* of the whole array's elements; a multiple of 128 */
};

/*
 * Sizes of a causal self-attention: H heads of queries, together of width C, so a head
 * has D = C / H elements; KV heads of keys and values, each for H / KV queries that
 * follow each other (Ainslie and others: "GQA"); KV 0: one for each query. A row of qkv
 * is the queries, the keys, the values: C + 2 KV D elements.
 *
 * Of the B H heads (h + b H) those from first on are computed, count of them; count 0:
 * all. Groups that share a key stay together; groups share no output.
 *
 * With @beta a learned bias joins the scores: that of query i and key j in sequence b
 * grows by beta[h] similar(i,j). Its gradient is a number for each head of each sequence.
 *
 * With a threshold in @dropout probabilities are dropped, behind the softmax: what is
 * kept is scaled, the sum stays that of all. Of the array (B,H,T,T up to the next 128);
 * first counts nothing.
 */
struct cllm_attention {
    size_t B, T, C, H, KV;
    size_t first, count;
    const float *beta;           // (H), or NULL: no bias
    const float *similar;        // (B,cllm_attention_pairs(T)), see there
    float *dbeta;                // (B,H), overwritten by the backward pass
    float *by_query;             // (B,H,T): scratch of that pass on a device
    struct cllm_dropout dropout; /* threshold 0: none */
};

/* Queries that share a key; elements of a row of qkv. */
static inline size_t cllm_attention_group(const struct cllm_attention *sizes)
{
    return sizes->KV == 0 ? 1 : sizes->H / sizes->KV;
}

static inline size_t cllm_attention_row(const struct cllm_attention *sizes)
{
    return sizes->C + 2 * (sizes->C / cllm_attention_group(sizes));
}

/* Constants of one AdamW update (Loshchilov and Hutter: "Decoupled weight decay
 * regularization", algorithm 2). */
struct cllm_adamw_terms {
    float learning_rate;
    float beta1, beta2, epsilon;
    float weight_decay; /* 0 for tensors without */
    float grad_scale;   /* multiplies every gradient first */
    float correction1;  /* 1 / (1 - beta1^step) */
    float correction2;  /* 1 / (1 - beta2^step) */
};

/* Of one Lion update (Chen et al.: "Symbolic discovery of optimization algorithms", 2023,
 * algorithm 2). */
struct cllm_lion_terms {
    float learning_rate;
    float beta1, beta2;
    float weight_decay; /* decoupled; 0 for tensors without */
    float grad_scale;
};

/* Of one step of gradient descent with momentum, as torch.optim.SGD without dampening. */
struct cllm_sgd_terms {
    float learning_rate;
    float momentum;
    float weight_decay; /* added to the gradient; 0 for tensors without */
    float grad_scale;
    bool nesterov;
};

/* Targets smoothed towards ids that are similar as numbers (base/crystal.h). */
struct cllm_smoothing {
    float epsilon; /* share of a target's mass that goes to what is similar, (0,1] */
    float *x, *y;  // (V) place of each id on the spiral
};

struct cllm_ops {
    const char *name;

    /* Memory that holds arrays need not be memory that a pointer reads: a table for a
     * device has addresses of its own, and what calls it leaves all reading and writing
     * to the table. Copies @bytes of plain memory into an array; @from may change after.
     */
    void (*put)(void *to, const void *from, size_t bytes);
    void (*zero)(float *x, size_t n);

    /* As in struct cllm_matmul; m, n, k at least 1. Alignment of 4 bytes. */
    void (*matmul)(float *c, const float *a, const float *b,
                   const struct cllm_matmul *shape);

    /* sum[c] += the column's sum over x (rows,cols), rows in order. The gradient of a
     * bias. */
    void (*add_columns)(float *sum, const float *x, size_t rows, size_t cols);

    /* Srivastava and others: "Dropout": out = add + x times 0 or the scale; add NULL:
     * none. NaN and infinities are never dropped. out may be x or add. */
    void (*dropout)(float *out, const float *add, const float *x, size_t n,
                    const struct cllm_dropout *dropout);

    /* Ba, Kiros, Hinton: "Layer normalization". mean and rstd (rows) are kept for the
     * backward pass. */
    void (*layernorm)(float *out, float *mean, float *rstd, const float *x,
                      const float *weight, const float *bias, float epsilon, size_t rows,
                      size_t cols);
    /* All three outputs are added to; dweight and dbias may both be NULL. */
    void (*layernorm_backward)(float *dx, float *dweight, float *dbias, const float *dout,
                               const float *x, const float *mean, const float *rstd,
                               const float *weight, size_t rows, size_t cols);
    /* dweight and dbias alone, and of them @n columns from @first on. */
    void (*layernorm_weights)(float *dweight, float *dbias, const float *dout,
                              const float *x, const float *mean, const float *rstd,
                              size_t rows, size_t cols, size_t first, size_t n);

    /* Zhang, Sennrich: "Root mean square layer normalization": out = x rstd weight. rstd
     * (rows) is kept for the backward pass. */
    void (*rmsnorm)(float *out, float *rstd, const float *x, const float *weight,
                    float epsilon, size_t rows, size_t cols);
    /* Both outputs are added to; dweight may be NULL. */
    void (*rmsnorm_backward)(float *dx, float *dweight, const float *dout, const float *x,
                             const float *rstd, const float *weight, size_t rows,
                             size_t cols);
    /* dweight alone, and of it @n columns from @first on. */
    void (*rmsnorm_weights)(float *dweight, const float *dout, const float *x,
                            const float *rstd, size_t rows, size_t cols, size_t first,
                            size_t n);

    /* GELU in the tanh form: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). */
    void (*gelu)(float *out, const float *x, size_t n);
    /* d *= gelu'(x), in place; out = gelu(x) again, for the weight gradient that follows.
     */
    void (*gelu_backward)(float *d, float *out, const float *x, size_t n);

    /* Shazeer: "GLU variants improve transformer": out = gate / (1 + e^-gate) up. */
    void (*swiglu)(float *out, const float *gate, const float *up, size_t n);
    /* d comes as the gradient of out and becomes that of gate; dup and out, which is
     * computed again for the weight gradient that follows, are overwritten. */
    void (*swiglu_backward)(float *d, float *dup, float *out, const float *gate,
                            const float *up, size_t n);

    /* out (B,T,C) = wte[token] + wpe[t]; wpe NULL: the token alone. tokens has @stride
     * elements from sequence to sequence; every token is below V, the rows of wte, which
     * the caller has checked. */
    void (*embedding)(float *out, const uint32_t *tokens, size_t stride, const float *wte,
                      const float *wpe, size_t V, size_t B, size_t T, size_t C);
    /* dwte[token] += dout, dwpe[t] += dout (unless NULL), in the order of (b, t). */
    void (*embedding_backward)(float *dwte, float *dwpe, const uint32_t *tokens,
                               size_t stride, const float *dout, size_t V, size_t B,
                               size_t T, size_t C);

    /* targets (B,T) of tokens (B,T+1): what follows each. */
    void (*next_tokens)(uint32_t *targets, const uint32_t *tokens, size_t B, size_t T);

    /* In place: x[i] = exp(scale x[i]) / sum. Returns the logarithm of the sum of
     * exp(scale x[i]). n at least 1; alignment of 4 bytes. */
    float (*softmax)(float *x, size_t n, float scale);

    /* In place: queries and keys of @rows rows of qkv from @first on turned by their
     * position, row mod T (Su and others: "RoFormer"), element i of a head with element
     * i + D / 2. table (T,D): D / 2 cosines, then D / 2 sines for each position; @inverse
     * turns back, which is the gradient. */
    void (*rope)(float *qkv, const float *table, const struct cllm_attention *sizes,
                 size_t first, size_t rows, bool inverse);

    /* qkv (B,T,row) -> out (B,T,C), lse (B,H,T). scratch: cllm_attention_scratch()
     * elements. */
    void (*attention)(const struct cllm_ops *ops, float *out, float *lse,
                      const float *qkv, float *scratch,
                      const struct cllm_attention *sizes);
    /* dqkv (B,T,row) is overwritten. */
    void (*attention_backward)(const struct cllm_ops *ops, float *dqkv, const float *dout,
                               const float *qkv, const float *out, const float *lse,
                               float *scratch, const struct cllm_attention *sizes);

    /* What crystal_pairs() needs of tokens first to first + n - 1 of a sequence: the
     * number, and its place on the spiral. points (3,stride); ids below 2^20. */
    void (*crystal_points)(float *points, size_t stride, const uint32_t *tokens,
                           size_t first, size_t n);
    /* The similarities (base/crystal.h) of tokens first to first + rows - 1 to the tokens
     * up to themselves: row r of @similar, @ld elements apart, gets first + r + 1; what
     * lies behind them is not written. */
    void (*crystal_pairs)(float *similar, size_t ld, const float *points, size_t stride,
                          size_t first, size_t rows);

    /* Softmax cross-entropy of rows of logits (rows,V): losses (rows) become
     * -log p[target] in nats. With @backward the logits become the gradient of their sum,
     * otherwise they are scratch afterwards. A table for a device may keep something else
     * of a double's size in losses: only sum_losses() knows. */
    void (*cross_entropy)(double *losses, float *logits, const uint32_t *targets,
                          size_t rows, size_t V, bool backward);

    /* c (V): the similarities of id @target to all ids, divided by their sum
     * (compute/smoothing.c). */
    void (*similarities)(float *c, uint32_t target, size_t V,
                         const struct cllm_smoothing *smoothing);
    /* cross_entropy() against targets smoothed towards what is similar. c (V): scratch.
     * The loss is not 0 at its least, but the entropy of the targets. */
    void (*smooth_cross_entropy)(double *losses, float *logits, const uint32_t *targets,
                                 size_t rows, size_t V, bool backward,
                                 const struct cllm_smoothing *smoothing, float *c);
    /* Each @chunk of n losses is summed in order from 0, and so are their sums. All that
     * was begun before is done when this returns. */
    double (*sum_losses)(const double *losses, size_t n, size_t chunk);

    /* Read version 0, write version 1; the versions do not overlap. Alignment of 4 bytes,
     * and an element's bits do not depend on its place in the range. */
    void (*adamw)(float *w1, float *m1, float *v1, const float *w0, const float *m0,
                  const float *v0, const float *g, size_t n,
                  const struct cllm_adamw_terms *terms);
    /* Likewise, with one moment. The sign of 0 is 0, and so is that of NaN. */
    void (*lion)(float *w1, float *m1, const float *w0, const float *m0, const float *g,
                 size_t n, const struct cllm_lion_terms *terms);
    void (*sgd)(float *w1, float *m1, const float *w0, const float *m0, const float *g,
                size_t n, const struct cllm_sgd_terms *terms);
    /* out = a x + b y. out may be x or y; alignment of 4 bytes. */
    void (*mix)(float *out, const float *x, const float *y, float a, float b, size_t n);

    /* dst = ((acc + lanes[0]) + lanes[1]) + ..., strictly from the left; acc NULL: begins
     * as a copy of lanes[0], so that a -0.0 survives. With acc NULL n_lanes is at
     * least 1. dst overlaps nothing. */
    void (*fold)(float *dst, const float *acc, const float *const *lanes,
                 uint32_t n_lanes, size_t n);
    /* to = from, past the caches, for what nobody reads soon. Other processors see it
     * before what is written after it only if the caller puts a fence between
     * (_mm_sfence()). Fastest where @to is aligned to 64. */
    void (*stream)(float *to, const float *from, size_t n);
    double (*sumsq)(const float *x, size_t n);
    bool (*is_finite)(const float *x, size_t n);
};

/* Elements of scratch for either direction of attention: scores of a block of query rows,
 * and their gradients; rows are whole vectors of 16. */
#define CLLM_ATTENTION_BLOCK 64

static inline size_t cllm_attention_scratch(size_t T)
{
    return 2 * cllm_min_u64(T, CLLM_ATTENTION_BLOCK) * cllm_align_up(T, 16);
}

/*
 * Similarities of a sequence lie as the scores of its blocks do: for each block of query
 * rows, one behind the other, (rows,keys) with as many keys as end with the block. Of a
 * row those behind its own query are not looked at. The elements before the block that
 * begins with row @first, and all of them: about half of T x T.
 */
static inline size_t cllm_attention_pairs_before(size_t first)
{
    size_t block = first / CLLM_ATTENTION_BLOCK;

    return CLLM_ATTENTION_BLOCK * CLLM_ATTENTION_BLOCK * (block * (block + 1) / 2);
}

static inline size_t cllm_attention_pairs(size_t T)
{
    size_t last = (T - 1) / CLLM_ATTENTION_BLOCK * CLLM_ATTENTION_BLOCK;

    return cllm_align_up(cllm_attention_pairs_before(last) + (T - last) * T, 16);
}

/* ---- compute/select.c ---- */

/* Instruction sets that the kernels are compiled for. */
enum cllm_isa {
    CLLM_ISA_AUTO = 0,
    CLLM_ISA_REF,    /* plain C, for ever: what the others are tested against */
    CLLM_ISA_AVX2,   /* and FMA in matrix products */
    CLLM_ISA_AVX512, /* F, BW, DQ, VL */
    CLLM_ISA_AVX512BF16,
    CLLM_ISA_AMX, /* and tiles of bf16 */
    CLLM_N_ISAS
};

extern const char *const cllm_isa_names[CLLM_N_ISAS];

/* The best that this CPU offers. */
enum cllm_isa cllm_isa_best(void);

/* Of the operands of matrix products; sums and everything else are f32. Those of the same
 * width differ in the order of sums (compute/product.h). */
enum cllm_precision {
    CLLM_PRECISION_F32 = 0,
    CLLM_PRECISION_BF16,
    CLLM_PRECISION_BF16_AMX,
    CLLM_PRECISION_F32_AMX,
    CLLM_N_PRECISIONS
};

/*
 * The table for @isa (AUTO: $CLLM_ISA, or the best). Returns 0; CLLM_ECONFIG with text
 * when the CPU does not offer it. All tables of a precision give the same bits.
 */
int cllm_ops_pick(const struct cllm_ops **ops, enum cllm_isa isa,
                  enum cllm_precision precision);

/* The table for the best, in f32. */
const struct cllm_ops *cllm_ops_select(void);

/* Plain C in f32, what all others are tested against. */
const struct cllm_ops *cllm_ops_reference(void);

#endif /* CLLM_COMPUTE_OPS_H */
