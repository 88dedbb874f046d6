/*
 * tests/test_bench_result.c - tools/bench_result.h: figures that follow from what was
 * counted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "tools/bench_result.h"

#define ELEMENTS 1000.0

/* Four lanes in one group, two workers. */
static struct cllm_bench_result result;

static void begin(void)
{
    result = (struct cllm_bench_result){.active = 2,
                                        .geometry = {.lanes = 4,
                                                     .microbatches = 1,
                                                     .sequences = 1,
                                                     .n_elements = (uint64_t)ELEMENTS,
                                                     .n_chunks = 1,
                                                     .n_groups = 1,
                                                     .n_folds = 2,
                                                     .model = {.context = 8}}};
}

/* A step of a second, of which both workers update for @update_ns and one folds for
 * @fold_ns, with copies of so many bytes a second before and after it. */
static void add(uint64_t update_ns, uint64_t fold_ns, double copy, double alone)
{
    struct cllm_bench_count count = {
        .ns = 1000000000, .step = 1, .n_workers = 2, .chunks_folded = 1};

    count.phase_ns[0][CLLM_BENCH_UPDATE] = update_ns;
    count.phase_ns[1][CLLM_BENCH_UPDATE] = update_ns;
    count.phase_ns[1][CLLM_BENCH_FOLD] = fold_ns;
    cllm_bench_result_add(&result, &count, copy, alone);
}

static void near_to(double got, double want)
{
    assert_true(fabs(got - want) <= 1e-9 * fabs(want));
}

static void spread_is_that_of_samples_in_any_order(void **state)
{
    static const double odd[] = {3, 9, 1}, even[] = {4, 1, 2, 8}, one[] = {7};

    (void)state;
    near_to(cllm_spread_of(odd, 3).median, 3);
    near_to(cllm_spread_of(odd, 3).least, 1);
    near_to(cllm_spread_of(odd, 3).most, 9);
    near_to(cllm_spread_of(even, 4).median, 3);
    near_to(cllm_spread_of(one, 1).median, 7);
}

/* 28 bytes for each element; the memory is twice as fast in one of three repeats. */
static void an_update_is_held_against_the_copies_around_it(void **state)
{
    struct cllm_bench_pass update;

    (void)state;
    begin();
    add(1000, 500, 35e9, 20e9);
    add(500, 500, 70e9, 20e9);
    add(1000, 500, 35e9, 20e9);
    update = cllm_bench_result_update(&result);
    near_to(update.rate, 28 * ELEMENTS / 1e-6);
    near_to(update.copy, 35e9);
    near_to(update.share, 0.8);
}

/* Four lanes are read once, one sum is written. */
static void a_fold_is_held_against_the_copy_of_one_process(void **state)
{
    struct cllm_bench_pass fold;

    (void)state;
    begin();
    add(1000, 500, 70e9, 80e9);
    fold = cllm_bench_result_fold(&result);
    near_to(fold.rate, 4 * ELEMENTS * 5 / 0.5e-6);
    near_to(fold.copy, 80e9);
    near_to(fold.share, 0.5);
}

static void what_was_not_measured_is_nothing(void **state)
{
    (void)state;
    begin();
    add(0, 0, 0, 0);
    assert_true(cllm_bench_result_update(&result).rate == 0);
    assert_true(cllm_bench_result_update(&result).share == 0);
    assert_true(cllm_bench_result_fold(&result).share == 0);
}

static void tokens_are_those_of_all_lanes(void **state)
{
    (void)state;
    begin();
    add(1000, 500, 0, 0);
    near_to(cllm_bench_result_speed(&result).median, 32);
    near_to(cllm_bench_result_phase(&result, CLLM_BENCH_UPDATE), 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spread_is_that_of_samples_in_any_order),
        cmocka_unit_test(an_update_is_held_against_the_copies_around_it),
        cmocka_unit_test(a_fold_is_held_against_the_copy_of_one_process),
        cmocka_unit_test(what_was_not_measured_is_nothing),
        cmocka_unit_test(tokens_are_those_of_all_lanes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
