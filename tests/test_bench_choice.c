/*
 * tests/test_bench_choice.c - tools/bench_choice.h: what is tried on described machines,
 * and what counts as better.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tools/bench_choice.h"

#define TEXT_BYTES 256

static struct cllm_topology topology;

/* The list of @knob as "value:n value:n". */
static const char *list(enum cllm_bench_knob knob,
                        const struct cllm_bench_present *present)
{
    static char text[TEXT_BYTES];
    struct cllm_bench_choice choice[CLLM_BENCH_CHOICES];
    uint32_t n = cllm_bench_choice_list(choice, knob, present);
    size_t used = 0;

    for (uint32_t i = 0; i < n; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s:%u",
                                 i > 0 ? " " : "", choice[i].value, choice[i].n);
    return text;
}

static void numbers_of_workers_follow_the_machine(void **state)
{
    static const struct {
        const char *machine;
        uint64_t option; /* 0 = auto */
        uint32_t lanes, runs;
        const char *want;
    } rows[] = {
        {"core:1 pu:1", 0, 12, 1, "auto:1"},
        {"core:2 pu:1", 0, 12, 2, "auto:2 1:1"},
        {"core:2 pu:1", 2, 12, 2, "2:2 1:1"},
        {"core:2 pu:1", 63, 63, 63, "63:63 auto:2 1:1"},
        {"core:4 pu:2", 0, 12, 4, "auto:4 8:8 3:3"},
        {"core:4 pu:2", 0, 6, 4, "auto:4 6:6 3:3"},
        {"core:4 pu:2", 0, 4, 4, "auto:4 3:3"},
        {"core:8 pu:1", 0, 12, 8, "auto:8 7:7 6:6"},  /* 6 need two turns as well */
        {"core:64 pu:2", 0, 12, 12, "auto:12 11:11"}, /* no more than lanes */
        {"core:2 pu:1", 0, 1, 1, "auto:1"},
        {"core:2 pu:1", 4, 1, 4, "4:4 auto:1"},
        {"node:8 core:64 pu:1", 0, 1728, 144, "auto:144 143:143"}, /* as many as can be */
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(rows); i++) {
        const struct cllm_config config = {.run_workers = rows[i].option};
        const struct cllm_bench_present present = {.topology = &topology,
                                                   .config = &config,
                                                   .lanes = rows[i].lanes,
                                                   .workers = rows[i].runs};

        cllm_topology_find(&topology, rows[i].machine);
        assert_string_equal(list(CLLM_BENCH_KNOB_WORKERS, &present), rows[i].want);
    }
}

static void numbers_that_are_asked_for_are_tried_instead(void **state)
{
    static const uint32_t ask[] = {1, 2, 6, 6};
    const struct cllm_config config = {.run_workers = CLLM_CONFIG_AUTO};
    const struct cllm_bench_present present = {.topology = &topology,
                                               .config = &config,
                                               .lanes = 12,
                                               .workers = 2,
                                               .ask = ask,
                                               .n_ask = CLLM_LEN(ask)};

    (void)state;
    cllm_topology_find(&topology, "core:2 pu:1");
    assert_string_equal(list(CLLM_BENCH_KNOB_WORKERS, &present), "auto:2 1:1 6:6");
}

static void workers_are_bound_when_they_were_not(void **state)
{
    static const struct {
        const char *machine;
        enum cllm_config_pin pin;
        uint32_t workers;
        const char *want;
    } rows[] = {
        {"core:2 pu:1", CLLM_PIN_AUTO, 2, "auto:0 yes:0"},
        {"core:2 pu:1", CLLM_PIN_NO, 2, "no:0 yes:0"},
        {"core:2 pu:1", CLLM_PIN_YES, 2, "yes:0 auto:0"},
        {"node:2 core:4 pu:1", CLLM_PIN_AUTO, 8, "auto:0 no:0"},
        {"node:2 core:4 pu:1", CLLM_PIN_AUTO, 9, "auto:0 yes:0"}, /* more than cores */
        {"node:2 core:4 pu:1", CLLM_PIN_YES, 8, "yes:0 no:0"},
        {"node:2 core:4 pu:1", CLLM_PIN_NO, 8, "no:0 auto:0"},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(rows); i++) {
        const struct cllm_config config = {.run_pin = rows[i].pin};
        const struct cllm_bench_present present = {
            .topology = &topology, .config = &config, .workers = rows[i].workers};

        cllm_topology_find(&topology, rows[i].machine);
        topology.real = true;
        assert_string_equal(list(CLLM_BENCH_KNOB_PIN, &present), rows[i].want);
        topology.real = false; /* a description: nobody can be bound to it */
        assert_null(strchr(list(CLLM_BENCH_KNOB_PIN, &present), ' '));
    }
}

