/*
 * tests/test_muon.c - directions of matrices, and which of them are kept.
 */
#include "model/muon.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/numbers.h"

enum { MOST = 70 * 40 };

struct fixture {
    struct cllm_muon muon;
    struct cllm_arena arena;
    uint32_t products; /* seen by progress */
    float *m, *g;
};

static void count(void *ctx)
{
    struct fixture *f = ctx;

    f->products++;
}

static int setup(void **state)
{
    static struct fixture fixture;
    struct fixture *f = &fixture;
    int rc;

    *f = (struct fixture){.m = numbers_new(MOST, 1, 1.0f),
                          .g = numbers_new(MOST, 2, 1.0f)};
    cllm_muon_admit(&f->muon, 40, 70);
    cllm_muon_admit(&f->muon, 70, 20);
    rc = cllm_arena_init(&f->arena, cllm_muon_arena_bytes(&f->muon));
    if (rc == 0)
        cllm_muon_take(&f->muon, &f->arena);
    f->muon.progress = count;
    f->muon.progress_ctx = f;
    *state = f;
    return rc;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    free(f->m);
    free(f->g);
    cllm_arena_fini(&f->arena);
    return 0;
}

static struct cllm_muon_source source_of(const struct fixture *f, uint64_t rows,
                                         uint64_t cols)
{
    return (struct cllm_muon_source){.rows = rows,
                                     .cols = cols,
                                     .m = f->m,
                                     .g = f->g,
                                     .momentum = 0.95f,
                                     .grad_scale = 0.5f};
}

static const float *direction(struct fixture *f, const struct cllm_muon_source *source)
{
    return cllm_muon_direction(&f->muon, cllm_ops_select(), source);
}

/* ---- in double, straight from the formulas ---- */

/* out (r,c) = a (r,k) b (k,c) */
static void multiply(double *out, const double *a, const double *b, size_t r, size_t c,
                     size_t k)
{
    for (size_t i = 0; i < r; i++) {
        for (size_t j = 0; j < c; j++) {
            double sum = 0;

            for (size_t p = 0; p < k; p++)
                sum += a[i * k + p] * b[p * c + j];
            out[i * c + j] = sum;
        }
    }
}

static void transpose(double *out, const double *x, size_t rows, size_t cols)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++)
            out[j * rows + i] = x[i * cols + j];
}

/* Always X X^T: a tall matrix is turned over before and after, as the reference does. */
static void exact_direction(double *out, const struct cllm_muon_source *s)
{
    static double x[MOST], t[MOST], a[70 * 70], aa[70 * 70], y[MOST];
    size_t n = s->rows * s->cols, rows = s->rows, cols = s->cols;
    double length = 0, beta = (double)s->momentum;

    for (size_t i = 0; i < n; i++) {
        double g = (double)s->g[i] * (double)s->grad_scale;
        double m = beta * (double)s->m[i] + (1 - beta) * g;

        t[i] = beta * m + (1 - beta) * g;
        length += t[i] * t[i];
    }
    for (size_t i = 0; i < n; i++)
        t[i] /= sqrt(length) + 1e-7;
    if (rows > cols) {
        transpose(x, t, rows, cols);
        rows = s->cols, cols = s->rows;
    } else {
        memcpy(x, t, n * sizeof *x);
    }
    for (int k = 0; k < 5; k++) {
        transpose(t, x, rows, cols);
        multiply(a, x, t, rows, rows, cols);
        multiply(aa, a, a, rows, rows, rows);
        for (size_t i = 0; i < rows * rows; i++)
            a[i] = -4.7750 * a[i] + 2.0315 * aa[i];
        multiply(y, a, x, rows, cols, rows);
        for (size_t i = 0; i < n; i++)
            x[i] = 3.4445 * x[i] + y[i];
    }
    if (s->rows > s->cols)
        transpose(out, x, rows, cols);
    else
        memcpy(out, x, n * sizeof *out);
}

static void directions_follow_the_formula(void **state)
{
    static const uint64_t shapes[][2] = {{1, 1},   {1, 7},   {7, 1},   {3, 3},
                                         {16, 16}, {17, 31}, {31, 17}, {40, 70},
                                         {70, 20}, {40, 40}};
    static double exact[MOST];
    struct fixture *f = *state;

    for (size_t k = 0; k < CLLM_LEN(shapes); k++) {
        struct cllm_muon_source source = source_of(f, shapes[k][0], shapes[k][1]);
        double error;

        exact_direction(exact, &source);
        error = numbers_error(direction(f, &source), exact, shapes[k][0] * shapes[k][1]);
        if (!(error < 2e-5))
            fail_msg("%d x %d: %g", (int)shapes[k][0], (int)shapes[k][1], error);
    }
}

