/*
 * tools/shm_view.h - a private, checked copy of what a run's control object says.
 *
 * Everything that cllm-shm shows is taken from here: one copy in plain memory, texts made
 * printable, indices bounded, so that what prints it need not fear a process that wrote
 * nonsense before it died. Never writes shared memory.
 */
#ifndef CLLM_TOOLS_SHM_VIEW_H
#define CLLM_TOOLS_SHM_VIEW_H

#include "shm/control.h"
#include "tools/shm_runs.h"

#define CLLM_SHM_HUNG_NS (5 * UINT64_C(1000000000)) /* heartbeats are many a second */
#define CLLM_SHM_YOUNG_S 60 /* what has no known maker is left alone while younger */
#define CLLM_SHM_DOING   80

/* What has become of a run, as an onlooker sees it. */
enum cllm_shm_life {
    CLLM_SHM_GONE = 0,  /* nothing of it is in shared memory */
    CLLM_SHM_STARTING,  /* Node Zero lives and prepares */
    CLLM_SHM_LIVE,      /* it lives and its heartbeat is fresh */
    CLLM_SHM_HUNG,      /* it lives, but its heartbeat is old */
    CLLM_SHM_DEAD,      /* Node Zero is gone, the run's memory is there */
    CLLM_SHM_TAKEOVER,  /* likewise, but a guardian holds the run and starts another */
    CLLM_SHM_HALF_MADE, /* its maker died before the control object was finished */
    CLLM_SHM_BAD,       /* another build's, or damaged, or not ours to read: see reason */
    CLLM_SHM_LEFTOVER,  /* objects without a control object */
    CLLM_SHM_LAST
};

const char *cllm_shm_life_name(uint32_t life);

/* Where the time of a worker went since its process started, ns. */
struct cllm_shm_time {
    uint64_t lane, fold, update, eval; /* at work; update: all that writes parameters */
    uint64_t wait_data;                /* idle, because the ring was behind */
    uint64_t wait_schedule;            /* idle for any other reason */
};

struct cllm_shm_slot {
    struct cllm_command command; /* Node Zero's words */
    struct cllm_status status;   /* the process's own words */
    bool said_hello;             /* and of the present generation */
    bool gone;                   /* Node Zero is gone, and this slot's process too */
    struct cllm_shm_time time;   /* workers */
    uint64_t busy_ns;            /* since the process started */
    double busy_share;           /* of busy_ns + idle_ns; below 0 = cannot be told */
    char doing[CLLM_SHM_DOING];  /* one phrase for people */
};

struct cllm_shm_view {
    char id[CLLM_REGION_NAME_BYTES];
    enum cllm_shm_life life;
    char reason[512]; /* HALF_MADE, BAD, LEFTOVER: why, and what to do; else "" */
    const struct cllm_shm_run *run; /* its objects; borrowed */

    uint64_t taken_ns;     /* CLOCK_MONOTONIC */
    int64_t taken_unix_ns; /* wall time */
    uint64_t heartbeat_age_ns;
    uint64_t elapsed_ns;   /* from the start to now, or to the last heartbeat */
    uint64_t pid;          /* of Node Zero, or of the maker; 0 = unknown */
    uint64_t guardian_pid; /* 0 = gone, or unknown */
    char process_state;    /* R S D T Z ... of that process; '\0' = gone */
    bool torn;             /* it changed too fast: parts may be of different steps */

    /* From here on: only when the control object could be read (has_control). */
    bool has_control;
    struct cllm_header header;
    struct cllm_state state;
    double loss, valid_loss, tokens_per_s; /* of state; NaN = none yet */
    struct cllm_step_record record[2];
    bool record_valid[2];
    int newest_record; /* 0, 1; -1 = nothing committed yet */
    bool root_agrees;  /* the newest record's root is that of the chunk table */
    uint32_t n_lanes, n_chunks, n_slots, n_events;
    uint32_t n_workers;                      /* worker slots that are not empty */
    struct cllm_lane *lane;                  /* heap [n_lanes] */
    struct cllm_chunk *chunk;                /* heap [n_chunks] */
    struct cllm_shm_slot *slot;              /* heap [n_slots] */
    struct cllm_event event[CLLM_N_EVENTS];  /* [n_events], newest first */
    uint32_t lanes_in[CLLM_LANE_LAST + 1];   /* counts; the last: invalid states */
    uint32_t chunks_in[CLLM_CHUNK_LAST + 1]; /* likewise */
    double wait_data_share; /* of the workers' time since the start; below 0 = unknown */
    struct cllm_shm_time time; /* summed over the workers that live */
    double node_zero_share;    /* of one processor, since it began; below 0 = unknown */
};

/*
 * Copy what is known of @run, which must outlive the view. A run that cannot be read is
 * no failure: life and reason say what is wrong with it. Returns 0, or -ENOMEM with text.
 * Pair with fini.
 */
int cllm_shm_view_take(struct cllm_shm_view *view, const struct cllm_shm_run *run);

/* The same of a control object that is mapped already. */
int cllm_shm_view_copy(struct cllm_shm_view *view, const struct cllm_shm_run *run,
                       const struct cllm_control *control);
void cllm_shm_view_fini(struct cllm_shm_view *view); /* safe on a zeroed struct */

/* All of it, ns; 0 = nothing was counted yet. */
double cllm_shm_time_all(const struct cllm_shm_time *time);

/* Letter of process @pid in /proc/@pid/stat, '\0' when there is none. */
char cllm_shm_process_state(uint64_t pid);

/* Copy @from to @to, as printable UTF-8: controls and broken bytes become '?'. */
void cllm_shm_clean_text(char *to, size_t to_bytes, const char *from, size_t from_bytes);

#endif /* CLLM_TOOLS_SHM_VIEW_H */
