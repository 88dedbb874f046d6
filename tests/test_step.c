/*
 * tests/test_step.c - the step machine without processes: workers are played by the test,
 * die at any moment, and the step must end with every lane folded exactly once.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/err.h"
#include "base/random.h"
#include "coordinator/lanes.h"
#include "coordinator/step.h"
#include "shm/chunk.h"
#include "shm/slot.h"
#include "tests/control_temp.h"

#define WORKERS 3

static struct cllm_control control;
static struct cllm_config config;
static struct cllm_step step;
static uint32_t
    folds_of_lane[24]; /* times each lane was folded, in the run that counts */
static uint32_t fold_calls;

static int setup(void **state)
{
    (void)state;
    control_temp_make(&control);
    cllm_config_init(&config);
    config.train_steps = 10;
    for (uint32_t slot = 0; slot < WORKERS; slot++)
        (void)cllm_slot_renew(&control, slot);
    cllm_step_init(&step, &control, &config, WORKERS);
    memset(folds_of_lane, 0, sizeof folds_of_lane);
    fold_calls = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cllm_config_fini(&config);
    control_temp_remove(&control);
    return 0;
}

/* Write the report that worker @slot owes for its oldest assignment, as a good worker
 * does. */
static void answer(uint32_t slot, uint32_t flags)
{
    struct cllm_command *command = &control.slots[slot].command;
    uint64_t seq = command->reported + 1;
    const struct cllm_assignment *work = &command->assignment[seq & 1];
    struct cllm_control child;
    struct cllm_report report;

    cllm_slot_answer(&report, work);
    report.flags = flags;
    report.loss = work->lane + 1;
    report.tokens = 48;
    for (uint32_t c = work->chunk_lo; c < work->chunk_hi; c++)
        report.result[c - work->chunk_lo] =
            (struct cllm_chunk_result){.sum = 1000 + c, .sum_squares = 4.0};
    assert_int_equal(cllm_control_attach(&child, control_temp_id(), slot),
                     CLLM_ATTACH_OK);
    cllm_slot_report(&child, &report, seq, -1);
    cllm_control_detach(&child);
}

static int take(uint32_t slot)
{
    struct cllm_assignment asked;
    struct cllm_report report;

    assert_int_equal(cllm_slot_harvest(&control, slot, &report, &asked),
                     CLLM_HARVEST_REPORT);
    if (asked.kind == CLLM_WORK_FOLD && asked.chunk_lo == 0) {
        fold_calls++;
        for (uint32_t l = asked.lane_lo; l < asked.lane_hi; l++)
            folds_of_lane[l]++;
    }
    return cllm_step_take(&step, &report);
}

/* Slot @slot is confirmed dead; a new process takes its place. */
static void die(uint32_t slot)
{
    uint32_t redone;

    cllm_sweep_revoke(&control, slot);
    assert_int_equal(cllm_lanes_revoke(&control, slot, false, &redone), CLLM_NONE);
    (void)cllm_slot_renew(&control, slot);
}

/* No buffer may be held by two lanes, none may be lost. */
static void check_buffers(void)
{
    uint32_t holders[4] = {0};

    for (uint32_t l = 0; l < 24; l++)
        if ((control.lane[l].state == CLLM_LANE_ASSIGNED ||
             control.lane[l].state == CLLM_LANE_DONE) &&
            control.lane[l].buffer != CLLM_NONE) /* validation needs none */
            holders[control.lane[l].buffer]++;
    for (uint32_t b = 0; b < 4; b++)
        assert_true(holders[b] <= 1);
}

/* Is the oldest unanswered assignment of @slot one that reads a batch? */
static bool is_lane(uint32_t slot)
{
    const struct cllm_command *command = &control.slots[slot].command;
    uint32_t kind = command->assignment[(command->reported + 1) & 1].kind;

    return kind == CLLM_WORK_LANE || kind == CLLM_WORK_EVAL;
}

