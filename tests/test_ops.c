/*
 * tests/test_ops.c - gradients of biases, GELU, SwiGLU, embedding, norms, softmax and
 * loss against naive double precision, on shapes that no vector width divides.
 */
#include "compute/ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/numbers.h"

static const size_t widths[] = {1, 3, 16, 17, 31, 65, 192};
static const size_t heights[] = {1, 2, 5, 33};

static const struct cllm_ops *tables[2];

#define FOR_EACH_SHAPE(ops, rows, cols)                                              \
    for (size_t t_ = 0; t_ < CLLM_LEN(tables); t_++)                                 \
        for (size_t r_ = 0; r_ < CLLM_LEN(heights); r_++)                            \
            for (size_t c_ = 0; c_ < CLLM_LEN(widths); c_++)                         \
                for (size_t rows = heights[r_], cols = widths[c_], once_ = 1; once_; \
                     once_ = 0)                                                      \
                    for (const struct cllm_ops *ops = tables[t_]; ops; ops = NULL)

static int get_tables(void **state)
{
    (void)state;
    tables[0] = cllm_ops_reference();
    tables[1] = cllm_ops_select();
    return 0;
}

static void columns_are_added_to_what_is_there(void **state)
{
    (void)state;
    FOR_EACH_SHAPE(ops, rows, cols)
    {
        float *x = numbers_new(rows * cols, 1, 1.0f), *sum = numbers_new(cols, 2, 1.0f);
        double *exact = calloc(cols, sizeof *exact);

        assert_non_null(exact);
        for (size_t c = 0; c < cols; c++)
            exact[c] = (double)sum[c];
        for (size_t i = 0; i < rows * cols; i++)
            exact[i % cols] += (double)x[i];
        ops->add_columns(sum, x, rows, cols);
        for (size_t c = 0; c < cols; c++)
            assert_true(fabs((double)sum[c] - exact[c]) <= (double)rows * 0x1p-23);
        free(x);
        free(sum);
        free(exact);
    }
}

static double twice_u(double x)
{
    return 2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x);
}

/* (1 + tanh(u)) / 2 = 1 / (1 + exp(-2u)), which in double too keeps more digits. */
static double exact_gelu(double x)
{
    return x / (1 + exp(-twice_u(x)));
}

static void gelu_follows_the_formula_also_far_from_zero(void **state)
{
    enum { N = 4001 };
    float *x = numbers_zero(N), *out = numbers_zero(N), *d = numbers_zero(N);
    float *again = numbers_zero(N);
    const double h = 1e-5;

    (void)state;
    for (size_t i = 0; i < N; i++) {
        x[i] = ((float)i - N / 2) * 0.01f;
        d[i] = 2.0f;
    }
    tables[0]->gelu(out, x, N);
    tables[0]->gelu_backward(d, again, x, N);
    assert_memory_equal(out, again, N * sizeof *out);
    for (size_t i = 0; i < N; i++) {
        double at = (double)x[i], exact = exact_gelu(at);
        double slope = (exact_gelu(at + h) - exact_gelu(at - h)) / (2 * h);

        /* An exponent rounded to f32 is worth its size in ulps of the result, and
         * exp(89) is already infinite. */
        assert_true(fabs((double)out[i] - exact) <=
                    2e-7 * (2 + fabs(twice_u(at))) * fabs(exact) + 1e-36);
        assert_true(fabs((double)d[i] - 2 * slope) <= 1e-5);
    }
    free(x);
    free(out);
    free(d);
    free(again);
}

static void gelu_of_large_and_broken_numbers_is_what_it_should_be(void **state)
{
    const float x[] = {INFINITY, 1e30f, -1e30f, NAN, 0x1p-149f, -0.0f};
    float out[CLLM_LEN(x)], d[CLLM_LEN(x)] = {1, 1, 1, 1, 1, 1};

    (void)state;
    tables[0]->gelu(out, x, CLLM_LEN(x));
    assert_true(out[0] == INFINITY && out[1] == 1e30f && out[2] == 0.0f);
    assert_true(isnan(out[3]) && out[4] >= 0.0f && out[4] <= 0x1p-149f);
    assert_true(out[5] == 0.0f && signbit(out[5]));
    tables[0]->gelu_backward(d, out, x, CLLM_LEN(x));
    assert_true(isnan(d[3]) && d[4] == 0.5f && d[5] == 0.5f);
}

