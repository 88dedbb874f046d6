/*
 * tests/opencl_operations.c - see tests/opencl_operations.h.
 */
#include "tests/opencl_operations.h"

#include "base/err.h"

static double zero(const struct cllm_ops *ops, const struct operation_arrays *a,
                   const struct operation_shape *s)
{
    ops->zero(a->at[0], s->rows * s->cols);
    ops->put(a->at[3] + 1, a->from, s->rows * s->cols * sizeof(float));
    return 0;
}

static double add_columns(const struct cllm_ops *ops, const struct operation_arrays *a,
                          const struct operation_shape *s)
{
    ops->add_columns(a->at[0], a->at[1], s->rows, s->cols);
    return 0;
}

/* Also in place, in either operand. */
static double mix(const struct cllm_ops *ops, const struct operation_arrays *a,
                  const struct operation_shape *s)
{
    size_t n = s->rows * s->cols;

    ops->mix(a->at[0], a->at[1], a->at[2], 0.75f, -1.5f, n);
    ops->mix(a->at[3], a->at[3], a->at[1], 0.1f, 0.9f, n);
    ops->mix(a->at[4], a->at[2], a->at[4], 1.0f, 3.0f, n);
    return 0;
}

static double dropout(const struct cllm_ops *ops, const struct operation_arrays *a,
                      const struct operation_shape *s)
{
    const struct cllm_dropout drop = {.key = UINT64_C(0x123456789abcdef),
                                      .threshold = UINT32_MAX / 3,
                                      .scale = 1.5f,
                                      .first = (uint64_t)128 << 40};

    ops->dropout(a->at[0], NULL, a->at[1], s->rows * s->cols, &drop);
    ops->dropout(a->at[2], a->at[3], a->at[1], s->rows * s->cols, &drop);
    ops->dropout(a->at[4], NULL, a->at[4], s->rows * s->cols, &drop);
    return 0;
}

static double layernorm(const struct cllm_ops *ops, const struct operation_arrays *a,
                        const struct operation_shape *s)
{
    ops->layernorm(a->at[0], a->at[1], a->at[2], a->at[3], a->at[4], a->at[5], 1e-5f,
                   s->rows, s->cols);
    return 0;
}

static double layernorm_backward(const struct cllm_ops *ops,
                                 const struct operation_arrays *a,
                                 const struct operation_shape *s)
{
    ops->layernorm_backward(a->at[0], a->at[1], a->at[2], a->at[3], a->at[4], a->at[5],
                            a->at[6], a->at[7], s->rows, s->cols);
    ops->layernorm_weights(a->at[1], a->at[2], a->at[3], a->at[4], a->at[5], a->at[6],
                           s->rows, s->cols, s->cols / 3, s->cols - s->cols / 3);
    return 0;
}

static double layernorm_alone(const struct cllm_ops *ops,
                              const struct operation_arrays *a,
                              const struct operation_shape *s)
{
    ops->layernorm_backward(a->at[0], NULL, NULL, a->at[3], a->at[4], a->at[5], a->at[6],
                            a->at[7], s->rows, s->cols);
    return 0;
}

static double rmsnorm(const struct cllm_ops *ops, const struct operation_arrays *a,
                      const struct operation_shape *s)
{
    ops->rmsnorm(a->at[0], a->at[2], a->at[3], a->at[4], 1e-5f, s->rows, s->cols);
    return 0;
}

static double rmsnorm_backward(const struct cllm_ops *ops,
                               const struct operation_arrays *a,
                               const struct operation_shape *s)
{
    ops->rmsnorm_backward(a->at[0], a->at[1], a->at[3], a->at[4], a->at[5], a->at[6],
                          s->rows, s->cols);
    ops->rmsnorm_weights(a->at[1], a->at[3], a->at[4], a->at[5], s->rows, s->cols,
                         s->cols / 3, s->cols - s->cols / 3);
    ops->rmsnorm_backward(a->at[7], NULL, a->at[3], a->at[4], a->at[5], a->at[6], s->rows,
                          s->cols);
    return 0;
}

