/*
 * tests/test_matmul.c - matrix products against double precision, in every form that the
 * model uses. That all instruction sets give the same bits, tests/test_isa.c holds.
 */
#include "compute/ops.h"

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/numbers.h"

typedef void (*matmul_fn)(float *, const float *, const float *,
                          const struct cllm_matmul *);

/* Those of f32, plain ones first; those of bf16. */
enum { REFERENCE, BEST, SPLIT_REFERENCE, SPLIT_BEST, N_PRODUCTS };
static matmul_fn products[N_PRODUCTS], product_bf16, product_tiles;

static matmul_fn product_of(enum cllm_isa isa, enum cllm_precision precision)
{
    const struct cllm_ops *ops;

    return cllm_ops_pick(&ops, isa, precision) == 0 ? ops->matmul : NULL;
}

static int get_products(void **state)
{
    bool all = true;

    (void)state;
    products[REFERENCE] = product_of(CLLM_ISA_REF, CLLM_PRECISION_F32);
    products[BEST] = product_of(CLLM_ISA_AUTO, CLLM_PRECISION_F32);
    products[SPLIT_REFERENCE] = product_of(CLLM_ISA_REF, CLLM_PRECISION_F32_AMX);
    products[SPLIT_BEST] = product_of(CLLM_ISA_AUTO, CLLM_PRECISION_F32_AMX);
    product_bf16 = product_of(CLLM_ISA_AUTO, CLLM_PRECISION_BF16);
    product_tiles = product_of(CLLM_ISA_AUTO, CLLM_PRECISION_BF16_AMX);
    for (size_t f = 0; f < N_PRODUCTS; f++)
        all = all && products[f] != NULL;
    return all && product_bf16 && product_tiles ? 0 : -1;
}

struct sizes {
    size_t a, b, c; /* elements, with gaps */
};

/* Fill in the leading dimensions with @gap elements behind each row. */
static struct sizes with_gaps(struct cllm_matmul *shape, size_t gap)
{
    size_t a_rows = shape->trans_a ? shape->k : shape->m;
    size_t b_rows = shape->trans_b ? shape->n : shape->k;

    shape->lda = (shape->trans_a ? shape->m : shape->k) + gap;
    shape->ldb = (shape->trans_b ? shape->k : shape->n) + gap;
    shape->ldc = shape->n + gap;
    return (struct sizes){a_rows * shape->lda, b_rows * shape->ldb,
                          shape->m * shape->ldc};
}

/* Element (i,j) in double, and through @size the sum of absolute values. */
static double exact_at(const float *a, const float *b, const struct cllm_matmul *s,
                       size_t i, size_t j, double *size)
{
    double sum = 0;

    *size = 0;
    for (size_t p = 0; p < s->k; p++) {
        double x = (double)a[s->trans_a ? p * s->lda + i : i * s->lda + p];
        double y = (double)b[s->trans_b ? j * s->ldb + p : p * s->ldb + j];

        sum += x * y;
        *size += fabs(x * y);
    }
    return sum;
}

/* What element @at of C, in column @j, begins as, where it was @before. */
static double start_at(const struct cllm_matmul *shape, float before, size_t at, size_t j)
{
    if (shape->accumulate)
        return (double)before;
    return (shape->add != NULL ? (double)shape->add[at] : 0) +
           (shape->bias != NULL ? (double)shape->bias[j] : 0);
}

/* Every element within the bound of any order of summation, and gaps untouched. */
static void check(matmul_fn matmul, struct cllm_matmul shape, size_t gap)
{
    struct sizes n = with_gaps(&shape, gap);
    float *a = numbers_new(n.a, 1, 1.0f), *b = numbers_new(n.b, 2, 1.0f);
    float *c = numbers_new(n.c, 3, 1.0f), *before = numbers_new(n.c, 3, 1.0f);

    matmul(c, a, b, &shape);
    for (size_t i = 0; i < shape.m; i++) {
        for (size_t j = 0; j < shape.ldc; j++) {
            size_t at = i * shape.ldc + j;
            double size, exact;

            if (j >= shape.n) {
                assert_true(c[at] == before[at]);
                continue;
            }
            exact = exact_at(a, b, &shape, i, j, &size);
            exact += start_at(&shape, before[at], at, j);
            assert_true(fabs((double)c[at] - exact) <=
                        (double)(shape.k + 2) * (size + 1) * 0x1p-24);
        }
    }
    free(a);
    free(b);
    free(c);
    free(before);
}