static void embeddings_are_looked_up_and_their_gradients_collected(void **state)
{
    enum { V = 7, B = 3, T = 5, C = 17 };
    float *wte = numbers_new(V * C, 1, 1.0f), *wpe = numbers_new(T * C, 2, 1.0f);
    float *out = numbers_zero(B * T * C), *dout = numbers_new(B * T * C, 3, 1.0f);
    float *dwte = numbers_zero(V * C), *dwpe = numbers_zero(T * C);
    double exact_te[V * C] = {0}, exact_pe[T * C] = {0};
    uint32_t tokens[B * (T + 1)];

    (void)state;
    for (uint32_t i = 0; i < CLLM_LEN(tokens); i++)
        tokens[i] = i * i % V; /* tokens come more than once */
    tables[0]->embedding(out, tokens, T + 1, wte, wpe, V, B, T, C);
    tables[0]->embedding_backward(dwte, dwpe, tokens, T + 1, dout, V, B, T, C);
    for (size_t i = 0; i < B * T * C; i++) {
        size_t b = i / (T * C), t = i / C % T, c = i % C;
        uint32_t token = tokens[b * (T + 1) + t];

        assert_true(out[i] == wte[token * C + c] + wpe[t * C + c]);
        exact_te[token * C + c] += (double)dout[i];
        exact_pe[t * C + c] += (double)dout[i];
    }
    assert_true(numbers_error(dwte, exact_te, V * C) < 1e-6);
    assert_true(numbers_error(dwpe, exact_pe, T * C) < 1e-6);
    free(wte);
    free(wpe);
    free(out);
    free(dout);
    free(dwte);
    free(dwpe);
}

/* One row in double: out, and gradients added to dx, dw, db. */
static void exact_norm(double *out, double *dx, double *dw, double *db, const float *x,
                       const float *w, const float *b, const float *dout, size_t n)
{
    double mean = 0, variance = 0, g = 0, gn = 0, s;

    for (size_t i = 0; i < n; i++)
        mean += (double)x[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        variance += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)n;
    s = 1 / sqrt(variance + 1e-5);
    for (size_t i = 0; i < n; i++) {
        double normal = ((double)x[i] - mean) * s;

        out[i] = normal * (double)w[i] + (double)b[i];
        dw[i] += (double)dout[i] * normal;
        db[i] += (double)dout[i];
        g += (double)dout[i] * (double)w[i] / (double)n;
        gn += (double)dout[i] * (double)w[i] * normal / (double)n;
    }
    for (size_t i = 0; i < n; i++)
        dx[i] +=
            s * ((double)dout[i] * (double)w[i] - g - ((double)x[i] - mean) * s * gn);
}

static void check_norm(const struct cllm_ops *ops, size_t rows, size_t cols)
{
    size_t n = rows * cols;
    float *x = numbers_new(n, 1, 3.0f), *dout = numbers_new(n, 2, 1.0f);
    float *w = numbers_new(cols, 3, 1.0f), *b = numbers_new(cols, 4, 1.0f);
    float *out = numbers_zero(n), *mean = numbers_zero(rows), *rstd = numbers_zero(rows);
    float *dx = numbers_zero(n), *dw = numbers_zero(cols), *db = numbers_zero(cols);
    double *exact = calloc(2 * n + 2 * cols, sizeof *exact);
    double *exact_dx = exact + n, *exact_dw = exact_dx + n, *exact_db = exact_dw + cols;

    assert_non_null(exact);
    for (size_t i = 0; i < n; i++)
        exact_dx[i] = (double)(dx[i] = 0.5f); /* is added to */
    for (size_t r = 0; r < rows; r++)
        exact_norm(exact + r * cols, exact_dx + r * cols, exact_dw, exact_db,
                   x + r * cols, w, b, dout + r * cols, cols);
    ops->layernorm(out, mean, rstd, x, w, b, 1e-5f, rows, cols);
    ops->layernorm_backward(dx, dw, db, dout, x, mean, rstd, w, rows, cols);
    assert_true(numbers_error(out, exact, n) < 2e-6);
    assert_true(numbers_error(dx, exact_dx, n) < 1e-5);
    assert_true(numbers_error(db, exact_db, cols) < 2e-6);
    if (cols > 1) /* one column: (x - mean) is 0, and so is its gradient */
        assert_true(numbers_error(dw, exact_dw, cols) < 2e-6);
    free(x);
    free(dout);
    free(w);
    free(b);
    free(out);
    free(mean);
    free(rstd);
    free(dx);
    free(dw);
    free(db);
    free(exact);
}

static void norms_and_their_gradients_agree_with_double_precision(void **state)
{
    (void)state;
    FOR_EACH_SHAPE(ops, rows, cols)
    check_norm(ops, rows, cols);
}

