/*
 * tests/test_step.c - the step machine without processes: workers are played by the test,
 * die at any moment, and the step must end with every lane folded exactly once.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/err.h"
#include "coordinator/lanes.h"
#include "coordinator/step.h"
#include "shm/chunk.h"
#include "shm/slot.h"
#include "tests/step_run.h"

static int setup(void **state)
{
    struct cllm_geometry geometry = control_temp_geometry();

    (void)state;
    step_run_begin(&geometry);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    step_run_end();
    return 0;
}

static void check_step(uint64_t number)
{
    struct cllm_step_record record;

    assert_true(cllm_control_newest_record(&run.control, &record));
    assert_int_equal(record.step, number);
    assert_int_equal(record.root, cllm_chunk_root(run.control.chunk, 5, number & 1));
    assert_true(record.loss == 300.0 / (24 * 48)); /* 1 + 2 + ... + 24 over all tokens */
    assert_true(record.grad_norm == sqrt(20.0) / (24 * 48));
    assert_int_equal(record.tokens, number * 24 * 48);
    assert_int_equal(record.cursor, number * 24 * 6);
}

static void a_step_folds_every_lane_and_commits(void **state)
{
    (void)state;
    step_run_commit_initial();
    for (uint64_t n = 1; n <= 3; n++) {
        step_run_open_next();
        step_run_finish(n, 0);
        check_step(n);
    }
    for (uint32_t l = 0; l < 24; l++)
        assert_int_equal(run.folds_of_lane[l], 3); /* once in each step */
}

static void deaths_change_who_works_and_nothing_else(void **state)
{
    (void)state;
    step_run_commit_initial();
    for (uint64_t n = 1; n <= 40; n++) {
        step_run_open_next();
        step_run_finish(1000 + n, 20);
        check_step(n);
    }
}

static void lanes_wait_for_their_batches(void **state)
{
    struct cllm_step_world world = {.filled = 0, .idle = STEP_RUN_WORKERS};

    (void)state;
    step_run_commit_initial();
    step_run_open_next();
    assert_int_equal(cllm_step_advance(&run.step, &world), CLLM_STEP_GOING);
    assert_false(cllm_step_assign(&run.step, 0, 0));
    world.filled = 3; /* lane 0 has both micro-batches, lane 1 one of two */
    assert_int_equal(cllm_step_advance(&run.step, &world), CLLM_STEP_GOING);
    assert_true(cllm_step_assign(&run.step, 0, 0));
    assert_false(cllm_step_assign(&run.step, 1, 0));
    assert_int_equal(cllm_lanes_count(&run.control, CLLM_LANE_EMPTY), 23);
}

static void the_update_waits_for_the_saver(void **state)
{
    struct cllm_step_world world = {
        .filled = UINT64_MAX, .idle = STEP_RUN_WORKERS, .target_pinned = true};
    enum cllm_step_outcome outcome;

    (void)state;
    step_run_commit_initial();
    step_run_open_next();
    while ((outcome = cllm_step_advance(&run.step, &world)) == CLLM_STEP_GOING) {
        assert_true(cllm_step_assign(&run.step, 0, 0));
        step_run_complete(0, CLLM_REPORT_FINITE);
    }
    assert_int_equal(outcome, CLLM_STEP_PINNED);
    assert_false(cllm_step_assign(&run.step, 0, 0));
    world.target_pinned = false;
    assert_int_equal(cllm_step_advance(&run.step, &world), CLLM_STEP_GOING);
    assert_true(cllm_step_assign(&run.step, 0, 0));
    assert_int_equal(run.control.slots[0]
                         .command.assignment[run.control.slots[0].command.posted & 1]
                         .kind,
                     CLLM_WORK_UPDATE);
}

static void open_first_step(struct cllm_step_world *world)
{
    *world = (struct cllm_step_world){.filled = UINT64_MAX, .idle = STEP_RUN_WORKERS};
    step_run_commit_initial();
    step_run_open_next();
    assert_int_equal(cllm_step_advance(&run.step, world), CLLM_STEP_GOING);
}

