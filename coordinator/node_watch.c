/*
 * coordinator/node_watch.c - who is stopped, who hangs, who cannot be ended.
 *
 * Whoever does not go on is given up first: his chunks and lanes are done by others as
 * well, and what he may still write stays out of use. If he goes on after all, his report
 * is as good as any. If not, he is ended.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/units.h"
#include "coordinator/node.h"
#include "coordinator/sweep.h"
#include "shm/slot.h"

#define STOP_GRACE_NS (2 * CLLM_NS_PER_S) /* a stopped process may be continued */
#define HANG_NS       (5 * CLLM_NS_PER_S) /* a worker's progress stands still */
#define FIRST_HANG_NS (60 * CLLM_NS_PER_S)
#define FILES_HANG_NS (60 * CLLM_NS_PER_S)   /* loader, saver: disks are slow, */
#define FILES_SPIN_NS (10 * CLLM_NS_PER_S)   /* but take no processor's time */
#define HANG_PACE     20                     /* or so many times the usual work */
#define KILL_NS       (30 * CLLM_NS_PER_S)   /* SIGKILL works within this */
#define LATE_NS       (250 * CLLM_NS_PER_MS) /* a turn of ours took so long: not theirs */

static const char *role_of(const struct cllm_node *nz, uint32_t slot)
{
    return cllm_role_name(nz->control.slots[slot].command.role);
}

/* "worker 1 (pid 42) @what at lane 3 of step 7@then" */
static void tell(struct cllm_node *nz, uint32_t slot, const char *what, const char *then)
{
    char doing[96], line[400];

    cllm_node_describe_work(nz, slot, doing, sizeof doing);
    (void)snprintf(line, sizeof line, "%s %u (pid %u) %s at %s%s", role_of(nz, slot),
                   slot, nz->control.slots[slot].command.pid, what, doing, then);
    cllm_node_announce(nz, CLLM_LOG_WARN, line);
}

/* Others do what @slot holds. */
static void give_up(struct cllm_node *nz, uint32_t slot, enum cllm_slot_state state)
{
    cllm_team_give_up(&nz->team, slot, state);
    cllm_sweep_revoke(&nz->control, slot);
}

/* ---- stopped ---- */

static bool traced(const struct cllm_process *process)
{
    struct cllm_usage usage;

    return cllm_process_usage(process, &usage) && usage.traced;
}

static void watch_stop(struct cllm_node *nz, uint32_t slot, uint64_t late_ns,
                       uint64_t now)
{
    struct cllm_process *process = &nz->team.process[slot];
    bool stopped = cllm_process_stopped(process);
    uint64_t *since = &nz->team.stopped_ns[slot];

    if (!stopped) {
        if (*since != 0 && nz->control.slots[slot].command.state == CLLM_SLOT_STOPPED) {
            cllm_team_trust(&nz->team, slot);
            tell(nz, slot, "goes on", "");
        }
        if (*since != 0)
            cllm_health_reset(&nz->team.health[slot], 0, now);
        *since = 0;
        return;
    }
    if (*since == 0)
        *since = now;
    /* Also one that said hello a moment before, and was greeted when it stood still. */
    if (cllm_team_ready(&nz->team, slot) ||
        nz->control.slots[slot].command.state == CLLM_SLOT_SUSPECT) {
        tell(nz, slot, "was stopped by a signal",
             slot < cllm_team_loader(&nz->team)
                 ? "; others do its work; ended in 2 s unless it goes on"
                 : "; ended in 2 s unless it goes on");
        give_up(nz, slot, CLLM_SLOT_STOPPED);
        return;
    }
    *since += late_ns;
    if ((now > *since + STOP_GRACE_NS || cllm_step_waits_for_death(&nz->step, slot)) &&
        nz->control.slots[slot].command.state != CLLM_SLOT_KILLING && !traced(process)) {
        tell(nz, slot, "stays stopped", ": ended");
        cllm_team_kill(&nz->team, slot);
    }
}

/* ---- hanging ---- */

/* Should its progress word move? */
static bool working(const struct cllm_node *nz, uint32_t slot)
{
    return slot == cllm_team_loader(&nz->team) ||
           cllm_slot_outstanding(&nz->control, slot) > 0;
}

static struct cllm_health_limits limits_of(const struct cllm_node *nz, uint32_t slot)
{
    uint64_t usual = 0, limit;

    if (slot >= cllm_team_loader(&nz->team))
        return (struct cllm_health_limits){.asleep_ns = FILES_HANG_NS,
                                           .running_ns = FILES_SPIN_NS};
    for (uint32_t i = 0; i < CLLM_LEN(nz->pace); i++)
        usual = cllm_max_u64(usual, cllm_pace_median(&nz->pace[i]));
    /* At first nobody knows how long a lane takes. */
    limit = nz->pace[0].n == 0 ? FIRST_HANG_NS : cllm_max_u64(HANG_NS, HANG_PACE * usual);
    return (struct cllm_health_limits){.asleep_ns = limit, .running_ns = limit};
}

