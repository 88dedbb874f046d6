/*
 * tests/test_tally.c - results survive every cut of their file, and sums are the same.
 */
#include "tests/formats_temp.h"

#include "tools/tally.h"

#define ITEMS 20

static double value_of(uint64_t item, uint32_t which)
{
    return (double)(item + 1) / (which + 3.0) * (which == 1 ? -1 : 1);
}

static int add(struct cllm_tally *tally, uint64_t n)
{
    double values[ITEMS][2];

    for (uint64_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < 2; k++)
            values[i][k] = value_of(tally->n_done + i, k);
    return cllm_tally_add(tally, &values[0][0], n);
}

static void a_file_cut_anywhere_goes_on_to_the_same_sums(void **state)
{
    const char *path = in(*state, "a.tally");
    struct cllm_tally tally;
    double sums[2];
    char *whole, *again;
    size_t bytes, n;

    assert_int_equal(cllm_tally_open(&tally, path, "loss of x", ITEMS, 2), 0);
    assert_int_equal(tally.n_done, 0);
    assert_int_equal(add(&tally, 7), 0);
    assert_int_equal(add(&tally, ITEMS - 7), 0);
    for (uint32_t k = 0; k < 2; k++)
        sums[k] = cllm_tally_sum(&tally, k);
    cllm_tally_close(&tally);
    whole = get_file(path, &bytes);
    for (size_t cut = 0; cut <= bytes; cut++) {
        put_file(path, whole, cut);
        assert_int_equal(cllm_tally_open(&tally, path, "loss of x", ITEMS, 2), 0);
        assert_int_equal(add(&tally, ITEMS - tally.n_done), 0);
        for (uint32_t k = 0; k < 2; k++)
            assert_true(cllm_tally_sum(&tally, k) == sums[k]);
        cllm_tally_close(&tally);
        again = get_file(path, &n);
        assert_int_equal(n, bytes);
        assert_memory_equal(again, whole, bytes);
        free(again);
    }
    free(whole);
}

static void rubbish_is_cut_off_and_done_again(void **state)
{
    static const char *const bad[] = {"x 1 2\n",   "1 0x1p+0\n", "3 1 2\n",
                                      "1 1 2 3\n", "1 1 2",      "\n"};
    const char *path = in(*state, "a.tally");
    struct cllm_tally tally;
    char text[128];

    for (size_t i = 0; i < CLLM_LEN(bad); i++) {
        (void)snprintf(text, sizeof text, "id\n0 0x1p+1 0x1p+2\n%s", bad[i]);
        put_file(path, text, strlen(text));
        assert_int_equal(cllm_tally_open(&tally, path, "id", ITEMS, 2), 0);
        assert_int_equal(tally.n_done, 1);
        assert_true(cllm_tally_sum(&tally, 1) == 4);
        cllm_tally_close(&tally);
    }
}

static void another_evaluation_is_refused_and_left_alone(void **state)
{
    const char *path = in(*state, "a.tally");
    struct cllm_tally tally;
    size_t n;
    char *text;

    put_file(path, "loss of y\n0 1 2\n", 16);
    assert_int_equal(cllm_tally_open(&tally, path, "loss of x", ITEMS, 2), CLLM_EDATA);
    assert_error_says("another evaluation");
    text = get_file(path, &n);
    assert_int_equal(n, 16);
    free(text);
    put_file(path, "my diary", 8);
    assert_int_equal(cllm_tally_open(&tally, path, "loss of x", ITEMS, 2), CLLM_EDATA);
    text = get_file(path, &n);
    assert_int_equal(n, 8);
    free(text);
}

static void without_a_file_nothing_is_kept(void **state)
{
    struct cllm_tally tally, zero = {0};

    (void)state;
    assert_int_equal(cllm_tally_open(&tally, NULL, "id", ITEMS, 2), 0);
    assert_int_equal(add(&tally, 3), 0);
    assert_true(cllm_tally_sum(&tally, 0) ==
                value_of(0, 0) + value_of(1, 0) + value_of(2, 0));
    cllm_tally_close(&tally);
    cllm_tally_close(&zero);
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_file_cut_anywhere_goes_on_to_the_same_sums),
        T(rubbish_is_cut_off_and_done_again),
        T(another_evaluation_is_refused_and_left_alone),
        T(without_a_file_nothing_is_kept),
    };

    return cmocka_run_group_tests_name("tally", tests, NULL, NULL);
}
