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
static uint32_t folds_of_lane[24]; /* how often, in the run that counts */

/* A process of slot @slot has said hello. */
static void live(uint32_t slot)
{
    (void)cllm_slot_renew(&control, slot);
    control.slots[slot].command.state = CLLM_SLOT_IDLE;
}

static int setup(void **state)
{
    (void)state;
    control_temp_make(&control);
    cllm_config_init(&config);
    config.train_steps = 10;
    for (uint32_t slot = 0; slot < WORKERS; slot++)
        live(slot);
    cllm_step_init(&step, &control, &config, WORKERS);
    memset(folds_of_lane, 0, sizeof folds_of_lane);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cllm_config_fini(&config);
    control_temp_remove(&control);
    return 0;
}

/* A processor that errs: added to the loss and to the hashes of chunks in answers. */
static double loss_error;
static uint64_t chunk_error;

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
    report.loss = work->lane + 1 + loss_error;
    report.tokens = work->kind == CLLM_WORK_EVAL ? 24 : 48;
    for (uint32_t c = work->chunk_lo; c < work->chunk_hi; c++)
        report.result[c - work->chunk_lo] =
            (struct cllm_chunk_result){.sum = 1000 + c + chunk_error, .sum_squares = 4.0};
    assert_int_equal(cllm_control_attach(&child, control_temp_id(), slot),
                     CLLM_ATTACH_OK);
    cllm_slot_report(&child, &report, seq, -1);
    cllm_control_detach(&child);
}

static struct cllm_step_news news; /* of the last report */

static int take(uint32_t slot)
{
    struct cllm_assignment asked;
    struct cllm_report report;
    int rc;

    assert_int_equal(cllm_slot_harvest(&control, slot, &report, &asked),
                     CLLM_HARVEST_REPORT);
    rc = cllm_step_take(&step, slot, &asked, &report, &news);
    if (asked.kind == CLLM_WORK_FOLD && asked.chunk_lo == 0 && !news.late)
        for (uint32_t l = asked.lane_lo; l < asked.lane_hi; l++)
            folds_of_lane[l]++;
    return rc;
}

/* It is answered, and the answer is taken. */
static void complete(uint32_t slot, uint32_t flags)
{
    answer(slot, flags);
    assert_int_equal(take(slot), 0);
}

/* Slot @slot is confirmed dead; a new process takes its place. */
static void die(uint32_t slot)
{
    cllm_slot_void(&control, slot);
    cllm_sweep_revoke(&control, slot);
    (void)cllm_lanes_settle(&control);
    live(slot);
}

/* Slot @slot is given up: stopped, and perhaps to be continued. */
static void give_up(uint32_t slot)
{
    control.slots[slot].command.state = CLLM_SLOT_STOPPED;
    cllm_sweep_revoke(&control, slot);
}

/* No buffer may be written by two, or be written while a finished lane keeps it. */
static void check_buffers(void)
{
    uint32_t users[4] = {0};

    for (uint32_t l = 0; l < 24; l++)
        if (control.lane[l].state == CLLM_LANE_DONE &&
            control.lane[l].buffer != CLLM_NONE) /* validation needs none */
            users[control.lane[l].buffer]++;
    for (uint32_t slot = 0; slot < WORKERS; slot++) {
        const struct cllm_assignment *work;

        for (uint32_t i = 0; (work = cllm_slot_unanswered(&control, slot, i)); i++)
            if (work->kind == CLLM_WORK_LANE)
                users[work->buffer]++;
    }
    for (uint32_t b = 0; b < 4; b++)
        assert_true(users[b] <= 1);
}

/* Is the oldest unanswered assignment of @slot one that reads a batch? */
static bool is_lane(uint32_t slot)
{
    const struct cllm_command *command = &control.slots[slot].command;
    uint32_t kind = command->assignment[(command->reported + 1) & 1].kind;

    return kind == CLLM_WORK_LANE || kind == CLLM_WORK_EVAL;
}

