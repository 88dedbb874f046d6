/*
 * tests/test_isa.c - the kernels of every instruction set give the reference's bits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "compute/ops.h"
#include "tests/numbers.h"
#include "tests/ops_bits.h"

static void check_all(enum cllm_isa isa)
{
    const struct cllm_ops *ops, *want;

    if (cllm_ops_pick(&ops, isa, CLLM_PRECISION_F32) != 0) {
        print_message("this CPU has no %s\n", cllm_isa_names[isa]);
        skip();
    }
    ops_bits_check(cllm_ops_reference(), ops, false);
    for (uint32_t p = CLLM_PRECISION_BF16; p < CLLM_N_PRECISIONS; p++) {
        assert_int_equal(cllm_ops_pick(&ops, isa, (enum cllm_precision)p), 0);
        assert_int_equal(cllm_ops_pick(&want, CLLM_ISA_REF, (enum cllm_precision)p), 0);
        ops_bits_check(want, ops, true);
    }
}

static void avx2_gives_the_bits_of_the_reference(void **state)
{
    (void)state;
    check_all(CLLM_ISA_AVX2);
}

static void avx512_gives_the_bits_of_the_reference(void **state)
{
    (void)state;
    check_all(CLLM_ISA_AVX512);
}

static void avx512_with_bf16_gives_the_bits_of_the_reference(void **state)
{
    (void)state;
    check_all(CLLM_ISA_AVX512BF16);
}

static void amx_gives_the_bits_of_the_reference(void **state)
{
    (void)state;
    check_all(CLLM_ISA_AMX);
}

/* Sizes, and an operand transposed or not, and C added to or not, by @how's lowest bits.
 */
static struct cllm_matmul product_of(const size_t size[3], uint32_t how)
{
    return (struct cllm_matmul){.m = size[0],
                                .n = size[1],
                                .k = size[2],
                                .trans_a = (how & 1) != 0,
                                .trans_b = (how & 2) != 0,
                                .accumulate = (how & 4) != 0};
}

/* Nothing is compared on a CPU whose best is @first. */
static void skip_without_better_than(enum cllm_isa first)
{
    if (cllm_isa_best() > first)
        return;
    print_message("this CPU has nothing better than %s\n", cllm_isa_names[first]);
    skip();
}

struct product {
    float *a, *b, *old; /* C before */
    float *want, *got;
};

/* What is added to what C was is added to C itself. */
static void multiply(float *c, enum cllm_isa isa, enum cllm_precision precision,
                     const struct product *p, struct cllm_matmul shape)
{
    const struct cllm_ops *ops;

    assert_int_equal(cllm_ops_pick(&ops, isa, precision), 0);
    memcpy(c, p->old, shape.m * shape.n * sizeof *c);
    shape.add = shape.add == p->old ? c : shape.add;
    ops->matmul(c, p->a, p->b, &shape);
}

static void check_shape(enum cllm_isa first, enum cllm_precision precision,
                        const struct product *p, const struct cllm_matmul *shape)
{
    multiply(p->want, first, precision, p, *shape);
    for (uint32_t isa = first + 1; isa <= cllm_isa_best(); isa++) {
        multiply(p->got, (enum cllm_isa)isa, precision, p, *shape);
        assert_memory_equal(p->got, p->want, shape->m * shape->n * sizeof(float));
    }
}

/* Every instruction set after @first computes it as @first does; what is added to nothing
 * is then added, by how operands are stored, to a bias, an array, both, or C itself and a
 * bias. */
static void check_product(enum cllm_isa first, enum cllm_precision precision,
                          const struct cllm_matmul *shape)
{
    const size_t m = shape->m, n = shape->n, k = shape->k;
    float *bias = numbers_new(n, 4, 1.0f), *add = numbers_new(m * n, 5, 1.0f);
    const struct product product = {.a = numbers_new(m * k, 1, 1.0f),
                                    .b = numbers_new(k * n, 2, 1.0f),
                                    .old = numbers_new(m * n, 3, 1.0f),
                                    .want = numbers_zero(m * n),
                                    .got = numbers_zero(m * n)};
    const float *const adds[] = {NULL, add, add, product.old};
    const float *const biases[] = {bias, NULL, bias, bias};
    size_t form = (shape->trans_a ? 1u : 0u) + (shape->trans_b ? 2u : 0u);
    struct cllm_matmul added = *shape;

    added.add = adds[form];
    added.bias = biases[form];
    check_shape(first, precision, &product, shape);
    if (!shape->accumulate)
        check_shape(first, precision, &product, &added);
    free(bias);
    free(add);
    free(product.a);
    free(product.b);
    free(product.old);
    free(product.want);
    free(product.got);
}