static void products_of_all_forms_and_odd_shapes_are_right(void **state)
{
    static const size_t shapes[][3] = {{1, 1, 1},      {1, 3, 5},       {3, 1, 17},
                                       {17, 65, 3},    {65, 17, 1},     {64, 33, 31},
                                       {2, 64, 129},   {97, 1030, 260}, {49, 70, 300},
                                       {140, 70, 515}, {301, 40, 700}};

    (void)state;
    for (size_t f = 0; f < CLLM_LEN(products); f++)
        for (size_t i = 0; i < (f % 2 == 0 ? 7 : CLLM_LEN(shapes)); i++) /* then: large */
            for (unsigned form = 0; form < 8; form++)
                for (size_t gap = 0; gap < 8; gap += 7)
                    check(products[f],
                          (struct cllm_matmul){.m = shapes[i][0],
                                               .n = shapes[i][1],
                                               .k = shapes[i][2],
                                               .trans_a = (form & 1) != 0,
                                               .trans_b = (form & 2) != 0,
                                               .accumulate = (form & 4) != 0},
                          gap);
}

/* A bias, an array, both; with few rows and many. */
static void products_are_added_to_what_is_asked_for(void **state)
{
    static const size_t shapes[][3] = {{1, 37, 5}, {3, 130, 300}, {49, 70, 300}};
    enum { GAP = 5, MOST = 49 * 135 };
    float *add = numbers_new(MOST, 4, 1.0f), *bias = numbers_new(MOST, 5, 1.0f);

    (void)state;
    for (size_t f = 0; f < CLLM_LEN(products); f++)
        for (size_t i = 0; i < CLLM_LEN(shapes); i++)
            for (unsigned form = 0; form < 6; form++)
                check(products[f],
                      (struct cllm_matmul){.m = shapes[i][0],
                                           .n = shapes[i][1],
                                           .k = shapes[i][2],
                                           .trans_b = form >= 3,
                                           .add = form % 3 != 1 ? add : NULL,
                                           .bias = form % 3 != 2 ? bias : NULL},
                      GAP);
    free(add);
    free(bias);
}

static void a_leading_dimension_of_zero_means_no_gap(void **state)
{
    const struct cllm_matmul dense = {.m = 5, .n = 7, .k = 3, .trans_b = true};
    struct cllm_matmul said = dense;
    float *a = numbers_new(15, 1, 1.0f), *b = numbers_new(21, 2, 1.0f);
    float *c = numbers_zero(35), *d = numbers_zero(35);

    (void)state;
    (void)with_gaps(&said, 0);
    for (size_t f = 0; f < CLLM_LEN(products); f++) {
        products[f](c, a, b, &dense);
        products[f](d, a, b, &said);
        assert_memory_equal(c, d, 35 * sizeof *c);
    }
    free(a);
    free(b);
    free(c);
    free(d);
}

/* Without accumulate the old contents are no input, not even a NaN. */
static void what_was_in_the_result_does_not_matter(void **state)
{
    float *a = numbers_new(64 * 64, 1, 1.0f), *b = numbers_new(64 * 64, 2, 1.0f);
    float *c = numbers_zero(64 * 64);

    (void)state;
    for (size_t f = 0; f < CLLM_LEN(products); f++) {
        for (size_t i = 0; i < 64 * 64; i++)
            c[i] = NAN;
        products[f](c, a, b, &(struct cllm_matmul){.m = 64, .n = 64, .k = 64});
        for (size_t i = 0; i < 64 * 64; i++)
            assert_true(isfinite(c[i]));
    }
    free(a);
    free(b);
    free(c);
}

static void a_nan_reaches_its_row_and_no_other(void **state)
{
    const struct cllm_matmul shape = {.m = 3, .n = 5, .k = 4};
    float *a = numbers_new(12, 1, 1.0f), *b = numbers_new(20, 2, 1.0f);
    float *c = numbers_zero(15);

    (void)state;
    a[1 * 4 + 2] = NAN;
    for (size_t f = 0; f < CLLM_LEN(products); f++) {
        products[f](c, a, b, &shape);
        for (size_t i = 0; i < 15; i++)
            assert_true((isnan(c[i]) != 0) == (i / 5 == 1));
    }
    free(a);
    free(b);
    free(c);
}

