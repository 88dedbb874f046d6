/*
 * tests/crash/sim.h - the deterministic simulator: what its files share.
 *
 * One process plays a whole run. The code of Node Zero, of the shared records, and of the
 * worker, loader and saver is the real one; what lies beyond it is not: processes are
 * coroutines, shared memory is an array, time is a number, the kernel's calls end in
 * sim_kernel.c, and the arithmetic is a toy of a few words a chunk. The real code is
 * compiled with store instrumentation, so that before every store to shared memory the
 * scheduler may switch, stop or kill. A run is a function of its seed.
 *
 *   sim.c             arguments, many runs, totals
 *   sim_run.c         one run: the faults it will meet, the guardian, how it must end
 *   sim_sched.c       coroutines, the scheduler
 *   sim_faults.c      deaths, stops, bugs of processes and of memory
 *   sim_hooks.c       what the compiler calls before each access
 *   sim_memory.c      shared objects by name, who may write where
 *   sim_kernel.c      the kernel's calls: clock, descriptors, signals
 *   sim_children.c    processes that Node Zero starts, signals and reaps
 *   sim_house.c       the rest of the house: plan, journal, checkpoints, silence
 *   sim_roles.c       the children, with a toy model
 *   sim_files.c       the loader's shard, the saver's checkpoints
 *   sim_golden.c      what an undisturbed run makes, computed by plain loops
 *   sim_check.c       the rules that hold at every instant
 *   sim_check_work.c  of assignments and lanes
 *   sim_violation.c   what is printed of one that is broken
 *   sim_trace.c       the last events, in words
 */
#ifndef CLLM_TESTS_CRASH_SIM_H
#define CLLM_TESTS_CRASH_SIM_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

#include "base/config.h"
#include "shm/control.h"

#define SIM_MAX_WORKERS  10 /* slots */
#define SIM_PROCESSES    (1 + SIM_MAX_WORKERS + 2)
#define SIM_ARENA_BYTES  (UINT64_C(4) << 20)
#define SIM_ARENA_PAGES  (SIM_ARENA_BYTES / CLLM_PAGE)
#define SIM_OBJECTS      64
#define SIM_MAX_STEPS    8
#define SIM_MAX_LANES    24
#define SIM_MAX_CHUNKS   4
#define SIM_CHUNK_WORDS  2 /* 64-bit words a chunk, in each of w, m, v */
#define SIM_MAX_WORDS    (SIM_MAX_CHUNKS * SIM_CHUNK_WORDS)
#define SIM_ALLOWED      8
#define SIM_NAN_WORD     UINT64_C(0x7ff8dead00000bad) /* the toy's "not finite" */
#define SIM_NUMERICS     UINT64_C(0x5e1f7e57)
#define SIM_SHARD_TOKENS 97

/* ---- one run ---- */

/* What the seed decides before the run begins. */
struct sim_plan {
    uint64_t seed;
    uint32_t lanes, workers, worker_slots, chunks, buffers, steps;
    uint32_t microbatches, eval_every, checkpoint_every;
    uint32_t last_chunk_words;
    bool kept; /* lanes, until the update */
    uint32_t spares, audit;
    uint32_t active;    /* workers at once */
    bool children_only; /* kill_mean spares Node Zero */

    /* faults; "mean" is in events, 0 = never */
    uint32_t burst;         /* mean length of an undisturbed turn */
    uint32_t kill_mean;     /* SIGKILL of somebody */
    uint32_t nz_mean;       /* SIGKILL of Node Zero */
    uint32_t damage_mean;   /* a word of a report or of the ring changes */
    uint32_t signal_mean;   /* a fault signal of a child, with scribbling before it */
    uint32_t stop_mean;     /* SIGSTOP of somebody, or a hang */
    uint32_t stall;         /* in 256: held up before a store that others act upon */
    uint32_t tree_mean;     /* everybody at once */
    uint32_t ring_loss;     /* in 256: rings that are lost */
    uint32_t fork_failures; /* in 256 */
    uint32_t reboots;       /* shared memory is lost so often */
    uint32_t save_failures; /* in 256 */
    uint32_t slow_saves;    /* in 256: the saver begins late */
    uint32_t people;        /* in 256 turns of Node Zero: somebody asks for something */
    uint32_t wrong_slot;    /* worker slot that errs in 256: wrong bits, or not finite; */
    uint32_t wrong;         /* CLLM_NONE = none */
    uint32_t flips;         /* bits of the committed version that flip with a fault */
    enum sim_end {
        SIM_END_WELL = 0,
        SIM_END_NONFINITE, /* lane bad_lane of step bad_step is truly not finite */
        SIM_END_POISON     /* it kills every worker */
    } bad;
    uint32_t bad_lane, bad_step; /* CLLM_NONE = none */
    bool skip;                   /* the policy: leave the step out; else stop */
    uint64_t quiet_at;           /* event after which nothing bad happens any more */
    uint64_t bound;              /* event by which the run must have ended */
};