static void a_new_node_zero_keeps_what_is_finished(void **state)
{
    (void)state;
    run.adopts = true;
    step_run_commit_initial();
    for (uint64_t n = 1; n <= 60; n++) {
        step_run_open_next();
        step_run_finish(5000 + n, 10);
        check_step(n);
    }
    run.adopts = false;
}

static void a_damaged_lane_is_not_taken_over(void **state)
{
    struct cllm_step_record committed;
    struct cllm_step_world world;

    (void)state;
    open_first_step(&world);
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(cllm_step_assign(&run.step, i, 0));
        step_run_complete(i, CLLM_REPORT_FINITE);
    }
    assert_true(cllm_control_newest_record(&run.control, &committed));
    run.control.lane[1].tokens ^= 1;
    assert_int_equal(cllm_step_adopt(&run.step, &committed, false), 1);
    assert_int_equal(run.control.lane[0].state, CLLM_LANE_DONE);
    assert_int_equal(run.control.lane[1].state, CLLM_LANE_EMPTY);
    cllm_store_relaxed(&run.control.state->folded,
                       cllm_load_relaxed(&run.control.state->folded) ^ 1);
    assert_int_equal(cllm_step_adopt(&run.step, &committed, false), 0);
}

/* The turn that was wanted: what is committed is verified, and the step begins again. */
static void verify(const struct cllm_step_world *world)
{
    const struct cllm_command *command = &run.control.slots[0].command;

    assert_int_equal(run.step.turn, CLLM_TURN_VERIFY);
    assert_int_equal(cllm_step_advance(&run.step, world), CLLM_STEP_GOING);
    while (cllm_step_assign(&run.step, 0, 0)) {
        assert_int_equal(command->assignment[command->posted & 1].kind, CLLM_WORK_VERIFY);
        step_run_complete(0, 0);
    }
    assert_int_equal(cllm_step_advance(&run.step, world), CLLM_STEP_GOING);
    assert_int_equal(cllm_load_relaxed(&run.control.state->phase), CLLM_PHASE_COMPUTE);
    assert_int_equal(cllm_lanes_count(&run.control, CLLM_LANE_DONE), 0);
}

/* Answer with a loss that is wrong by @error. */
static void answer_wrongly(uint32_t slot, uint32_t flags, double error)
{
    run.loss_error = error;
    step_run_answer(slot, flags);
    run.loss_error = 0;
}

/* @slot computes lane 0, with @flags and a loss that is wrong by @error. */
static int judge_lane_0(uint32_t slot, uint32_t flags, double error)
{
    assert_true(cllm_step_assign(&run.step, slot, 0));
    assert_int_equal(cllm_slot_unanswered(&run.control, slot, 0)->lane, 0);
    answer_wrongly(slot, flags, error);
    return step_run_take(slot);
}

static void a_gradient_that_is_not_finite_twice_stops_the_run(void **state)
{
    struct cllm_step_world world;

    (void)state;
    open_first_step(&world);
    assert_true(cllm_step_assign(&run.step, 0, 0));
    step_run_complete(0, 0);
    assert_int_equal(run.news.confirm, 0);
    assert_int_equal(run.control.lane[0].state, CLLM_LANE_RECHECK);
    assert_true(cllm_step_assign(&run.step, 0, 0)); /* not the same lane again */
    assert_int_equal(run.control.lane[1].state, CLLM_LANE_ASSIGNED);
    step_run_complete(0, CLLM_REPORT_FINITE);
    assert_int_equal(judge_lane_0(1, 0, 0), 0);
    assert_true(run.news.redo); /* the weights may be damaged */
    verify(&world);
    assert_int_equal(judge_lane_0(1, 0, 0), CLLM_ENONFINITE);
    assert_non_null(strstr(cllm_err_text(), "step 1, lane 0"));
}

