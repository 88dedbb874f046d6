/*
 * coordinator/nodezero.c - the loop: look at everybody, move the step on, give out work,
 * sleep.
 *
 * Each turn looks at all states again, so a lost or doubled wake-up changes nothing.
 */
#include "coordinator/nodezero.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/pulse.h"
#include "coordinator/lanes.h"
#include "coordinator/node.h"
#include "shm/slot.h"

/* A straggler: its lane takes longer than this, and than so many usual ones. */
#define STRAGGLER_NS   (250 * CLLM_NS_PER_MS)
#define STRAGGLER_PACE 3
#define TURN_STEPS     16 /* so long the same workers are asked first */

/* ---- the step ---- */

/* Workers that are ready and have something to do, or have not. */
static uint32_t count_workers(const struct cllm_node *nz, bool busy)
{
    uint32_t n = 0;

    for (uint32_t slot = 0; slot < cllm_team_loader(&nz->team); slot++)
        n += cllm_team_ready(&nz->team, slot) &&
             (cllm_slot_outstanding(&nz->control, slot) > 0) == busy;
    return n;
}

/* Workers that may be given something now: spares wait until another one is missing, and
 * of the others no more are busy than compute at once. */
static uint32_t count_idle(const struct cllm_node *nz)
{
    uint32_t busy = count_workers(nz, true);
    uint32_t active = cllm_node_active(nz), room = busy < active ? active - busy : 0;

    return (uint32_t)cllm_min_u64(count_workers(nz, false), room);
}

/* The loader's word counts only while its process of this generation has said hello. */
static struct cllm_step_world look_around(const struct cllm_node *nz)
{
    uint32_t loader = cllm_team_loader(&nz->team);
    bool up = cllm_team_ready(&nz->team, loader);

    /* acquire: pairs with the loader's release after the batches are in the ring */
    return (struct cllm_step_world){
        .filled = up ? cllm_load_acquire(&cllm_node_status(nz, loader)->filled) : 0,
        .eval_ready =
            up && cllm_load_acquire(&cllm_node_status(nz, loader)->eval_ready) != 0,
        .target_pinned = cllm_saving_pins(&nz->saving, (uint32_t)(nz->step.step & 1)),
        .idle = count_idle(nz),
    };
}

void cllm_node_step_begins(struct cllm_node *nz)
{
    if (cllm_journal_skipped(&nz->journal, nz->step.step))
        cllm_step_skip(&nz->step, CLLM_SKIP_POISON);
    nz->step_began_ns = cllm_now_ns();
    nz->worked = (struct cllm_node_worked){0};
    nz->wait_data_before = cllm_load_relaxed(&nz->control.state->wait_data_ns);
    nz->wait_saver_before = cllm_load_relaxed(&nz->control.state->wait_saver_ns);
}

static void open_step(struct cllm_node *nz)
{
    struct cllm_step_record record = nz->step.record;

    cllm_step_open(&nz->step, &record);
    cllm_node_step_begins(nz);
}

static struct cllm_metrics measure(const struct cllm_node *nz, uint64_t now)
{
    const struct cllm_geometry *g = &nz->control.header->geometry;
    const struct cllm_node_worked *worked = &nz->worked;
    double ns = (double)(now - nz->step_began_ns), all = ns * cllm_node_active(nz);
    double tokens = (double)g->lanes * g->microbatches * g->sequences * g->model.context;
    double data = (double)(cllm_load_relaxed(&nz->control.state->wait_data_ns) -
                           nz->wait_data_before);
    double busy =
        (double)(worked->lane_ns + worked->fold_ns + worked->update_ns + worked->eval_ns);

    return (struct cllm_metrics){
        .step_s = ns * 1e-9,
        .tokens_per_s = tokens / (ns * 1e-9),
        .lane_s = (double)worked->lane_ns * 1e-9,
        .fold_s = (double)worked->fold_ns * 1e-9,
        .update_s = (double)worked->update_ns * 1e-9,
        .eval_s = (double)worked->eval_ns * 1e-9,
        .wait_data_s = data * 1e-9,
        .wait_schedule_s = all > busy + data ? (all - busy - data) * 1e-9 : 0.0,
        .wait_saver_s = (double)(cllm_load_relaxed(&nz->control.state->wait_saver_ns) -
                                 nz->wait_saver_before) *
                        1e-9,
        .workers = nz->team.workers,
        .evaluated = nz->step.record.valid_step == nz->step.step,
        .mixture = nz->plan.train.part[0].name[0] != '\0' ? &nz->plan.train : NULL,
    };
}