/* Play until the step is complete; workers answer, find damaged batches, or
 * die at random. Returns turns taken.
 */
static uint32_t play(uint64_t seed, uint32_t deaths_in_100)
{
    struct cllm_step_world world = {.filled = UINT64_MAX, .eval_ready = true};
    uint32_t turn = 0;

    for (;; turn++) {
        enum cllm_step_outcome outcome;

        assert_true(turn < 20000);
        world.idle = 0;
        for (uint32_t slot = 0; slot < WORKERS; slot++)
            world.idle += cllm_slot_outstanding(&control, slot) == 0;
        outcome = cllm_step_advance(&step, &world);
        check_buffers();
        if (outcome == CLLM_STEP_COMPLETE)
            return turn;
        assert_int_equal(outcome, CLLM_STEP_GOING);
        for (uint32_t slot = 0; slot < WORKERS; slot++) {
            uint64_t dice = cllm_random_u64(seed, CLLM_RANDOM_TEST, turn * 8 + slot);

            while (cllm_slot_outstanding(&control, slot) < 1 + dice % 2 &&
                   cllm_step_assign(&step, slot))
                continue;
            if (cllm_slot_outstanding(&control, slot) > 0 && (dice >> 8) % 3 == 0) {
                bool damaged = is_lane(slot) && (dice >> 24) % 100 < deaths_in_100;

                answer(slot, damaged ? CLLM_REPORT_BAD_BATCH : CLLM_REPORT_FINITE);
                assert_int_equal(take(slot), 0);
            } else if ((dice >> 16) % 100 < deaths_in_100) {
                die(slot);
            }
        }
    }
}

static void commit_initial(void)
{
    cllm_step_open_initial(&step);
    (void)play(1, 0);
    cllm_step_seal(&step);
    cllm_step_commit(&step);
}

static void check_step(uint64_t number)
{
    struct cllm_step_record record;

    assert_true(cllm_control_newest_record(&control, &record));
    assert_int_equal(record.step, number);
    assert_int_equal(record.root, cllm_chunk_root(control.chunk, 5, number & 1));
    assert_true(record.loss == 300.0 / (24 * 48)); /* 1 + 2 + ... + 24 over all tokens */
    assert_true(record.grad_norm == sqrt(20.0) / (24 * 48));
    assert_int_equal(record.tokens, number * 24 * 48);
    assert_int_equal(record.cursor, number * 24 * 6);
}

static void a_step_folds_every_lane_and_commits(void **state)
{
    (void)state;
    commit_initial();
    for (uint64_t n = 1; n <= 3; n++) {
        struct cllm_step_record record = step.record;

        cllm_step_open(&step, &record);
        (void)play(n, 0);
        cllm_step_seal(&step);
        cllm_step_commit(&step);
        check_step(n);
    }
    for (uint32_t l = 0; l < 24; l++)
        assert_int_equal(folds_of_lane[l], 3); /* once in each step */
}

static void deaths_change_who_works_and_nothing_else(void **state)
{
    (void)state;
    commit_initial();
    for (uint64_t n = 1; n <= 40; n++) {
        struct cllm_step_record record = step.record;

        cllm_step_open(&step, &record);
        (void)play(1000 + n, 20);
        cllm_step_seal(&step);
        cllm_step_commit(&step);
        check_step(n);
    }
}

static void lanes_wait_for_their_batches(void **state)
{
    struct cllm_step_world world = {.filled = 0, .idle = WORKERS};
    struct cllm_step_record record;

    (void)state;
    commit_initial();
    record = step.record;
    cllm_step_open(&step, &record);
    assert_int_equal(cllm_step_advance(&step, &world), CLLM_STEP_GOING);
    assert_false(cllm_step_assign(&step, 0));
    world.filled = 3; /* lane 0 has both micro-batches, lane 1 one of two */
    assert_int_equal(cllm_step_advance(&step, &world), CLLM_STEP_GOING);
    assert_true(cllm_step_assign(&step, 0));
    assert_false(cllm_step_assign(&step, 1));
    assert_int_equal(cllm_lanes_count(&control, CLLM_LANE_EMPTY), 23);
}