static void check_rmsnorm(const struct cllm_ops *ops, size_t rows, size_t cols)
{
    size_t n = rows * cols;
    float *x = numbers_new(n, 1, 3.0f), *dout = numbers_new(n, 2, 1.0f);
    float *w = numbers_new(cols, 3, 1.0f), *out = numbers_zero(n);
    float *rstd = numbers_zero(rows), *dx = numbers_new(n, 4, 0.5f);
    float *dw = numbers_zero(cols), *dw_alone = numbers_zero(cols);
    double *exact = calloc(2 * n + cols, sizeof *exact);
    double *exact_dx = exact + n, *exact_dw = exact_dx + n;

    assert_non_null(exact);
    for (size_t r = 0; r < rows; r++) {
        double square = 0, gn = 0, s;

        for (size_t i = r * cols; i < (r + 1) * cols; i++)
            square += (double)x[i] * (double)x[i] / (double)cols;
        s = 1 / sqrt(square + 1e-3);
        for (size_t c = 0; c < cols; c++)
            gn += (double)dout[r * cols + c] * (double)w[c] * (double)x[r * cols + c] *
                  s / (double)cols;
        for (size_t c = 0; c < cols; c++) {
            size_t i = r * cols + c;
            double normal = (double)x[i] * s;

            exact[i] = normal * (double)w[c];
            exact_dw[c] += (double)dout[i] * normal;
            exact_dx[i] =
                (double)dx[i] + s * ((double)dout[i] * (double)w[c] - normal * gn);
        }
    }
    ops->rmsnorm(out, rstd, x, w, 1e-3f, rows, cols);
    ops->rmsnorm_backward(dx, dw, dout, x, rstd, w, rows, cols);
    ops->rmsnorm_weights(dw_alone, dout, x, rstd, rows, cols, 0, cols / 2);
    ops->rmsnorm_weights(dw_alone, dout, x, rstd, rows, cols, cols / 2, cols - cols / 2);
    assert_true(numbers_error(out, exact, n) < 2e-6);
    assert_true(numbers_error(dx, exact_dx, n) < 1e-5);
    assert_true(numbers_error(dw, exact_dw, cols) < 2e-6);
    assert_memory_equal(dw, dw_alone, cols * sizeof *dw);
    free(x);
    free(dout);
    free(w);
    free(out);
    free(rstd);
    free(dx);
    free(dw);
    free(dw_alone);
    free(exact);
}

static void root_mean_square_norms_agree_with_double_precision(void **state)
{
    (void)state;
    FOR_EACH_SHAPE(ops, rows, cols)
    check_rmsnorm(ops, rows, cols);
}

static double exact_silu(double x)
{
    return x / (1 + exp(-x));
}

static void swiglu_follows_the_formula_also_far_from_zero(void **state)
{
    enum { N = 4001 };
    float *gate = numbers_zero(N), *up = numbers_new(N, 1, 3.0f), *out = numbers_zero(N);
    float *d = numbers_new(N, 2, 1.0f), *dout = numbers_new(N, 2, 1.0f);
    float *dup = numbers_zero(N), *again = numbers_zero(N);
    const double h = 1e-5;

    (void)state;
    for (size_t i = 0; i < N; i++)
        gate[i] = ((float)i - N / 2) * 0.02f;
    tables[0]->swiglu(out, gate, up, N);
    tables[0]->swiglu_backward(d, dup, again, gate, up, N);
    assert_memory_equal(out, again, N * sizeof *out);
    for (size_t i = 0; i < N; i++) {
        double at = (double)gate[i], silu = exact_silu(at), u = (double)up[i];
        double slope = (exact_silu(at + h) - exact_silu(at - h)) / (2 * h);
        double near = 3e-7 * (2 + fabs(at)) * fabs(silu);

        assert_true(fabs((double)out[i] - silu * u) <= near * fabs(u) + 1e-36);
        assert_true(fabs((double)dup[i] - silu * (double)dout[i]) <= near + 1e-36);
        assert_true(fabs((double)d[i] - slope * u * (double)dout[i]) <= 2e-5);
    }
    free(gate);
    free(up);
    free(out);
    free(d);
    free(dout);
    free(dup);
    free(again);
}

/* Far from zero x^2 - mean^2 would have no digit left. */
static void a_row_far_from_zero_is_still_normalised(void **state)
{
    float x[64], one[64], zero[64] = {0}, out[64], mean, rstd;
    double squares = 0;

    (void)state;
    for (size_t i = 0; i < 64; i++) {
        x[i] = 10000.0f + (i % 2 == 0 ? 1.0f : -1.0f);
        one[i] = 1.0f;
    }
    tables[0]->layernorm(out, &mean, &rstd, x, one, zero, 1e-5f, 1, 64);
    for (size_t i = 0; i < 64; i++)
        squares += (double)out[i] * (double)out[i];
    assert_true(fabs(squares / 64 - 1) < 1e-4);
}

