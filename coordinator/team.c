/*
 * coordinator/team.c - who lives, who is due, who was too often.
 */
#include "coordinator/team.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/pulse.h"
#include "base/units.h"
#include "coordinator/crashes.h"
#include "shm/slot.h"

#define HELLO_NS     (60 * CLLM_NS_PER_S)  /* a starting process says hello within this */
#define BUILD_NS     (600 * CLLM_NS_PER_S) /* ... one that builds a device's kernels */
#define COOLDOWN_NS  (10 * CLLM_NS_PER_MS) /* first cool-down; doubles */
#define COOLDOWN_MAX (5 * CLLM_NS_PER_S)
/* A life without finished work that ends sooner lengthens the cool-down. */
#define SHORT_LIFE_NS (2 * CLLM_NS_PER_S)
#define KILL_NS       (30 * CLLM_NS_PER_S) /* who does not end within this never does */
#define LEAVE_NS      (5 * CLLM_NS_PER_S)  /* one too many leaves within this */
#define OOM_WORKER    600
#define OOM_OTHER     300

static struct cllm_command *command_of(const struct cllm_team *team, uint32_t slot)
{
    return &team->control->slots[slot].command;
}

static void enter(struct cllm_team *team, uint32_t slot, enum cllm_slot_state state)
{
    command_of(team, slot)->state = (uint32_t)state;
    command_of(team, slot)->since_ns = cllm_now_ns();
}

static uint32_t n_slots(const struct cllm_team *team)
{
    return team->control->header->geometry.n_slots;
}

uint32_t cllm_team_loader(const struct cllm_team *team)
{
    return team->control->header->geometry.n_worker_slots;
}

uint32_t cllm_team_saver(const struct cllm_team *team)
{
    return team->control->header->geometry.n_worker_slots + 1;
}

static bool usable(const struct cllm_team *team, uint32_t slot)
{
    uint32_t state = command_of(team, slot)->state;

    return state != CLLM_SLOT_UNKILLABLE && state != CLLM_SLOT_DISABLED;
}

bool cllm_team_wanted(const struct cllm_team *team, uint32_t slot)
{
    uint32_t before = 0;

    if (!usable(team, slot))
        return false;
    for (uint32_t s = 0; s < slot && s < cllm_team_loader(team); s++)
        before += usable(team, s);
    return slot >= cllm_team_loader(team) || before < team->workers + team->spares;
}

bool cllm_team_ready(const struct cllm_team *team, uint32_t slot)
{
    uint32_t state = command_of(team, slot)->state;

    return state == CLLM_SLOT_IDLE || state == CLLM_SLOT_BUSY;
}

bool cllm_team_given_up(const struct cllm_team *team, uint32_t slot)
{
    uint32_t state = command_of(team, slot)->state;

    return state == CLLM_SLOT_SUSPECT || state == CLLM_SLOT_STOPPED;
}

void cllm_team_give_up(struct cllm_team *team, uint32_t slot, enum cllm_slot_state state)
{
    CLLM_ASSERT(state == CLLM_SLOT_SUSPECT || state == CLLM_SLOT_STOPPED);
    enter(team, slot, state);
}

void cllm_team_trust(struct cllm_team *team, uint32_t slot)
{
    enter(team, slot,
          cllm_slot_outstanding(team->control, slot) > 0 ? CLLM_SLOT_BUSY
                                                         : CLLM_SLOT_IDLE);
}

void cllm_team_unkillable(struct cllm_team *team, uint32_t slot)
{
    enter(team, slot, CLLM_SLOT_UNKILLABLE);
}

bool cllm_team_retire(struct cllm_team *team, uint32_t slot)
{
    uint32_t others = 0;

    for (uint32_t s = 0; s < cllm_team_loader(team); s++)
        others += s != slot && !command_of(team, s)->retired && usable(team, s);
    if (others == 0)
        return false;
    command_of(team, slot)->retired = 1;
    if (team->process[slot].pid == 0)
        enter(team, slot, CLLM_SLOT_DISABLED);
    else
        cllm_team_kill(team, slot);
    return true;
}

