/*
 * tools/shm_life.c - see tools/shm_life.h.
 *
 * A Node Zero that is gone while its guardian lives, or while anybody holds the lock of
 * the run directory, is being replaced: that is not a dead run.
 */
#include "tools/shm_life.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/atomic.h"

static const char *const life_name[] = {
    [CLLM_SHM_GONE] = "gone",
    [CLLM_SHM_STARTING] = "starting",
    [CLLM_SHM_LIVE] = "live",
    [CLLM_SHM_HUNG] = "hung",
    [CLLM_SHM_DEAD] = "dead",
    [CLLM_SHM_HALF_MADE] = "half-made",
    [CLLM_SHM_BAD] = "unreadable",
    [CLLM_SHM_LEFTOVER] = "leftover",
    [CLLM_SHM_TAKEOVER] = "taking over",
};
static_assert(CLLM_LEN(life_name) == CLLM_SHM_LAST, "name every kind of life");

const char *cllm_shm_life_name(uint32_t life)
{
    return life < CLLM_SHM_LAST ? life_name[life] : "invalid";
}

char cllm_shm_process_state(uint64_t pid)
{
    char path[64], text[512];
    const char *at;
    ssize_t n;
    int fd;

    (void)snprintf(path, sizeof path, "/proc/%" PRIu64 "/stat", pid);
    fd = pid == 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return '\0';
    n = read(fd, text, sizeof text - 1);
    (void)close(fd); /* read only */
    if (n <= 0)
        return '\0';
    text[n] = '\0';
    at = strrchr(text, ')');
    return at && at[1] == ' ' ? at[2] : '\0';
}

static bool has_ended(char process_state)
{
    return process_state == '\0' || process_state == 'Z' || process_state == 'X';
}

/* Asked with a shared lock, given back at once: a coordinator that begins just then asks
 * again. */
bool cllm_shm_life_locked(const char *run_dir, const char *name)
{
    char path[CLLM_PATH_BYTES + 32];
    bool locked;
    int fd;

    (void)snprintf(path, sizeof path, "%s/%s", run_dir, name);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return false;
    locked = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    (void)close(fd); /* read only */
    return locked;
}

/* Its guardian's process, 0 when that is gone, or was never named. */
static uint64_t find_guardian(const struct cllm_state *state)
{
    uint64_t ticks = state->guardian_start_ticks, pid = state->guardian_pid;

    if (ticks == 0 || cllm_process_start_ticks(pid) != ticks ||
        has_ended(cllm_shm_process_state(pid)))
        return 0;
    return pid;
}

static enum cllm_shm_life judge(struct cllm_shm_view *view,
                                const struct cllm_control *control)
{
    view->process_state =
        cllm_control_alive(control) ? cllm_shm_process_state(view->pid) : '\0';
    view->guardian_pid = find_guardian(&view->state);
    if (has_ended(view->process_state))
        return view->guardian_pid != 0 ||
                       cllm_shm_life_locked(view->header.run_dir, "run.lock")
                   ? CLLM_SHM_TAKEOVER
                   : CLLM_SHM_DEAD;
    if (view->heartbeat_age_ns > CLLM_SHM_HUNG_NS)
        return CLLM_SHM_HUNG;
    return cllm_load_relaxed(&view->state.run_state) == CLLM_RUN_STARTING
               ? CLLM_SHM_STARTING
               : CLLM_SHM_LIVE;
}

void cllm_shm_life_judge(struct cllm_shm_view *view, const struct cllm_control *control)
{
    uint64_t heartbeat = cllm_load_relaxed(&view->state.heartbeat_ns);

    view->pid =
        view->state.node_zero_pid ? view->state.node_zero_pid : view->header.creator_pid;
    view->heartbeat_age_ns =
        heartbeat != 0 && view->taken_ns > heartbeat ? view->taken_ns - heartbeat : 0;
    view->life = judge(view, control);
}

bool cllm_shm_life_headless(const struct cllm_shm_view *view)
{
    return view->life == CLLM_SHM_DEAD || view->life == CLLM_SHM_TAKEOVER;
}
