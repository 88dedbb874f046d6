/*
 * tests/test_crystal.c - roots, divisors, the spiral, and known values.
 */
#include "base/crystal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"

static void roots_are_the_greatest_that_fit(void **state)
{
    (void)state;
    for (uint64_t r = 0; r < 3000; r++)
        for (uint64_t n = r * r; n < (r + 1) * (r + 1); n += 1 + r / 5)
            assert_int_equal(cllm_crystal_isqrt(n), r);
    for (uint64_t i = 0; i < 10000; i++) {
        uint64_t r = cllm_random_u64(1, CLLM_RANDOM_TEST, i) >> 32;

        assert_int_equal(cllm_crystal_isqrt(r * r), r);
        assert_int_equal(cllm_crystal_isqrt(r * r + 2 * r), r);
        if (r > 0)
            assert_int_equal(cllm_crystal_isqrt(r * r - 1), r - 1);
    }
    assert_int_equal(cllm_crystal_isqrt(UINT64_MAX), UINT32_MAX);
}

static void divisors_are_the_greatest(void **state)
{
    (void)state;
    for (uint64_t a = 1; a < 120; a++) {
        for (uint64_t b = 1; b < 120; b++) {
            uint64_t best = 1;

            for (uint64_t d = 2; d <= a && d <= b; d++)
                best = a % d == 0 && b % d == 0 ? d : best;
            assert_int_equal(cllm_crystal_gcd(a, b), best);
        }
    }
    assert_int_equal(cllm_crystal_gcd(12, 0), 12);
    assert_int_equal(cllm_crystal_gcd(0, 12), 12);
}

/* The first (2 R + 1)^2 numbers fill the square of radius R, each point once. */
static void the_spiral_meets_every_point_once(void **state)
{
    enum { R = 60, SIDE = 2 * R + 1 };
    static uint8_t seen[SIDE][SIDE];

    (void)state;
    for (uint64_t n = 0; n < SIDE * SIDE; n++) {
        struct cllm_crystal_place p = cllm_crystal_place(n);
        int64_t ring = llabs(p.x) > llabs(p.y) ? llabs(p.x) : llabs(p.y);

        assert_true(ring <= R);
        assert_int_equal(ring, (cllm_crystal_isqrt(n) + 1) / 2); /* ring after ring */
        assert_int_equal(seen[p.x + R][p.y + R]++, 0);
    }
    struct cllm_crystal_place far = cllm_crystal_place((UINT64_C(1) << 62) - 1);

    assert_int_equal(llabs(far.x) > llabs(far.y) ? llabs(far.x) : llabs(far.y),
                     UINT64_C(1) << 30);
}

static void values_are_the_known_ones(void **state)
{
    static const struct {
        uint32_t x, y;
        double cost;
    } row[] = {{0, 1, 0.6931},
               {5, 11, 0.8626},
               {5, 6, 1.3863},
               {99, 100, 1.8519},
               {1000, 9000, 5.3731}};

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(row); i++) {
        assert_true(fabs(cllm_crystal_cost(row[i].x, row[i].y) - row[i].cost) < 1e-4);
        assert_true(cllm_crystal_cost(row[i].x, row[i].y) ==
                    cllm_crystal_cost(row[i].y, row[i].x));
    }
}

static void only_equal_ids_are_wholly_similar(void **state)
{
    (void)state;
    for (uint32_t x = 0; x < 400; x++) {
        for (uint32_t y = 0; y < 400; y++) {
            double c = cllm_crystal_similarity(x, y);

            assert_true(x == y ? c == 1.0 : c > 0 && c < 1.0);
        }
    }
    assert_true(cllm_crystal_cost(77, 77) == 0);
    assert_true(isfinite(cllm_crystal_cost(0, UINT32_MAX)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roots_are_the_greatest_that_fit),
        cmocka_unit_test(divisors_are_the_greatest),
        cmocka_unit_test(the_spiral_meets_every_point_once),
        cmocka_unit_test(values_are_the_known_ones),
        cmocka_unit_test(only_equal_ids_are_wholly_similar),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