int cllm_team_init(struct cllm_team *team, struct cllm_control *control,
                   const struct cllm_config *config,
                   const struct cllm_placement *placement, struct cllm_devices *devices,
                   uint32_t workers, int epoll_fd, int event_fd, int generation_lock)
{
    *team = (struct cllm_team){.control = control,
                               .config = config,
                               .placement = placement,
                               .devices = devices,
                               .epoll_fd = epoll_fd,
                               .event_fd = event_fd,
                               .generation_lock = generation_lock,
                               .workers = workers,
                               .spares = (uint32_t)config->run_spares};
    for (uint32_t i = 0; i < CLLM_LEN(team->process); i++)
        team->process[i].pidfd = -1;
    return cllm_binary_directory(team->binaries, sizeof team->binaries);
}

void cllm_team_want(struct cllm_team *team, uint32_t workers)
{
    team->workers = workers;
    for (uint32_t slot = 0; slot < cllm_team_loader(team); slot++) {
        cpu_set_t cpus;
        bool pinned = cllm_placement_cpus(team->placement, slot, workers, &cpus);

        cllm_process_pin(&team->process[slot], pinned ? &cpus : NULL);
    }
}

static int check_budget(struct cllm_team *team, uint64_t now_ns)
{
    uint64_t window_ns = (uint64_t)(team->config->run_restart_window * 1e9);
    uint64_t recent = 0;
    uint64_t kept = cllm_min_u64(team->n_deaths, CLLM_TEAM_DEATHS);
    int rc;

    for (uint64_t i = 0; i < kept; i++)
        recent += now_ns - team->death_ns[i] < window_ns;
    if (recent <= team->config->run_restart_limit)
        return 0;
    rc = cllm_err(CLLM_EBUDGET,
                  "%" PRIu64
                  " process%s died or could not be started within %g s, %" PRIu64
                  " %s forgiven",
                  recent, cllm_plural_es(recent), team->config->run_restart_window,
                  team->config->run_restart_limit,
                  team->config->run_restart_limit == 1 ? "is" : "are");
    cllm_err_hint(
        "log.txt says what they died of; [run] restart_limit sets the budget; --resume "
        "goes on");
    return rc;
}

/* ---- start ---- */

static int start(struct cllm_team *team, uint32_t slot, uint64_t now_ns)
{
    struct cllm_command *command = command_of(team, slot);
    struct cllm_spawn how = {.keep_fd = {team->event_fd, team->generation_lock},
                             .oom_score =
                                 slot < cllm_team_loader(team) ? OOM_WORKER : OOM_OTHER};
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = slot};
    char path[1100], slot_text[16], generation[16], fd[16], parent[16];
    char *argv[] = {path,
                    (char[]){"--run"},
                    team->control->header->run_id,
                    (char[]){"--slot"},
                    slot_text,
                    (char[]){"--generation"},
                    generation,
                    (char[]){"--eventfd"},
                    fd,
                    (char[]){"--parent"},
                    parent,
                    NULL};
    int rc;

    (void)snprintf(path, sizeof path, "%s/cllm-%s", team->binaries,
                   cllm_role_name(command->role));
    (void)snprintf(slot_text, sizeof slot_text, "%u", slot);
    (void)snprintf(generation, sizeof generation, "%u",
                   cllm_slot_renew(team->control, slot));
    (void)snprintf(fd, sizeof fd, "%d", team->event_fd);
    (void)snprintf(parent, sizeof parent, "%d", (int)getpid());
    (void)snprintf(command->device, sizeof command->device, "%s",
                   slot < cllm_team_loader(team) ? cllm_devices_of(team->devices, slot)
                                                 : "");
    how.device = command->device[0] != '\0';
    how.pinned = slot < cllm_team_loader(team) &&
                 cllm_placement_cpus(team->placement, slot, team->workers, &how.cpus);
    rc = cllm_process_spawn(&team->process[slot], path, argv, &how);
    if (rc == -EAGAIN || rc == -ENOMEM) {
        cllm_warn("%s; tried again in a second", cllm_err_text());
        team->due_ns[slot] = now_ns + CLLM_NS_PER_S;
        enter(team, slot, CLLM_SLOT_COOLDOWN);
        /* Who can never be started must not be waited for for ever. */
        team->death_ns[team->n_deaths++ % CLLM_TEAM_DEATHS] = now_ns;
        return check_budget(team, now_ns);
    }
    if (rc != 0)
        return rc;
    cllm_fault(CLLM_FAULT_team_started);
    command->pid = (uint32_t)team->process[slot].pid;
    command->wait_data_ns = 0; /* since its start, as what it counts itself */
    command->start_ticks = cllm_process_start_ticks(command->pid);
    team->started_ns[slot] = now_ns;
    team->dismissed[slot] = false;
    team->greeted[slot] = false;
    team->stopped_ns[slot] = 0;
    if (epoll_ctl(team->epoll_fd, EPOLL_CTL_ADD, team->process[slot].pidfd, &event) != 0)
        return cllm_err(-errno, "cannot watch %s", path);
    enter(team, slot, CLLM_SLOT_STARTING);
    return 0;
}

