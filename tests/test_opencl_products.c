/*
 * tests/test_opencl_products.c - compute/opencl/variant.c and the kernels of products:
 * all variants of a style give the same bits, which are those of the order of sums that
 * compute/opencl/README.md promises; so it does not matter for a run which of them a
 * rule, a measurement or a person chooses. With operands of f32 and of bf16.
 *
 * Skipped, with the reason, where there is no OpenCL. In a simulator each variant has one
 * size, a little more than a block of it is long; $CLLM_OPENCL_ONLY names the one variant
 * that is wanted, $CLLM_OPENCL_STYLE the one style.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "compute/opencl/table_inside.h"
#include "compute/product.h"
#include "tests/numbers.h"
#include "tests/opencl_run.h"
#include "tests/opencl_simulated.h"

enum { RUN = 256 /* of k, for CPUs */ };

/* What a product is added to. */
enum added_to { NOTHING, ITSELF, BIAS, STREAM_AND_BIAS, STREAM, STARTS };

/* A product and an addition are rounded once or twice: the compiler's choice in kernels
 * for CPUs, but one choice. */
enum rounding { UNKNOWN, ONCE, TWICE };

static struct {
    const struct cllm_ops *ops;
    enum cllm_opencl_style style;
    bool bf16;
    enum rounding rounding;
    float *a, *b, *c, *x, *bias, *got, *want[2]; // (most), of the host; a, b rounded
    size_t most;                                 /* elements of each */
    float *on[5];                                /* a, b, c, x, bias of the device */
} rig;

static const char *const style_names[] = {"", "an item alone", "groups of items"};

/* Those that are there for a measurement alone take half a minute to compile; simulators
 * are quick at that. */
static bool wanted(size_t variant)
{
    const char *only = getenv("CLLM_OPENCL_ONLY");

    if (only != NULL && strcmp(only, cllm_opencl_variant_name(variant)) != 0)
        return false;
    return cllm_cl_variant(variant)->usual || getenv("CLLM_LONG") != NULL ||
           cllm_opencl_simulated();
}

/* ---- the order of sums ---- */

static float add_product(float sum, float x, float y, enum rounding rounding)
{
    const float product = x * y; /* rounded: contraction is off here */

    return rounding == ONCE ? fmaf(x, y, sum) : sum + product;
}

/* Over k in order; for CPUs in runs that begin at 0, each added to what is there. */
static float element(const struct cllm_matmul *p, size_t i, size_t j, float start,
                     enum rounding rounding)
{
    size_t run = rig.style == CLLM_OPENCL_STYLE_ITEMS ? RUN : p->k;
    float total = start;

    for (size_t q = 0; q < p->k;) {
        float sum = 0;

        for (size_t end = cllm_min_u64(q + run, p->k); q < end; q++)
            sum = add_product(sum, rig.a[p->trans_a ? q * p->lda + i : i * p->lda + q],
                              rig.b[p->trans_b ? j * p->ldb + q : q * p->ldb + j],
                              rounding);
        total += sum;
    }
    return total;
}

static float begin_of(enum added_to start, size_t i, size_t j,
                      const struct cllm_matmul *p)
{
    size_t at = i * p->ldc + j;

    switch (start) {
    case ITSELF:
        return rig.c[at];
    case BIAS:
        return rig.bias[j];
    case STREAM_AND_BIAS:
        return rig.x[at] + rig.bias[j];
    case STREAM:
        return rig.x[at];
    default:
        return 0;
    }
}

/* rig.want[] = C as either rounding has it; between rows as it was. */
static void expect(const struct cllm_matmul *p, enum added_to start)
{
    for (size_t r = 0; r < 2; r++) {
        memcpy(rig.want[r], rig.c, rig.most * sizeof(float));
        for (size_t i = 0; i < p->m; i++)
            for (size_t j = 0; j < p->n; j++)
                rig.want[r][i * p->ldc + j] =
                    element(p, i, j, begin_of(start, i, j, p), r == 0 ? ONCE : TWICE);
    }
}

/* ---- on the device ---- */

static size_t elements(const struct cllm_matmul *p)
{
    return p->m * p->ldc;
}

static void compute(const struct cllm_matmul *p, enum added_to start)
{
    const struct cllm_ops *ops = rig.ops;
    float *const *on = rig.on;
    struct cllm_matmul product = *p;

    ops->put(on[2], rig.c, elements(p) * sizeof(float));
    if (start == BIAS || start == STREAM_AND_BIAS)
        product.bias = on[4];
    if (start == STREAM || start == STREAM_AND_BIAS)
        product.add = on[3];
    ops->matmul(on[2], on[0], on[1], &product);
    cllm_opencl_run_fine(cllm_opencl_get(rig.got, on[2], elements(p) * sizeof(float)));
}