static double gelu(const struct cllm_ops *ops, const struct operation_arrays *a,
                   const struct operation_shape *s)
{
    ops->gelu(a->at[0], a->at[1], s->rows * s->cols);
    ops->gelu_backward(a->at[2], a->at[3], a->at[1], s->rows * s->cols);
    return 0;
}

static double swiglu(const struct cllm_ops *ops, const struct operation_arrays *a,
                     const struct operation_shape *s)
{
    ops->swiglu(a->at[0], a->at[1], a->at[2], s->rows * s->cols);
    ops->swiglu_backward(a->at[3], a->at[4], a->at[5], a->at[1], a->at[2],
                         s->rows * s->cols);
    return 0;
}

static double embedding(const struct cllm_ops *ops, const struct operation_arrays *a,
                        const struct operation_shape *s)
{
    size_t B = s->third % 3 + 1, T = s->rows / B + 1;

    CLLM_ASSERT(s->vocab * s->cols <= a->n && B * T * s->cols <= a->n);
    ops->embedding(a->at[0], a->tokens, T + 1, a->at[1], a->at[2], s->vocab, B, T,
                   s->cols);
    ops->embedding(a->at[3], a->tokens, T + 1, a->at[1], NULL, s->vocab, B, T, s->cols);
    ops->embedding_backward(a->at[4], a->at[5], a->tokens, T + 1, a->at[6], s->vocab, B,
                            T, s->cols);
    ops->embedding_backward(a->at[7], NULL, a->tokens, T + 1, a->at[6], s->vocab, B, T,
                            s->cols);
    return 0;
}

static struct cllm_attention rope_sizes(const struct operation_shape *s)
{
    size_t D = 2 * (s->cols % 35 + 1), KV = s->third % 3 + 1, H = KV * (s->third % 2 + 1);

    return (struct cllm_attention){.B = 2, .T = s->rows, .C = H * D, .H = H, .KV = KV};
}

static double rope(const struct cllm_ops *ops, const struct operation_arrays *a,
                   const struct operation_shape *s)
{
    const struct cllm_attention sizes = rope_sizes(s);

    ops->rope(a->at[0], a->at[1], &sizes, 0, 2 * s->rows, false);
    ops->rope(a->at[2], a->at[1], &sizes, s->rows / 2, s->rows, true);
    return 0;
}

/* Targets of the rows, then their losses summed. */
static double cross_entropy(const struct cllm_ops *ops, const struct operation_arrays *a,
                            const struct operation_shape *s)
{
    uint32_t *targets = (uint32_t *)(void *)a->at[7];

    ops->next_tokens(targets, a->tokens, 1, s->rows);
    ops->cross_entropy(a->losses, a->at[0], targets, s->rows, s->cols, true);
    return ops->sum_losses(a->losses, s->rows, s->rows);
}

static double cross_entropy_alone(const struct cllm_ops *ops,
                                  const struct operation_arrays *a,
                                  const struct operation_shape *s)
{
    uint32_t *targets = (uint32_t *)(void *)a->at[7];
    double loss;

    ops->next_tokens(targets, a->tokens, s->rows, 1);
    ops->cross_entropy(a->losses, a->at[0], targets, s->rows, s->cols, false);
    loss = ops->sum_losses(a->losses, s->rows, s->rows);
    ops->zero(a->at[0], s->rows * s->cols); /* scratch: any value is right */
    return loss;
}

/* All four transpositions, gaps between rows, added to and not, and to what is not C: a
 * bias, a bias and a stream, a stream. */
