/*
 * coordinator/node_deaths.c - what children report, and what is done when they die.
 *
 * The reports of a process that has ended are taken before it is buried, so that work
 * finished a moment before death is not done again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "coordinator/lanes.h"
#include "coordinator/node.h"
#include "shm/slot.h"

#define REFETCHES 3 /* damaged batches in a step that cost nothing but time */

const struct cllm_status *cllm_node_status(const struct cllm_node *nz, uint32_t slot)
{
    return &nz->control.slots[slot].own.status;
}

/*
 * A batch was damaged in the ring, which is nobody's fault: the loader starts again, and
 * that is not one of the deaths that the restart budget counts. But memory that damages
 * every batch must not keep a run for ever: in one step it is excused only so often.
 */
static void fetch_again(struct cllm_node *nz, uint32_t slot,
                        const struct cllm_report *report)
{
    uint32_t loader = cllm_team_loader(&nz->team);

    if (!cllm_team_ready(&nz->team, loader)) /* it comes up, and fills the ring anew */
        return;
    if (nz->refetch_step != report->step)
        nz->refetches = 0;
    nz->refetch_step = report->step;
    cllm_warn("worker %u found lane %u's batch damaged in the ring: the loader starts "
              "again",
              slot, report->lane);
    if (nz->refetches++ < REFETCHES)
        cllm_team_renew(&nz->team, loader);
    else
        cllm_team_kill(&nz->team, loader);
}

/* What a report came to that is more than the step's own business. */
static void act_on(struct cllm_node *nz, uint32_t slot, const struct cllm_report *report,
                   const struct cllm_step_news *news)
{
    char line[240];

    if (news->late && report->kind == CLLM_WORK_LANE)
        (void)atomic_fetch_add_explicit(&nz->control.state->lanes_late, 1,
                                        memory_order_relaxed);
    if (news->refetch)
        fetch_again(nz, slot, report);
    if (news->confirm != CLLM_NONE && !(report->flags & CLLM_REPORT_FINITE)) {
        (void)snprintf(line, sizeof line,
                       "worker %u found lane %u of step %" PRIu64
                       " not finite: another one computes it again",
                       slot, report->lane, report->step);
        cllm_node_announce(nz, CLLM_LOG_WARN, line);
    }
    if (news->skipping != CLLM_SKIP_NO) {
        (void)snprintf(line, sizeof line,
                       "step %" PRIu64 " is left out: lane %u is not finite, and two "
                       "workers agree",
                       report->step, report->lane);
        cllm_node_announce(nz, CLLM_LOG_WARN, line);
    }
    if (news->redo) {
        (void)snprintf(line, sizeof line,
                       "lane %u of step %" PRIu64 " %s: what is committed is verified, "
                       "and the step is done again",
                       report->lane, report->step,
                       report->flags & CLLM_REPORT_FINITE ? "has more than one result"
                                                          : "is not finite");
        cllm_node_announce(nz, CLLM_LOG_WARN, line);
    }
}

/* Workers that were outvoted are not asked again: their processor or memory errs. */
static void retire_odd(struct cllm_node *nz, const struct cllm_step_news *news)
{
    for (uint32_t i = 0; i < CLLM_LEN(news->odd); i++) {
        uint32_t slot = news->odd[i];
        char line[240];
        int rc;

        if (slot == CLLM_NONE || nz->control.slots[slot].command.retired)
            continue; /* said already: it had computed several lanes */
        (void)snprintf(line, sizeof line,
                       "worker %u found other bits for lane %u of step %" PRIu64
                       " than two others: it is retired; suspect its processor or memory",
                       slot, news->lane, nz->step.step);
        cllm_node_announce(nz, CLLM_LOG_ERROR, line);
        if (cllm_team_retire(&nz->team, slot))
            continue;
        rc = cllm_err(-EIO, "the last worker's results cannot be trusted");
        cllm_err_hint("test this machine's memory; --resume goes on elsewhere");
        cllm_node_fail(nz, rc);
    }
}

