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

/* Shapes of several blocks: A whole, and not; runs and tiles cut off. */
static void large_products_give_the_bits_of_the_reference(void **state)
{
    static const size_t sizes[][3] = {
        {49, 70, 300}, {140, 70, 515}, {301, 40, 700}, {270, 1060, 20}};
    float *a = numbers_new(400000, 1, 1.0f), *b = numbers_new(400000, 2, 1.0f);
    float *want = numbers_zero(400000), *got = numbers_zero(400000);
    const struct cllm_ops *ref, *ops;

    (void)state;
    for (uint32_t i = 0; i < 2 * 8 * CLLM_LEN(sizes); i++) {
        enum cllm_precision precision = i % 2 ? CLLM_PRECISION_BF16 : CLLM_PRECISION_F32;
        const struct cllm_matmul product = {.m = sizes[i / 16][0],
                                            .n = sizes[i / 16][1],
                                            .k = sizes[i / 16][2],
                                            .trans_a = (i & 2) != 0,
                                            .trans_b = (i & 4) != 0,
                                            .accumulate = (i & 8) != 0};
        size_t bytes = product.m * product.n * sizeof *want;

        assert_int_equal(cllm_ops_pick(&ref, CLLM_ISA_REF, precision), 0);
        memcpy(want, b, bytes);
        ref->matmul(want, a, b, &product);
        for (uint32_t isa = CLLM_ISA_REF + 1; isa <= cllm_isa_best(); isa++) {
            assert_int_equal(cllm_ops_pick(&ops, (enum cllm_isa)isa, precision), 0);
            memcpy(got, b, bytes);
            ops->matmul(got, a, b, &product);
            assert_memory_equal(got, want, bytes);
        }
    }
    free(a);
    free(b);
    free(want);
    free(got);
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
        cmocka_unit_test(what_the_cpu_has_not_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
