/*
 * tests/step_run.c - see tests/step_run.h.
 */
#include "tests/step_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "coordinator/lanes.h"
#include "shm/slot.h"

struct step_run run;

void step_run_live(uint32_t slot)
{
    (void)cllm_slot_renew(&run.control, slot);
    run.control.slots[slot].command.state = CLLM_SLOT_IDLE;
}

void step_run_begin(const struct cllm_geometry *geometry)
{
    run = (struct step_run){0};
    control_temp_make_of(&run.control, geometry);
    cllm_config_init(&run.config);
    run.config.train_steps = 10;
    for (uint32_t slot = 0; slot < STEP_RUN_WORKERS; slot++)
        step_run_live(slot);
    cllm_step_init(&run.step, &run.control, &run.config, STEP_RUN_WORKERS);
}

void step_run_end(void)
{
    cllm_config_fini(&run.config);
    control_temp_remove(&run.control);
}

void step_run_answer(uint32_t slot, uint32_t flags)
{
    struct cllm_command *command = &run.control.slots[slot].command;
    uint64_t seq = command->reported + 1;
    const struct cllm_assignment *work = &command->assignment[seq & 1];
    struct cllm_control child;
    struct cllm_report report;

    cllm_slot_answer(&report, work);
    report.flags = flags;
    report.loss = work->lane + 1 + run.loss_error;
    report.tokens = work->kind == CLLM_WORK_EVAL ? 24 : 48;
    for (uint32_t c = work->chunk_lo; c < work->chunk_hi; c++)
        report.result[c - work->chunk_lo] = (struct cllm_chunk_result){
            .sum = 1000 + c + run.chunk_error, .sum_squares = 4.0};
    assert_int_equal(cllm_control_attach(&child, control_temp_id(), slot),
                     CLLM_ATTACH_OK);
    cllm_slot_report(&child, &report, seq, -1);
    cllm_control_detach(&child);
}

int step_run_take(uint32_t slot)
{
    struct cllm_assignment asked;
    struct cllm_report report;
    int rc;

    assert_int_equal(cllm_slot_harvest(&run.control, slot, &report, &asked),
                     CLLM_HARVEST_REPORT);
    rc = cllm_step_take(&run.step, slot, &asked, &report, &run.news);
    if (asked.kind == CLLM_WORK_FOLD && asked.chunk_lo == 0 && !run.news.late)
        for (uint32_t l = asked.lane_lo; l < asked.lane_hi; l++)
            run.folds_of_lane[l]++;
    return rc;
}

void step_run_complete(uint32_t slot, uint32_t flags)
{
    step_run_answer(slot, flags);
    assert_int_equal(step_run_take(slot), 0);
}

void step_run_die(uint32_t slot)
{
    cllm_slot_void(&run.control, slot);
    cllm_sweep_revoke(&run.control, slot);
    (void)cllm_lanes_settle(&run.control);
    step_run_live(slot);
}

void step_run_give_up(uint32_t slot)
{
    run.control.slots[slot].command.state = CLLM_SLOT_STOPPED;
    cllm_sweep_revoke(&run.control, slot);
}

void step_run_check_buffers(void)
{
    const struct cllm_geometry *geometry = &run.control.header->geometry;
    uint32_t users[4] = {0};

    for (uint32_t l = 0; l < geometry->lanes; l++) {
        const struct cllm_lane *lane = &run.control.lane[l];
        bool keeps = lane->state == CLLM_LANE_DONE ||
                     (lane->state == CLLM_LANE_FOLDED && cllm_lanes_kept(geometry));

        if (keeps && lane->buffer != CLLM_NONE) /* validation needs none */
            users[lane->buffer]++;
    }
    for (uint32_t slot = 0; slot < STEP_RUN_WORKERS; slot++) {
        const struct cllm_assignment *work;

        for (uint32_t i = 0; (work = cllm_slot_unanswered(&run.control, slot, i)); i++)
            if (work->kind == CLLM_WORK_LANE)
                users[work->buffer]++;
    }
    for (uint32_t b = 0; b < 4; b++)
        assert_true(users[b] <= 1);
}

/* Is the oldest unanswered assignment of @slot one that reads a batch? */
static bool is_lane(uint32_t slot)
{
    const struct cllm_command *command = &run.control.slots[slot].command;
    uint32_t kind = command->assignment[(command->reported + 1) & 1].kind;

    return kind == CLLM_WORK_LANE || kind == CLLM_WORK_EVAL;
}

/* Play until the step is complete; workers answer, find damaged batches, or die at
 * random. */
static void play(uint64_t seed, uint32_t deaths_in_100)
{
    struct cllm_step_world world = {.filled = UINT64_MAX, .eval_ready = true};

    for (uint32_t turn = 0;; turn++) {
        enum cllm_step_outcome outcome;

        assert_true(turn < 20000);
        world.idle = 0;
        for (uint32_t slot = 0; slot < STEP_RUN_WORKERS; slot++)
            world.idle += cllm_slot_outstanding(&run.control, slot) == 0;
        outcome = cllm_step_advance(&run.step, &world);
        step_run_check_buffers();
        if (outcome == CLLM_STEP_COMPLETE)
            return;
        assert_int_equal(outcome, CLLM_STEP_GOING);
        for (uint32_t slot = 0; slot < STEP_RUN_WORKERS; slot++) {
            uint64_t dice = cllm_random_u64(seed, CLLM_RANDOM_TEST, turn * 8 + slot);
            bool dies = (dice >> 16) % 100 < deaths_in_100;

            while (cllm_slot_outstanding(&run.control, slot) < 1 + dice % 2 &&
                   run.control.slots[slot].command.state == CLLM_SLOT_IDLE &&
                   cllm_step_assign(&run.step, slot, (dice >> 40) % 4 ? 0 : UINT64_MAX))
                continue;
            if (cllm_slot_outstanding(&run.control, slot) > 0 && (dice >> 8) % 3 == 0) {
                bool damaged = is_lane(slot) && (dice >> 24) % 100 < deaths_in_100;

                step_run_complete(slot,
                                  damaged ? CLLM_REPORT_BAD_BATCH : CLLM_REPORT_FINITE);
                run.control.slots[slot].command.state = CLLM_SLOT_IDLE;
            } else if (!dies && (dice >> 32) % 100 < deaths_in_100) {
                step_run_give_up(slot);
            } else if (dies ||
                       (cllm_step_waits_for_death(&run.step, slot) &&
                        run.control.slots[slot].command.state == CLLM_SLOT_STOPPED)) {
                step_run_die(slot);
            }
            if (run.adopts && dice >> 50 == 0) {
                struct cllm_step_record committed;

                assert_true(cllm_control_newest_record(&run.control, &committed));
                (void)cllm_step_adopt(&run.step, &committed, false);
                for (uint32_t s = 0; s < STEP_RUN_WORKERS; s++)
                    step_run_live(s);
            }
        }
    }
}

void step_run_finish(uint64_t seed, uint32_t deaths_in_100)
{
    play(seed, deaths_in_100);
    cllm_step_seal(&run.step);
    cllm_step_commit(&run.step);
}

void step_run_commit_initial(void)
{
    cllm_step_open_initial(&run.step);
    step_run_finish(1, 0);
}

void step_run_open_next(void)
{
    struct cllm_step_record record = run.step.record;

    cllm_step_open(&run.step, &record);
}