static bool adopts; /* now and then a new Node Zero takes over */

/* Play until the step is complete; workers answer, find damaged batches, or die at
 * random. */
static void play(uint64_t seed, uint32_t deaths_in_100)
{
    struct cllm_step_world world = {.filled = UINT64_MAX, .eval_ready = true};

    for (uint32_t turn = 0;; turn++) {
        enum cllm_step_outcome outcome;

        assert_true(turn < 20000);
        world.idle = 0;
        for (uint32_t slot = 0; slot < WORKERS; slot++)
            world.idle += cllm_slot_outstanding(&control, slot) == 0;
        outcome = cllm_step_advance(&step, &world);
        check_buffers();
        if (outcome == CLLM_STEP_COMPLETE)
            return;
        assert_int_equal(outcome, CLLM_STEP_GOING);
        for (uint32_t slot = 0; slot < WORKERS; slot++) {
            uint64_t dice = cllm_random_u64(seed, CLLM_RANDOM_TEST, turn * 8 + slot);
            bool dies = (dice >> 16) % 100 < deaths_in_100;

            while (cllm_slot_outstanding(&control, slot) < 1 + dice % 2 &&
                   control.slots[slot].command.state == CLLM_SLOT_IDLE &&
                   cllm_step_assign(&step, slot, (dice >> 40) % 4 ? 0 : UINT64_MAX))
                continue;
            if (cllm_slot_outstanding(&control, slot) > 0 && (dice >> 8) % 3 == 0) {
                bool damaged = is_lane(slot) && (dice >> 24) % 100 < deaths_in_100;

                complete(slot, damaged ? CLLM_REPORT_BAD_BATCH : CLLM_REPORT_FINITE);
                control.slots[slot].command.state = CLLM_SLOT_IDLE;
            } else if (!dies && (dice >> 32) % 100 < deaths_in_100) {
                give_up(slot);
            } else if (dies || (cllm_step_waits_for_death(&step, slot) &&
                                control.slots[slot].command.state == CLLM_SLOT_STOPPED)) {
                die(slot);
            }
            if (adopts && dice >> 50 == 0) {
                struct cllm_step_record committed;

                assert_true(cllm_control_newest_record(&control, &committed));
                (void)cllm_step_adopt(&step, &committed, false);
                for (uint32_t s = 0; s < WORKERS; s++)
                    live(s);
            }
        }
    }
}

/* The open step to its end. */
static void finish(uint64_t seed, uint32_t deaths_in_100)
{
    play(seed, deaths_in_100);
    cllm_step_seal(&step);
    cllm_step_commit(&step);
}

static void commit_initial(void)
{
    cllm_step_open_initial(&step);
    finish(1, 0);
}

/* The step after the last one that was committed. */
static void open_next(void)
{
    struct cllm_step_record record = step.record;

    cllm_step_open(&step, &record);
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
        open_next();
        finish(n, 0);
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
        open_next();
        finish(1000 + n, 20);
        check_step(n);
    }
}

static void lanes_wait_for_their_batches(void **state)
{
    struct cllm_step_world world = {.filled = 0, .idle = WORKERS};

    (void)state;
    commit_initial();
    open_next();
    assert_int_equal(cllm_step_advance(&step, &world), CLLM_STEP_GOING);
    assert_false(cllm_step_assign(&step, 0, 0));
    world.filled = 3; /* lane 0 has both micro-batches, lane 1 one of two */
    assert_int_equal(cllm_step_advance(&step, &world), CLLM_STEP_GOING);
    assert_true(cllm_step_assign(&step, 0, 0));
    assert_false(cllm_step_assign(&step, 1, 0));
    assert_int_equal(cllm_lanes_count(&control, CLLM_LANE_EMPTY), 23);
}

