/*
 * coordinator/team.h - the processes of a run: started, greeted, buried, started again.
 *
 * The slot table in the control object holds what is known of each; here are the handles
 * (pidfds) and the restart budget. States: coordinator/README.md.
 */
#ifndef CLLM_COORDINATOR_TEAM_H
#define CLLM_COORDINATOR_TEAM_H

#include "base/config.h"
#include "coordinator/children.h"
#include "coordinator/devices.h"
#include "coordinator/health.h"
#include "coordinator/placement.h"
#include "shm/control.h"

#define CLLM_TEAM_DEATHS 1024 /* newest deaths remembered for the restart budget */

struct cllm_team {
    struct cllm_control *control;
    const struct cllm_config *config;
    const struct cllm_placement *placement;
    struct cllm_devices *devices;
    char binaries[1024]; /* directory of the programs */
    int epoll_fd;        /* pidfds are added with the slot as data */
    int event_fd;        /* children ring it */
    int generation_lock; /* inherited by every child */
    uint32_t workers;    /* so many may work at once */
    uint32_t spares;     /* so many more are kept ready */
    bool leaving;        /* start nobody any more */

    struct cllm_process process[CLLM_MAX_WORKERS + 2];
    uint64_t started_ns[CLLM_MAX_WORKERS + 2];
    uint64_t due_ns[CLLM_MAX_WORKERS + 2];     /* COOLDOWN: when to start again */
    uint32_t streak[CLLM_MAX_WORKERS + 2];     /* short lives in a row */
    bool dismissed[CLLM_MAX_WORKERS + 2];      /* one too many: asked to leave */
    bool greeted[CLLM_MAX_WORKERS + 2];        /* this process has said hello */
    uint64_t stopped_ns[CLLM_MAX_WORKERS + 2]; /* since when; 0 = it is not */
    struct cllm_health health[CLLM_MAX_WORKERS + 2];

    bool excused[CLLM_MAX_WORKERS + 2]; /* this death is not its own fault */
    uint64_t n_deaths;
    uint64_t death_ns[CLLM_TEAM_DEATHS];

    /* What every worker must make; 0 = the first one says; or CLLM_NUMERICS_MIXED, and
     * then workers of one device must agree with each other. */
    uint64_t numerics;
    uint64_t made[CLLM_MAX_WORKERS]; /* by the newest process of each slot; 0 = none */
    bool allow_numerics_change;
    bool turned; /* mixed just now: for the owner to say and to take back */
};

/* @config, @placement and @devices are borrowed. */
int cllm_team_init(struct cllm_team *team, struct cllm_control *control,
                   const struct cllm_config *config,
                   const struct cllm_placement *placement, struct cllm_devices *devices,
                   uint32_t workers, int epoll_fd, int event_fd, int generation_lock);

/* From now on workers' numbers may differ, and nothing is compared that depends on them.
 */
void cllm_team_mix(struct cllm_team *team);

/* So many workers are wanted from now on; who lives is pinned, or let loose, anew. */
void cllm_team_want(struct cllm_team *team, uint32_t workers);

uint32_t cllm_team_loader(const struct cllm_team *team); /* slot numbers */
uint32_t cllm_team_saver(const struct cllm_team *team);
bool cllm_team_wanted(const struct cllm_team *team, uint32_t slot);

/* Said hello and lives: may be given work. */
bool cllm_team_ready(const struct cllm_team *team, uint32_t slot);

/* Said hello, may not be trusted to go on, and may still report: SUSPECT or STOPPED. */
bool cllm_team_given_up(const struct cllm_team *team, uint32_t slot);

/* @slot gets nothing more, may still report, and is in @state: SUSPECT or STOPPED. */
void cllm_team_give_up(struct cllm_team *team, uint32_t slot, enum cllm_slot_state state);

/* It goes on after all. */
void cllm_team_trust(struct cllm_team *team, uint32_t slot);

/* SIGKILL does not end it: its slot is out of use until it does end. */
void cllm_team_unkillable(struct cllm_team *team, uint32_t slot);

/*
 * End @slot's process and never start another there. False when it is the last worker
 * slot that can be used: then nothing is done.
 */
bool cllm_team_retire(struct cllm_team *team, uint32_t slot);

/*
 * Start who is wanted and due, greet who has said hello, end who does not say it. Who is
 * not wanted (any more) finishes what he holds, is asked to leave, and is not replaced.
 * Returns 0 or a negative code with text that ends the run.
 */
int cllm_team_tend(struct cllm_team *team, uint64_t now_ns);

/* When the next cool-down ends; UINT64_MAX = none. */
uint64_t cllm_team_next_due(const struct cllm_team *team);

/*
 * @slot's process has ended; its reports have been taken. Reaps it, writes the obituary
 * into the slot, plans the restart. Returns 0, or CLLM_EBUDGET with text.
 */
int cllm_team_bury(struct cllm_team *team, uint32_t slot, uint64_t now_ns,
                   struct cllm_ending *ending);

/* Did the process of @slot that ended like this leave because it was one too many? */
bool cllm_team_left(const struct cllm_team *team, uint32_t slot,
                    const struct cllm_ending *ending);

/* End @slot's process now; it will be buried and started again. */
void cllm_team_kill(struct cllm_team *team, uint32_t slot);

/* Likewise, for no fault of its own: its death is not one of the restart budget. */
void cllm_team_renew(struct cllm_team *team, uint32_t slot);

/* Ask everybody to leave, wait @timeout_ms, end the rest, bury all. Starts nobody again.
 */
void cllm_team_dismiss(struct cllm_team *team, int timeout_ms);

#endif /* CLLM_COORDINATOR_TEAM_H */