static void the_update_waits_for_the_saver(void **state)
{
    struct cllm_step_world world = {
        .filled = UINT64_MAX, .idle = WORKERS, .target_pinned = true};
    struct cllm_step_record record;
    enum cllm_step_outcome outcome;

    (void)state;
    commit_initial();
    record = step.record;
    cllm_step_open(&step, &record);
    while ((outcome = cllm_step_advance(&step, &world)) == CLLM_STEP_GOING) {
        assert_true(cllm_step_assign(&step, 0));
        answer(0, CLLM_REPORT_FINITE);
        assert_int_equal(take(0), 0);
    }
    assert_int_equal(outcome, CLLM_STEP_PINNED);
    assert_false(cllm_step_assign(&step, 0));
    world.target_pinned = false;
    assert_int_equal(cllm_step_advance(&step, &world), CLLM_STEP_GOING);
    assert_true(cllm_step_assign(&step, 0));
    assert_int_equal(
        control.slots[0].command.assignment[control.slots[0].command.posted & 1].kind,
        CLLM_WORK_UPDATE);
}

static void a_gradient_that_is_not_finite_stops_the_run(void **state)
{
    struct cllm_step_world world = {.filled = UINT64_MAX, .idle = WORKERS};
    struct cllm_step_record record;

    (void)state;
    commit_initial();
    record = step.record;
    cllm_step_open(&step, &record);
    (void)cllm_step_advance(&step, &world);
    assert_true(cllm_step_assign(&step, 0));
    answer(0, 0);
    assert_int_equal(take(0), CLLM_ENONFINITE);
    assert_non_null(strstr(cllm_err_text(), "step 1, lane 0"));
}

static void a_lane_that_kills_two_slots_three_times_is_poison(void **state)
{
    struct cllm_step_world world = {.filled = UINT64_MAX, .idle = WORKERS};
    struct cllm_step_record record;
    uint32_t redone;

    (void)state;
    commit_initial();
    record = step.record;
    cllm_step_open(&step, &record);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t slot = i % 2;

        (void)cllm_step_advance(&step, &world);
        assert_true(cllm_step_assign(&step, slot));
        assert_int_equal(cllm_lanes_revoke(&control, slot, true, &redone),
                         i == 2 ? 0 : CLLM_NONE);
        assert_int_equal(redone, 1);
        (void)cllm_slot_renew(&control, slot);
    }
    assert_int_equal(control.lane[0].state, CLLM_LANE_POISONED);
}

static void validation_sums_its_lanes_and_remembers_the_best(void **state)
{
    (void)state;
    config.data_valid.n = 1;
    config.data_valid.item[0] = strdup("x");
    config.train_eval_every = 2;
    commit_initial();
    for (uint64_t n = 1; n <= 4; n++) {
        struct cllm_step_record record = step.record;

        cllm_step_open(&step, &record);
        (void)play(n, 5);
        cllm_step_seal(&step);
        cllm_step_commit(&step);
    }
    assert_int_equal(step.record.valid_step, 4);
    assert_true(step.record.valid_loss == 300.0 / (24 * 48));
    assert_int_equal(step.record.best_step, 2); /* equal is not better */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_step_folds_every_lane_and_commits, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(deaths_change_who_works_and_nothing_else, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(lanes_wait_for_their_batches, setup, teardown),
        cmocka_unit_test_setup_teardown(the_update_waits_for_the_saver, setup, teardown),
        cmocka_unit_test_setup_teardown(a_gradient_that_is_not_finite_stops_the_run,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_lane_that_kills_two_slots_three_times_is_poison,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(validation_sums_its_lanes_and_remembers_the_best,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
