/*
 * coordinator/heartbeat.c - beats, and what silence means.
 */
#include "coordinator/heartbeat.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"

#define BEAT_NS (CLLM_NS_PER_S / 4)
#define LATE_NS (2 * CLLM_NS_PER_S) /* a look that came so late has missed something */
#define SPIN_NS \
    (5 * CLLM_NS_PER_S) /* processor time without a beat: it runs in circles */

void cllm_heartbeat_init(struct cllm_heartbeat *heartbeat, int fd)
{
    *heartbeat = (struct cllm_heartbeat){.fd = fd};
    if (fd >= 0)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

void cllm_heartbeat_beat(struct cllm_heartbeat *heartbeat, uint64_t now_ns)
{
    uint64_t one = 1;

    if (heartbeat->fd < 0 ||
        (heartbeat->beat_ns != 0 && now_ns - heartbeat->beat_ns < BEAT_NS))
        return;
    heartbeat->beat_ns = now_ns;
    (void)!write(heartbeat->fd, &one, sizeof one); /* full: it is told enough */
}

/* ---- the guardian's end ---- */

int cllm_heartbeat_watch_init(struct cllm_heartbeat_watch *watch)
{
    *watch = (struct cllm_heartbeat_watch){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                                           .cpu_ns = UINT64_MAX};
    return watch->fd < 0 ? cllm_err(-errno, "cannot listen to Node Zero") : 0;
}

void cllm_heartbeat_watch_renew(struct cllm_heartbeat_watch *watch)
{
    int fd = watch->fd;

    (void)cllm_heartbeat_watch_hear(watch);
    *watch = (struct cllm_heartbeat_watch){.fd = fd, .cpu_ns = UINT64_MAX};
}

bool cllm_heartbeat_watch_hear(struct cllm_heartbeat_watch *watch)
{
    uint64_t beats = 0;

    return read(watch->fd, &beats, sizeof beats) == (ssize_t)sizeof beats;
}

bool cllm_heartbeat_watch_judge(struct cllm_heartbeat_watch *watch, bool heard,
                                bool stopped, const struct cllm_usage *usage,
                                uint64_t now_ns, char *why, size_t bytes)
{
    bool late = now_ns - watch->looked_ns > CLLM_HEARTBEAT_LOOK_NS + LATE_NS;
    bool excused = late || !usage || usage->traced;

    watch->looked_ns = now_ns;
    if (excused || (stopped && !watch->stopped))
        watch->stopped_ns = now_ns;
    watch->stopped = stopped;
    if (excused || stopped || heard) {
        watch->beat_ns = now_ns;
        watch->cpu_ns = UINT64_MAX;
        watch->ran = false;
    }
    if (excused)
        return false;
    if (stopped && now_ns - watch->stopped_ns >= CLLM_HEARTBEAT_STOPPED_NS) {
        (void)snprintf(why, bytes, "stopped for %" PRIu64 " s, state %c",
                       (now_ns - watch->stopped_ns) / CLLM_NS_PER_S, usage->state);
        return true;
    }
    if (watch->cpu_ns == UINT64_MAX)
        watch->cpu_ns = usage->cpu_ns;
    watch->ran |= usage->state == 'R';
    if (now_ns - watch->beat_ns < CLLM_HEARTBEAT_SILENCE_NS ||
        (watch->ran && usage->cpu_ns - watch->cpu_ns <= SPIN_NS))
        return false;
    (void)snprintf(why, bytes, "no heartbeat for %" PRIu64 " s, state %c%s",
                   (now_ns - watch->beat_ns) / CLLM_NS_PER_S, usage->state,
                   watch->ran ? ", running in circles" : "");
    return true;
}

bool cllm_heartbeat_watch_look(struct cllm_heartbeat_watch *watch,
                               struct cllm_process *process, char *why, size_t bytes)
{
    bool heard = cllm_heartbeat_watch_hear(watch);
    bool stopped = cllm_process_stopped(process);
    struct cllm_usage usage = {0};
    bool known = cllm_process_usage(process, &usage);

    return cllm_heartbeat_watch_judge(watch, heard, stopped, known ? &usage : NULL,
                                      cllm_now_ns(), why, bytes);
}
