/*
 * tests/test_attention.c - blocked attention against the textbook's, in double, with the
 * whole T x T matrix.
 */
#include "compute/ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "tests/numbers.h"

static const struct cllm_attention shapes[] = {
    {.B = 1, .T = 1, .C = 1, .H = 1},
    {.B = 2, .T = 3, .C = 6, .H = 2},
    {.B = 1, .T = 63, .C = 5, .H = 5},
    {.B = 1, .T = 64, .C = 8, .H = 1},
    {.B = 3, .T = 65, .C = 34, .H = 2},
    {.B = 1, .T = 129, .C = 9, .H = 3},
    {.B = 2, .T = 150, .C = 16, .H = 2},
    /* keys shared by two, three and all queries */
    {.B = 2, .T = 3, .C = 8, .H = 4, .KV = 2},
    {.B = 1, .T = 65, .C = 30, .H = 6, .KV = 2},
    {.B = 2, .T = 130, .C = 12, .H = 4, .KV = 1},
    {.B = 2, .T = 67, .C = 12, .H = 4, .KV = 4},
};

struct exact {
    double *out, *dqkv; // (B,T,C), (B,T,row)
};

/* What the probabilities (T) of query t of head @i are multiplied by: their random
 * words', each row in elements that begin at a multiple of 128. */
static void exact_factors(double *factor, const struct cllm_attention *s, size_t i,
                          size_t t)
{
    for (size_t j = 0; j <= t; j++) {
        uint64_t at = (i * s->T + t) * cllm_align_up(s->T, 128) + j;
        uint32_t word[4];

        cllm_random_block(word, s->dropout.key, CLLM_RANDOM_DROPOUT,
                          at / 128 * 32 + at % 32);
        factor[j] = s->dropout.threshold == 0 ? 1
                    : word[at % 128 / 32] < s->dropout.threshold
                        ? 0
                        : (double)s->dropout.scale;
    }
}

/* Probabilities (T) of query t. */
static void exact_row(double *p, const float *q, const float *keys, size_t t, size_t row,
                      size_t D)
{
    double sum = 0;

    for (size_t j = 0; j <= t; j++) {
        double score = 0;

        for (size_t d = 0; d < D; d++)
            score += (double)q[d] * (double)keys[j * row + d];
        sum += p[j] = exp(score / sqrt((double)D));
    }
    for (size_t j = 0; j <= t; j++)
        p[j] /= sum;
}

static void exact_head(struct exact *e, const float *qkv, const float *dout,
                       const struct cllm_attention *s, size_t b, size_t h)
{
    size_t T = s->T, C = s->C, D = C / s->H, KV = s->KV ? s->KV : s->H;
    size_t row = C + 2 * KV * D, at = b * T * row;
    size_t at_k = at + C + h * KV / s->H * D, at_v = at_k + KV * D;
    const float *q = qkv + at + h * D, *k = qkv + at_k, *v = qkv + at_v;
    double *dq = e->dqkv + at + h * D, *dk = e->dqkv + at_k, *dv = e->dqkv + at_v;
    double p[256], dp[256], factor[256];

    assert_true(T <= CLLM_LEN(p));
    for (size_t t = 0; t < T; t++) {
        const float *dy = dout + (b * T + t) * C + h * D;
        double mean = 0;

        exact_row(p, q + t * row, k, t, row, D);
        exact_factors(factor, s, b * s->H + h, t);
        for (size_t j = 0; j <= t; j++) {
            dp[j] = 0;
            for (size_t d = 0; d < D; d++) {
                e->out[(b * T + t) * C + h * D + d] +=
                    p[j] * factor[j] * (double)v[j * row + d];
                dv[j * row + d] += p[j] * factor[j] * (double)dy[d];
                dp[j] += (double)dy[d] * (double)v[j * row + d];
            }
            dp[j] *= factor[j];
            mean += p[j] * dp[j];
        }
        for (size_t j = 0; j <= t; j++) {
            double ds = p[j] * (dp[j] - mean) / sqrt((double)D);

            for (size_t d = 0; d < D; d++) {
                dq[t * row + d] += ds * (double)k[j * row + d];
                dk[j * row + d] += ds * (double)q[t * row + d];
            }
        }
    }
}

/* All arrays of one case. */
struct arrays {
    size_t n, n_qkv;
    float *qkv, *dout, *out, *dqkv, *lse, *scratch;
};

static struct arrays arrays_new(const struct cllm_attention *s)
{
    size_t n = s->B * s->T * s->C, n_qkv = s->B * s->T * cllm_attention_row(s);

    return (struct arrays){.n = n,
                           .n_qkv = n_qkv,
                           .qkv = numbers_new(n_qkv, 1, 2.0f),
                           .dout = numbers_new(n, 2, 1.0f),
                           .out = numbers_new(n, 3, 1.0f),
                           .dqkv = numbers_new(n_qkv, 4, 1.0f), /* is overwritten */
                           .lse = numbers_zero(s->B * s->H * s->T),
                           .scratch = numbers_zero(cllm_attention_scratch(s->T))};
}