static void watch_progress(struct cllm_node *nz, uint32_t slot, uint64_t late_ns,
                           uint64_t now)
{
    struct cllm_health *health = &nz->team.health[slot];
    uint64_t progress = cllm_load_relaxed(&cllm_node_status(nz, slot)->progress);
    uint32_t state = nz->control.slots[slot].command.state;
    const struct cllm_health_limits limits = limits_of(nz, slot);
    char what[160], took[CLLM_UNITS_BYTES];

    if (!working(nz, slot)) {
        cllm_health_reset(health, progress, now);
        if (state == CLLM_SLOT_SUSPECT)
            cllm_team_trust(&nz->team, slot); /* it has answered after all */
        return;
    }
    switch (cllm_health_look(health, &nz->team.process[slot], progress, &limits, late_ns,
                             now)) {
    case CLLM_HEALTH_HANGS:
        (void)snprintf(what, sizeof what, "hangs (no progress for %s, state %c)",
                       cllm_format_duration(took, now - health->since_ns), health->state);
        tell(nz, slot, what, ": ended");
        cllm_team_kill(&nz->team, slot);
        break;
    case CLLM_HEALTH_SUSPECT:
        if (state == CLLM_SLOT_SUSPECT || slot >= cllm_team_loader(&nz->team))
            break;
        (void)snprintf(what, sizeof what, "makes no progress (for %s, state %c)",
                       cllm_format_duration(took, now - health->since_ns), health->state);
        tell(nz, slot, what, "; others do its work");
        give_up(nz, slot, CLLM_SLOT_SUSPECT);
        break;
    case CLLM_HEALTH_GOOD:
    default:
        /* Good is also said between two looks: only progress clears a suspicion. */
        if (state == CLLM_SLOT_SUSPECT && health->since_ns == now)
            cllm_team_trust(&nz->team, slot);
    }
}

/* ---- not to be ended ---- */

static void watch_killing(struct cllm_node *nz, uint32_t slot, uint64_t late_ns,
                          uint64_t now)
{
    uint64_t *since = &nz->control.slots[slot].command.since_ns;
    const struct cllm_geometry *g = &nz->control.header->geometry;
    uint32_t lost = 0, needed = cllm_lanes_kept(g) ? g->lanes : 2; /* lane buffers */
    int rc;

    *since += late_ns;
    if (now < *since + KILL_NS || cllm_process_ended(&nz->team.process[slot], 0))
        return;
    tell(nz, slot, "cannot be ended", ": its slot and what it holds stay out of use");
    cllm_team_unkillable(&nz->team, slot);
    for (uint32_t s = 0; s < g->n_worker_slots; s++)
        if (nz->control.slots[s].command.state == CLLM_SLOT_UNKILLABLE)
            lost += cllm_slot_outstanding(&nz->control, s);
    if (slot == cllm_team_saver(&nz->team) && !cllm_sweep_owed(&nz->control, slot)) {
        cllm_node_revoke_saving(nz); /* it only reads: training goes on without it */
        return;
    }
    if (slot < cllm_team_loader(&nz->team) && !cllm_step_needs(&nz->step, slot) &&
        lost + needed <= g->n_buffers)
        return;
    rc = cllm_err(-EBUSY, "%s %u (pid %u) cannot be ended and may still write",
                  role_of(nz, slot), slot, nz->control.slots[slot].command.pid);
    cllm_err_hint(
        "it waits in the kernel for a device; when it is gone, --resume goes on");
    cllm_node_fail(nz, rc);
}

void cllm_node_watch(struct cllm_node *nz)
{
    uint64_t now = cllm_now_ns();
    uint64_t away = nz->watched_ns == 0 ? 0 : now - nz->watched_ns;
    uint64_t late_ns = away > LATE_NS ? away : 0;

    nz->watched_ns = now;
    for (uint32_t slot = 0; slot < nz->control.header->geometry.n_slots; slot++) {
        uint32_t state = nz->control.slots[slot].command.state;

        if (nz->team.process[slot].pid == 0)
            continue;
        if (state == CLLM_SLOT_KILLING)
            watch_killing(nz, slot, late_ns, now);
        else
            watch_stop(nz, slot, late_ns, now);
        state = nz->control.slots[slot].command.state;
        if (state == CLLM_SLOT_BUSY || state == CLLM_SLOT_IDLE ||
            state == CLLM_SLOT_SUSPECT)
            watch_progress(nz, slot, late_ns, now);
    }
}