static double matmul(const struct cllm_ops *ops, const struct operation_arrays *a,
                     const struct operation_shape *s)
{
    size_t m = s->rows, n = s->cols, k = s->third, gap = (m + n + k) % 4;

    for (int form = 0; form < 4; form++) {
        bool ta = (form & 1) != 0, tb = (form & 2) != 0;
        const struct cllm_matmul plain = {
            .m = m, .n = n, .k = k, .trans_a = ta, .trans_b = tb};
        struct cllm_matmul apart = plain, added = plain;

        apart.lda = (ta ? m : k) + gap;
        apart.ldb = (tb ? k : n) + gap;
        apart.ldc = n + gap;
        apart.accumulate = form % 2 == 0;
        added.accumulate = form == 3;
        added.bias = form < 2 ? a->at[7] : NULL;
        added.add = form == 1 ? a->at[6] : form == 2 ? a->at[7] : NULL;
        ops->matmul(a->at[form % 2], a->at[4] + 1, a->at[5] + 3, &apart);
        ops->matmul(a->at[6], a->at[4], a->at[5], &plain);
        ops->matmul(a->at[2], a->at[4], a->at[5], &added);
    }
    return 0;
}

struct cllm_attention operation_heads(const struct operation_shape *s)
{
    static const size_t groups[][2] = {{1, 1}, {2, 2}, {2, 1}, {6, 2}, {3, 0}};
    const size_t *of = groups[s->rows % CLLM_LEN(groups)];

    return (struct cllm_attention){.B = 1 + s->rows % 2,
                                   .T = s->rows,
                                   .C = of[0] * s->cols,
                                   .H = of[0],
                                   .KV = of[1]};
}

static void attend(const struct cllm_ops *ops, const struct operation_arrays *a,
                   const struct cllm_attention *sizes)
{
    static float scratch[2 * 64 * 1200];

    ops->attention(ops, a->at[0], a->at[1], a->at[2], scratch, sizes);
    ops->attention_backward(ops, a->at[3], a->at[4], a->at[2], a->at[0], a->at[1],
                            scratch, sizes);
}

static double attention(const struct cllm_ops *ops, const struct operation_arrays *a,
                        const struct operation_shape *s)
{
    const struct cllm_attention sizes = operation_heads(s);

    attend(ops, a, &sizes);
    return 0;
}

static double attention_dropout(const struct cllm_ops *ops,
                                const struct operation_arrays *a,
                                const struct operation_shape *s)
{
    struct cllm_attention sizes = operation_heads(s);

    sizes.dropout = (struct cllm_dropout){
        .key = UINT64_C(0xfedcba987654321), .threshold = UINT32_MAX / 3, .scale = 1.5f};
    attend(ops, a, &sizes);
    return 0;
}

const struct operation operations[N_OPERATIONS] = {
    {.name = "zero", .run = zero, .exact = true},
    {.name = "add_columns", .run = add_columns},
    {.name = "mix", .run = mix},
    {.name = "dropout", .run = dropout},
    {.name = "layernorm", .run = layernorm},
    {.name = "layernorm_backward", .run = layernorm_backward},
    {.name = "layernorm_alone", .run = layernorm_alone},
    {.name = "rmsnorm", .run = rmsnorm},
    {.name = "rmsnorm_backward", .run = rmsnorm_backward},
    {.name = "gelu", .run = gelu},
    {.name = "swiglu", .run = swiglu},
    {.name = "embedding", .run = embedding, .of_ids = true},
    {.name = "rope", .run = rope},
    {.name = "cross_entropy", .run = cross_entropy, .of_columns = true},
    {.name = "cross_entropy_alone", .run = cross_entropy_alone, .of_columns = true},
};

const struct operation operation_product = {.name = "matmul", .run = matmul};
const struct operation operation_attentions[N_OPERATION_ATTENTIONS] = {
    {.name = "attention", .run = attention},
    {.name = "attention_dropout", .run = attention_dropout},
};

size_t operation_elements(const struct operation *operation,
                          const struct operation_shape *s)
{
    const struct cllm_attention sizes = rope_sizes(s);
    size_t rows = s->rows;

    if (operation->run == rope)
        return 2 * s->rows * cllm_attention_row(&sizes) + 16;
    if (operation->of_ids)
        rows = cllm_max_u64(rows, s->vocab);
    return (rows + 4) * (s->cols + 4);
}
