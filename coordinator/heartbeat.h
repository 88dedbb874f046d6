/*
 * coordinator/heartbeat.h - how the guardian knows that Node Zero still turns its loop.
 *
 * Node Zero adds to an eventfd that it inherits from the guardian; nothing is ever waited
 * for, and the guardian maps no shared memory. Silence alone condemns nobody: a process
 * that waits for a processor is slow, not hung, and a guardian that was away itself has
 * not listened. The watch lasts from exec to exit: what takes long outside the loop, such
 * as allocating a run's memory, beats between its pieces (base/pulse.h).
 */
#ifndef CLLM_COORDINATOR_HEARTBEAT_H
#define CLLM_COORDINATOR_HEARTBEAT_H

#include "base/clock.h"
#include "coordinator/children.h"

#define CLLM_HEARTBEAT_SILENCE_NS                                                     \
    (10 * CLLM_NS_PER_S)                              /* no beat for so long: suspect \
                                                       */
#define CLLM_HEARTBEAT_STOPPED_NS (2 * CLLM_NS_PER_S) /* grace of a stopped process */
#define CLLM_HEARTBEAT_LOOK_NS    (CLLM_NS_PER_S / 2) /* the guardian looks so often */

/* ---- Node Zero's end ---- */

struct cllm_heartbeat {
    int fd;           /* -1 = nobody listens */
    uint64_t beat_ns; /* the last one; 0 = none yet */
};

/* @fd comes from the guardian and goes to no child. */
void cllm_heartbeat_init(struct cllm_heartbeat *heartbeat, int fd);

/* Say that the loop turns, or that other work goes on. Does something every 250 ms. */
void cllm_heartbeat_beat(struct cllm_heartbeat *heartbeat, uint64_t now_ns);

/* ---- the guardian's end ---- */

struct cllm_heartbeat_watch {
    int fd;              /* of both ends; -1 = none */
    bool ran;            /* since the last beat it was seen running or ready to run */
    bool stopped;        /* when last looked at, since: */
    uint64_t stopped_ns; /* */
    uint64_t looked_ns;  /* 0 = never */
    uint64_t beat_ns;    /* the last beat, or when the watch began anew */
    uint64_t cpu_ns; /* processor time at the first look after it; UINT64_MAX = none */
};

/* Returns 0, or a negative errno with text. */
int cllm_heartbeat_watch_init(struct cllm_heartbeat_watch *watch);

/* Another Node Zero begins: what its predecessor said is forgotten. */
void cllm_heartbeat_watch_renew(struct cllm_heartbeat_watch *watch);

/* Take the beats that came. Returns true when there was one. */
bool cllm_heartbeat_watch_hear(struct cllm_heartbeat_watch *watch);

/*
 * Look at @process, at least every CLLM_HEARTBEAT_LOOK_NS. Returns true when it must be
 * ended because it will not answer any more, with the reason in @why: "no heartbeat for
 * 10 s, state S". A process that a debugger holds is never condemned.
 */
bool cllm_heartbeat_watch_look(struct cllm_heartbeat_watch *watch,
                               struct cllm_process *process, char *why, size_t bytes);

/*
 * The judgement in the look, without the looking: @heard a beat since the last one, the
 * process is @stopped, the kernel says @usage (NULL: it does not tell), at @now_ns.
 */
bool cllm_heartbeat_watch_judge(struct cllm_heartbeat_watch *watch, bool heard,
                                bool stopped, const struct cllm_usage *usage,
                                uint64_t now_ns, char *why, size_t bytes);

#endif /* CLLM_COORDINATOR_HEARTBEAT_H */
