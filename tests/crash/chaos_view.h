/*
 * tests/crash/chaos_view.h - the driver's eyes and its only hand: the run's control
 * object, read-only, and pidfds of processes that are proved to be its own.
 *
 * Pids come from the slot table and from /proc. Before anything is sent, a pidfd is
 * opened, and only then is the pid followed upwards to the driver's own guardian and its
 * start time compared: a pid that was used again in between fails that, and the pidfd of
 * a dead process reaches nobody.
 */
#ifndef CLLM_TESTS_CRASH_CHAOS_VIEW_H
#define CLLM_TESTS_CRASH_CHAOS_VIEW_H

#include <sys/types.h>

#include "shm/control.h"
#include "tests/crash/chaos_plan.h"

/* A word of Node Zero's in shared memory that is no atomic: read as it is now. It has one
 * writer, and a stale value only costs a look. */
#define CHAOS_LOOK(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)

struct chaos_view {
    char run_id[CLLM_RUN_ID_BYTES];
    pid_t guardian;
    uint64_t guardian_ticks;
    bool attached;
    ino_t inode; /* of the control object that is mapped */
    struct cllm_control control;
};

/* A process; pidfd -1 = none. */
struct chaos_target {
    enum chaos_role role;
    uint32_t slot; /* CLLM_NONE: Node Zero or the guardian */
    uint32_t generation;
    pid_t pid;
    int pidfd;
};

/* For run @run_id under @guardian, a child of the caller. Nothing is attached yet. */
void chaos_view_init(struct chaos_view *view, const char *run_id, pid_t guardian);
void chaos_view_fini(struct chaos_view *view);

/*
 * Map the control object that bears the run's name now; a run that began anew has another
 * one. False when there is none, or a half-made one: try again.
 */
bool chaos_view_refresh(struct chaos_view *view);

/* Which processes of a slot are meant. */
enum chaos_want {
    CHAOS_WANT_ANY = 0,
    CHAOS_WANT_UP,       /* has said hello */
    CHAOS_WANT_STARTING, /* has not */
};

/*
 * A living process of @role, the @pick-th modulo how many there are, of those that are
 * wanted. CHAOS_TREE gives Node Zero, by which the moment is judged; for these two, @want
 * is not looked at. False: there is none now. Pair with chaos_target_close().
 */
bool chaos_view_find(struct chaos_view *view, struct chaos_target *target,
                     enum chaos_role role, uint32_t pick, enum chaos_want want);

/* What phase a kill of @target hits now. @view is attached. */
enum chaos_phase chaos_view_phase(const struct chaos_view *view,
                                  const struct chaos_target *target);

/* Is it still the living process that it was? */
bool chaos_target_alive(const struct chaos_target *target);

/* Send @signal. False: it had ended. */
bool chaos_target_signal(const struct chaos_target *target, int signal);
void chaos_target_close(struct chaos_target *target);

/* pidfds of the guardian, Node Zero and every slot's process: the whole tree. At most
 * @max; returns how many. */
uint32_t chaos_view_tree(struct chaos_view *view, struct chaos_target *targets,
                         uint32_t max);

#endif /* CLLM_TESTS_CRASH_CHAOS_VIEW_H */