static void a_step_that_is_not_finite_may_be_left_out(void **state)
{
    struct cllm_step_world world;

    (void)state;
    run.config.run_on_nonfinite = CLLM_POLICY_SKIP;
    open_first_step(&world);
    for (uint32_t slot = 0; slot < 2; slot++)
        assert_int_equal(judge_lane_0(slot, 0, 0), 0);
    assert_int_equal(run.news.skipping, CLLM_SKIP_NO);
    verify(&world);
    assert_int_equal(judge_lane_0(2, 0, 0), 0);
    assert_int_equal(run.news.skipping, CLLM_SKIP_NONFINITE);
    step_run_finish(7, 5);
    assert_int_equal(run.step.record.skipped, CLLM_SKIP_NONFINITE);
    assert_int_equal(run.step.record.skips, 1);
    assert_int_equal(run.step.record.tokens, 0);
    assert_true(isnan(run.step.record.loss));
}

static void an_audited_lane_needs_two_that_agree(void **state)
{
    struct cllm_step_world world;

    (void)state;
    run.config.run_audit = 1;
    open_first_step(&world);
    assert_int_equal(judge_lane_0(0, CLLM_REPORT_FINITE, 0.5), 0);
    for (uint32_t slot = 1; slot < 3; slot++) {
        assert_int_equal(run.control.lane[0].state, CLLM_LANE_RECHECK);
        assert_int_equal(judge_lane_0(slot, CLLM_REPORT_FINITE, 0), 0);
    }
    assert_true(run.news.redo);
    assert_int_equal(run.news.odd[0], CLLM_NONE); /* not yet */
    verify(&world);
    assert_int_equal(judge_lane_0(2, CLLM_REPORT_FINITE, 0), 0);
    assert_int_equal(run.control.lane[0].state, CLLM_LANE_DONE);
    assert_int_equal(run.news.odd[0], 0); /* the one that erred is named */
    assert_int_equal(run.news.odd[1], CLLM_NONE);
    assert_true(run.control.lane[0].loss == 1.0);
}

static void three_results_end_the_run_when_the_weights_are_intact(void **state)
{
    struct cllm_step_world world;

    (void)state;
    run.config.run_audit = 1;
    open_first_step(&world);
    for (uint32_t slot = 0; slot < 3; slot++)
        assert_int_equal(judge_lane_0(slot, CLLM_REPORT_FINITE, slot), 0);
    assert_true(run.news.redo);
    verify(&world);
    assert_int_equal(judge_lane_0(2, CLLM_REPORT_FINITE, 2), -EIO);
    assert_non_null(strstr(cllm_err_text(), "three results"));
}

/* A worker died of a fault and may have damaged the weights; that is known before two
 * others' results are read. */
static void what_untrusted_weights_gave_counts_for_nothing(void **state)
{
    struct cllm_step_world world;

    (void)state;
    run.config.run_audit = 1;
    open_first_step(&world);
    assert_int_equal(judge_lane_0(0, CLLM_REPORT_FINITE, 0), 0);
    for (uint32_t slot = 1; slot < 3; slot++) {
        assert_true(cllm_step_assign(&run.step, slot, 0));
        answer_wrongly(slot, CLLM_REPORT_FINITE, 0.5);
    }
    cllm_step_suspect(&run.step);
    for (uint32_t slot = 1; slot < 3; slot++) {
        assert_int_equal(step_run_take(slot), 0);
        assert_true(run.news.late);
        assert_int_equal(run.news.odd[0], CLLM_NONE);
    }
    verify(&world);
    assert_int_equal(run.control.lane[0].n_opinions, 1); /* of slot 0, from before */
    step_run_finish(3, 0);
    check_step(1);
}

static void a_stopped_workers_lane_is_computed_by_another(void **state)
{
    struct cllm_step_world world;
    uint32_t buffer;

    (void)state;
    open_first_step(&world);
    assert_true(cllm_step_assign(&run.step, 0, 0));
    buffer = run.control.lane[0].buffer;
    step_run_give_up(0);
    assert_true(
        cllm_step_assign(&run.step, 1, 0)); /* before all others: it is the front */
    assert_int_equal(run.control.lane[0].state, CLLM_LANE_DUPLICATED);
    assert_int_not_equal(run.control.lane[0].buffer, buffer);
    step_run_complete(1, CLLM_REPORT_FINITE);
    assert_int_equal(run.control.lane[0].state, CLLM_LANE_DONE);
    step_run_answer(0, CLLM_REPORT_FINITE); /* it goes on after all */
    assert_int_equal(step_run_take(0), 0);
    assert_true(run.news.late);
    assert_false(run.news.redo);
}