static void a_product_done_again_elsewhere_has_the_same_bits(void **state)
{
    const struct cllm_matmul shape = {
        .m = 77, .n = 130, .k = 333, .trans_a = true, .accumulate = true};
    float *a = numbers_new(77 * 333, 1, 1.0f), *b = numbers_new(333 * 130, 2, 1.0f);
    float *first = numbers_new(77 * 130, 3, 1.0f), *block = numbers_zero(77 * 130 + 48);

    (void)state;
    products[BEST](first, a, b, &shape);
    for (size_t shift = 0; shift <= 48; shift += 16) {
        float *again = block + shift, *old = numbers_new(77 * 130, 3, 1.0f);

        memcpy(again, old, 77 * 130 * sizeof *old);
        products[BEST](again, a, b, &shape);
        assert_memory_equal(first, again, 77 * 130 * sizeof *first);
        free(old);
    }
    free(a);
    free(b);
    free(first);
    free(block);
}

/* The nearest number with 8 bits: halfway cases go to the even one. */
static float nearest_bf16(float x)
{
    int exponent;
    double mantissa = frexp((double)x, &exponent);

    return (float)ldexp(nearbyint(ldexp(mantissa, 8)), exponent - 8);
}

/* @x's bf16 at index @k of its pairs, the second of each first; beyond its end 0. */
static float paired(const float *x, size_t row, size_t step, size_t i, size_t k, size_t K)
{
    return (k ^ 1) < K ? nearest_bf16(x[i * row + (k ^ 1) * step]) : 0.0f;
}

/* Row (K) times column (K), multiply-adds in order: runs of 512 from zero, added to @c
 * in order, or with @alone to nothing. */
static float sum_of_runs(const float *row, const float *column, size_t K, float c,
                         bool alone)
{
    for (size_t p = 0; p < K; p += 512) {
        float run = 0.0f;

        for (size_t k = p; k < K && k < p + 512; k++)
            run = fmaf(row[k], column[k], run);
        c = alone && p == 0 ? run : c + run;
    }
    return c;
}

static void bf16_rounds_operands_and_sums_pairs(void **state)
{
    enum { M = 40, N = 70, K = 611 };

    (void)state;
    for (unsigned form = 0; form < 8; form++) {
        const struct cllm_matmul shape = {.m = M,
                                          .n = N,
                                          .k = K,
                                          .trans_a = (form & 1) != 0,
                                          .trans_b = (form & 2) != 0,
                                          .accumulate = (form & 4) != 0};
        float *a = numbers_new(M * K, 1, 1.0f), *b = numbers_new(K * N, 2, 3.0f);
        float *x = numbers_zero(M * (K + 1)), *y = numbers_zero(N * (K + 1));
        float *c = numbers_new(M * N, 3, 1.0f), *d = numbers_new(M * N, 3, 1.0f);

        a[7] = 1.00390625f; /* halfway: down to 1 */
        a[8] = 1.01171875f; /* halfway: up to 1.015625 */
        for (size_t k = 0; k < K + 1; k++) {
            for (size_t i = 0; i < M; i++)
                x[i * (K + 1) + k] =
                    shape.trans_a ? paired(a, 1, M, i, k, K) : paired(a, K, 1, i, k, K);
            for (size_t j = 0; j < N; j++)
                y[j * (K + 1) + k] =
                    shape.trans_b ? paired(b, K, 1, j, k, K) : paired(b, 1, N, j, k, K);
        }
        product_bf16(c, a, b, &shape);
        for (size_t i = 0; i < M; i++)
            for (size_t j = 0; j < N; j++)
                d[i * N + j] = sum_of_runs(x + i * (K + 1), y + j * (K + 1), K + 1,
                                           d[i * N + j], !shape.accumulate);
        assert_memory_equal(c, d, M * N * sizeof *c);
        free(a);
        free(b);
        free(x);
        free(y);
        free(c);
        free(d);
    }
}

/* @n numbers of @x, each rounded to bf16, what that left, rounded, and so on. */
struct pieces {
    float *of[3];
};

static struct pieces pieces_of(const float *x, size_t n)
{
    struct pieces pieces;
    float *rest = numbers_zero(n);