static void keep_pace(struct cllm_node *nz, const struct cllm_report *report)
{
    uint32_t kind = report->kind == CLLM_WORK_LANE   ? 0
                    : report->kind == CLLM_WORK_EVAL ? 1
                                                     : 2;

    cllm_pace_take(&nz->pace[kind], report->busy_ns);
}

/* For the metrics; nobody worked longer than the step lasts. */
static void count_work(struct cllm_node *nz, const struct cllm_report *report)
{
    struct cllm_node_worked *worked = &nz->worked;
    uint64_t ns = cllm_min_u64(report->busy_ns, cllm_now_ns() - nz->step_began_ns);

    switch (report->kind) {
    case CLLM_WORK_LANE:
        worked->lane_ns += ns;
        break;
    case CLLM_WORK_EVAL:
        worked->eval_ns += ns;
        break;
    case CLLM_WORK_FOLD:
    case CLLM_WORK_MERGE:
        worked->fold_ns += ns;
        break;
    default:
        worked->update_ns += ns;
    }
}

static void take_report(struct cllm_node *nz, uint32_t slot,
                        const struct cllm_assignment *asked,
                        const struct cllm_report *report)
{
    struct cllm_step_news news;
    int rc = 0;

    if (report->kind == CLLM_WORK_SAVE) {
        cllm_saving_take(&nz->saving, report);
        if (nz->saving.failures == 0 && !nz->save_now)
            cllm_store_relaxed(&nz->control.state->wishes,
                               cllm_load_relaxed(&nz->control.state->wishes) &
                                   ~(uint32_t)CLLM_WISH_SAVE);
    } else if (report->flags & CLLM_REPORT_FAILED) {
        rc = cllm_err(
            report->error < 0 ? report->error : -EIO, "%s %u could not %s: %.300s",
            cllm_role_name(nz->control.slots[slot].command.role), slot,
            cllm_work_name(report->kind), cllm_node_status(nz, slot)->last_words);
    } else if (report->kind != CLLM_WORK_EXIT) {
        keep_pace(nz, report);
        count_work(nz, report);
        rc = cllm_step_take(&nz->step, slot, asked, report, &news);
        act_on(nz, slot, report, &news);
        retire_odd(nz, &news);
    }
    if (rc != 0)
        cllm_node_fail(nz, rc);
}

/* Take all reports of @slot that are there. False: one is damaged. */
static bool harvest(struct cllm_node *nz, uint32_t slot)
{
    struct cllm_assignment asked;
    struct cllm_report report;
    enum cllm_harvest result;

    while ((result = cllm_slot_harvest(&nz->control, slot, &report, &asked)) ==
           CLLM_HARVEST_REPORT)
        take_report(nz, slot, &asked, &report);
    return result != CLLM_HARVEST_BAD;
}

void cllm_node_harvest(struct cllm_node *nz)
{
    for (uint32_t slot = 0; slot < nz->control.header->geometry.n_slots; slot++) {
        struct cllm_command *command = &nz->control.slots[slot].command;
        bool given_up = cllm_team_given_up(&nz->team, slot);

        if (!given_up && !cllm_team_ready(&nz->team, slot))
            continue;
        if (!harvest(nz, slot)) {
            cllm_warn("%s %u sent a damaged report: ended", cllm_role_name(command->role),
                      slot);
            cllm_team_kill(&nz->team, slot);
        } else if (cllm_team_ready(&nz->team, slot)) {
            command->state = cllm_slot_outstanding(&nz->control, slot) > 0
                                 ? CLLM_SLOT_BUSY
                                 : CLLM_SLOT_IDLE;
        }
    }
}

