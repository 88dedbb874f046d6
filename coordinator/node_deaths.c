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
#include "coordinator/lanes.h"
#include "coordinator/node.h"
#include "shm/slot.h"

const struct cllm_status *cllm_node_status(const struct cllm_node *nz, uint32_t slot)
{
    return &nz->control.slots[slot].own.status;
}

static void take_report(struct cllm_node *nz, uint32_t slot,
                        const struct cllm_report *report)
{
    int rc = 0;

    if (report->kind == CLLM_WORK_SAVE)
        cllm_saving_take(&nz->saving, report);
    else if (report->flags & CLLM_REPORT_FAILED)
        rc = cllm_err(
            report->error < 0 ? report->error : -EIO, "%s %u could not %s: %.300s",
            cllm_role_name(nz->control.slots[slot].command.role), slot,
            cllm_work_name(report->kind), cllm_node_status(nz, slot)->last_words);
    else if (report->kind != CLLM_WORK_EXIT)
        rc = cllm_step_take(&nz->step, report);
    if (report->flags & CLLM_REPORT_BAD_BATCH) {
        cllm_warn("worker %u found lane %u's batch damaged in the ring: the loader "
                  "starts again",
                  slot, report->lane);
        cllm_team_kill(&nz->team, cllm_team_loader(&nz->team));
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
        take_report(nz, slot, &report);
    return result != CLLM_HARVEST_BAD;
}

void cllm_node_harvest(struct cllm_node *nz)
{
    for (uint32_t slot = 0; slot < nz->control.header->geometry.n_slots; slot++) {
        struct cllm_command *command = &nz->control.slots[slot].command;

        if (!cllm_team_ready(&nz->team, slot))
            continue;
        if (!harvest(nz, slot)) {
            cllm_warn("%s %u sent a damaged report: ended", cllm_role_name(command->role),
                      slot);
            cllm_team_kill(&nz->team, slot);
            continue;
        }
        command->state = cllm_slot_outstanding(&nz->control, slot) > 0 ? CLLM_SLOT_BUSY
                                                                       : CLLM_SLOT_IDLE;
    }
}

/* Is the step that was being saved still what its version holds? */
static bool saved_version_intact(const struct cllm_node *nz)
{
    /* By what is committed: between two steps none is being computed. */
    uint64_t saving = nz->saving.posted, committed = cllm_node_committed(nz);
    uint32_t phase = cllm_load_relaxed(&nz->control.state->phase);

    return committed <= saving ||
           (committed == saving + 1 &&
            (phase < CLLM_PHASE_UPDATE ||
             (phase == CLLM_PHASE_UPDATE && !nz->step.sweep.active)));
}

/* "lane 7 of step 121", "chunks 0..3 of the update of step 121", "nothing" */
static void describe_work(const struct cllm_node *nz, uint32_t slot, char *out,
                          size_t bytes)
{
    const struct cllm_command *command = &nz->control.slots[slot].command;
    const struct cllm_assignment *work =
        &command->assignment[(command->reported + 1) & 1];

    if (command->role == CLLM_ROLE_LOADER)
        (void)snprintf(out, bytes, "%" PRIu64 " batches filled",
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

/* What @slot held goes back; says how many lanes are done again. */
static uint32_t give_back(struct cllm_node *nz, uint32_t slot, bool fault,
                          bool was_saving)
{
    uint32_t redone = 0, poisoned;

    if (slot == cllm_team_saver(&nz->team)) {
        if (was_saving && cllm_saving_revoke(&nz->saving, saved_version_intact(nz)))
            nz->save_now = true;
        cllm_sweep_revoke(&nz->control, slot);
        return 0;
    }
    if (slot == cllm_team_loader(&nz->team))
        return 0;
    cllm_sweep_revoke(&nz->control, slot);
    poisoned = cllm_lanes_revoke(&nz->control, slot, fault, &redone);
    (void)atomic_fetch_add_explicit(&nz->control.state->lanes_redone, redone,
                                    memory_order_relaxed);
    if (poisoned != CLLM_NONE) {
        int rc = cllm_err(
            -EFAULT, "lane %u of step %" PRIu64 " kills every worker that computes it",
            poisoned, nz->step.step);

        cllm_err_hint("cllm-shm show has the obituaries; log.txt has all deaths");
        cllm_node_fail(nz, rc);
    }
    return redone;
}

void cllm_node_bury(struct cllm_node *nz, uint32_t slot)
{
    struct cllm_command *command = &nz->control.slots[slot].command;
    struct cllm_ending how;
    char doing[96], file[32] = "", line[512];
    uint32_t pid = command->pid, redone;
    bool was_saving;
    int rc;

    (void)harvest(nz, slot); /* what it finished counts; damaged reports are dropped */
    describe_work(nz, slot, doing, sizeof doing);
    was_saving = nz->saving.posted != 0 && slot == cllm_team_saver(&nz->team);
    rc = cllm_team_bury(&nz->team, slot, cllm_now_ns(), &how);
    redone = give_back(nz, slot, how.fault, was_saving);
    if (cllm_team_left(&nz->team, slot, &how)) {
        cllm_debug("worker %u (pid %u) has left", slot, pid);
        return;
    }
    if (how.crash != 0)
        (void)snprintf(file, sizeof file, " (crash/%u.txt)", how.crash);
    (void)snprintf(line, sizeof line, "%s %u (pid %u) %s at %s%s%s%s%s; %s",
                   cllm_role_name(command->role), slot, pid, how.text, doing,
                   redone > 0 ? ", which goes to another worker" : "",
                   how.where[0] != '\0' ? ": " : "", how.where, file,
                   cllm_team_wanted(&nz->team, slot) ? "started again"
                                                     : "not wanted any more");
    cllm_node_announce(nz, CLLM_LOG_WARN, line);
    if (rc != 0)
        cllm_node_fail(nz, rc);
}