enum sim_role { SIM_NODE_ZERO = 0, SIM_WORKER, SIM_LOADER, SIM_SAVER };

/* One assignment that a process was given and has not answered, as the simulator saw it.
 */
struct sim_held {
    bool active;
    struct cllm_assignment work;
    uint64_t seq;
};

struct sim_process {
    enum sim_role role;
    bool exists; /* forked and not reaped */
    bool live;   /* has not ended */
    bool asleep;
    bool stopped, hung;
    bool spinning; /* hangs in a circle, not asleep */
    uint64_t stop_since_ns;
    bool forever; /* nobody continues it: it is ended when that time has come */
    bool leaving; /* its parent is gone: dies within a few events */
    uint32_t doom;
    uint64_t wake_ns, stop_until_ns; /* SIM_FOREVER = never */
    uint64_t mask;                   /* what wakes it before: enum sim_wake */
    uint32_t pid, parent, slot, generation;
    int end_code;
    bool end_signal;
    bool stop_news; /* a change that waitid() has not told yet */
    uint64_t events;
    uint64_t cpu_ns;

    /* the coroutine */
    bool begun;
    uint8_t *stack;
    ucontext_t context;
    jmp_buf at;
    uint8_t *heap;
    size_t heap_used;
    void (*beat)(void *ctx); /* base/pulse.h */
    void *beat_ctx;
    char args[8][80];
    char *argv[9];
    int argc;

    /* what it may write besides its own pages */
    struct sim_range {
        uint64_t off, bytes;
    } allowed[SIM_ALLOWED];

    struct sim_held held[4];
    struct sim_held answer[2]; /* the newest two that it has answered, by seq & 1 */
    uint64_t answered;         /* newest seq that it reported */
    bool answer_good;          /* and the report was not damaged on purpose */
    uint32_t reading;          /* saver: version + 1 that its snapshot reads */
    bool greeted;              /* it has said hello */

    /* a store of several words that may be torn */
    uint64_t tear_off;
    uint32_t tear_bytes;
    uint64_t tear_newest, tear_root; /* what was committed before it */
    uint8_t tear_old[256];
};

enum sim_object_kind {
    SIM_OBJECT_NONE = 0,
    SIM_OBJECT_CONTROL,
    SIM_OBJECT_PARAMS,
    SIM_OBJECT_LANE,
    SIM_OBJECT_FOLD,
    SIM_OBJECT_RING
};

struct sim_object {
    enum sim_object_kind kind;
    uint32_t index;
    bool named;
    uint64_t off, bytes;
    char name[CLLM_REGION_NAME_BYTES];
};

struct sim_line {
    uint64_t step, root, tokens;
    double loss, norm;
};

struct sim_checkpoint {
    bool there;
    struct cllm_step_record record;
    uint64_t words[3 * SIM_MAX_WORDS];
};

/* What each step of an undisturbed run makes. */
struct sim_golden {
    uint64_t words[3 * SIM_MAX_WORDS]; /* w, m, v */
    struct cllm_step_record record;
};

enum sim_event_kind {
    SIM_STORE = 0,
    SIM_LOAD,
    SIM_SWITCH,
    SIM_MESSAGE,
    SIM_KILL,
    SIM_STOP,
    SIM_CONTINUE,
    SIM_FAULT,
    SIM_START,
    SIM_END,
    SIM_NOTE
};

/* Totals over all runs of this process. */
struct sim_totals {
    uint64_t runs, events, crashes, nz_crashes, nested, trees, stops, zombies, faults;
    uint64_t sdcs, reboots, fork_failures, lost_rings, commits, saves, poisoned;
    uint64_t resumes, damages, stalls;
};

