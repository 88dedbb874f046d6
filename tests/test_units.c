/*
 * tests/test_units.c - base/units.h: every unit, every edge between two units.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "base/units.h"

struct row {
    uint64_t n;
    const char *want;
};

static void bytes_are_shown_in_powers_of_1024(void **state)
{
    static const struct row rows[] = {
        {0, "0 B"},
        {1, "1 B"},
        {1023, "1023 B"},
        {1024, "1.0 KiB"},
        {1536, "1.5 KiB"},
        {102399, "100 KiB"},
        {1048575, "1.0 MiB"},
        {UINT64_C(12) << 20, "12.0 MiB"},
        {UINT64_C(498) << 20, "498 MiB"},
        {UINT64_C(1) << 30, "1.0 GiB"},
        {UINT64_C(1) << 40, "1.0 TiB"},
        {UINT64_C(1) << 50, "1.0 PiB"},
        {UINT64_MAX, "16.0 EiB"},
    };
    char out[CLLM_UNITS_BYTES];

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(rows); i++)
        assert_string_equal(cllm_format_bytes(out, rows[i].n), rows[i].want);
}

static void counts_are_shown_in_powers_of_1000(void **state)
{
    static const struct row rows[] = {
        {0, "0"},
        {999, "999"},
        {1000, "1.0k"},
        {41230, "41.2k"},
        {99949, "99.9k"},
        {99951, "100k"},
        {999499, "999k"},
        {999999, "1.0M"},
        {124439808, "124M"},
        {UINT64_C(1300000000000), "1.3T"},
        {UINT64_MAX, "18.4E"},
    };
    char out[CLLM_UNITS_BYTES];

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(rows); i++)
        assert_string_equal(cllm_format_count(out, rows[i].n), rows[i].want);
}

static void durations_are_shown_with_two_units_at_most(void **state)
{
    static const struct row rows[] = {
        {0, "0s"},
        {999, "999ns"},
        {85000, "85us"},
        {999999, "999us"},
        {3250000, "3.2ms"},
        {99999999, "99.9ms"},
        {850000000, "850ms"},
        {7400000000, "7.4s"},
        {59999999999, "59.9s"},
        {60000000000, "1m00s"},
        {72000000000, "1m12s"},
        {3599000000000, "59m59s"},
        {11040000000000, "3h04m"},
        {86399000000000, "23h59m"},
        {190800000000000, "2d05h"},
        {UINT64_MAX, "213503d23h"},
    };
    char out[CLLM_UNITS_BYTES];

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(rows); i++)
        assert_string_equal(cllm_format_duration(out, rows[i].n), rows[i].want);
}

static void every_text_fits_and_grows_with_its_number(void **state)
{
    char out[CLLM_UNITS_BYTES];

    (void)state;
    for (uint64_t n = 1; n < UINT64_MAX / 3; n = n * 3 + 1) {
        assert_true(strlen(cllm_format_bytes(out, n)) <= 8);
        assert_true(strlen(cllm_format_count(out, n)) <= 5);
        assert_true(strlen(cllm_format_duration(out, n)) <= 10);
    }
}

static void one_alone_has_no_plural(void **state)
{
    (void)state;
    assert_string_equal(cllm_plural(0), "s");
    assert_string_equal(cllm_plural(1), "");
    assert_string_equal(cllm_plural(2), "s");
    assert_string_equal(cllm_plural(UINT64_C(1) << 32 | 1), "s");
    assert_string_equal(cllm_plural_es(0), "es");
    assert_string_equal(cllm_plural_es(1), "");
    assert_string_equal(cllm_plural_es(UINT64_MAX), "es");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_shown_in_powers_of_1024),
        cmocka_unit_test(counts_are_shown_in_powers_of_1000),
        cmocka_unit_test(durations_are_shown_with_two_units_at_most),
        cmocka_unit_test(every_text_fits_and_grows_with_its_number),
        cmocka_unit_test(one_alone_has_no_plural),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