    memcpy(rest, x, n * sizeof *x);
    for (size_t p = 0; p < CLLM_LEN(pieces.of); p++) {
        pieces.of[p] = numbers_zero(n);
        for (size_t i = 0; i < n; i++) {
            pieces.of[p][i] = nearest_bf16(rest[i]);
            rest[i] -= pieces.of[p][i];
        }
    }
    free(rest);
    return pieces;
}

static void pieces_free(struct pieces *pieces)
{
    for (size_t p = 0; p < CLLM_LEN(pieces->of); p++)
        free(pieces->of[p]);
}

/* How tiles sum. */
struct form {
    matmul_fn product;
    size_t run; /* of k, from zero; 0: all of it, from what C was */
    size_t n_pairs;
    struct {
        unsigned a, b;
    } pairs[6]; /* pieces of A and B that are multiplied with each other */
};

/* A tile of k, from @p on: first and second elements of pairs apart. */
static float sum_tile(const float *a, const float *b, const struct cllm_matmul *s,
                      size_t i, size_t j, size_t p)
{
    float part[2] = {0};

    for (size_t q = p; q < p + 32 && q < s->k; q++)
        part[q % 2] = fmaf(a[s->trans_a ? q * s->m + i : i * s->k + q],
                           b[s->trans_b ? j * s->k + q : q * s->n + j], part[q % 2]);
    return part[0] + part[1];
}

/* Element (i,j) of C, which was @c, as tiles sum it. No number here is so small that it
 * would be zero. */
static float sum_tiles(const struct pieces *a, const struct pieces *b,
                       const struct cllm_matmul *s, size_t i, size_t j, float c,
                       const struct form *form)
{
    float sum = form->run > 0 ? 0.0f : c;

    for (size_t p = 0; p < s->k; p += 32) {
        for (size_t n = 0; n < form->n_pairs; n++)
            sum += sum_tile(a->of[form->pairs[n].a], b->of[form->pairs[n].b], s, i, j, p);
        if (form->run > 0 && ((p + 32) % form->run == 0 || p + 32 >= s->k)) {
            c = p < form->run && !s->accumulate ? sum : c + sum;
            sum = 0.0f;
        }
    }
    return form->run > 0 ? c : sum;
}

static void check_tiles(const struct form *form)
{
    static const size_t sizes[][3] = {{40, 70, 299}, {32, 32, 64},  {1, 1, 1},
                                      {33, 31, 33},  {70, 300, 70}, {300, 33, 800}};

    for (unsigned i = 0; i < 8 * CLLM_LEN(sizes); i++) {
        const struct cllm_matmul s = {.m = sizes[i / 8][0],
                                      .n = sizes[i / 8][1],
                                      .k = sizes[i / 8][2],
                                      .trans_a = (i & 1) != 0,
                                      .trans_b = (i & 2) != 0,
                                      .accumulate = (i & 4) != 0};
        float *a = numbers_new(s.m * s.k, 1, 1.0f), *b = numbers_new(s.k * s.n, 2, 3.0f);
        float *c = numbers_new(s.m * s.n, 3, 1.0f),
              *old = numbers_new(s.m * s.n, 3, 1.0f);

        struct pieces x = pieces_of(a, s.m * s.k), y = pieces_of(b, s.k * s.n);

        form->product(c, a, b, &s);
        for (size_t at = 0; at < s.m * s.n; at++) {
            float want = sum_tiles(&x, &y, &s, at / s.n, at % s.n,
                                   s.accumulate ? old[at] : 0.0f, form);

            assert_memory_equal(&c[at], &want, sizeof want);
        }
        pieces_free(&x);
        pieces_free(&y);
        free(a);
        free(b);
        free(c);
        free(old);
    }
}

static void bf16_amx_sums_tiles(void **state)
{
    const struct form form = {.product = product_tiles, .n_pairs = 1};

    (void)state;
    check_tiles(&form);
}

static void f32_amx_sums_tiles_of_pieces(void **state)
{
    const struct form form = {
        .product = products[SPLIT_BEST],
        .run = 512,
        .n_pairs = 6,
        .pairs = {{0, 2}, {0, 1}, {1, 1}, {1, 0}, {2, 0}, {0, 0}},
    };

    (void)state;
    check_tiles(&form);
}