/* ---- hello ---- */

void cllm_team_mix(struct cllm_team *team)
{
    team->numerics = CLLM_NUMERICS_MIXED;
    cllm_store_relaxed(&team->control->state->mixed, 1);
}

/* Another slot whose process has the same device, but makes other numbers; CLLM_NONE =
 * there is none. */
static uint32_t find_contrary(const struct cllm_team *team, uint32_t slot,
                              uint64_t numerics)
{
    for (uint32_t s = 0; s < cllm_team_loader(team); s++)
        if (s != slot && team->made[s] != 0 && team->made[s] != numerics &&
            strcmp(command_of(team, s)->device, command_of(team, slot)->device) == 0)
            return s;
    return CLLM_NONE;
}

static int check_numerics(struct cllm_team *team, uint32_t slot, uint64_t numerics,
                          const char *kernels)
{
    uint64_t expected = team->numerics;
    uint32_t other;
    int rc;

    if (slot >= cllm_team_loader(team) || numerics == team->numerics)
        return 0;
    other = find_contrary(team, slot, numerics);
    if (team->numerics == CLLM_NUMERICS_MIXED && other == CLLM_NONE)
        return 0;
    if (other != CLLM_NONE)
        expected = team->made[other];
    if (team->numerics != 0 && !team->allow_numerics_change && other == CLLM_NONE &&
        cllm_devices_may_mix(team->devices)) {
        cllm_team_mix(team);
        team->turned = true;
        return 0;
    }
    if (team->numerics == 0 || team->allow_numerics_change) {
        if (team->numerics != 0)
            cllm_warn(
                "the numbers of this machine or build differ from those the run began "
                "with (%016" PRIx64 " then, %016" PRIx64 " now); going on as asked",
                team->numerics, numerics);
        team->numerics = numerics;
        team->allow_numerics_change = false;
        return 0;
    }
    rc = cllm_err(CLLM_EDATA, "worker %u makes other numbers than this run", slot);
    cllm_err_detail("self-test %016" PRIx64 " with %s, the run has %016" PRIx64, numerics,
                    kernels, expected);
    cllm_err_hint(
        "resume on a machine and build like the first one, or accept other bits with "
        "--allow-numerics-change");
    return rc;
}

/* The first of each kind, and wherever they may differ. */
static void tell_ready(const struct cllm_team *team, uint32_t slot, const char *kernels)
{
    const struct cllm_command *command = &team->control->slots[slot].command;
    const char *role = cllm_role_name(command->role);
    bool several = team->devices->n > 1 || cllm_devices_may_mix(team->devices);

    if (command->deaths > 0 || (slot > 0 && slot < cllm_team_loader(team) && !several))
        cllm_debug("%s %u is ready", role, slot);
    else if (command->device[0] == '\0')
        cllm_info("%s %u is ready: %s", role, slot, kernels);
    else
        cllm_info("%s %u is ready: %s; device %s, %.*s", role, slot, kernels,
                  command->device, CLLM_DEVICE_BYTES - 1,
                  team->control->slots[slot].own.status.device.name);
}

static int greet(struct cllm_team *team, uint32_t slot, uint64_t now_ns)
{
    struct cllm_command *command = command_of(team, slot);
    uint64_t patience_ns = command->device[0] != '\0' ? BUILD_NS : HELLO_NS;
    uint64_t numerics;
    char kernels[64];

    if (cllm_slot_hello(team->control, slot, &numerics, kernels)) {
        enter(team, slot, CLLM_SLOT_IDLE);
        cllm_fault(CLLM_FAULT_team_greeted);
        team->greeted[slot] = true;
        cllm_health_reset(&team->health[slot], 0, now_ns);
        tell_ready(team, slot, kernels);
        if (slot < cllm_team_loader(team))
            team->made[slot] = numerics;
        return check_numerics(team, slot, numerics, kernels);
    }
    if (now_ns - team->started_ns[slot] > patience_ns) {
        cllm_warn("%s %u (pid %u) did not come up within %" PRIu64 " s: ended",
                  cllm_role_name(command->role), slot, command->pid,
                  patience_ns / CLLM_NS_PER_S);
        cllm_team_kill(team, slot);
    }
    return 0;
}