static bool is(enum rounding rounding, const struct cllm_matmul *p)
{
    return memcmp(rig.got, rig.want[rounding == ONCE ? 0 : 1],
                  elements(p) * sizeof(float)) == 0;
}

static void check(const struct cllm_matmul *p, enum added_to start, size_t variant)
{
    compute(p, start);
    if (rig.rounding == UNKNOWN && !(is(ONCE, p) && is(TWICE, p)))
        rig.rounding = is(TWICE, p) ? TWICE : ONCE;
    if (is(rig.rounding == UNKNOWN ? ONCE : rig.rounding, p))
        return;
    print_message("%s, %s: (%zu,%zu,%zu), trans %d %d, start %d: other bits than the "
                  "promised order of sums gives\n",
                  style_names[rig.style], cllm_opencl_variant_name(variant), p->m, p->n,
                  p->k, p->trans_a, p->trans_b, (int)start);
    fail();
}

/* ---- sizes ---- */

struct size {
    size_t m, n, k;
};

/* Less than a strip, than a block of each variant, a little more, and runs of k. */
static const struct size sizes[] = {
    {1, 1, 1},     {2, 3, 5},      {5, 17, 7},      {7, 65, 255},   {17, 33, 256},
    {25, 70, 513}, {97, 193, 257}, {130, 129, 515}, {6, 16, 512},   {49, 131, 31},
    {1, 325, 64},  {129, 1, 33},   {70, 70, 70},    {133, 65, 258},
};

static struct cllm_matmul product_of(const struct size *size, unsigned form)
{
    struct cllm_matmul p = {.m = size->m,
                            .n = size->n,
                            .k = size->k,
                            .trans_a = (form & 1) != 0,
                            .trans_b = (form & 2) != 0};

    p.lda = p.trans_a ? p.m : p.k;
    p.ldb = p.trans_b ? p.k : p.n;
    p.ldc = p.n;
    return p;
}

/* Every way to be stored; what the product is added to in turn. */
static struct cllm_matmul case_of(const struct size *size, size_t nth, unsigned form,
                                  enum added_to *start)
{
    struct cllm_matmul p = product_of(size, form);

    *start = (enum added_to)((nth + form) % STARTS);
    p.accumulate = *start == ITSELF;
    p.lda += nth % 4;
    p.ldb += (nth + 1) % 4;
    p.ldc += (nth + form) % 4;
    CLLM_ASSERT((p.trans_a ? p.k : p.m) * p.lda <= rig.most &&
                (p.trans_b ? p.n : p.k) * p.ldb <= rig.most && p.m * p.ldc <= rig.most);
    return p;
}

/* Every variant. */
static void check_size(const struct size *size, size_t nth)
{
    for (unsigned form = 0; form < 4; form++) {
        enum added_to start;
        const struct cllm_matmul p = case_of(size, nth, form, &start);

        expect(&p, start);
        for (size_t v = 0; v < cllm_opencl_variants(); v++) {
            if (!wanted(v))
                continue;
            cllm_opencl_variant_fix(v);
            check(&p, start, v);
        }
        cllm_opencl_variant_fix(CLLM_OPENCL_VARIANT_ANY);
        check(&p, start, cllm_opencl_variant_choose(&p));
    }
}

static void all_variants_give_the_bits_of_the_promised_order(void **state)
{
    (void)state;
    cllm_opencl_run_not_simulated();
    for (size_t i = 0; i < CLLM_LEN(sizes); i++)
        check_size(&sizes[i], i);
    /* Products of bf16 are exact: it does not show. */
    assert_true(rig.bf16 == (rig.rounding == UNKNOWN));
}

static void all_variants_agree_on_sizes_1_to_70(void **state)
{
    (void)state;
    cllm_opencl_run_not_simulated();
    for (size_t i = 1; i <= 70; i++)
        check_size(
            &(struct size){i, cllm_opencl_run_other(i), cllm_opencl_run_other(i + 31)},
            i);
}

/* All of an operand is read both along its rows and across them; there is a next piece of
 * k, a rest of a strip, and more than a block of the smallest variants. */
static void all_variants_are_clean_in_a_simulator(void **state)
{
    (void)state;
    if (!cllm_opencl_simulated())
        skip();
    for (size_t v = 0; v < cllm_opencl_variants(); v++) {
        const bool items = rig.style == CLLM_OPENCL_STYLE_ITEMS;
        const size_t k = items ? RUN + 2 : cllm_cl_variant(v)->m < 128 ? 36 : 20;

        if (!wanted(v))
            continue;
        cllm_opencl_variant_fix(v);
        for (unsigned form = 0; form < 4; form += 3) {
            enum added_to start;
            const struct cllm_matmul p =
                case_of(&(struct size){9, 18, k}, v, form, &start);

            expect(&p, start);
            check(&p, start, v);
        }
        cllm_opencl_simulated_done(cllm_opencl_variant_name(v));
    }
    cllm_opencl_variant_fix(CLLM_OPENCL_VARIANT_ANY);
}