bool cllm_node_save_due(const struct cllm_node *nz, const struct cllm_step_record *record)
{
    const struct cllm_config *config = nz->config;

    return record->step == config->train_steps ||
           (config->checkpoint_every > 0 &&
            record->step % config->checkpoint_every == 0) ||
           (config->checkpoint_best && record->step > 0 &&
            record->valid_step == record->step && record->best_step == record->step);
}

/* Stay between two steps; the lane table is that of a step that has not begun. */
static void hold(struct cllm_node *nz)
{
    nz->held = true;
    nz->held_since_ns = cllm_now_ns();
    cllm_lanes_open(&nz->control, nz->step.record.step + 1, false, nz->config->run_audit);
    cllm_store_relaxed(&nz->control.state->folded, 0);
    cllm_store_relaxed(&nz->control.state->run_state, CLLM_RUN_PAUSED);
    cllm_node_announce(nz, CLLM_LOG_INFO, "paused; cllm-ctl resume goes on");
}

/* While the run is paused: checkpoints that are asked for, and whether to go on. */
static void tend_hold(struct cllm_node *nz)
{
    uint64_t step = nz->step.record.step, now = cllm_now_ns();

    if (!nz->held || nz->ending >= CLLM_ENDING_SAVE)
        return;
    if (nz->save_now || cllm_saving_retry(&nz->saving, now)) {
        nz->save_now = false;
        if (step > cllm_load_relaxed(&nz->control.state->saved_step) &&
            nz->saving.posted != step)
            cllm_saving_request(&nz->saving, step);
    }
    if (cllm_node_pause_wanted(nz) && nz->ending == CLLM_ENDING_NO)
        return;
    nz->held = false;
    /* A pause is not slow training. */
    nz->progress.began_ns += now - nz->held_since_ns;
    nz->progress.line_ns += now - nz->held_since_ns;
    cllm_store_relaxed(&nz->control.state->run_state, CLLM_RUN_RUNNING);
    cllm_node_go_on(nz);
}

void cllm_node_go_on(struct cllm_node *nz)
{
    if (nz->ending == CLLM_ENDING_STEP || nz->step.record.step >= nz->config->train_steps)
        cllm_node_end(nz);
    else if (cllm_node_pause_wanted(nz))
        hold(nz);
    else
        open_step(nz);
}

static void tell_skip(struct cllm_node *nz, const struct cllm_step_record *record)
{
    char line[160];

    (void)snprintf(line, sizeof line, "step %" PRIu64 " changed no parameter: %s",
                   record->step,
                   record->skipped == CLLM_SKIP_POISON
                       ? "a lane killed every worker that computed it (on_poison = skip)"
                       : "its loss or gradient is not finite (on_nonfinite = skip)");
    cllm_node_announce(nz, CLLM_LOG_WARN, line);
}

/* A training step is complete: commit, tell, save if due, go on or come to the end. */
static void commit(struct cllm_node *nz)
{
    const struct cllm_step_record *record = &nz->step.record;
    struct cllm_device_counts counts;
    struct cllm_metrics metrics;
    uint64_t now;
    int rc;

    nz->step.numerics = nz->team.numerics;
    cllm_step_seal(&nz->step);
    cllm_fault(CLLM_FAULT_commit_sealed);
    rc = cllm_journal_check(&nz->journal, record);
    if (rc != 0) {
        cllm_node_fail(nz, rc);
        return;
    }
    cllm_step_commit(&nz->step);
    cllm_slot_ring(&nz->control, cllm_team_loader(&nz->team));
    now = cllm_now_ns();
    metrics = measure(nz, now);
    if (nz->plan.devices.n > 0) {
        counts = cllm_device_meter_look(&nz->meter, &nz->control);
        metrics.devices = &counts;
    }
    cllm_journal_append(&nz->journal, record, &metrics);
    cllm_progress_step(&nz->progress, &nz->control, record, &metrics, now);
    if (record->skipped != CLLM_SKIP_NO)
        tell_skip(nz, record);
    cllm_fault(CLLM_FAULT_commit_told);
    if (nz->save_now || nz->ending == CLLM_ENDING_STEP ||
        cllm_node_save_due(nz, record) || cllm_saving_retry(&nz->saving, now)) {
        nz->save_now = false;
        cllm_saving_request(&nz->saving, record->step);
    }
    cllm_node_go_on(nz);
}