struct sim {
    struct sim_plan plan;
    struct cllm_config config;
    struct cllm_geometry geometry;
    uint64_t random;
    uint64_t now_ns;
    uint64_t events; /* of this run */
    uint64_t fuse;   /* event at which the scheduler looks again */
    uint64_t kill_at, nz_at, damage_at, signal_at, stop_at, tree_at, switch_at;
    bool quiet; /* no more faults */
    bool over;

    struct sim_process process[SIM_PROCESSES]; /* [0] Node Zero, [1 + slot] */
    struct sim_process *current;
    jmp_buf scheduler;
    uint32_t next_pid, guardian_pid;
    uint32_t starts; /* of Node Zero */

    uint8_t *arena;
    uint8_t page_object[SIM_ARENA_PAGES];
    struct sim_object object[SIM_OBJECTS];
    uint64_t arena_used;

    /* descriptors of Node Zero */
    uint64_t event_count;
    uint32_t signals;     /* pending, bit s */
    uint32_t signal_mask; /* of the signalfd */
    struct {
        int fd;
        uint64_t data;
    } watched[SIM_PROCESSES + 8];

    /* what is on the disk */
    struct sim_line line[SIM_MAX_STEPS + 1];
    uint32_t n_lines;
    struct sim_checkpoint checkpoint[SIM_MAX_STEPS + 1];

    struct sim_golden golden[SIM_MAX_STEPS + 1];

    /* checker */
    struct cllm_control view; /* of the control object, for looking only */
    bool have_view;
    uint32_t after; /* enum sim_after bits: what to look at after the store */
    uint64_t after_off;
    uint32_t before_state, before_slot, before_generation;
    uint64_t before_seq;
    uint64_t newest; /* step of the newest valid record; SIM_NO_STEP = none */
    uint64_t newest_root;
    bool scribbled; /* control was written wildly: what was committed may be lost */
    bool suspect;   /* a Node Zero was ended by a fault signal */
    uint64_t kept_faults;
    uint32_t after_commit;
    uint32_t saves_failed;
    bool ring_damaged, flipped;
    bool blamed;     /* a lane may be poison by mistake */
    uint32_t n_kept; /* results that a new Node Zero finds and must not throw away */
    struct {
        uint64_t table;
        uint32_t lane;
    } kept[2 * SIM_MAX_LANES];
    uint32_t faults_on[SIM_MAX_STEPS + 1][SIM_MAX_LANES];

    struct sim_totals totals;
    const char *failed; /* name of the check that caught it; NULL = none */
    bool verbose;
};

extern struct sim sim;

#define SIM_FOREVER UINT64_MAX
#define SIM_NOWHERE UINT64_MAX
#define SIM_NO_STEP UINT64_MAX

#define SIM_FD_PROCESS 1000000 /* + pid: a descriptor of Node Zero */

/* ---- sim_sched.c ---- */

uint64_t sim_random(void);
bool sim_chance(uint32_t in_256);
/* A length with mean @mean, at least 1; SIM_FOREVER for 0. */
uint64_t sim_gap(uint32_t mean);

/* Start a coroutine in @process, which is filled as far as role, slot, pid, args. */
void sim_spawn(struct sim_process *process);
/* End @process by @signal (0: it left with @code). Does not return for the current one.
 */
void sim_end(struct sim_process *process, int signal, int code);
/* The current process sleeps until @wake_ns or until something wakes it. */
void sim_sleep(uint64_t wake_ns);
void sim_wake(struct sim_process *process);
/* The current process stays where it is; others take turns. */
void sim_yield(void);
/* The scheduler looks at what happens next; called when the fuse has burnt. */
void sim_decide(enum sim_event_kind kind, uint64_t off, uint32_t bytes);
/* The current process may be held up just before its store at @off, or SIM_NOWHERE. */
void sim_stall(uint64_t off);
/* Everybody takes turns until the run is over. */
void sim_loop(void);
void sim_set_fuse(void);
/* When the Node Zero that begins now is killed. */
void sim_next_nz(void);
const char *sim_process_name(const struct sim_process *process);

/* ---- sim_faults.c ---- */