/* Shapes of several blocks: A whole, and not; runs and tiles cut off. */
static void large_products_give_the_bits_of_the_reference(void **state)
{
    static const size_t sizes[][3] = {
        {49, 70, 300}, {140, 70, 515}, {301, 40, 700}, {270, 1060, 20}};

    (void)state;
    skip_without_better_than(CLLM_ISA_REF);
    for (size_t i = 0; i < CLLM_LEN(sizes); i++) {
        for (uint32_t how = 0; how < 8; how++) {
            const struct cllm_matmul product = product_of(sizes[i], how);

            /* The last splits, which takes the reference six times as long. */
            for (uint32_t p = 0; p < CLLM_N_PRECISIONS - (i > 1 ? 1 : 0); p++)
                check_product(CLLM_ISA_REF, (enum cllm_precision)p, &product);
        }
    }
}

/* Shapes of several blocks, which the reference would take too long for: rows, columns,
 * both; columns and k. */
static void larger_products_of_bf16_give_the_bits_of_avx2(void **state)
{
    static const size_t sizes[][3] = {
        {1100, 40, 1000}, {40, 1100, 1000}, {1060, 800, 1000}, {64, 1200, 2100}};

    (void)state;
    skip_without_better_than(CLLM_ISA_AVX2);
    if (cllm_isa_best() < CLLM_ISA_AMX)
        print_message("this CPU has no tiles: AVX-512 is compared\n");
    for (size_t i = 0; i < CLLM_LEN(sizes); i++) {
        for (uint32_t how = 0; how < 8; how++) {
            const struct cllm_matmul product = product_of(sizes[i], how);

            check_product(CLLM_ISA_AVX2, CLLM_PRECISION_BF16, &product);
            check_product(CLLM_ISA_AVX2, CLLM_PRECISION_BF16_AMX, &product);
            check_product(CLLM_ISA_AVX2, CLLM_PRECISION_F32_AMX, &product);
        }
    }
}

static void what_the_cpu_has_not_is_refused(void **state)
{
    const struct cllm_ops *ops = NULL;

    (void)state;
    assert_int_equal(setenv("CLLM_ISA", "sse9", 1), 0);
    assert_int_equal(cllm_ops_pick(&ops, CLLM_ISA_AUTO, CLLM_PRECISION_F32),
                     CLLM_ECONFIG);
    assert_non_null(strstr(cllm_err_text(), "CLLM_ISA=sse9"));
    assert_int_equal(setenv("CLLM_ISA", "ref", 1), 0);
    assert_int_equal(cllm_ops_pick(&ops, CLLM_ISA_AUTO, CLLM_PRECISION_F32), 0);
    assert_string_equal(ops->name, "ref, f32");
    assert_int_equal(unsetenv("CLLM_ISA"), 0);
    assert_int_equal(cllm_ops_pick(&ops, CLLM_ISA_AUTO, CLLM_PRECISION_F32), 0);
    assert_ptr_equal(ops, cllm_ops_select());
    for (uint32_t isa = CLLM_ISA_REF; isa < CLLM_N_ISAS; isa++)
        assert_int_equal(cllm_ops_pick(&ops, (enum cllm_isa)isa, CLLM_PRECISION_F32),
                         isa <= cllm_isa_best() ? 0 : CLLM_ECONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(avx2_gives_the_bits_of_the_reference),
        cmocka_unit_test(avx512_gives_the_bits_of_the_reference),
        cmocka_unit_test(avx512_with_bf16_gives_the_bits_of_the_reference),
        cmocka_unit_test(amx_gives_the_bits_of_the_reference),
        cmocka_unit_test(large_products_give_the_bits_of_the_reference),
        cmocka_unit_test(larger_products_of_bf16_give_the_bits_of_avx2),
        cmocka_unit_test(what_the_cpu_has_not_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