static void arrays_free(struct arrays *a)
{
    free(a->qkv);
    free(a->dout);
    free(a->out);
    free(a->dqkv);
    free(a->lse);
    free(a->scratch);
}

static void run(const struct cllm_ops *ops, struct arrays *a,
                const struct cllm_attention *s)
{
    ops->attention(ops, a->out, a->lse, a->qkv, a->scratch, s);
    ops->attention_backward(ops, a->dqkv, a->dout, a->qkv, a->out, a->lse, a->scratch, s);
}

static void check(const struct cllm_ops *ops, const struct cllm_attention *s)
{
    struct arrays a = arrays_new(s);
    struct exact e = {.out = calloc(a.n, sizeof *e.out),
                      .dqkv = calloc(a.n_qkv, sizeof *e.dqkv)};

    assert_true(e.out != NULL && e.dqkv != NULL);
    for (size_t i = 0; i < s->B * s->H; i++)
        exact_head(&e, a.qkv, a.dout, s, i / s->H, i % s->H);
    run(ops, &a, s);
    assert_true(numbers_error(a.out, e.out, a.n) < 2e-6);
    assert_true(numbers_error(a.dqkv, e.dqkv, a.n_qkv) < 4e-6);
    free(e.out);
    free(e.dqkv);
    arrays_free(&a);
}

static void attention_agrees_with_double_precision_at_block_borders(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(shapes); i++) {
        check(cllm_ops_reference(), &shapes[i]);
        check(cllm_ops_select(), &shapes[i]);
    }
}

static void check_same_bits(const struct cllm_attention *s)
{
    struct arrays a = arrays_new(s), b = arrays_new(s);

    run(cllm_ops_reference(), &a, s);
    run(cllm_ops_select(), &b, s);
    assert_memory_equal(a.out, b.out, a.n * sizeof *a.out);
    assert_memory_equal(a.dqkv, b.dqkv, a.n_qkv * sizeof *a.dqkv);
    arrays_free(&a);
    arrays_free(&b);
}

static void dropped_probabilities_agree_with_double_precision(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(shapes); i++) {
        struct cllm_attention s = shapes[i];

        s.dropout = (struct cllm_dropout){.key = UINT64_C(0x123456789abcdef0) + i,
                                          .threshold = UINT32_MAX / 4,
                                          .scale = 4.0f / 3.0f};
        check(cllm_ops_reference(), &s);
        check(cllm_ops_select(), &s);
        check_same_bits(&s);
    }
}

static void no_position_sees_a_later_one(void **state)
{
    const struct cllm_attention s = {.B = 1, .T = 100, .C = 6, .H = 2};
    struct arrays a = arrays_new(&s), b = arrays_new(&s);

    (void)state;
    for (size_t i = 70 * 3 * s.C; i < a.n_qkv; i++)
        b.qkv[i] = NAN;
    run(cllm_ops_reference(), &a, &s);
    run(cllm_ops_reference(), &b, &s);
    /* The block of position 70 begins at 64: earlier blocks cannot touch the NaN; in its
     * own block a masked probability of 0 still meets it in a product. */
    assert_memory_equal(a.out, b.out, 64 * s.C * sizeof *a.out);
    for (size_t t = 70; t < 100; t++)
        assert_true(isnan(b.out[t * s.C]));
    arrays_free(&a);
    arrays_free(&b);
}

static void later_values_of_the_same_block_change_nothing(void **state)
{
    const struct cllm_attention s = {.B = 1, .T = 50, .C = 6, .H = 2};
    struct arrays a = arrays_new(&s), b = arrays_new(&s);

    (void)state;
    for (size_t i = 20 * 3 * s.C; i < a.n_qkv; i++)
        b.qkv[i] = -b.qkv[i];
    run(cllm_ops_select(), &a, &s);
    run(cllm_ops_select(), &b, &s);
    assert_memory_equal(a.out, b.out, 20 * s.C * sizeof *a.out);
    arrays_free(&a);
    arrays_free(&b);
}

static void attention_done_again_has_the_same_bits(void **state)
{
    const struct cllm_attention s = {.B = 2, .T = 150, .C = 16, .H = 2};
    struct arrays a = arrays_new(&s), b = arrays_new(&s);

    (void)state;
    memset(b.scratch, 0xff, cllm_attention_scratch(s.T) * sizeof *b.scratch); /* NaNs */
    run(cllm_ops_select(), &a, &s);
    run(cllm_ops_select(), &b, &s);
    assert_memory_equal(a.out, b.out, a.n * sizeof *a.out);
    assert_memory_equal(a.dqkv, b.dqkv, a.n_qkv * sizeof *a.dqkv);
    arrays_free(&a);
    arrays_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_agrees_with_double_precision_at_block_borders),
        cmocka_unit_test(dropped_probabilities_agree_with_double_precision),
        cmocka_unit_test(no_position_sees_a_later_one),
        cmocka_unit_test(later_values_of_the_same_block_change_nothing),
        cmocka_unit_test(attention_done_again_has_the_same_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
