/*
 * tests/test_schedule.c - the learning rate of every step.
 */
#include "model/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define PEAK  1e-3f
#define FLOOR 1e-4f

static float rate(enum cllm_schedule_kind kind, uint64_t step)
{
    const struct cllm_schedule schedule = {.kind = kind,
                                           .peak = PEAK,
                                           .floor = FLOOR,
                                           .warmup = 10,
                                           .steps = 110,
                                           .cooldown = 40};

    return cllm_schedule_rate(&schedule, step);
}

static float rate_of(enum cllm_schedule_kind kind, float peak, float floor,
                     uint64_t warmup, uint64_t steps, uint64_t step)
{
    const struct cllm_schedule schedule = {.kind = kind,
                                           .peak = peak,
                                           .floor = floor,
                                           .warmup = warmup,
                                           .steps = steps,
                                           .cooldown = steps};

    return cllm_schedule_rate(&schedule, step);
}

static void the_warm_up_is_a_line_to_the_peak(void **state)
{
    (void)state;
    for (int kind = 0; kind < CLLM_N_SCHEDULES; kind++) {
        for (uint64_t step = 1; step <= 10; step++) {
            double exact = 1e-4 * (double)step;

            assert_true(fabs((double)rate((enum cllm_schedule_kind)kind, step) - exact) <
                        1e-10);
        }
        assert_true(rate((enum cllm_schedule_kind)kind, 10) == PEAK);
    }
}

static void the_decay_follows_its_curve_down_to_the_floor(void **state)
{
    (void)state;
    for (uint64_t step = 10; step <= 110; step++) {
        double at = (double)(step - 10) / 100;
        double cosine = 1e-4 + 9e-4 * 0.5 * (1 + cos(3.14159265358979323846 * at));
        double line = 1e-4 + 9e-4 * (1 - at);

        assert_true(fabs((double)rate(CLLM_SCHEDULE_COSINE, step) - cosine) < 1e-9);
        assert_true(fabs((double)rate(CLLM_SCHEDULE_LINEAR, step) - line) < 1e-9);
        assert_true(rate(CLLM_SCHEDULE_CONSTANT, step) == PEAK);
    }
    assert_true(rate(CLLM_SCHEDULE_COSINE, 110) == FLOOR);
    assert_true(rate(CLLM_SCHEDULE_LINEAR, 110) == FLOOR);
}

static void the_floor_holds_after_the_end(void **state)
{
    (void)state;
    assert_true(rate(CLLM_SCHEDULE_COSINE, 111) == FLOOR);
    assert_true(rate(CLLM_SCHEDULE_LINEAR, UINT64_MAX) == FLOOR);
    assert_true(rate(CLLM_SCHEDULE_CONSTANT, UINT64_MAX) == PEAK);
}

static void without_warm_up_the_first_step_is_near_the_peak(void **state)
{
    (void)state;
    assert_true(rate_of(CLLM_SCHEDULE_LINEAR, PEAK, 0, 0, 1000, 1) > 0.99f * PEAK);
    assert_true(rate_of(CLLM_SCHEDULE_CONSTANT, PEAK, 0, 0, 1, 1) == PEAK);
}

/* A run shorter than its warm-up stops on the way up; nothing is divided by zero. */
static void a_warm_up_longer_than_the_run_is_no_accident(void **state)
{
    (void)state;
    assert_true(rate_of(CLLM_SCHEDULE_COSINE, 1.0f, 0.0f, 10, 5, 5) == 0.5f);
    assert_true(rate_of(CLLM_SCHEDULE_COSINE, 1.0f, 0.0f, 10, 5, 6) == 0.6f);
    assert_true(isfinite(rate_of(CLLM_SCHEDULE_COSINE, 1.0f, 0.25f, 10, 10, 10)));
}

static void wsd_is_stable_until_its_decay(void **state)
{
    (void)state;
    for (uint64_t step = 10; step <= 70; step++)
        assert_true(rate(CLLM_SCHEDULE_WSD, step) == PEAK);
    for (uint64_t step = 70; step <= 110; step++) {
        double exact = 1e-4 + 9e-4 * (1 - sqrt((double)(step - 70) / 40));

        assert_true(fabs((double)rate(CLLM_SCHEDULE_WSD, step) - exact) < 1e-9);
    }
    assert_true(rate(CLLM_SCHEDULE_WSD, 110) == FLOOR);
    assert_true(rate(CLLM_SCHEDULE_WSD, 111) == FLOOR);
}

/* The decay is as long as the run: it begins behind the warm-up. */
static void a_cooldown_leaves_the_warm_up_alone(void **state)
{
    (void)state;
    assert_true(rate_of(CLLM_SCHEDULE_WSD, 1.0f, 0.0f, 10, 50, 5) == 0.5f);
    assert_true(rate_of(CLLM_SCHEDULE_WSD, 1.0f, 0.0f, 10, 50, 10) == 1.0f);
    assert_true(rate_of(CLLM_SCHEDULE_WSD, 1.0f, 0.0f, 10, 50, 20) == 0.5f);
    assert_true(rate_of(CLLM_SCHEDULE_WSD, 1.0f, 0.0f, 10, 50, 50) == 0.0f);
    assert_true(rate_of(CLLM_SCHEDULE_WSD, 1.0f, 0.0f, 50, 10, 5) == 0.1f);
}

static void a_configuration_says_what_the_schedule_is(void **state)
{
    struct cllm_config config;
    struct cllm_schedule schedule;

    (void)state;
    cllm_config_init(&config);
    assert_int_equal(cllm_config_set(&config, "train.schedule=wsd"), 0);
    assert_int_equal(cllm_config_set(&config, "train.steps=101"), 0);
    assert_int_equal(cllm_config_set(&config, "train.warmup=7"), 0);
    schedule = cllm_schedule_of(&config);
    assert_int_equal(schedule.kind, CLLM_SCHEDULE_WSD);
    assert_int_equal(schedule.steps, 101);
    assert_int_equal(schedule.warmup, 7);
    assert_int_equal(schedule.cooldown, 21);
    assert_true(schedule.peak == 1e-3f && schedule.floor == 1e-4f);
    assert_int_equal(cllm_config_set(&config, "train.cooldown=30"), 0);
    assert_int_equal(cllm_schedule_of(&config).cooldown, 30);
    cllm_config_fini(&config);
}

static void names_are_those_of_the_option(void **state)
{
    (void)state;
    assert_string_equal(cllm_schedule_names[CLLM_SCHEDULE_COSINE], "cosine");
    assert_string_equal(cllm_schedule_names[CLLM_SCHEDULE_LINEAR], "linear");
    assert_string_equal(cllm_schedule_names[CLLM_SCHEDULE_CONSTANT], "constant");
    assert_string_equal(cllm_schedule_names[CLLM_SCHEDULE_WSD], "wsd");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_warm_up_is_a_line_to_the_peak),
        cmocka_unit_test(the_decay_follows_its_curve_down_to_the_floor),
        cmocka_unit_test(the_floor_holds_after_the_end),
        cmocka_unit_test(without_warm_up_the_first_step_is_near_the_peak),
        cmocka_unit_test(a_warm_up_longer_than_the_run_is_no_accident),
        cmocka_unit_test(wsd_is_stable_until_its_decay),
        cmocka_unit_test(a_cooldown_leaves_the_warm_up_alone),
        cmocka_unit_test(a_configuration_says_what_the_schedule_is),
        cmocka_unit_test(names_are_those_of_the_option),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