/* Nobody is wanted in @slot: what its process holds it finishes, then it leaves. */
static void thin_out(struct cllm_team *team, uint32_t slot)
{
    const struct cllm_assignment leave = {
        .kind = CLLM_WORK_EXIT, .lane = CLLM_NONE, .buffer = CLLM_NONE};

    if (command_of(team, slot)->state == CLLM_SLOT_COOLDOWN) {
        enter(team, slot, CLLM_SLOT_EMPTY);
    } else if (cllm_team_ready(team, slot) &&
               cllm_slot_outstanding(team->control, slot) == 0) {
        (void)cllm_slot_post(team->control, slot, &leave);
        team->dismissed[slot] = true;
        enter(team, slot, CLLM_SLOT_KILLING);
    }
}

/* One that was told to leave stays: it stood still before it heard of that, or hangs. */
static void end_dismissed(struct cllm_team *team, uint32_t slot)
{
    const struct cllm_command *command = command_of(team, slot);

    cllm_warn("%s %u (pid %u) does not leave: ended", cllm_role_name(command->role), slot,
              command->pid);
    team->dismissed[slot] = false;
    cllm_team_kill(team, slot);
}

static bool any_usable(const struct cllm_team *team)
{
    for (uint32_t slot = 0; slot < cllm_team_loader(team); slot++)
        if (usable(team, slot))
            return true;
    return false;
}

int cllm_team_tend(struct cllm_team *team, uint64_t now_ns)
{
    int rc = 0;

    for (uint32_t slot = 0; rc == 0 && slot < n_slots(team); slot++) {
        uint32_t state = command_of(team, slot)->state;
        bool due = state == CLLM_SLOT_EMPTY ||
                   (state == CLLM_SLOT_COOLDOWN && now_ns >= team->due_ns[slot]);

        if (due && cllm_team_wanted(team, slot) && !team->leaving)
            rc = start(team, slot, now_ns);
        else if (state == CLLM_SLOT_STARTING)
            rc = greet(team, slot, now_ns);
        else if (state == CLLM_SLOT_KILLING && team->dismissed[slot] &&
                 now_ns - command_of(team, slot)->since_ns > LEAVE_NS)
            end_dismissed(team, slot);
        else if (!cllm_team_wanted(team, slot))
            thin_out(team, slot);
    }
    if (rc == 0 && !team->leaving && !any_usable(team)) {
        rc = cllm_err(-ESRCH, "no worker is left that can be started");
        cllm_err_detail("the last one of slot 0: %s", command_of(team, 0)->obituary);
        cllm_err_hint("--resume begins again with all of them");
    }
    return rc;
}

uint64_t cllm_team_next_due(const struct cllm_team *team)
{
    uint64_t next = UINT64_MAX;

    for (uint32_t slot = 0; slot < n_slots(team); slot++)
        if (command_of(team, slot)->state == CLLM_SLOT_COOLDOWN)
            next = cllm_min_u64(next, team->due_ns[slot]);
    return next;
}

/* ---- end ---- */

static void write_obituary(struct cllm_team *team, uint32_t slot,
                           const struct cllm_ending *ending)
{
    struct cllm_command *command = command_of(team, slot);
    const char *words = team->control->slots[slot].own.status.last_words;
    size_t n = strnlen(words, sizeof team->control->slots[slot].own.status.last_words);

    if (ending->where[0] != '\0') {
        words = ending->where;
        n = strlen(words);
    }
    (void)snprintf(command->obituary, sizeof command->obituary, "pid %u, %s%s%.*s",
                   command->pid, ending->text, n > 0 ? ": " : "", (int)n, words);
}

bool cllm_team_left(const struct cllm_team *team, uint32_t slot,
                    const struct cllm_ending *ending)
{
    return team->dismissed[slot] && !ending->by_signal && ending->code == 0;
}

int cllm_team_bury(struct cllm_team *team, uint32_t slot, uint64_t now_ns,
                   struct cllm_ending *ending)
{
    struct cllm_command *command = command_of(team, slot);
    uint64_t wait_ns = 0;
    bool useful =
        team->greeted[slot] && (command->reported > 0 || slot == cllm_team_loader(team));