/* A diagonal matrix: each singular value goes through the polynomial by itself, and ends
 * near 1 however small it was among the others. */
static void singular_values_end_near_one(void **state)
{
    enum { ROWS = 12, COLS = 19 };
    static float m[ROWS * COLS], g[ROWS * COLS];
    struct fixture *f = *state;
    struct cllm_muon_source source = source_of(f, ROWS, COLS);
    double length = 0;
    const float *x;

    for (size_t i = 0; i < ROWS; i++) {
        m[i * COLS + i] = (float)(i + 1) / ROWS;
        length += pow((double)m[i * COLS + i], 2);
    }
    source.m = m, source.g = g;
    x = direction(f, &source);
    for (size_t i = 0; i < ROWS; i++) {
        double s = (double)(i + 1) / ROWS / sqrt(length);

        for (int k = 0; k < 5; k++)
            s = 3.4445 * s - 4.7750 * pow(s, 3) + 2.0315 * pow(s, 5);
        assert_true(s > 0.6 && s < 1.3);
        for (size_t j = 0; j < COLS; j++)
            assert_true(fabs((double)x[i * COLS + j] - (i == j ? s : 0)) < 2e-5);
    }
}

static void zeros_have_no_direction(void **state)
{
    static float zeros[6 * 5];
    struct fixture *f = *state;
    struct cllm_muon_source source = source_of(f, 6, 5);

    source.m = source.g = zeros;
    assert_memory_equal(direction(f, &source), zeros, sizeof zeros);
}

/* A size is only a factor, which falls out: not so between gradient and momentum. */
static void the_direction_depends_on_how_gradient_and_momentum_compare(void **state)
{
    enum { N = 20 * 30 };
    struct fixture *f = *state;
    struct cllm_muon_source source = source_of(f, 20, 30);
    double first[N];

    for (size_t i = 0; i < N; i++)
        first[i] = (double)direction(f, &source)[i];
    source.grad_scale = 5.0f;
    assert_true(numbers_error(direction(f, &source), first, N) > 0.05);
}

static void what_is_kept_is_what_would_be_made(void **state)
{
    struct fixture *f = *state;
    struct cllm_muon_source one = source_of(f, 20, 30), two = source_of(f, 30, 20);
    float first[20 * 30], kept;
    uint32_t before;

    cllm_muon_begin(&f->muon);
    before = f->products;
    memcpy(first, direction(f, &one), sizeof first);
    assert_int_equal(f->products, before + 15);
    (void)direction(f, &one);
    assert_int_equal(f->products, before + 15);
    cllm_muon_begin(&f->muon);
    assert_memory_equal(direction(f, &one), first, sizeof first);
    assert_int_equal(f->products, before + 15);

    (void)direction(f, &two);
    assert_int_equal(f->products, before + 30);
    assert_memory_equal(direction(f, &one), first, sizeof first);
    assert_int_equal(f->products, before + 45);

    /* Bytes that were found damaged and are whole again. */
    kept = f->g[333];
    f->g[333] = 100.0f;
    cllm_muon_begin(&f->muon);
    assert_memory_not_equal(direction(f, &one), first, sizeof first);
    assert_int_equal(f->products, before + 60);
    f->g[333] = kept;
    cllm_muon_begin(&f->muon);
    assert_memory_equal(direction(f, &one), first, sizeof first);
    assert_int_equal(f->products, before + 75);

    /* The next step's clipping. */
    one.grad_scale = 0.25f;
    cllm_muon_begin(&f->muon);
    assert_memory_not_equal(direction(f, &one), first, sizeof first);
}

static void without_matrices_no_memory_is_asked_for(void **state)
{
    struct cllm_muon muon = {0};
    struct fixture *f = *state;

    assert_int_equal(cllm_muon_arena_bytes(&muon), 0);
    cllm_muon_take(&muon, &f->arena);
    assert_null(muon.x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(directions_follow_the_formula),
        cmocka_unit_test(singular_values_end_near_one),
        cmocka_unit_test(zeros_have_no_direction),
        cmocka_unit_test(the_direction_depends_on_how_gradient_and_momentum_compare),
        cmocka_unit_test(what_is_kept_is_what_would_be_made),
        cmocka_unit_test(without_matrices_no_memory_is_asked_for),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