static void the_front_never_starves_for_a_buffer(void **state)
{
    struct cllm_step_world world;

    (void)state;
    open_first_step(&world);
    assert_true(cllm_step_assign(&run.step, 0, 0)); /* lane 0 */
    for (uint32_t l = 1; l < 4; l++) {              /* all four buffers are taken */
        assert_true(cllm_step_assign(&run.step, 1, 0));
        step_run_complete(1, CLLM_REPORT_FINITE);
    }
    assert_false(cllm_step_assign(&run.step, 1, 0));
    run.control.slots[0].command.state = CLLM_SLOT_UNKILLABLE;
    assert_true(cllm_step_assign(&run.step, 1, 0));
    assert_int_equal(run.control.lane[0].state, CLLM_LANE_DUPLICATED);
    assert_int_equal(run.control.lane[3].state, CLLM_LANE_READY); /* gave its buffer */
    step_run_check_buffers();
}

static void two_results_for_a_lane_do_the_step_again(void **state)
{
    struct cllm_step_world world;

    (void)state;
    open_first_step(&world);
    assert_true(cllm_step_assign(&run.step, 0, 0));
    run.control.lane[0].assigned_ns = 1;
    for (uint32_t l = 1; l < 24; l++)
        run.control.lane[l].state = CLLM_LANE_EMPTY;
    assert_true(cllm_step_assign(&run.step, 1, 2)); /* a straggler's lane */
    assert_int_equal(run.control.lane[0].state, CLLM_LANE_DUPLICATED);
    step_run_complete(1, CLLM_REPORT_FINITE);
    answer_wrongly(0, CLLM_REPORT_FINITE, 0.25);
    assert_int_equal(step_run_take(0), 0);
    assert_true(run.news.redo);
    (void)cllm_step_advance(&run.step, &world);
    while (run.news.lane != 0 ||
           run.news.redo) { /* what was committed first, then the lane */
        assert_true(cllm_step_assign(&run.step, 2, 0));
        step_run_complete(2, CLLM_REPORT_FINITE);
        (void)cllm_step_advance(&run.step, &world);
    }
    assert_int_equal(run.control.lane[0].state, CLLM_LANE_DONE);
    assert_int_equal(run.news.odd[0], 0);
}

static void a_fault_redoes_the_step_after_a_look_at_what_was_committed(void **state)
{
    struct cllm_step_world world;

    (void)state;
    open_first_step(&world);
    assert_true(cllm_step_assign(&run.step, 0, 0));
    step_run_complete(0, CLLM_REPORT_FINITE);
    step_run_die(1);
    cllm_step_suspect(&run.step);
    verify(&world);
    step_run_finish(3, 0);
    check_step(1);
}

static void a_damaged_version_is_noticed(void **state)
{
    struct cllm_step_world world;

    (void)state;
    open_first_step(&world);
    cllm_step_suspect(&run.step);
    (void)cllm_step_advance(&run.step, &world);
    run.chunk_error = 1;
    while (cllm_step_assign(&run.step, 0, 0)) {
        step_run_complete(0, 0);
    }
    run.chunk_error = 0;
    assert_int_equal(cllm_step_advance(&run.step, &world), CLLM_STEP_DAMAGED);
    assert_non_null(strstr(cllm_err_text(), "version 0"));
}

static void a_lane_that_kills_two_slots_three_times_is_poison(void **state)
{
    struct cllm_step_world world;

    (void)state;
    open_first_step(&world);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t slot = i % 2;

        (void)cllm_step_advance(&run.step, &world);
        assert_true(cllm_step_assign(&run.step, slot, 0));
        assert_int_equal(run.control.lane[0].state, CLLM_LANE_ASSIGNED);
        cllm_slot_void(&run.control, slot);
        assert_int_equal(cllm_lanes_settle(&run.control), 1);
        assert_int_equal(cllm_lanes_crash(&run.control, 0, slot), i == 2);
        step_run_live(slot);
    }
    assert_int_equal(run.control.lane[0].state, CLLM_LANE_POISONED);
    assert_true(cllm_step_poisoned(&run.step, 0) < 0);
    run.config.run_on_poison = CLLM_POLICY_SKIP;
    assert_int_equal(cllm_step_poisoned(&run.step, 0), 0);
    step_run_finish(9, 0);
    assert_int_equal(run.step.record.skipped, CLLM_SKIP_POISON);
}