    (void)epoll_ctl(team->epoll_fd, EPOLL_CTL_DEL, team->process[slot].pidfd, NULL);
    cllm_fault(CLLM_FAULT_bury_begin);
    cllm_process_reap(&team->process[slot], ending);
    cllm_fault(CLLM_FAULT_bury_reaped);
    cllm_crashes_keep(team->control, slot, team->binaries, ending);
    write_obituary(team, slot, ending);
    command->pid = 0;
    cllm_fault(CLLM_FAULT_bury_noted);
    cllm_slot_void(team->control, slot);
    if (team->leaving || cllm_team_left(team, slot, ending)) {
        enter(team, slot, CLLM_SLOT_EMPTY);
        return 0;
    }
    command->deaths++;
    (void)atomic_fetch_add_explicit(&team->control->state->deaths, 1,
                                    memory_order_relaxed);
    if (!team->excused[slot])
        team->death_ns[team->n_deaths++ % CLLM_TEAM_DEATHS] = now_ns;
    team->excused[slot] = false;
    if (useful || now_ns - team->started_ns[slot] >= SHORT_LIFE_NS)
        team->streak[slot] = 0;
    else
        team->streak[slot]++;
    for (uint32_t i = 0; i < team->streak[slot] && wait_ns < COOLDOWN_MAX; i++)
        wait_ns = wait_ns == 0 ? COOLDOWN_NS : 2 * wait_ns;
    team->due_ns[slot] = now_ns + cllm_min_u64(wait_ns, COOLDOWN_MAX);
    if (!ending->by_signal && ending->code == CLLM_EXIT_USAGE &&
        slot < cllm_team_loader(team))
        command->retired = 1; /* it would say the same again */
    enter(team, slot, command->retired ? CLLM_SLOT_DISABLED : CLLM_SLOT_COOLDOWN);
    return check_budget(team, now_ns);
}

void cllm_team_renew(struct cllm_team *team, uint32_t slot)
{
    team->excused[slot] = true;
    cllm_team_kill(team, slot);
}

void cllm_team_kill(struct cllm_team *team, uint32_t slot)
{
    if (team->process[slot].pid == 0)
        return;
    cllm_process_signal(&team->process[slot], SIGKILL);
    enter(team, slot, CLLM_SLOT_KILLING);
}

static bool wait_for_end(struct cllm_process *process, uint64_t until_ns)
{
    bool ended;
    uint64_t now, ms;

    do {
        cllm_pulse();
        now = cllm_now_ns();
        ms = until_ns > now ? (until_ns - now) / CLLM_NS_PER_MS + 1 : 0;
        ended = cllm_process_ended(process, (int)cllm_min_u64(ms, 1000));
    } while (!ended && ms > 0);
    return ended;
}

void cllm_team_dismiss(struct cllm_team *team, int timeout_ms)
{
    const struct cllm_assignment leave = {
        .kind = CLLM_WORK_EXIT, .lane = CLLM_NONE, .buffer = CLLM_NONE};
    uint64_t until = cllm_now_ns() + (uint64_t)timeout_ms * CLLM_NS_PER_MS;
    struct cllm_ending ending;

    cllm_fault(CLLM_FAULT_team_leaving);
    team->leaving = true;
    for (uint32_t slot = 0; slot < n_slots(team); slot++) {
        if (team->process[slot].pid == 0)
            continue;
        if (cllm_team_ready(team, slot) && cllm_slot_outstanding(team->control, slot) < 2)
            (void)cllm_slot_post(team->control, slot, &leave);
        else
            cllm_team_kill(team, slot);
    }
    for (uint32_t slot = 0; slot < n_slots(team); slot++) {
        if (team->process[slot].pid == 0)
            continue;
        if (!wait_for_end(&team->process[slot], until)) {
            cllm_process_signal(&team->process[slot], SIGKILL);
            if (!wait_for_end(&team->process[slot], cllm_now_ns() + KILL_NS)) {
                cllm_error("%s %u (pid %u) cannot be ended",
                           cllm_role_name(command_of(team, slot)->role), slot,
                           command_of(team, slot)->pid);
                continue;
            }
        }
        (void)cllm_team_bury(team, slot, cllm_now_ns(), &ending);
    }
}