static void lane_buffers_are_doubled_where_lanes_share_them(void **state)
{
    static const struct {
        uint64_t option; /* 0 = auto */
        uint32_t lanes, has;
        const char *want;
    } rows[] = {
        {0, 12, 12, "auto:12"}, {0, 12, 4, "auto:4 8:8"}, {0, 12, 8, "auto:8 12:12"},
        {2, 12, 2, "2:2 4:4"},  {12, 12, 12, "12:12"},    {20, 12, 12, "20:12"},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(rows); i++) {
        const struct cllm_config config = {.run_lane_buffers = rows[i].option};
        const struct cllm_bench_present present = {.topology = &topology,
                                                   .config = &config,
                                                   .lanes = rows[i].lanes,
                                                   .buffers = rows[i].has};

        assert_string_equal(list(CLLM_BENCH_KNOB_LANE_BUFFERS, &present), rows[i].want);
    }
}

static void keys_are_options_of_their_section(void **state)
{
    struct cllm_config config;
    char set[64];

    (void)state;
    cllm_config_init(&config);
    for (uint32_t k = 0; k < CLLM_BENCH_KNOBS; k++) {
        (void)snprintf(set, sizeof set, "run.%s=auto", cllm_bench_knob_names[k]);
        assert_int_equal(cllm_config_set(&config, set), 0);
    }
    cllm_config_fini(&config);
}

static void rounds_are_compared_not_rates_of_different_minutes(void **state)
{
    /* The machine is slower and slower; the second is always a tenth better. */
    static const double first[] = {1000, 800, 600, 400, 200};
    static const double second[] = {1100, 880, 660, 440, 220};
    struct cllm_bench_comparison c;

    (void)state;
    c = cllm_bench_choice_compare(first, second, 5);
    assert_true(fabs(c.ratio - 1.1) < 1e-9 && c.spread < 1e-9);
    assert_true(cllm_bench_choice_is_better(&c));
    c = cllm_bench_choice_compare(second, first, 5);
    assert_true(fabs(c.ratio - 1 / 1.1) < 1e-9);
    assert_false(cllm_bench_choice_is_better(&c));
}

static void better_is_more_than_the_spread_and_a_hundredth(void **state)
{
    static const double first[] = {100, 100, 100, 100};
    static const struct {
        double second[4];
        double ratio, spread;
        uint32_t n;
        bool better;
    } rows[] = {
        {{100, 100, 100, 100}, 1.00, 0.00, 4, false},
        {{105, 104, 106, 105}, 1.05, 0.01, 4, true},
        {{105, 98, 112, 105}, 1.05, 0.07, 4, false},
        {{105, 95, 115, 0}, 1.05, 0.10, 3, false},
        {{100.9, 100.9, 100.9, 100.9}, 1.009, 0.00, 4, false},
        {{102, 102, 100, 100}, 1.01, 0.01, 4, false},
        {{150, 0, 0, 0}, 1.50, 0.00, 1, true},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(rows); i++) {
        struct cllm_bench_comparison c =
            cllm_bench_choice_compare(first, rows[i].second, rows[i].n);

        assert_true(fabs(c.ratio - rows[i].ratio) < 1e-9);
        assert_true(fabs(c.spread - rows[i].spread) < 1e-9);
        assert_int_equal(cllm_bench_choice_is_better(&c), rows[i].better);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_of_workers_follow_the_machine),
        cmocka_unit_test(numbers_that_are_asked_for_are_tried_instead),
        cmocka_unit_test(workers_are_bound_when_they_were_not),
        cmocka_unit_test(lane_buffers_are_doubled_where_lanes_share_them),
        cmocka_unit_test(keys_are_options_of_their_section),
        cmocka_unit_test(rounds_are_compared_not_rates_of_different_minutes),
        cmocka_unit_test(better_is_more_than_the_spread_and_a_hundredth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