/* Version 0 is made, or a checkpoint is loaded and must be what it says. */
static void commit_beginning(struct cllm_node *nz)
{
    uint64_t expected = nz->step.record.root, step = nz->step.record.step;

    nz->step.numerics = nz->team.numerics;
    cllm_step_seal(&nz->step);
    if (expected != 0 && nz->step.record.root != expected) {
        int rc =
            cllm_err(CLLM_EDATA,
                     "the checkpoint of step %" PRIu64 " was not loaded as saved", step);

        cllm_err_detail("root %016" PRIx64 ", recorded %016" PRIx64, nz->step.record.root,
                        expected);
        cllm_node_fail(nz, rc);
        return;
    }
    cllm_step_commit(&nz->step);
    cllm_slot_ring(&nz->control, cllm_team_loader(&nz->team));
    cllm_journal_append(&nz->journal, &nz->step.record, NULL);
    cllm_progress_init(&nz->progress, nz->config, &nz->control, &nz->step.record,
                       cllm_now_ns());
    cllm_node_go_on(nz);
}

static void move_on(struct cllm_node *nz)
{
    bool beginning =
        cllm_load_relaxed(&nz->control.state->phase) == (uint32_t)CLLM_PHASE_INIT;

    for (;;) {
        struct cllm_step_world world = look_around(nz);

        if (nz->ending >= CLLM_ENDING_SAVE)
            return;
        switch (cllm_step_advance(&nz->step, &world)) {
        case CLLM_STEP_GOING:
            cllm_saving_hurry_over(&nz->saving);
            return;
        case CLLM_STEP_PINNED:
            cllm_saving_hurry(&nz->saving, (uint32_t)(nz->step.step & 1));
            return;
        case CLLM_STEP_NONFINITE:
            cllm_node_fail(nz, CLLM_ENONFINITE);
            return;
        case CLLM_STEP_DAMAGED:
            cllm_node_give_up_memory(nz);
            return;
        case CLLM_STEP_COMPLETE:
        default:
            if (beginning)
                commit_beginning(nz);
            else
                commit(nz);
            beginning = false;
        }
    }
}

/* ---- work ---- */

/* An idle worker with nothing to do because batches are missing waits for data: count it.
 */
static void account_data_wait(struct cllm_node *nz, uint32_t slot, bool idle,
                              uint64_t now)
{
    bool starved = !nz->held && idle &&
                   cllm_lanes_count(&nz->control, CLLM_LANE_EMPTY) > 0 &&
                   cllm_lanes_count(&nz->control, CLLM_LANE_READY) == 0;
    uint64_t *since = &nz->data_wait_since[slot];

    if (*since != 0) {
        (void)atomic_fetch_add_explicit(&nz->control.state->wait_data_ns, now - *since,
                                        memory_order_relaxed);
        nz->control.slots[slot].command.wait_data_ns += now - *since;
    }
    *since = starved ? now : 0;
}

/* Spares do not wait for data. */
static void account_data_waits(struct cllm_node *nz, uint64_t now)
{
    uint32_t idle = count_idle(nz);

    for (uint32_t slot = 0; slot < cllm_team_loader(&nz->team); slot++) {
        bool waits = cllm_team_ready(&nz->team, slot) &&
                     cllm_slot_outstanding(&nz->control, slot) == 0 && idle > 0;

        if (waits)
            idle--;
        if (waits || nz->data_wait_since[slot] != 0)
            account_data_wait(nz, slot, waits, now);
    }
}

/* A lane that was given out longer ago than this is computed by an idle worker as well.
 */
static uint64_t overdue(const struct cllm_node *nz)
{
    bool eval = cllm_load_relaxed(&nz->control.state->phase) == (uint32_t)CLLM_PHASE_EVAL;

    return cllm_max_u64(STRAGGLER_NS,
                        STRAGGLER_PACE * cllm_pace_median(&nz->pace[eval ? 1 : 0]));
}

/*
 * One round over the workers. It begins with another one every few steps, so that all
 * lanes meet all workers, and those who rest have their turns: few, because who comes
 * back finds nothing of his in the caches. @ahead: also those that have one assignment
 * already.
 */
static void give_round(struct cllm_node *nz, bool ahead)
{
    uint32_t n = cllm_team_loader(&nz->team), room = count_idle(nz);
    uint64_t overdue_ns = cllm_now_ns() - overdue(nz);

    for (uint32_t i = 0; i < n; i++) {
        uint32_t slot = (uint32_t)((nz->step.step / TURN_STEPS + i) % n);
        uint32_t out = cllm_slot_outstanding(&nz->control, slot);

        if (!cllm_team_ready(&nz->team, slot) || out != (ahead ? 1U : 0U) ||
            (!ahead && room == 0))
            continue;
        if (ahead && !cllm_step_plenty(&nz->step))
            break;
        /* False: nothing for it now. Who is busy takes nobody else's lane. */
        if (cllm_step_assign(&nz->step, slot, ahead ? 0 : overdue_ns))
            room--;
        nz->control.slots[slot].command.state =
            cllm_slot_outstanding(&nz->control, slot) > 0 ? CLLM_SLOT_BUSY
                                                          : CLLM_SLOT_IDLE;
    }
}