/* Infinities and NaN of one row or column stay there, zeros beyond an edge meet none. */
static void what_is_not_finite_stays_in_its_row(void **state)
{
    const struct size size = {19, 21, 23};
    const struct cllm_matmul p = product_of(&size, 0);
    float was = rig.a[7 * p.lda + 5];

    (void)state;
    cllm_opencl_run_not_simulated();
    rig.a[7 * p.lda + 5] = NAN;
    rig.ops->put(rig.on[0], rig.a, rig.most * sizeof(float));
    for (size_t v = 0; v < cllm_opencl_variants(); v++) {
        if (!wanted(v))
            continue;
        cllm_opencl_variant_fix(v);
        compute(&p, NOTHING);
        for (size_t i = 0; i < p.m; i++)
            for (size_t j = 0; j < p.n; j++)
                assert_true(isnan(rig.got[i * p.ldc + j]) == (i == 7));
    }
    cllm_opencl_variant_fix(CLLM_OPENCL_VARIANT_ANY);
    rig.a[7 * p.lda + 5] = was;
    rig.ops->put(rig.on[0], rig.a, rig.most * sizeof(float));
}

/* ---- before and after ---- */

static struct cllm_opencl_run directory;

static int begin(enum cllm_opencl_style style, bool bf16)
{
    float **arrays[] = {&rig.a, &rig.b, &rig.c, &rig.x, &rig.bias};

    assert_int_equal(setenv("CLLM_OPENCL_TENSOR", "off", 1), 0);
    cllm_opencl_run_open_for(bf16);
    rig.style = style;
    rig.bf16 = bf16;
    rig.rounding = UNKNOWN;
    rig.most = cllm_opencl_simulated() ? 22 * (RUN + 2) : 140 * 530;
    cllm_opencl_run_fine(cllm_opencl_ops(&rig.ops, style, 0));
    for (size_t i = 0; i < CLLM_LEN(arrays); i++) {
        void *address = NULL;

        *arrays[i] = numbers_new(rig.most, i + 1, 1.0f);
        cllm_opencl_run_fine(
            cllm_opencl_reserve(&address, rig.most * sizeof(float), NULL, 0));
        rig.on[i] = address;
        rig.ops->put(rig.on[i], *arrays[i], rig.most * sizeof(float));
        for (size_t j = 0; bf16 && i < 2 && j < rig.most; j++)
            (*arrays[i])[j] = cllm_f32_from_bits(round_bf16((*arrays[i])[j]));
    }
    rig.got = numbers_zero(rig.most);
    rig.want[0] = numbers_zero(rig.most);
    rig.want[1] = numbers_zero(rig.most);
    cllm_opencl_simulated_done("building");
    return 0;
}

static int begin_items(void **state)
{
    (void)state;
    return begin(CLLM_OPENCL_STYLE_ITEMS, false);
}

static int begin_groups(void **state)
{
    (void)state;
    return begin(CLLM_OPENCL_STYLE_GROUPS, false);
}

static int begin_items_bf16(void **state)
{
    (void)state;
    return begin(CLLM_OPENCL_STYLE_ITEMS, true);
}

static int begin_groups_bf16(void **state)
{
    (void)state;
    return begin(CLLM_OPENCL_STYLE_GROUPS, true);
}

static int end(void **state)
{
    float *const arrays[] = {rig.a,    rig.b,   rig.c,       rig.x,
                             rig.bias, rig.got, rig.want[0], rig.want[1]};

    (void)state;
    cllm_opencl_close();
    for (size_t i = 0; i < CLLM_LEN(arrays); i++)
        free(arrays[i]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_variants_give_the_bits_of_the_promised_order),
        cmocka_unit_test(all_variants_agree_on_sizes_1_to_70),
        cmocka_unit_test(all_variants_are_clean_in_a_simulator),
        cmocka_unit_test(what_is_not_finite_stays_in_its_row),
    };
    int failed = 0;

    cllm_opencl_run_begin(&directory, NULL);
    cllm_opencl_run_keep_none();
    if (cllm_opencl_run_wants("items")) {
        failed += cmocka_run_group_tests_name("products, an item alone", tests,
                                              begin_items, end);
        failed += cmocka_run_group_tests_name("products of bf16, an item alone", tests,
                                              begin_items_bf16, end);
    }
    if (cllm_opencl_run_wants("groups")) {
        failed += cmocka_run_group_tests_name("products, groups of items", tests,
                                              begin_groups, end);
        failed += cmocka_run_group_tests_name("products of bf16, groups of items", tests,
                                              begin_groups_bf16, end);
    }
    cllm_opencl_run_end(&directory);
    return failed;
}
