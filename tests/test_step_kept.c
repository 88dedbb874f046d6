/*
 * tests/test_step_kept.c - the step machine where two lanes are kept in their buffers
 * until the update.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm/slot.h"
#include "tests/step_run.h"

static int setup(void **state)
{
    struct cllm_geometry geometry = control_temp_geometry();

    (void)state;
    geometry.lanes = 2;
    geometry.n_buffers = 2;
    geometry.n_groups = 1;
    geometry.n_folds = 0;
    geometry.ring_slots = 2 * 2 * 2;
    geometry.ring_eval_slots = 2;
    step_run_begin(&geometry);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    step_run_end();
    return 0;
}

static const struct cllm_assignment *newest(uint32_t slot)
{
    const struct cllm_command *command = &run.control.slots[slot].command;

    return &command->assignment[command->posted & 1];
}

/* All chunks of the sweep that goes on, by slot 0, who is given both lanes each time. */
static void sweep_kept(struct cllm_step_world *world, uint32_t kind)
{
    uint32_t chunks = 0;

    while (cllm_step_assign(&run.step, 0, 0)) {
        const struct cllm_assignment *work = newest(0);

        assert_int_equal(work->kind, kind);
        assert_int_equal(work->lane_lo, 0);
        assert_int_equal(work->lane_hi, 2);
        assert_int_equal(work->buffers[0], run.control.lane[0].buffer);
        assert_int_equal(work->buffers[1], run.control.lane[1].buffer);
        assert_true(work->fold_from == CLLM_NONE && work->fold_to == CLLM_NONE &&
                    work->fold_add == CLLM_NONE);
        chunks += work->chunk_hi - work->chunk_lo;
        step_run_complete(0, CLLM_REPORT_FINITE);
    }
    assert_int_equal(chunks, 5);
    (void)cllm_step_advance(&run.step, world);
}

/* Without a fold: each lane in a buffer of its own, nothing is begun before both are
 * there, and the update is given both. */
static void kept_lanes_go_from_their_buffers_into_the_update(void **state)
{
    struct cllm_step_world world = {.filled = UINT64_MAX, .idle = STEP_RUN_WORKERS};

    (void)state;
    step_run_commit_initial();
    step_run_open_next();
    (void)cllm_step_advance(&run.step, &world);
    assert_true(cllm_step_assign(&run.step, 0, 0));
    assert_true(cllm_step_assign(&run.step, 1, 0));
    step_run_complete(0, CLLM_REPORT_FINITE);
    (void)cllm_step_advance(&run.step, &world);
    assert_false(run.step.sweep.active);
    assert_false(cllm_step_assign(&run.step, 2, UINT64_MAX)); /* no third buffer */
    step_run_complete(1, CLLM_REPORT_FINITE);
    (void)cllm_step_advance(&run.step, &world);
    sweep_kept(&world, CLLM_WORK_FOLD);
    assert_int_equal(run.control.lane[0].state, CLLM_LANE_FOLDED);
    sweep_kept(&world, CLLM_WORK_UPDATE);
    cllm_step_seal(&run.step);
    cllm_step_commit(&run.step);
    assert_true(run.step.record.loss == 3.0 / (2 * 48));
    assert_true(run.step.record.grad_norm == sqrt(20.0) / (2 * 48));
}

/* All buffers are needed at once: none is taken from a finished lane. */
static void a_finished_lane_keeps_its_buffer(void **state)
{
    struct cllm_step_world world = {.filled = UINT64_MAX, .idle = STEP_RUN_WORKERS};
    uint32_t buffer;

    (void)state;
    step_run_commit_initial();
    step_run_open_next();
    (void)cllm_step_advance(&run.step, &world);
    assert_true(cllm_step_assign(&run.step, 0, 0));
    assert_true(cllm_step_assign(&run.step, 1, 0));
    step_run_complete(1, CLLM_REPORT_FINITE);
    step_run_give_up(0);
    assert_false(cllm_step_assign(&run.step, 1, UINT64_MAX)); /* he may still write */
    assert_int_equal(run.control.lane[1].state, CLLM_LANE_DONE);
    buffer = run.control.lane[0].buffer;
    step_run_die(0);
    assert_true(cllm_step_assign(&run.step, 1, 0));
    assert_int_equal(newest(1)->lane, 0);
    assert_int_equal(newest(1)->buffer, buffer);
}

static void deaths_do_not_change_what_is_kept(void **state)
{
    (void)state;
    step_run_commit_initial();
    run.adopts = true;
    for (uint64_t n = 1; n <= 40; n++) {
        step_run_open_next();
        step_run_finish(3000 + n, 20);
        assert_true(run.step.record.loss == 3.0 / (2 * 48));
        assert_true(run.step.record.grad_norm == sqrt(20.0) / (2 * 48));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(kept_lanes_go_from_their_buffers_into_the_update),
        TEST(a_finished_lane_keeps_its_buffer),
        TEST(deaths_do_not_change_what_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