/* No bit of a number is lost where it is split. */
static void f32_amx_leaves_what_is_multiplied_by_one(void **state)
{
    enum { N = 100 };
    const struct cllm_matmul shape = {.m = N, .n = N, .k = N};
    float *a = numbers_new(N * N, 1, 1.0f), *one = numbers_zero(N * N);
    float *c = numbers_zero(N * N);

    (void)state;
    for (size_t i = 0; i < N; i++)
        one[i * N + i] = 1.0f;
    for (size_t i = 0; i < N * N; i++)
        a[i] = ldexpf(a[i], (int)(i % 190) - 80);
    for (size_t f = SPLIT_REFERENCE; f <= SPLIT_BEST; f++) {
        products[f](c, a, one, &shape);
        assert_memory_equal(c, a, N * N * sizeof *a);
        products[f](c, one, a, &shape);
        assert_memory_equal(c, a, N * N * sizeof *a);
    }
    free(a);
    free(one);
    free(c);
}

/* The root of the mean square of what @product is wrong by. */
static double error_of(matmul_fn product, size_t k)
{
    enum { N = 60 };
    const struct cllm_matmul shape = {
        .m = N, .n = N, .k = k, .lda = k, .ldb = N, .ldc = N};
    float *a = numbers_new(N * k, 1, 1.0f), *b = numbers_new(k * N, 2, 1.0f);
    float *c = numbers_zero((size_t)N * N);
    double sum = 0, size;

    product(c, a, b, &shape);
    for (size_t at = 0; at < (size_t)N * N; at++) {
        double error = (double)c[at] - exact_at(a, b, &shape, at / N, at % N, &size);

        sum += error * error;
    }
    free(a);
    free(b);
    free(c);
    return sqrt(sum / (N * N));
}

/* In spite of three products that are left out: there are fewer roundings. */
static void f32_amx_is_as_exact_as_f32(void **state)
{
    (void)state;
    for (size_t k = 1; k <= 4096; k *= 4)
        assert_true(error_of(products[SPLIT_BEST], k) <=
                    1.1 * error_of(products[BEST], k));
}

/* Operands, sums and C that are too small for a normal number are 0; f32 keeps them. */
static void what_bf16_numbers_make_is_never_denormal(void **state)
{
    static const struct {
        float a, b, c, want;
    } row[] = {
        {0x1p-127f, 0x1p100f, 0.0f, 0.0f},        {0x1p-126f, 0.5f, 0.0f, 0.0f},
        {-0x1p-126f, 0.5f, 0.0f, -0.0f},          {0x1p-126f, 1.0f, 0.0f, 0x1p-126f},
        {0x1p-100f, 0x1p-27f, 1.0f, 1.0f},        {1.0f, 1.0f, 0x1p-130f, 1.0f},
        {0x1p-63f, -0x1p-63f, 0x1.8p-126f, 0.0f},
    };
    const struct cllm_matmul shape = {.m = 1, .n = 1, .k = 1, .accumulate = true};

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(row); i++) {
        float c = row[i].c, d = c, e = c;

        product_bf16(&c, &row[i].a, &row[i].b, &shape);
        assert_true(c == row[i].want);
        product_tiles(&d, &row[i].a, &row[i].b, &shape);
        assert_true(d == row[i].want);
        products[SPLIT_BEST](&e, &row[i].a, &row[i].b, &shape);
        assert_true(e == row[i].want);
    }
    float c = 0.0f;

    products[BEST](&c, &row[1].a, &row[1].b, &shape);
    assert_true(c == 0x1p-127f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_all_forms_and_odd_shapes_are_right),
        cmocka_unit_test(products_are_added_to_what_is_asked_for),
        cmocka_unit_test(a_leading_dimension_of_zero_means_no_gap),
        cmocka_unit_test(what_was_in_the_result_does_not_matter),
        cmocka_unit_test(a_nan_reaches_its_row_and_no_other),
        cmocka_unit_test(a_product_done_again_elsewhere_has_the_same_bits),
        cmocka_unit_test(bf16_rounds_operands_and_sums_pairs),
        cmocka_unit_test(bf16_amx_sums_tiles),
        cmocka_unit_test(f32_amx_sums_tiles_of_pieces),
        cmocka_unit_test(f32_amx_leaves_what_is_multiplied_by_one),
        cmocka_unit_test(f32_amx_is_as_exact_as_f32),
        cmocka_unit_test(what_bf16_numbers_make_is_never_denormal),
    };

    return cmocka_run_group_tests(tests, get_products, NULL);
}
