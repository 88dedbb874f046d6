/*
 * tests/crash/chaos_view.c - look, prove, send.
 */
#include "tests/crash/chaos_view.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/atomic.h"

#define ANCESTORS 4 /* guardian, Node Zero, child, and one to spare */

void chaos_view_init(struct chaos_view *view, const char *run_id, pid_t guardian)
{
    *view = (struct chaos_view){.guardian = guardian,
                                .guardian_ticks =
                                    cllm_process_start_ticks((uint64_t)guardian)};
    (void)snprintf(view->run_id, sizeof view->run_id, "%s", run_id);
}

void chaos_view_fini(struct chaos_view *view)
{
    if (view->attached)
        cllm_control_detach(&view->control);
    view->attached = false;
}

bool chaos_view_refresh(struct chaos_view *view)
{
    char name[CLLM_REGION_NAME_BYTES], path[sizeof name + 16];
    struct stat st;

    cllm_region_name(name, view->run_id, "control");
    (void)snprintf(path, sizeof path, "/dev/shm%s", name);
    if (stat(path, &st) != 0)
        return false;
    if (view->attached && st.st_ino == view->inode)
        return true;
    chaos_view_fini(view);
    if (cllm_control_attach(&view->control, view->run_id, CLLM_NONE) != CLLM_ATTACH_OK)
        return false;
    view->attached = true;
    view->inode = st.st_ino;
    return true;
}

/* ---- processes ---- */

static pid_t parent_of(pid_t pid)
{
    char path[64], text[512];
    const char *at;
    size_t n;
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    if (!file)
        return 0;
    n = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file); /* read only */
    text[n] = '\0';
    at = strrchr(text, ')'); /* then " S ppid" */
    return at && strlen(at) > 4 ? (pid_t)strtol(at + 4, NULL, 10) : 0;
}

static bool descends(const struct chaos_view *view, pid_t pid)
{
    for (uint32_t i = 0; i < ANCESTORS && pid > 1; i++) {
        if (pid == view->guardian)
            return cllm_process_start_ticks((uint64_t)pid) == view->guardian_ticks;
        pid = parent_of(pid);
    }
    return false;
}

bool chaos_target_alive(const struct chaos_target *target)
{
    struct pollfd fd = {.fd = target->pidfd, .events = POLLIN};

    return target->pidfd >= 0 && poll(&fd, 1, 0) == 0;
}

bool chaos_target_signal(const struct chaos_target *target, int signal)
{
    return chaos_target_alive(target) &&
           syscall(SYS_pidfd_send_signal, target->pidfd, signal, NULL, 0) == 0;
}

void chaos_target_close(struct chaos_target *target)
{
    if (target->pidfd >= 0)
        (void)close(target->pidfd);
    target->pidfd = -1;
}

/* The pidfd first, the proof after it. @ticks 0: not known, the ancestors must do. */
static bool open_target(const struct chaos_view *view, struct chaos_target *target,
                        pid_t pid, uint64_t ticks)
{
    uint64_t found;

    if (pid <= 1)
        return false;
    target->pid = pid;
    target->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (target->pidfd < 0)
        return false;
    found = cllm_process_start_ticks((uint64_t)pid);
    if (found != 0 && (ticks == 0 || found == ticks) && descends(view, pid) &&
        chaos_target_alive(target))
        return true;
    chaos_target_close(target);
    return false;
}

static bool open_slot(struct chaos_view *view, struct chaos_target *target, uint32_t slot)
{
    const struct cllm_command *command = &view->control.slots[slot].command;
    uint64_t ticks = CHAOS_LOOK(command->start_ticks);

    target->slot = slot;
    target->generation = cllm_load_relaxed(&command->generation);
    return ticks != 0 &&
           open_target(view, target, (pid_t)CHAOS_LOOK(command->pid), ticks);
}

/* Node Zero is the guardian's child, and the only one unless orphans came to it. */
static pid_t find_node_zero(const struct chaos_view *view)
{
    char path[64], name[32];
    pid_t found = 0;
    FILE *file;
    int pid;

    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)view->guardian,
                   (int)view->guardian);
    file = fopen(path, "re");
    while (file && found == 0 && fscanf(file, "%d", &pid) == 1) {
        FILE *comm;

        (void)snprintf(path, sizeof path, "/proc/%d/comm", pid);
        comm = fopen(path, "re");
        if (comm && fgets(name, sizeof name, comm) && strcmp(name, "cllm-coord\n") == 0)
            found = (pid_t)pid;
        if (comm)
            (void)fclose(comm); /* read only */
    }
    if (file)
        (void)fclose(file); /* read only */
    return found;
}