static void softmax_sums_to_one_and_returns_the_logarithm(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(widths); i++) {
        size_t n = widths[i];
        float *x = numbers_new(n, 1, 20.0f), lse;
        double exact[192], sum = 0;

        for (size_t j = 0; j < n; j++)
            sum += exact[j] = exp(0.5 * (double)x[j]);
        for (size_t j = 0; j < n; j++)
            exact[j] /= sum;
        lse = tables[0]->softmax(x, n, 0.5f);
        assert_true(fabs((double)lse - log(sum)) < 2e-6 * (1 + fabs(log(sum))));
        assert_true(numbers_error(x, exact, n) < 2e-6);
        free(x);
    }
}

static void softmax_of_huge_scores_does_not_overflow_and_a_nan_is_seen(void **state)
{
    float huge[] = {3e38f, 3e38f, -3e38f}, broken[] = {1, NAN, 2}, open[] = {1, INFINITY};

    (void)state;
    (void)tables[0]->softmax(huge, 3, 1.0f);
    assert_true(huge[0] == 0.5f && huge[1] == 0.5f && huge[2] == 0.0f);
    assert_true(isnan(tables[0]->softmax(broken, 3, 1.0f)));
    assert_true(isnan(broken[0]) && isnan(broken[1]) && isnan(broken[2]));
    assert_true(isnan(tables[0]->softmax(open, 2, 1.0f)));
}

static void loss_and_its_gradient_agree_with_double_precision(void **state)
{
    (void)state;
    FOR_EACH_SHAPE(ops, rows, cols)
    {
        size_t n = rows * cols;
        float *x = numbers_new(n, 1, 8.0f), *kept = numbers_new(n, 1, 8.0f);
        uint32_t *target = calloc(rows, sizeof *target);
        double *exact = calloc(n, sizeof *exact), loss = 0;

        assert_true(target != NULL && exact != NULL);
        for (size_t r = 0; r < rows; r++) {
            double sum = 0;

            target[r] = (uint32_t)(r * 7 % cols);
            for (size_t c = 0; c < cols; c++)
                sum += exact[r * cols + c] = exp((double)x[r * cols + c]);
            for (size_t c = 0; c < cols; c++)
                exact[r * cols + c] = exact[r * cols + c] / sum - (c == target[r]);
            loss += log(sum) - (double)x[r * cols + target[r]];
        }
        assert_true(fabs(numbers_loss(ops, x, target, rows, cols, true) - loss) <
                    2e-6 * (loss + 1));
        assert_true(numbers_error(x, exact, n) < 2e-6);
        assert_true(fabs(numbers_loss(ops, kept, target, rows, cols, false) - loss) <
                    2e-6 * (loss + 1));
        free(x);
        free(kept);
        free(target);
        free(exact);
    }
}

static void a_nan_among_the_logits_makes_the_loss_nan(void **state)
{
    const uint32_t target = 0;

    (void)state;
    for (size_t at = 0; at < 40; at++) {
        float *x = numbers_new(40, 1, 1.0f);

        x[at] = NAN;
        assert_true(isnan(numbers_loss(tables[0], x, &target, 1, 40, true)));
        free(x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_added_to_what_is_there),
        cmocka_unit_test(gelu_follows_the_formula_also_far_from_zero),
        cmocka_unit_test(gelu_of_large_and_broken_numbers_is_what_it_should_be),
        cmocka_unit_test(embeddings_are_looked_up_and_their_gradients_collected),
        cmocka_unit_test(norms_and_their_gradients_agree_with_double_precision),
        cmocka_unit_test(root_mean_square_norms_agree_with_double_precision),
        cmocka_unit_test(swiglu_follows_the_formula_also_far_from_zero),
        cmocka_unit_test(a_row_far_from_zero_is_still_normalised),
        cmocka_unit_test(softmax_sums_to_one_and_returns_the_logarithm),
        cmocka_unit_test(softmax_of_huge_scores_does_not_overflow_and_a_nan_is_seen),
        cmocka_unit_test(loss_and_its_gradient_agree_with_double_precision),
        cmocka_unit_test(a_nan_among_the_logits_makes_the_loss_nan),
    };

    return cmocka_run_group_tests(tests, get_tables, NULL);
}