static void the_update_waits_for_the_saver(void **state)
{
    struct cllm_step_world world = {
        .filled = UINT64_MAX, .idle = WORKERS, .target_pinned = true};
    enum cllm_step_outcome outcome;

    (void)state;
    commit_initial();
    open_next();
    while ((outcome = cllm_step_advance(&step, &world)) == CLLM_STEP_GOING) {
        assert_true(cllm_step_assign(&step, 0, 0));
        complete(0, CLLM_REPORT_FINITE);
    }
    assert_int_equal(outcome, CLLM_STEP_PINNED);
    assert_false(cllm_step_assign(&step, 0, 0));
    world.target_pinned = false;
    assert_int_equal(cllm_step_advance(&step, &world), CLLM_STEP_GOING);
    assert_true(cllm_step_assign(&step, 0, 0));
    assert_int_equal(
        control.slots[0].command.assignment[control.slots[0].command.posted & 1].kind,
        CLLM_WORK_UPDATE);
}

static void open_first_step(struct cllm_step_world *world)
{
    *world = (struct cllm_step_world){.filled = UINT64_MAX, .idle = WORKERS};
    commit_initial();
    open_next();
    assert_int_equal(cllm_step_advance(&step, world), CLLM_STEP_GOING);
}

static void a_new_node_zero_keeps_what_is_finished(void **state)
{
    (void)state;
    adopts = true;
    commit_initial();
    for (uint64_t n = 1; n <= 60; n++) {
        open_next();
        finish(5000 + n, 10);
        check_step(n);
    }
    adopts = false;
}

static void a_damaged_lane_is_not_taken_over(void **state)
{
    struct cllm_step_record committed;
    struct cllm_step_world world;

    (void)state;
    open_first_step(&world);
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(cllm_step_assign(&step, i, 0));
        complete(i, CLLM_REPORT_FINITE);
    }
    assert_true(cllm_control_newest_record(&control, &committed));
    control.lane[1].tokens ^= 1;
    assert_int_equal(cllm_step_adopt(&step, &committed, false), 1);
    assert_int_equal(control.lane[0].state, CLLM_LANE_DONE);
    assert_int_equal(control.lane[1].state, CLLM_LANE_EMPTY);
    cllm_store_relaxed(&control.state->folded,
                       cllm_load_relaxed(&control.state->folded) ^ 1);
    assert_int_equal(cllm_step_adopt(&step, &committed, false), 0);
}

static void a_gradient_that_is_not_finite_twice_stops_the_run(void **state)
{
    struct cllm_step_world world;

    (void)state;
    open_first_step(&world);
    assert_true(cllm_step_assign(&step, 0, 0));
    complete(0, 0);
    assert_int_equal(news.confirm, 0);
    assert_int_equal(control.lane[0].state, CLLM_LANE_RECHECK);
    assert_true(cllm_step_assign(&step, 0, 0)); /* not the same lane again */
    assert_int_equal(control.lane[1].state, CLLM_LANE_ASSIGNED);
    assert_true(cllm_step_assign(&step, 1, 0));
    answer(1, 0);
    assert_int_equal(take(1), CLLM_ENONFINITE);
    assert_non_null(strstr(cllm_err_text(), "step 1, lane 0"));
}

static void a_step_that_is_not_finite_may_be_left_out(void **state)
{
    struct cllm_step_world world;

    (void)state;
    config.run_on_nonfinite = CLLM_POLICY_SKIP;
    open_first_step(&world);
    for (uint32_t slot = 0; slot < 2; slot++) {
        assert_true(cllm_step_assign(&step, slot, 0));
        complete(slot, 0);
    }
    assert_int_equal(news.skipping, CLLM_SKIP_NONFINITE);
    finish(7, 5);
    assert_int_equal(step.record.skipped, CLLM_SKIP_NONFINITE);
    assert_int_equal(step.record.skips, 1);
    assert_int_equal(step.record.tokens, 0);
    assert_true(isnan(step.record.loss));
}