static bool open_node_zero(struct chaos_view *view, struct chaos_target *target)
{
    target->slot = CLLM_NONE;
    return open_target(view, target, find_node_zero(view), 0);
}

/* Slots of @role are [*lo, *hi). */
static void slots_of(const struct chaos_view *view, enum chaos_role role, uint32_t *lo,
                     uint32_t *hi)
{
    uint32_t workers = view->control.header->geometry.n_worker_slots;

    *lo = role == CHAOS_WORKER ? 0 : workers + (role == CHAOS_SAVER ? 1 : 0);
    *hi = role == CHAOS_WORKER ? workers : *lo + 1;
}

static bool is_wanted(const struct cllm_command *command, enum chaos_want want)
{
    bool starting = CHAOS_LOOK(command->state) == CLLM_SLOT_STARTING;

    return CHAOS_LOOK(command->pid) != 0 &&
           (want == CHAOS_WANT_ANY || starting == (want == CHAOS_WANT_STARTING));
}

bool chaos_view_find(struct chaos_view *view, struct chaos_target *target,
                     enum chaos_role role, uint32_t pick, enum chaos_want want)
{
    uint32_t lo, hi, n;

    *target = (struct chaos_target){.role = role, .slot = CLLM_NONE, .pidfd = -1};
    if (role == CHAOS_NODE_ZERO || role == CHAOS_TREE)
        return open_node_zero(view, target);
    if (!view->attached)
        return false;
    slots_of(view, role, &lo, &hi);
    n = hi - lo;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t slot = lo + (pick % n + i) % n;

        if (is_wanted(&view->control.slots[slot].command, want) &&
            open_slot(view, target, slot))
            return true;
    }
    return false;
}

uint32_t chaos_view_tree(struct chaos_view *view, struct chaos_target *targets,
                         uint32_t max)
{
    uint32_t n = 0;

    for (uint32_t slot = 0;
         view->attached && n + 2 < max && slot < view->control.header->geometry.n_slots;
         slot++) {
        targets[n] = (struct chaos_target){.role = CHAOS_TREE, .pidfd = -1};
        n += open_slot(view, &targets[n], slot);
    }
    targets[n] = (struct chaos_target){.role = CHAOS_TREE, .pidfd = -1};
    n += open_node_zero(view, &targets[n]);
    targets[n] =
        (struct chaos_target){.role = CHAOS_TREE, .slot = CLLM_NONE, .pidfd = -1};
    n += open_target(view, &targets[n], view->guardian, view->guardian_ticks);
    return n;
}

/* ---- phases ---- */

static enum chaos_phase run_phase(const struct chaos_view *view)
{
    switch (cllm_load_relaxed(&view->control.state->phase)) {
    case CLLM_PHASE_INIT:
        return CHAOS_INIT;
    case CLLM_PHASE_COMPUTE:
        return CHAOS_COMPUTE;
    case CLLM_PHASE_FOLD:
        return CHAOS_FOLD;
    case CLLM_PHASE_UPDATE:
        return CHAOS_UPDATE;
    case CLLM_PHASE_EVAL:
        return CHAOS_EVAL;
    case CLLM_PHASE_VERIFY:
        return CHAOS_VERIFY;
    default:
        return CHAOS_COMMIT;
    }
}

/* Is the saver's process, which is up, writing a checkpoint? */
static bool saver_works(const struct chaos_view *view)
{
    uint32_t workers = view->control.header->geometry.n_worker_slots;
    const struct cllm_slot *saver = &view->control.slots[workers + 1];

    return CHAOS_LOOK(saver->command.pid) != 0 &&
           CHAOS_LOOK(saver->command.state) != CLLM_SLOT_STARTING &&
           cllm_load_relaxed(&saver->own.status.work) == CLLM_WORK_SAVE;
}

enum chaos_phase chaos_view_phase(const struct chaos_view *view,
                                  const struct chaos_target *target)
{
    const struct cllm_state *state = view->control.state;
    uint32_t run_state = cllm_load_relaxed(&state->run_state);
    enum chaos_phase phase;

    if (target->slot == CLLM_NONE) {
        if (CHAOS_LOOK(state->node_zero_pid) != (uint32_t)target->pid)
            return CHAOS_STARTING;
    } else if (CHAOS_LOOK(view->control.slots[target->slot].command.state) ==
               CLLM_SLOT_STARTING) {
        return CHAOS_STARTING;
    }
    if (target->role == CHAOS_SAVER && saver_works(view))
        return CHAOS_SAVING;
    if (run_state == CLLM_RUN_STOPPING || run_state == CLLM_RUN_ENDED)
        return CHAOS_ENDING;
    phase = run_phase(view);
    return phase == CHAOS_COMPUTE && saver_works(view) ? CHAOS_SAVING : phase;
}