/* Whoever is chosen; those of the current process do not return when it ends. */
void sim_kill_node_zero(void);
void sim_kill_one(void);
/* Everybody, the guardian too; shared memory as well where the plan has a reboot. */
void sim_kill_tree(void);
/* Stop a process or let it hang, for a while or for ever. */
void sim_stop_one(void);
/* It goes on; unless nobody continues it, then it is ended. */
void sim_continue(struct sim_process *process);
/* A child has a bug: it may scribble before a signal ends it. */
void sim_fault_one(void);
/* A word of a report or of the ring changes, and nobody dies. */
void sim_damage_one(void);

/* ---- sim_hooks.c ---- */

/* The toy stores a word in shared memory. */
void sim_store64(void *address, uint64_t value);
/* A message or decision that counts as an event, of the current process. */
void sim_message(const char *what, uint64_t value);

/* ---- sim_memory.c ---- */

void sim_memory_reset(void);
void sim_memory_wipe(void); /* the machine has started anew */
struct sim_object *sim_object_at(uint64_t off);
uint8_t *sim_object_base(enum sim_object_kind kind, uint32_t index);
bool sim_may_write(const struct sim_process *process, uint64_t off, uint32_t bytes);

/* ---- sim_kernel.c ---- */

struct sim_process *sim_by_pid(uint32_t pid);
void sim_signal_node_zero(int signal);

/* ---- sim_house.c ---- */

void sim_house_verify_checkpoint(uint64_t step);

/* ---- sim_roles.c ---- */

void sim_run_child(struct sim_process *process);

/* ---- sim_golden.c ---- */

uint64_t sim_mix(uint64_t a, uint64_t b, uint64_t c);
uint32_t sim_words(void); /* in a vector */
void sim_tokens(bool eval, uint64_t sequence, uint32_t *out);
uint64_t sim_token_hash(const uint32_t *tokens);
double sim_loss(const uint64_t *w, const uint32_t *tokens);
uint64_t sim_gradient_word(uint64_t before, uint64_t w, uint64_t token_hash, uint32_t i);
uint64_t sim_fold_word(uint64_t sum, uint64_t lane);
double sim_square(uint64_t word);
uint64_t sim_update_word(uint64_t old, uint64_t gradient, float scale, float rate,
                         uint64_t step, uint32_t part);
uint64_t sim_initial_word(uint64_t seed, uint32_t i);
void sim_golden_make(void);

/* ---- sim_check.c ---- */

/* Before a store of @bytes at @off by the current process: may it? */
void sim_check_before(uint64_t off, uint32_t bytes);
/* After the store that sim_check_before() found worth a look. */
void sim_check_after(void);
void sim_check_reset(void);
/* The control object was made, adopted or lost. */
void sim_check_attach(void);
/* Control is about to be removed: nothing that is committed may be lost. */
void sim_check_removal(void);
/* Control has been written wildly: what is left is what counts. */
void sim_check_scribbled(void);
/* All that can be looked at without an event; after a death, at the end. */
void sim_check_all(void);
void sim_check_end(int exit_code);

/* ---- sim_check_work.c ---- */

/* Slot @slot's assignment or report @k was posted; a report of it was taken. */
void sim_check_post(uint32_t slot, uint32_t k);
void sim_check_report(uint32_t slot, uint32_t k);
void sim_check_taken(uint32_t slot);
/* Lane @l of the table was @was. */
void sim_check_lane(uint32_t l, const struct cllm_lane *was);
/* A new Node Zero begins: what it finds must not be computed again. */
void sim_check_adoption(void);

/* ---- sim_violation.c ---- */

/* Rule @check is broken: say so and exit. */
CLLM_NORETURN void sim_violation(const char *check, const char *fmt, ...)
    CLLM_PRINTF(2, 3);

/* ---- sim_run.c ---- */

/* One run. A violation is printed and ends the program. */
void sim_run(uint64_t seed);
/* Node Zero begins, or begins again. */
void sim_start_node_zero(void);
void sim_node_zero_ended(struct sim_process *process);

/* ---- sim_trace.c ---- */

void sim_trace(enum sim_event_kind kind, const struct sim_process *process, uint64_t off,
               uint64_t value, const char *text);
void sim_trace_print(uint32_t n);
void sim_trace_reset(void);

#endif /* CLLM_TESTS_CRASH_SIM_H */
