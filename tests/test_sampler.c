/*
 * tests/test_sampler.c - the order of training: a bijection, well mixed, pure.
 */
#include "loader/sampler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shm/layout.h"

#define SEED 7

static const uint64_t sizes[] = {1,    2,    3,     4,     5,     7,    8,    9,
                                 31,   32,   33,    127,   128,   129,  251,  255,
                                 256,  257,  511,   512,   513,   997,  1023, 1024,
                                 1025, 4093, 65535, 65536, 65537, 99991};

static void an_epoch_has_every_window_exactly_once(void **state)
{
    (void)state;
    for (size_t s = 0; s < CLLM_LEN(sizes); s++) {
        uint64_t n = sizes[s];
        uint8_t *seen = calloc(n, 1);

        assert_non_null(seen);
        for (uint64_t epoch = 0; epoch < 2; epoch++) {
            for (uint64_t i = 0; i < n; i++) {
                uint64_t window = cllm_sampler_permute(SEED, epoch, n, i);

                assert_true(window < n);
                assert_int_equal(seen[window], epoch);
                seen[window]++;
            }
        }
        free(seen);
    }
}

static void the_largest_data_stays_in_range(void **state)
{
    const uint64_t n = (UINT64_C(1) << 40) - 87;
    uint64_t before = 0;

    (void)state;
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t window = cllm_sampler_permute(SEED, 3, n, n - 1 - i);

        assert_true(window < n);
        assert_true(i == 0 || window != before);
        before = window;
    }
}

/* Chi-square of where position @position goes in @draws keys; n - 1 degrees of freedom.
 */
static double chi_square(uint64_t n, uint64_t position, uint64_t draws, bool by_epoch)
{
    uint64_t *count = calloc(n, sizeof *count);
    double sum = 0, expected = (double)draws / (double)n;

    assert_non_null(count);
    for (uint64_t i = 0; i < draws; i++)
        count[cllm_sampler_permute(by_epoch ? SEED : i, by_epoch ? i : 0, n, position)]++;
    for (uint64_t i = 0; i < n; i++)
        sum += ((double)count[i] - expected) * ((double)count[i] - expected) / expected;
    free(count);
    return sum;
}

static void first_and_last_windows_are_uniform_over_epochs_and_seeds(void **state)
{
    /* Limit: mean k plus 6 standard deviations sqrt(2 k), k = n - 1; beyond it by chance
     * less than once in a million. */
    static const struct {
        uint64_t n;
        double limit;
    } row[] = {{2, 25.0}, {3, 31.0}, {10, 34.5}, {65, 132.0}, {101, 185.0}, {256, 391.0}};

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(row); i++) {
        for (int by_epoch = 0; by_epoch < 2; by_epoch++) {
            uint64_t draws = 200 * row[i].n;

            assert_true(chi_square(row[i].n, 0, draws, by_epoch) < row[i].limit);
            assert_true(chi_square(row[i].n, row[i].n - 1, draws, by_epoch) <
                        row[i].limit);
        }
    }
}

static void neighbours_do_not_stay_neighbours(void **state)
{
    const uint64_t n = 10007;
    uint64_t near = 0;

    (void)state;
    for (uint64_t i = 0; i + 1 < n; i++) {
        uint64_t a = cllm_sampler_permute(SEED, 0, n, i);
        uint64_t b = cllm_sampler_permute(SEED, 0, n, i + 1);

        near += (a > b ? a - b : b - a) <= 10;
    }
    /* By chance 20 of n - 1 pairs lie within 10 of each other. */
    assert_true(near < 50);
}

static void epochs_and_seeds_differ(void **state)
{
    const uint64_t n = 1000;
    uint64_t same_epoch = 0, same_seed = 0;

    (void)state;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t window = cllm_sampler_permute(SEED, 0, n, i);

        same_epoch += window == cllm_sampler_permute(SEED, 1, n, i);
        same_seed += window == cllm_sampler_permute(SEED + 1, 0, n, i);
    }
    assert_true(same_epoch < 12); /* one by chance */
    assert_true(same_seed < 12);
}

static void the_run_goes_through_whole_epochs(void **state)
{
    const uint64_t n = 37;

    (void)state;
    for (uint64_t q = 0; q < 5 * n; q++)
        assert_int_equal(cllm_sampler_window(SEED, n, q),
                         cllm_sampler_permute(SEED, q / n, n, q % n));
}

static void the_order_never_changes_between_versions(void **state)
{
    /* A run that is resumed by a newer program must see the same order. */
    static const uint64_t expected[] = {264, 210, 950, 731, 352, 853,
                                        201, 248, 671, 132, 936, 97};

    (void)state;
    for (uint64_t q = 0; q < CLLM_LEN(expected); q++)
        assert_int_equal(cllm_sampler_window(SEED, 1000, q), expected[q]);
}

static void a_row_depends_on_step_lane_and_microbatch_alone(void **state)
{
    /* Rows of a lane are the same windows, however the lane is cut into micro-batches,
     * and whatever the ring or the worker count is. */
    const struct cllm_geometry one = {
        .lanes = 4, .microbatches = 1, .sequences = 12, .ring_steps = 1};
    const struct cllm_geometry many = {.lanes = 4,
                                       .microbatches = 6,
                                       .sequences = 2,
                                       .ring_steps = 5,
                                       .n_worker_slots = 9};

    (void)state;
    for (uint64_t step = 1; step < 4; step++) {
        for (uint32_t lane = 0; lane < 4; lane++) {
            for (uint32_t i = 0; i < 12; i++) {
                uint64_t expected = ((step - 1) * 4 + lane) * 12 + i;

                assert_int_equal(
                    cllm_sampler_sequence(cllm_batch_number(&one, step, lane, 0), 12, i),
                    expected);
                assert_int_equal(
                    cllm_sampler_sequence(cllm_batch_number(&many, step, lane, i / 2), 2,
                                          i % 2),
                    expected);
            }
        }
    }
}

static void validation_windows_are_spread_evenly_and_in_order(void **state)
{
    static const struct {
        uint64_t windows, rows;
    } row[] = {{1, 1}, {100, 10}, {101, 10},
               {7, 7}, {3, 12},   {UINT64_C(1) << 50, 1000003}};

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(row); i++) {
        uint64_t step = row[i].windows / row[i].rows, before = 0;

        assert_int_equal(cllm_sampler_eval_window(row[i].windows, row[i].rows, 0), 0);
        for (uint64_t r = 1; r < row[i].rows; r++) {
            uint64_t window = cllm_sampler_eval_window(row[i].windows, row[i].rows, r);

            assert_true(window < row[i].windows);
            assert_true(window - before == step || window - before == step + 1);
            before = window;
        }
        assert_true(row[i].windows - before <= step + 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_epoch_has_every_window_exactly_once),
        cmocka_unit_test(the_largest_data_stays_in_range),
        cmocka_unit_test(first_and_last_windows_are_uniform_over_epochs_and_seeds),
        cmocka_unit_test(neighbours_do_not_stay_neighbours),
        cmocka_unit_test(epochs_and_seeds_differ),
        cmocka_unit_test(the_run_goes_through_whole_epochs),
        cmocka_unit_test(the_order_never_changes_between_versions),
        cmocka_unit_test(a_row_depends_on_step_lane_and_microbatch_alone),
        cmocka_unit_test(validation_windows_are_spread_evenly_and_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