static void give_work(struct cllm_node *nz)
{
    uint32_t saver = cllm_team_saver(&nz->team);
    uint64_t now = cllm_now_ns();

    if (nz->ending < CLLM_ENDING_SAVE) {
        give_round(nz, false);
        give_round(nz, true);
        account_data_waits(nz, now);
        if (cllm_team_ready(&nz->team, saver) &&
            cllm_slot_outstanding(&nz->control, saver) == 0)
            (void)cllm_step_assign(&nz->step, saver, 0);
    }
    cllm_saving_tend(&nz->saving, cllm_team_ready(&nz->team, saver));
}

static void check_loader(struct cllm_node *nz)
{
    uint32_t slot = cllm_team_loader(&nz->team);
    const struct cllm_status *status = cllm_node_status(nz, slot);
    int32_t error;

    if (!cllm_team_ready(&nz->team, slot) || cllm_load_acquire(&status->failed) == 0)
        return;
    error = cllm_load_relaxed(&status->error);
    cllm_node_fail(nz, cllm_err(error == CLLM_EDATA ? CLLM_EDATA : -EIO,
                                "the loader gave up: %.400s", status->last_words));
}

/* ---- all together ---- */

/* Two workers rightly make different numbers: from here on the run is another one. */
static void turn_mixed(struct cllm_node *nz)
{
    uint64_t committed = nz->step.record.step;
    char line[240];
    int rc;

    nz->team.turned = false;
    (void)snprintf(line, sizeof line,
                   "the workers' numbers differ: from step %" PRIu64
                   " on the bits of this run are its own, they depend on who computes "
                   "what; what two workers find is not compared any more",
                   committed + 1);
    cllm_node_announce(nz, CLLM_LOG_WARN, line);
    cllm_journal_close(&nz->journal);
    rc = cllm_journal_open(&nz->journal, nz->plan.run_dir, committed, false);
    if (rc != 0)
        cllm_node_fail(nz, rc);
}

static void loop(struct cllm_node *nz)
{
    while (!cllm_node_at_end(nz)) {
        int rc = cllm_team_tend(&nz->team, cllm_now_ns());

        if (rc != 0)
            cllm_node_fail(nz, rc);
        if (nz->team.turned)
            turn_mixed(nz);
        cllm_node_harvest(nz);
        cllm_node_watch(nz);
        check_loader(nz);
        tend_hold(nz);
        move_on(nz);
        give_work(nz);
        cllm_progress_status(&nz->progress, &nz->control, nz->team.workers,
                             cllm_now_ns());
        cllm_node_wait(nz);
    }
}

/* Before the loop and after it. */
static void beat(void *heartbeat)
{
    cllm_heartbeat_beat(heartbeat, cllm_now_ns());
}

int cllm_node_zero(const struct cllm_config *config, const struct cllm_options *options)
{
    struct cllm_node nz = {.config = config,
                           .epoll_fd = -1,
                           .event_fd = -1,
                           .signal_fd = -1,
                           .lock_fd = -1,
                           .log_fd = -1,
                           .journal = {.journal = {.fd = -1}, .metrics = {.fd = -1}}};
    int rc;

    cllm_control_socket_init(&nz.control_socket);
    cllm_heartbeat_init(&nz.heartbeat, options->heartbeat);
    cllm_pulse_set(beat, &nz.heartbeat);
    cllm_region_set_keeper(options->keeper);
    rc = cllm_plan_init(&nz.plan, config);
    if (rc == 0)
        rc = cllm_node_begin(&nz, options);
    if (rc == 0) {
        loop(&nz);
        cllm_control_socket_close(&nz.control_socket);
        cllm_node_finish(&nz);
        rc = nz.exit_code;
    } else {
        if (rc == CLLM_ESTOPPED)
            cllm_info("%s", cllm_err_text());
        else
            cllm_err_print("cllm-coord");
        rc = cllm_exit_code(rc);
    }
    cllm_control_socket_close(&nz.control_socket);
    cllm_journal_close(&nz.journal);
    cllm_log_set_file(-1);
    cllm_control_detach(&nz.control);
    cllm_plan_fini(&nz.plan);
    cllm_pulse_set(NULL, NULL);
    return rc;
}