/* Who still computes a lane of training when the step is validated, and dies of it, does
 * not make a lane of the validation poison. */
static void a_lane_of_training_is_none_of_the_validation(void **state)
{
    struct cllm_assignment work = {.kind = CLLM_WORK_LANE, .step = 1, .lane = 0};

    (void)state;
    step_run_commit_initial();
    step_run_open_next();
    assert_true(cllm_lanes_computed_by(&run.control, &work));
    work.step = 2;
    assert_false(cllm_lanes_computed_by(&run.control, &work));
    work.step = 1;
    cllm_lanes_open(&run.control, 1, true, 0);
    assert_false(cllm_lanes_computed_by(&run.control, &work));
    work.kind = CLLM_WORK_EVAL;
    assert_true(cllm_lanes_computed_by(&run.control, &work));
    work.kind = CLLM_WORK_FOLD;
    assert_false(cllm_lanes_computed_by(&run.control, &work));
}

static void validate_every(uint64_t steps)
{
    run.config.data_valid.n = 1;
    run.config.data_valid.item[0] = strdup("x");
    run.config.train_eval_every = steps;
}

static void validation_sums_its_lanes_and_remembers_the_best(void **state)
{
    (void)state;
    validate_every(2);
    step_run_commit_initial();
    for (uint64_t n = 1; n <= 4; n++) {
        step_run_open_next();
        step_run_finish(n, 5);
    }
    assert_int_equal(run.step.record.valid_step, 4);
    assert_true(run.step.record.valid_loss == 300.0 / (24 * 24));
    assert_int_equal(run.step.record.best_step, 2); /* equal is not better */
}

/* One worker does all up to the validation of the open step. */
static void go_to_validation(struct cllm_step_world *world)
{
    for (uint32_t turn = 0; turn < 1000; turn++) {
        (void)cllm_step_advance(&run.step, world);
        if (cllm_load_relaxed(&run.control.state->phase) == CLLM_PHASE_EVAL)
            return;
        while (cllm_step_assign(&run.step, 0, 0))
            step_run_complete(0, CLLM_REPORT_FINITE);
    }
    fail_msg("no validation");
}

static void a_validation_that_is_not_finite_twice_stops_the_run(void **state)
{
    struct cllm_step_world world;

    (void)state;
    validate_every(1);
    open_first_step(&world);
    world.eval_ready = true;
    world.idle = STEP_RUN_WORKERS;
    go_to_validation(&world);
    assert_int_equal(judge_lane_0(0, 0, 0), 0);
    assert_int_equal(judge_lane_0(1, 0, 0), 0);
    assert_true(run.news.redo);
    verify(&world);
    go_to_validation(&world);
    assert_int_equal(judge_lane_0(0, 0, 0), 0);
    assert_int_equal(judge_lane_0(1, 0, 0), CLLM_ENONFINITE);
    assert_non_null(strstr(cllm_err_text(), "the loss is not finite"));
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
        TEST(three_results_end_the_run_when_the_weights_are_intact),
        TEST(what_untrusted_weights_gave_counts_for_nothing),
        TEST(a_stopped_workers_lane_is_computed_by_another),
        TEST(the_front_never_starves_for_a_buffer),
        TEST(two_results_for_a_lane_do_the_step_again),
        TEST(a_fault_redoes_the_step_after_a_look_at_what_was_committed),
        TEST(a_damaged_version_is_noticed),
        TEST(a_lane_that_kills_two_slots_three_times_is_poison),
        TEST(a_lane_of_training_is_none_of_the_validation),
        TEST(validation_sums_its_lanes_and_remembers_the_best),
        TEST(a_validation_that_is_not_finite_twice_stops_the_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