static void an_audited_lane_needs_two_that_agree(void **state)
{
    struct cllm_step_world world;

    (void)state;
    config.run_audit = 1;
    open_first_step(&world);
    assert_true(cllm_step_assign(&step, 0, 0));
    loss_error = 0.5;
    answer(0, CLLM_REPORT_FINITE);
    loss_error = 0;
    assert_int_equal(take(0), 0);
    for (uint32_t slot = 1; slot < 3; slot++) {
        assert_int_equal(control.lane[0].state, CLLM_LANE_RECHECK);
        assert_true(cllm_step_assign(&step, slot, 0));
        complete(slot, CLLM_REPORT_FINITE);
    }
    assert_int_equal(control.lane[0].state, CLLM_LANE_DONE);
    assert_int_equal(news.odd[0], 0); /* the one that erred is named */
    assert_int_equal(news.odd[1], CLLM_NONE);
    assert_true(control.lane[0].loss == 1.0);
}

static void a_stopped_workers_lane_is_computed_by_another(void **state)
{
    struct cllm_step_world world;
    uint32_t buffer;

    (void)state;
    open_first_step(&world);
    assert_true(cllm_step_assign(&step, 0, 0));
    buffer = control.lane[0].buffer;
    give_up(0);
    assert_true(cllm_step_assign(&step, 1, 0)); /* before all others: it is the front */
    assert_int_equal(control.lane[0].state, CLLM_LANE_DUPLICATED);
    assert_int_not_equal(control.lane[0].buffer, buffer);
    complete(1, CLLM_REPORT_FINITE);
    assert_int_equal(control.lane[0].state, CLLM_LANE_DONE);
    answer(0, CLLM_REPORT_FINITE); /* it goes on after all */
    assert_int_equal(take(0), 0);
    assert_true(news.late);
    assert_false(news.redo);
}

static void the_front_never_starves_for_a_buffer(void **state)
{
    struct cllm_step_world world;

    (void)state;
    open_first_step(&world);
    assert_true(cllm_step_assign(&step, 0, 0)); /* lane 0 */
    for (uint32_t l = 1; l < 4; l++) {          /* all four buffers are taken */
        assert_true(cllm_step_assign(&step, 1, 0));
        complete(1, CLLM_REPORT_FINITE);
    }
    assert_false(cllm_step_assign(&step, 1, 0));
    control.slots[0].command.state = CLLM_SLOT_UNKILLABLE;
    assert_true(cllm_step_assign(&step, 1, 0));
    assert_int_equal(control.lane[0].state, CLLM_LANE_DUPLICATED);
    assert_int_equal(control.lane[3].state, CLLM_LANE_READY); /* gave its buffer */
    check_buffers();
}

static void two_results_for_a_lane_do_the_step_again(void **state)
{
    struct cllm_step_world world;

    (void)state;
    open_first_step(&world);
    assert_true(cllm_step_assign(&step, 0, 0));
    control.lane[0].assigned_ns = 1;
    for (uint32_t l = 1; l < 24; l++)
        control.lane[l].state = CLLM_LANE_EMPTY;
    assert_true(cllm_step_assign(&step, 1, 2)); /* a straggler's lane */
    assert_int_equal(control.lane[0].state, CLLM_LANE_DUPLICATED);
    complete(1, CLLM_REPORT_FINITE);
    loss_error = 0.25;
    answer(0, CLLM_REPORT_FINITE);
    loss_error = 0;
    assert_int_equal(take(0), 0);
    assert_true(news.redo);
    (void)cllm_step_advance(&step, &world);
    while (news.lane != 0 || news.redo) { /* what was committed first, then the lane */
        assert_true(cllm_step_assign(&step, 2, 0));
        complete(2, CLLM_REPORT_FINITE);
        (void)cllm_step_advance(&step, &world);
    }
    assert_int_equal(control.lane[0].state, CLLM_LANE_DONE);
    assert_int_equal(news.odd[0], 0);
}