/* "lane 7 of step 121", "chunks 0..3 of the update of step 121", "nothing" */
void cllm_node_describe_work(const struct cllm_node *nz, uint32_t slot, char *out,
                             size_t bytes)
{
    const struct cllm_command *command = &nz->control.slots[slot].command;
    const struct cllm_assignment *work =
        &command->assignment[(command->reported + 1) & 1];

    if (command->role == CLLM_ROLE_LOADER)
        (void)snprintf(out, bytes, "batches filled: %" PRIu64,
                       cllm_load_relaxed(&cllm_node_status(nz, slot)->filled));
    else if (cllm_slot_outstanding(&nz->control, slot) == 0)
        (void)snprintf(out, bytes, "idle");
    else if (work->kind == CLLM_WORK_LANE || work->kind == CLLM_WORK_EVAL)
        (void)snprintf(out, bytes, "%s %u of step %" PRIu64,
                       work->kind == CLLM_WORK_LANE ? "lane" : "validation lane",
                       work->lane, work->step);
    else if (work->kind == CLLM_WORK_EXIT)
        (void)snprintf(out, bytes, "leaving");
    else if (work->kind == CLLM_WORK_SAVE)
        (void)snprintf(out, bytes, "saving step %" PRIu64, work->step);
    else
        (void)snprintf(out, bytes, "%s of chunks %u..%u of step %" PRIu64,
                       cllm_work_name(work->kind), work->chunk_lo, work->chunk_hi - 1,
                       work->step);
}

/*
 * The lane of the table that the process of @slot had begun, by its own word and by what
 * it was asked; CLLM_NONE = none. One that was posted to it when it was dying is not to
 * blame, and no lane of the validation for what happened to whoever still computed one of
 * training.
 */
static uint32_t computing(const struct cllm_node *nz, uint32_t slot)
{
    const struct cllm_assignment *work = cllm_slot_unanswered(&nz->control, slot, 0);
    const struct cllm_status *status = cllm_node_status(nz, slot);

    if (!work || work->step != nz->step.step ||
        !cllm_lanes_computed_by(&nz->control, work) ||
        cllm_load_relaxed(&status->work) != work->kind ||
        cllm_load_relaxed(&status->lane) != work->lane ||
        cllm_load_relaxed(&status->step) != work->step)
        return CLLM_NONE;
    return work->lane;
}

void cllm_node_revoke_saving(struct cllm_node *nz)
{
    bool intact = cllm_control_holds(&nz->control, nz->saving.posted);

    if (nz->saving.posted != 0 && cllm_saving_revoke(&nz->saving, intact))
        nz->save_now = true;
}

/* What @slot held goes back; says how many lanes are done again. */
static uint32_t give_back(struct cllm_node *nz, uint32_t slot)
{
    uint32_t redone = 0;

    if (slot == cllm_team_saver(&nz->team))
        cllm_node_revoke_saving(nz);
    if (slot == cllm_team_loader(&nz->team))
        return 0;
    cllm_sweep_revoke(&nz->control, slot);
    redone = cllm_lanes_settle(&nz->control);
    (void)atomic_fetch_add_explicit(&nz->control.state->lanes_redone, redone,
                                    memory_order_relaxed);
    return redone;
}

/* A worker that a fault signal ended may have written anything that it can write. */
static void distrust(struct cllm_node *nz, uint32_t slot, uint32_t lane)
{
    int rc = 0;

    if (lane != CLLM_NONE && cllm_lanes_crash(&nz->control, lane, slot))
        rc = cllm_step_poisoned(&nz->step, lane);
    if (rc != 0)
        cllm_node_fail(nz, rc);
    else
        cllm_step_suspect(&nz->step);
}

/* What becomes of the work of a process that has ended, and who comes after it. */
static void describe_sequel(const struct cllm_node *nz, uint32_t slot, bool distrusted,
                            char *out, size_t bytes)
{
    const struct cllm_command *command = &nz->control.slots[slot].command;
    const char *next = command->state == CLLM_SLOT_DISABLED ? "not started again"
                       : cllm_team_wanted(&nz->team, slot)  ? "started again"
                                                            : "not wanted any more";

    if (distrusted && nz->step.step > 0)
        (void)snprintf(out, bytes,
                       "%s; what is committed is verified, step %" PRIu64
                       " is done again",
                       next, nz->step.step);
    else
        (void)snprintf(out, bytes, "%s", next);
}

/*
 * The process of @slot may have been ended by its device: it said so, the driver crashed,
 * or it hung. A worker that somebody killed was not. Returns a code with text when the
 * run cannot go on without the device.
 */
