/*
 * coordinator/health.h - does a process go on, or does it hang?
 *
 * A process that works bumps its progress word. When the word stands still for long, the
 * kernel is asked what the process does: it hangs if it has meanwhile used as much
 * processor time as the limit (it runs in circles), or if it slept all the time; if it
 * was seen running, four times as long, because who mostly waits for pages is seen asleep
 * often. One that was only not scheduled, on a loaded machine, has done neither and is
 * left alone. So is one that a debugger holds. Time in which the watcher itself did not
 * look is nobody's fault and does not count.
 */
#ifndef CLLM_COORDINATOR_HEALTH_H
#define CLLM_COORDINATOR_HEALTH_H

#include "coordinator/children.h"

struct cllm_health {
    uint64_t progress, since_ns; /* the word, and when it last moved */
    uint64_t looked_ns;          /* when the kernel was last asked; 0 = not since then */
    uint64_t cpu_ns;             /* processor time at the first look since then */
    uint64_t ran_ns;             /* when it was last seen running; 0 = not since then */
    char state;                  /* of /proc/PID/stat at the last look */
};

enum cllm_health_verdict {
    CLLM_HEALTH_GOOD = 0,
    CLLM_HEALTH_SUSPECT, /* half of the limit is over */
    CLLM_HEALTH_HANGS
};

/* A process begins, or was idle: its time counts from @now_ns. */
void cllm_health_reset(struct cllm_health *health, uint64_t progress, uint64_t now_ns);

/* How long the word of a process may stand still. */
struct cllm_health_limits {
    uint64_t asleep_ns;  /* while it sleeps all the time; four of them after running */
    uint64_t running_ns; /* of its own processor time, once it was seen running */
};

/*
 * Look at a process that should be working. @progress is its word; @late_ns is how long
 * the watcher was away before now.
 */
enum cllm_health_verdict cllm_health_look(struct cllm_health *health,
                                          const struct cllm_process *process,
                                          uint64_t progress,
                                          const struct cllm_health_limits *limits,
                                          uint64_t late_ns, uint64_t now_ns);

/* Durations of the newest work of one kind, for limits that follow the run's own pace. */
#define CLLM_PACE_KEPT 15

struct cllm_pace {
    uint64_t ns[CLLM_PACE_KEPT];
    uint64_t n; /* taken so far */
};

void cllm_pace_take(struct cllm_pace *pace, uint64_t ns);
uint64_t cllm_pace_median(const struct cllm_pace *pace); /* 0 before the first */

#endif /* CLLM_COORDINATOR_HEALTH_H */