static void a_fault_redoes_the_step_after_a_look_at_what_was_committed(void **state)
{
    struct cllm_step_world world;

    (void)state;
    open_first_step(&world);
    assert_true(cllm_step_assign(&step, 0, 0));
    complete(0, CLLM_REPORT_FINITE);
    die(1);
    cllm_step_suspect(&step);
    assert_int_equal(cllm_step_advance(&step, &world), CLLM_STEP_GOING);
    while (cllm_step_assign(&step, 0, 0)) {
        assert_int_equal(
            control.slots[0].command.assignment[control.slots[0].command.posted & 1].kind,
            CLLM_WORK_VERIFY);
        complete(0, 0);
    }
    assert_int_equal(cllm_step_advance(&step, &world), CLLM_STEP_GOING);
    assert_int_equal(cllm_load_relaxed(&control.state->phase), CLLM_PHASE_COMPUTE);
    assert_int_equal(cllm_lanes_count(&control, CLLM_LANE_DONE), 0);
    finish(3, 0);
    check_step(1);
}

static void a_damaged_version_is_noticed(void **state)
{
    struct cllm_step_world world;

    (void)state;
    open_first_step(&world);
    cllm_step_suspect(&step);
    (void)cllm_step_advance(&step, &world);
    chunk_error = 1;
    while (cllm_step_assign(&step, 0, 0)) {
        complete(0, 0);
    }
    chunk_error = 0;
    assert_int_equal(cllm_step_advance(&step, &world), CLLM_STEP_DAMAGED);
    assert_non_null(strstr(cllm_err_text(), "version 0"));
}

static void a_lane_that_kills_two_slots_three_times_is_poison(void **state)
{
    struct cllm_step_world world;

    (void)state;
    open_first_step(&world);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t slot = i % 2;

        (void)cllm_step_advance(&step, &world);
        assert_true(cllm_step_assign(&step, slot, 0));
        assert_int_equal(control.lane[0].state, CLLM_LANE_ASSIGNED);
        cllm_slot_void(&control, slot);
        assert_int_equal(cllm_lanes_settle(&control), 1);
        assert_int_equal(cllm_lanes_crash(&control, 0, slot), i == 2);
        live(slot);
    }
    assert_int_equal(control.lane[0].state, CLLM_LANE_POISONED);
    assert_true(cllm_step_poisoned(&step, 0) < 0);
    config.run_on_poison = CLLM_POLICY_SKIP;
    assert_int_equal(cllm_step_poisoned(&step, 0), 0);
    finish(9, 0);
    assert_int_equal(step.record.skipped, CLLM_SKIP_POISON);
}

static void validation_sums_its_lanes_and_remembers_the_best(void **state)
{
    (void)state;
    config.data_valid.n = 1;
    config.data_valid.item[0] = strdup("x");
    config.train_eval_every = 2;
    commit_initial();
    for (uint64_t n = 1; n <= 4; n++) {
        open_next();
        finish(n, 5);
    }
    assert_int_equal(step.record.valid_step, 4);
    assert_true(step.record.valid_loss == 300.0 / (24 * 24));
    assert_int_equal(step.record.best_step, 2); /* equal is not better */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_step_folds_every_lane_and_commits),
        TEST(deaths_change_who_works_and_nothing_else),
        TEST(lanes_wait_for_their_batches),
        TEST(the_update_waits_for_the_saver),
        TEST(a_new_node_zero_keeps_what_is_finished),
        TEST(a_damaged_lane_is_not_taken_over),
        TEST(a_gradient_that_is_not_finite_twice_stops_the_run),
        TEST(a_step_that_is_not_finite_may_be_left_out),
        TEST(an_audited_lane_needs_two_that_agree),
        TEST(a_stopped_workers_lane_is_computed_by_another),
        TEST(the_front_never_starves_for_a_buffer),
        TEST(two_results_for_a_lane_do_the_step_again),
        TEST(a_fault_redoes_the_step_after_a_look_at_what_was_committed),
        TEST(a_damaged_version_is_noticed),
        TEST(a_lane_that_kills_two_slots_three_times_is_poison),
        TEST(validation_sums_its_lanes_and_remembers_the_best),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