static int judge_device(struct cllm_node *nz, uint32_t slot, bool ended, bool worked,
                        const struct cllm_ending *how)
{
    struct cllm_command *command = &nz->control.slots[slot].command;
    struct cllm_devices *devices = &nz->plan.devices;
    bool failed = how->fault || (ended && how->by_signal) ||
                  (!how->by_signal && how->code == CLLM_EXIT_DEVICE);
    char line[240];
    bool often;
    int rc;

    if (slot >= cllm_team_loader(&nz->team) || command->device[0] == '\0' || !failed)
        return 0;
    often = cllm_devices_failed(devices, slot, worked);
    devices->lost[slot] = often && nz->config->compute_on_device_loss == CLLM_LOSS_CPU;
    cllm_devices_remember(devices, slot, command);
    if (!often)
        return 0;
    if (nz->config->compute_on_device_loss == CLLM_LOSS_STOP) {
        rc = cllm_err(CLLM_EDEVICE, "device %s of worker %u failed %d times in a row",
                      command->device, slot, CLLM_DEVICE_FAILURES);
        cllm_err_detail("the last time: %s", command->obituary);
        cllm_err_hint("--resume goes on when it works again; [compute] on_device_loss = "
                      "cpu goes on without it");
        return rc;
    }
    (void)snprintf(
        line, sizeof line,
        "device %s of worker %u failed %d times in a row: the next worker there "
        "computes on the processor (on_device_loss = cpu)",
        command->device, slot, CLLM_DEVICE_FAILURES);
    cllm_node_announce(nz, CLLM_LOG_WARN, line);
    return 0;
}

/* Has the process of @slot computed what a device computes? It folds and updates without
 * one. */
static bool computed(const struct cllm_node *nz, uint32_t slot)
{
    const struct cllm_status *status = cllm_node_status(nz, slot);

    return cllm_load_relaxed(&status->lanes_done) > 0 ||
           cllm_load_relaxed(&status->evals_done) > 0;
}

void cllm_node_bury(struct cllm_node *nz, uint32_t slot)
{
    struct cllm_command *command = &nz->control.slots[slot].command;
    bool worker = slot < cllm_team_loader(&nz->team);
    bool ended = command->state == CLLM_SLOT_KILLING, owed, distrusted, worked;
    struct cllm_ending how;
    char doing[96], sequel[128], file[32] = "", line[640];
    uint32_t pid = command->pid, redone, lane;
    int rc;

    (void)harvest(nz, slot); /* what it finished counts; damaged reports are dropped */
    cllm_node_describe_work(nz, slot, doing, sizeof doing);
    lane = computing(nz, slot);
    worked = computed(nz, slot);
    owed = worker && cllm_sweep_owed(&nz->control, slot);
    rc = cllm_team_bury(&nz->team, slot, cllm_now_ns(), &how);
    distrusted = worker && how.fault;
    redone = give_back(nz, slot);
    cllm_fault(CLLM_FAULT_bury_given_back);
    if (cllm_team_left(&nz->team, slot, &how)) {
        cllm_debug("worker %u (pid %u) has left", slot, pid);
        return;
    }
    if (how.crash != 0)
        (void)snprintf(file, sizeof file, " (crash/%u.txt)", how.crash);
    describe_sequel(nz, slot, distrusted, sequel, sizeof sequel);
    (void)snprintf(line, sizeof line, "%s %u (pid %u) %s%s at %s%s%s%s%s; %s",
                   cllm_role_name(command->role), slot, pid, how.text,
                   ended ? " by Node Zero" : "", doing,
                   (redone > 0 || owed) && !distrusted ? ", which is done again" : "",
                   how.where[0] != '\0' ? ": " : "", how.where, file, sequel);
    cllm_node_announce(nz, CLLM_LOG_WARN, line);
    if (distrusted)
        distrust(nz, slot, lane);
    if (rc == 0)
        rc = judge_device(nz, slot, ended, worked, &how);
    if (rc != 0)
        cllm_node_fail(nz, rc);
}
