/*
 * coordinator/node.h - the inside of Node Zero: what its files share. nodezero.h is the
 * outside.
 *
 *   nodezero.c     the loop: the step moves on, work is given out
 *   node_begin.c   locks, objects, descriptors, the first step
 *   node_events.c  epoll: pidfds, signals, the eventfd that children ring
 *   node_control.c what people ask over the control socket
 *   node_deaths.c  reports taken, the dead buried, what they held given back
 *   node_watch.c   who is stopped, who hangs
 *   node_end.c     reasons to stop, the last checkpoint, the last words
 */
#ifndef CLLM_COORDINATOR_NODE_H
#define CLLM_COORDINATOR_NODE_H

#include "base/log.h"
#include "coordinator/control_socket.h"
#include "coordinator/heartbeat.h"
#include "coordinator/journal.h"
#include "coordinator/nodezero.h"
#include "coordinator/plan.h"
#include "coordinator/progress.h"
#include "coordinator/saving.h"
#include "coordinator/step.h"
#include "coordinator/team.h"

/* How the run is being brought to its end. */
enum cllm_node_ending {
    CLLM_ENDING_NO = 0,
    CLLM_ENDING_STEP, /* asked to stop: finish the step, save, leave */
    CLLM_ENDING_SAVE, /* save what is committed, leave */
    CLLM_ENDING_NOW,  /* leave */
};

/* Time that workers say they worked, summed over them. */
struct cllm_node_worked {
    uint64_t lane_ns, fold_ns, update_ns, eval_ns;
};

struct cllm_node {
    const struct cllm_config *config;
    struct cllm_plan plan;
    struct cllm_control control;
    struct cllm_team team;
    struct cllm_step step;
    struct cllm_saving saving;
    struct cllm_journal journal;
    struct cllm_progress progress;
    struct cllm_control_socket control_socket;
    struct cllm_heartbeat heartbeat;
    int epoll_fd, event_fd, signal_fd, lock_fd, log_fd;

    enum cllm_node_ending ending;
    int exit_code;
    char reason[512]; /* error text that ends the run; "" = none */
    uint64_t
        save_progress; /* the saver's progress word while the run ends, and since when */
    uint64_t save_progress_ns;
    uint32_t stops; /* signals that asked to stop */
    bool save_now;  /* SIGUSR1, a save that failed or was lost */
    bool held;      /* paused: a step is committed and the next one is not open */
    uint64_t held_since_ns;
    uint64_t refetch_step; /* the last step with batches that were damaged in the ring */
    uint32_t refetches;    /* how many of them */

    uint64_t step_began_ns;
    uint64_t wait_data_before,
        wait_saver_before;          /* counters at the beginning of the step */
    struct cllm_node_worked worked; /* in this step */
    struct cllm_device_meter meter; /* what devices had counted when it began */
    uint64_t watched_ns;            /* when everybody was last looked at */
    struct cllm_pace pace[3];       /* of lanes, validation lanes, chunks */
    bool damaged;                   /* shared memory holds nothing worth keeping */
    uint64_t
        data_wait_since[CLLM_MAX_WORKERS]; /* 0 = that worker does not wait for data */
};

/* ---- node_begin.c ---- */

/* Make or find the run and open everything. Returns 0 or a negative code with text. */
int cllm_node_begin(struct cllm_node *nz, const struct cllm_options *options);

/* ---- nodezero.c ---- */

/* nz->step.record is committed: open the step after it, or come to the end. */
void cllm_node_go_on(struct cllm_node *nz);

/* The step is open: what is measured over it begins. */
void cllm_node_step_begins(struct cllm_node *nz);

/* Is the committed step @record to become a checkpoint, by the configuration alone? */
bool cllm_node_save_due(const struct cllm_node *nz,
                        const struct cllm_step_record *record);

/* ---- node_events.c ---- */

int cllm_node_open_events(struct cllm_node *nz);

/* Sleep until something happens or a turn is over; signals and deaths are dealt with
 * here. */
void cllm_node_wait(struct cllm_node *nz);

/* ---- node_control.c ---- */

/* A cllm_control_socket_fn; @ctx is the struct cllm_node. */
json_t *cllm_node_answer(void *ctx, const struct cllm_control_socket_request *request);

/* Want @workers worker slots from now on, 1 <= @workers <= n_worker_slots. */
void cllm_node_want_workers(struct cllm_node *nz, uint32_t workers);

/* So many of them compute at once. */
uint32_t cllm_node_active(const struct cllm_node *nz);

/* A checkpoint as soon as a step is committed, even if Node Zero dies before that. */
void cllm_node_want_save(struct cllm_node *nz);

/* Finish the step, save, leave, exit with 75. */
void cllm_node_stop(struct cllm_node *nz);

/* Does somebody want the run to be paused? */
bool cllm_node_pause_wanted(const struct cllm_node *nz);

/* ---- node_deaths.c ---- */

/* Take every report that is there. */
void cllm_node_harvest(struct cllm_node *nz);

/* The process of @slot has ended: take its last reports, bury it, give back what it held.
 */
void cllm_node_bury(struct cllm_node *nz, uint32_t slot);

/* Whoever was saving does not: what was being saved is due again, if it is still there.
 */
void cllm_node_revoke_saving(struct cllm_node *nz);

/* "lane 7 of step 121", "chunks 0..3 of the update of step 121", "idle" */
void cllm_node_describe_work(const struct cllm_node *nz, uint32_t slot, char *out,
                             size_t bytes);

/* What the process of @slot says of itself. */
const struct cllm_status *cllm_node_status(const struct cllm_node *nz, uint32_t slot);

/* ---- node_watch.c ---- */

/* Give up who does not go on, end who will not, every turn. */
void cllm_node_watch(struct cllm_node *nz);

/* ---- node_end.c ---- */

/* Tell people: terminal, log file and shared memory. */
void cllm_node_announce(struct cllm_node *nz, enum cllm_log_level level,
                        const char *text);

/* The error text says why the run must end; what is committed is saved first. */
void cllm_node_fail(struct cllm_node *nz, int rc);

/* Nothing in shared memory can be trusted (error text says why): leave at once, remove
 * it; the guardian begins again from the newest checkpoint. */
void cllm_node_give_up_memory(struct cllm_node *nz);

uint64_t cllm_node_committed(const struct cllm_node *nz);

/* Stop giving out work; save what is committed, then leave. */
void cllm_node_end(struct cllm_node *nz);

/* True when there is nothing left to wait for. */
bool cllm_node_at_end(struct cllm_node *nz);

/* Everybody leaves; objects are removed unless they hold what no checkpoint has. */
void cllm_node_finish(struct cllm_node *nz);

#endif /* CLLM_COORDINATOR_NODE_H */
