/*
 * shm/layout.h - every byte that processes share: what is not declared here is not.
 *
 * Rules (shm/README.md has the reasons):
 *  - fixed-width types, explicit padding, offsets and ids instead of pointers;
 *  - one writer for each page, named above each struct; but doorbells, which are no
 * truth;
 *  - a record is filled first and made visible by one word stored last with release;
 *  - records that are trusted across processes carry a hash over all bytes before it;
 *  - the layout hash (cllm_layout_hash) covers sizes, offsets and limits: processes built
 * from different structs refuse each other.
 *
 * The control object, in page-aligned sections whose offsets stand in the header:
 *
 *   header | state | step records | lanes | chunks | events | fault points | slots |
 *   config text | manifest
 *
 * and for each slot four pages: command (Node Zero writes), own and crash record (that
 * process writes), doorbell (a semaphore).
 */
#ifndef CLLM_SHM_LAYOUT_H
#define CLLM_SHM_LAYOUT_H

#include <assert.h>
#include <semaphore.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/base.h"
#include "base/fault.h"
#include "base/lora.h"
#include "shm/device_status.h"

#define CLLM_LAYOUT_MAGIC   UINT64_C(0x314d48534d4c4c43) /* "CLLMSHM1" */
#define CLLM_LAYOUT_VERSION 6

#define CLLM_MAX_WORKERS       144
#define CLLM_MAX_LANES         1728 /* 12 * 12 * 12 */
#define CLLM_GROUP_LANES       12   /* lanes of a fold group; most children of a node */
#define CLLM_MAX_ASSIGN_CHUNKS 64   /* chunks in one FOLD or UPDATE assignment */
#define CLLM_N_EVENTS          64   /* newest lines of the run kept in shared memory */
#define CLLM_CRASH_FRAMES      32   /* return addresses in a crash record */
#define CLLM_CRASH_MODULES     16   /* program and libraries in a crash record */
#define CLLM_CRASH_REGISTERS   18   /* r8 to r15, rdi ... rip, flags: as in ucontext_t */
#define CLLM_CRASH_NAME_BYTES  32
#define CLLM_RUN_ID_BYTES      64
#define CLLM_PATH_BYTES        1024
#define CLLM_NONE              UINT32_MAX /* no slot, no lane, no buffer, no fold */

#define CLLM_CONTROL_SOCKET_NAME "control.sock" /* in the run directory */
#define CLLM_HUGE_ELEMENTS       524288         /* fill a huge page */

/* ---- roles and states ---- */

enum cllm_role {
    CLLM_ROLE_NONE = 0,
    CLLM_ROLE_WORKER,
    CLLM_ROLE_LOADER,
    CLLM_ROLE_SAVER,
    CLLM_ROLE_LAST
};

/* Life of a run as tools see it; Node Zero stores it in the state page. */
enum cllm_run_state {
    CLLM_RUN_STARTING = 0, /* objects exist, children are coming up */
    CLLM_RUN_RUNNING,
    CLLM_RUN_PAUSED,   /* between two steps, because people want it so */
    CLLM_RUN_STOPPING, /* last checkpoint, children leave */
    CLLM_RUN_ENDED,
    CLLM_RUN_LAST
};

/* Phase of the step being computed; a level, stored by Node Zero. */
enum cllm_phase {
    CLLM_PHASE_NONE = 0,
    CLLM_PHASE_INIT,    /* version 0 of the parameters is being written or loaded */
    CLLM_PHASE_COMPUTE, /* lanes; folding of finished runs of lanes goes on meanwhile */
    CLLM_PHASE_FOLD,    /* all lanes done, the rest is folded */
    CLLM_PHASE_UPDATE,
    CLLM_PHASE_COMMIT,
    CLLM_PHASE_EVAL,
    CLLM_PHASE_VERIFY, /* is the committed version what its record says? then again */
    CLLM_PHASE_LAST
};

/* Slot: who enters which state, see coordinator/README.md. */
enum cllm_slot_state {
    CLLM_SLOT_EMPTY = 0,  /* no process, none wanted */
    CLLM_SLOT_STARTING,   /* forked, has not said hello */
    CLLM_SLOT_IDLE,       /* said hello, no assignment */
    CLLM_SLOT_BUSY,       /* holds at least one assignment without a report */
    CLLM_SLOT_SUSPECT,    /* no progress for long: its work is given to others as well */
    CLLM_SLOT_STOPPED,    /* by SIGSTOP or its kind: likewise */
    CLLM_SLOT_KILLING,    /* told to go, not yet confirmed dead */
    CLLM_SLOT_COOLDOWN,   /* confirmed dead, waits for its next start */
    CLLM_SLOT_UNKILLABLE, /* SIGKILL does not end it: what it holds stays out of use */
    CLLM_SLOT_DISABLED,   /* will not be started again */
    CLLM_SLOT_LAST
};

/* Lane of the present step. Count lanes by scanning, never by counters. */
enum cllm_lane_state {
    CLLM_LANE_EMPTY = 0,  /* its batch is not in the ring yet */
    CLLM_LANE_READY,      /* may be assigned */
    CLLM_LANE_ASSIGNED,   /* slot, generation, seq, buffer say to whom */
    CLLM_LANE_DUPLICATED, /* several compute it; the first valid report wins */
    CLLM_LANE_RECHECK,    /* computed; another worker must find the same */
    CLLM_LANE_DONE,       /* buffer holds its gradient */
    CLLM_LANE_FOLDED,     /* in the fold, buffer free */
    CLLM_LANE_POISONED,   /* killed too many workers */
    CLLM_LANE_LAST
};

/* Chunk within a FOLD run, an UPDATE or an INIT. */
enum cllm_chunk_state {
    CLLM_CHUNK_OLD = 0,
    CLLM_CHUNK_ASSIGNED, /* slot and seq say to whom */
    CLLM_CHUNK_NEW,
    CLLM_CHUNK_LAST
};

/* What an assignment asks for. */
enum cllm_work {
    CLLM_WORK_NONE = 0,
    CLLM_WORK_LANE,   /* worker: gradient of one lane into its buffer */
    CLLM_WORK_EVAL,   /* worker: loss of one lane of the validation windows */
    CLLM_WORK_FOLD,   /* worker: add a run of lanes to the fold, chunks [lo, hi) */
    CLLM_WORK_MERGE,  /* worker: add a finished group to the total, chunks [lo, hi) */
    CLLM_WORK_UPDATE, /* worker: AdamW of chunks [lo, hi), version -> target */
    CLLM_WORK_COPY,   /* worker: chunks [lo, hi) of version unchanged into target */
    CLLM_WORK_VERIFY, /* worker: hash chunks [lo, hi) of target as they are */
    CLLM_WORK_INIT,   /* worker: initial weights of chunks [lo, hi) into target */
    CLLM_WORK_SAVE,   /* saver: version of step to disk */
    CLLM_WORK_LOAD,   /* saver: checkpoint from disk into target */
    CLLM_WORK_EXIT,   /* leave with exit code 0 */
    CLLM_WORK_LAST
};

/* Report flags. */
enum {
    CLLM_REPORT_FINITE = 1u << 0, /* loss and gradient have no NaN or Inf */
    CLLM_REPORT_BAD_BATCH =
        1u << 1, /* the ring slot's tag or hash was wrong; nothing computed */
    CLLM_REPORT_FAILED = 1u << 2,  /* could not be done; slot's last words say why */
    CLLM_REPORT_BAD_SUM = 1u << 3, /* input bytes did not match their recorded hash */
};

/* What people asked of a run over its control socket and that lasts. */
enum {
    CLLM_WISH_PAUSE = 1u << 0,
    CLLM_WISH_STOP = 1u << 1,
    CLLM_WISH_SAVE = 1u << 2,
};

const char *cllm_role_name(uint32_t role);
const char *cllm_run_state_name(uint32_t state);
const char *cllm_phase_name(uint32_t phase);
const char *cllm_slot_state_name(uint32_t state);
const char *cllm_lane_state_name(uint32_t state);
const char *cllm_chunk_state_name(uint32_t state);
const char *cllm_work_name(uint32_t work);

/* ---- header: Node Zero writes before READY, nobody afterwards ---- */

/* Sizes of everything; a pure function of configuration, data and worker capacity. */
struct cllm_geometry {
    struct cllm_model_config model; /* completed */
    struct cllm_lora lora;          /* rank 0: the weights of the model are trained */
    uint64_t n_params, n_elements;  /* trained numbers; their vector, 1024 divides it */
    uint64_t frozen_elements, frozen_hash; /* of the weights beneath adapters; or 0 */

    /* batch */
    uint32_t lanes, microbatches; /* of a step; of a lane */
    uint32_t sequences;           /* in a micro-batch; a row is context + 1 tokens */
    uint32_t eval_microbatches;   /* in a lane of the validation; 0 = no validation */
    uint64_t steps;               /* of the whole run */
    uint64_t seed;

    /* fold and update */
    uint64_t chunk_elements;
    uint32_t n_chunks;
    uint32_t n_groups; /* lanes / 12, rounded up */

    /* objects */
    uint32_t n_buffers; /* lane buffers */
    uint32_t n_folds;   /* cllm_lanes_kept(): 0; else 2, or 4 with more than one group */
    uint32_t n_slots;   /* workers, then loader, then saver */
    uint32_t n_worker_slots;
    uint32_t ring_steps;      /* steps that fit into the ring */
    uint32_t ring_slots;      /* ring_steps * lanes * microbatches */
    uint32_t ring_eval_slots; /* lanes * eval_microbatches, filled once */
    uint32_t pad0;
};
static_assert(sizeof(struct cllm_geometry) == 224, "no hidden padding in the geometry");

struct cllm_header {
    uint64_t magic; /* CLLM_LAYOUT_MAGIC */
    uint32_t layout_version;
    uint32_t pad0;
    uint64_t layout_hash; /* cllm_layout_hash() of the creator */
    uint64_t total_bytes; /* of the control object */

    char run_id[CLLM_RUN_ID_BYTES]; /* objects are /cllm-<uid>-<run id>-<part> */
    char run_dir[CLLM_PATH_BYTES];  /* absolute */
    char boot_id[40];
    int64_t created_unix_s;
    uint64_t creator_pid;
    uint64_t creator_start_ticks; /* field 22 of /proc/PID/stat: pids are used again */

    uint64_t config_hash;   /* of what the bits depend on in the configuration */
    uint64_t manifest_hash; /* of the data */
    struct cllm_geometry geometry;

    /* sections of the control object */
    uint64_t state_off, records_off, lanes_off, chunks_off, events_off, slots_off;
    uint64_t faults_off; /* struct cllm_fault_page: everybody may write it */
    uint64_t config_off, config_bytes;     /* .ini text with a NUL */
    uint64_t manifest_off, manifest_bytes; /* shard table text with a NUL */
    uint64_t texts_sum;                    /* hash of both texts, NULs included */

    uint64_t sum; /* hash of all bytes above */
    /* 0 while the object is half made; CLLM_LAYOUT_MAGIC stored last with release. */
    _Atomic uint64_t ready;
};
static_assert(sizeof(struct cllm_header) <= CLLM_PAGE, "the header is one page");

/* ---- state page: Node Zero writes, everybody reads ---- */

struct cllm_state {
    /* newest committed step; release after its record is complete */
    _Atomic uint64_t committed;
    _Atomic uint32_t run_state;            /* enum cllm_run_state */
    _Atomic uint32_t phase;                /* enum cllm_phase, of step committed + 1 */
    _Atomic uint64_t heartbeat_ns;         /* CLOCK_MONOTONIC of Node Zero's last loop */
    _Atomic uint32_t node_zero_generation; /* of this run directory's Node Zeros */
    uint32_t node_zero_pid;
    uint64_t node_zero_start_ticks;

    /* For people; relaxed, may be torn between fields. */
    _Atomic uint64_t started_ns;
    _Atomic uint64_t loss_bits;  /* double, step committed */
    _Atomic uint64_t valid_bits; /* double, newest validation; NaN before the first */
    _Atomic uint64_t valid_step;
    _Atomic uint64_t tokens_per_s_bits; /* double */
    _Atomic uint64_t eta_ns;
    _Atomic uint64_t saved_step; /* newest durable checkpoint */
    _Atomic uint64_t deaths;     /* of child processes in this run */
    _Atomic uint64_t lanes_redone;
    _Atomic uint64_t wait_data_ns;  /* of all workers: idle, the ring was behind */
    _Atomic uint64_t wait_saver_ns; /* updates that waited for the saver */
    _Atomic uint64_t lanes_late; /* reports of work that others had finished meanwhile */
    _Atomic uint32_t hurry_version; /* + 1, that the saver should let go of; 0 = none */
    _Atomic uint32_t distrust;      /* 1: the committed version is to be verified first */

    /* What of the open step outlives Node Zero; each one store, release. */
    _Atomic uint64_t lanes_of; /* cllm_lanes_of(): whose the table holds; 0 = none */
    _Atomic uint64_t folded;   /* cllm_folded(): what is in the folds */

    /* Outlive a Node Zero, for the next one of the same guardian. */
    _Atomic uint32_t workers; /* wanted now: worker slots [0, workers) */
    _Atomic uint32_t wishes;  /* CLLM_WISH_* */
    uint32_t guardian_pid;
    _Atomic uint32_t mixed; /* 1: workers' numbers differ: two opinions prove nothing */
    uint64_t guardian_start_ticks;
    _Atomic uint64_t turns; /* a step went back: copies of parameters are void */

    _Atomic uint32_t active; /* so many workers compute at once; for people */
    uint32_t unused;
};
static_assert(sizeof(struct cllm_state) <= CLLM_PAGE, "the state is one page");

/* ---- step records: Node Zero writes ---- */

/* Why a step changed no parameter, by the policy that the configuration names. */
enum cllm_skip {
    CLLM_SKIP_NO = 0,
    CLLM_SKIP_NONFINITE, /* a loss or gradient is not finite, and two workers agree */
    CLLM_SKIP_POISON,    /* a lane killed every worker that computed it */
    CLLM_SKIP_LAST
};

#define CLLM_NUMERICS_MIXED 1 /* of several kernel paths: of a record */
#define CLLM_N_RECORDS      3
#define CLLM_RECORD_OPEN    2 /* of a step whose validation goes on: root, loss, norm */

/*
 * Step t is committed by record[t & 1]; the other one still describes t - 1, so at every
 * instant one of them is valid. The parameters of step t are in params[t & 1].
 */
struct cllm_step_record {
    uint64_t step;
    uint64_t root;     /* hash of the chunk hashes of params[step & 1], chunk order */
    uint64_t cursor;   /* sequences of the training order consumed so far */
    uint64_t tokens;   /* trained on so far */
    double loss;       /* mean over the step's tokens, nats */
    double grad_norm;  /* of the mean gradient, before clipping */
    double valid_loss; /* newest validation; NaN before the first */
    uint64_t valid_step;
    double best_loss; /* least validation loss so far; NaN before the first */
    uint64_t best_step;
    float learning_rate;
    float grad_scale;  /* clip scale / tokens */
    uint64_t numerics; /* self-test hash of the kernels, or CLLM_NUMERICS_MIXED */
    uint64_t skips;    /* steps so far, this one included, that changed no parameter */
    uint32_t skipped;  /* enum cllm_skip: why this one changed none */
    uint32_t pad0;
    uint64_t pad1;
    uint64_t sum; /* hash of all bytes above */
};
static_assert(sizeof(struct cllm_step_record) == 128, "a record is two lines");

/* ---- lanes, chunks: Node Zero writes ---- */

/* What one worker found for a lane that needs more than one opinion. */
struct cllm_opinion {
    uint64_t sum;  /* hash of loss, tokens, gradient hash and finiteness */
    uint32_t slot; /* whose */
    uint32_t pad0;
};

struct cllm_lane {
    uint32_t state; /* enum cllm_lane_state */
    uint32_t slot;  /* newest holder; DONE, FOLDED: who computed it */
    uint32_t generation;
    uint32_t buffer; /* newest holder's; DONE: where the gradient is */
    uint64_t seq;
    double loss;          /* sum over tokens; valid in DONE and FOLDED */
    uint64_t tokens;      /* likewise */
    uint64_t grad_sum;    /* hash of the lane's gradient */
    uint32_t crashes;     /* workers that died on it in this step */
    uint32_t crash_slot;  /* last slot that did */
    uint64_t crash_slots; /* all that did: bit slot % 64 */
    uint64_t sum;         /* cllm_lane_sum(), valid in DONE and FOLDED */
    uint32_t n_opinions;  /* RECHECK and computed again: who said what so far */
    uint32_t audited;     /* needs a second opinion in any case */
    struct cllm_opinion opinion[2];
    uint64_t assigned_ns; /* CLOCK_MONOTONIC of the newest assignment */
    uint64_t pad0;
};
static_assert(sizeof(struct cllm_lane) == 128, "a lane is two lines");

struct cllm_chunk {
    uint32_t state; /* enum cllm_chunk_state of the work going on */
    uint32_t slot;  /* valid in ASSIGNED */
    uint64_t seq;
    double sum_squares; /* of the folded gradient */
    uint64_t sum[2];    /* hash of w, m, v of params 0 and 1 */
    uint64_t check;     /* cllm_chunk_check() of sum_squares */
    uint64_t pad0[2];
};
static_assert(sizeof(struct cllm_chunk) == 64, "a chunk is one line");

/* A line about the run, for who looks after it is dead. seq stored last, release. */
struct cllm_event {
    _Atomic uint64_t seq; /* 1, 2, 3 ...; event n stands in [(n - 1) % CLLM_N_EVENTS] */
    int64_t unix_ns;
    char text[240];
};
static_assert(sizeof(struct cllm_event) == 256, "four lines an event");

/* ---- slots ---- */

/*
 * One piece of work. Two entries for each slot (k = seq & 1), so that the next is there
 * before the present one ends. Node Zero writes; seq last, release; pairs with
 * cllm_slot_next().
 */
struct cllm_assignment {
    uint32_t kind;                      /* enum cllm_work */
    uint32_t generation;                /* of the slot; others ignore it */
    uint64_t step;                      /* being computed; SAVE: to be saved */
    uint32_t version;                   /* params object read */
    uint32_t target;                    /* params object written: UPDATE, INIT, LOAD */
    uint32_t lane;                      /* LANE, EVAL */
    uint32_t buffer;                    /* LANE */
    uint32_t lane_lo, lane_hi;          /* FOLD; UPDATE of kept lanes */
    uint32_t fold_from, fold_to;        /* FOLD, MERGE, UPDATE (from); CLLM_NONE = none */
    uint32_t fold_add;                  /* MERGE: the group's fold that is added */
    uint32_t chunk_lo, chunk_hi;        /* FOLD, MERGE, UPDATE, INIT */
    float learning_rate;                /* UPDATE */
    float grad_scale;                   /* UPDATE */
    uint16_t buffers[CLLM_GROUP_LANES]; /* FOLD, UPDATE: those of lanes lane_lo + i */
    uint32_t pad0;
    uint64_t sum; /* hash of all bytes above and of seq */
    _Atomic uint64_t seq;
};
static_assert(sizeof(struct cllm_assignment) == 112,
              "no hidden padding in an assignment");

struct cllm_chunk_result {
    uint64_t sum;       /* UPDATE, COPY, VERIFY, INIT: hash of w, m, v; FOLD, MERGE: 0 */
    double sum_squares; /* FOLD, MERGE */
};

/* The answer to the assignment with the same seq, of its process; seq last, release. */
struct cllm_report {
    uint32_t kind; /* enum cllm_work */
    uint32_t generation;
    uint64_t step;
    uint32_t lane, buffer;
    uint32_t chunk_lo, chunk_hi;
    uint32_t flags; /* CLLM_REPORT_* */
    int32_t error;  /* negative code when FAILED */
    double loss;    /* LANE, EVAL: sum over tokens */
    uint64_t tokens;
    uint64_t grad_sum; /* LANE: hash of the gradient buffer */
    uint64_t busy_ns;
    struct cllm_chunk_result result[CLLM_MAX_ASSIGN_CHUNKS]; /* of chunk chunk_lo + i */
    uint64_t sum; /* hash of all bytes above and of seq */
    _Atomic uint64_t seq;
};
static_assert(sizeof(struct cllm_report) == 72 + 16 * CLLM_MAX_ASSIGN_CHUNKS + 16,
              "no hidden padding in a report");

/* Node Zero's page about one slot. */
struct cllm_command {
    uint32_t role;               /* enum cllm_role */
    uint32_t state;              /* enum cllm_slot_state */
    _Atomic uint32_t generation; /* raised before each fork */
    uint32_t parent; /* slot that supervises this one; CLLM_NONE = Node Zero */
    uint32_t pid;
    uint32_t deaths;
    uint32_t device_failures; /* of its device, one after the other */
    uint32_t device_lost;     /* it failed too often: the slot does without */
    uint32_t retired;         /* it erred, or cannot work: nobody is started here again */
    uint32_t pad0;
    uint64_t start_ticks;
    uint64_t posted;       /* seq of the newest assignment */
    uint64_t reported;     /* seq of the newest report taken */
    uint64_t since_ns;     /* CLOCK_MONOTONIC of the last change of state */
    uint64_t wait_data_ns; /* since its start: idle because the ring was behind */
    char obituary[160];    /* how the last process of this slot ended */
    char device[CLLM_DEVICE_BYTES]; /* that it computes lanes on; "" = the processor */
    alignas(CLLM_CACHELINE) struct cllm_assignment assignment[2];
};
static_assert(sizeof(struct cllm_command) <= CLLM_PAGE, "a command is one page");

/* The slot's own page: what its process says of itself. Everything here is untrusted
 * input. */
struct cllm_status {
    /* hello: filled first, then hello_generation with release. */
    _Atomic uint32_t hello_generation;
    uint32_t pid;
    uint64_t numerics;  /* worker: hash of the self-test's gradient */
    char kernels[64];   /* worker: kernel path; loader: reading method in use */
    uint64_t hello_sum; /* hash of pid, numerics, kernels and the generation */

    /* what it does now; relaxed */
    _Atomic uint64_t progress; /* bumped by the computing thread for each layer or read */
    _Atomic uint32_t work;     /* enum cllm_work */
    _Atomic uint32_t lane;     /* or CLLM_NONE */
    _Atomic uint64_t step;

    /* counters since its start; relaxed */
    _Atomic uint64_t lanes_done, chunks_folded, chunks_updated, evals_done;
    _Atomic uint64_t lane_ns, fold_ns, update_ns, eval_ns, idle_ns;

    /* loader */
    _Atomic uint64_t filled;     /* batches [committed * lanes * microbatches, filled) */
    _Atomic uint32_t eval_ready; /* all validation batches are there */
    _Atomic uint32_t failed; /* gave up; last_words says why; Node Zero stops the run */
    _Atomic int32_t error;   /* with failed: negative code */
    uint32_t pad0;
    _Atomic uint64_t reads, read_bytes, retries, busy_ns;

    /* saver */
    _Atomic uint64_t saving_step;
    _Atomic uint32_t holds_version; /* + 1, being read from shared memory; 0 = none */
    uint32_t pad1;
    _Atomic uint64_t saved_bytes, save_ns, copied_bytes;

    struct cllm_device_status device;

    char last_words[512]; /* error or assert text before an end that is not clean */
};

struct cllm_own {
    struct cllm_status status;
    alignas(CLLM_CACHELINE) struct cllm_report report[2];
};
static_assert(sizeof(struct cllm_own) <= CLLM_PAGE, "a slot's own part is one page");

/* What a faulting instruction wanted of its address. */
enum cllm_crash_access {
    CLLM_ACCESS_UNKNOWN = 0,
    CLLM_ACCESS_READ,
    CLLM_ACCESS_WRITE,
    CLLM_ACCESS_JUMP,
    CLLM_ACCESS_LAST
};

/* The program or a library: file address = address - base, for addresses in [begin, end).
 */
struct cllm_crash_module {
    uint64_t base, begin, end;
    char name[CLLM_CRASH_NAME_BYTES]; /* without its directory */
};

/*
 * What the slot's process saw when a fault signal ended it; filled by its handler, sum
 * last. Stays until the next crash in this slot: generation says whose it is. Untrusted.
 */
struct cllm_crash_record {
    uint32_t role, slot, generation, pid;
    int32_t signo, code;             /* si_code */
    uint32_t sender_pid, sender_uid; /* code <= 0: who sent the signal */
    uint64_t address;                /* of the fault; 0 when sent */
    uint64_t ip, sp;                 /* instruction and stack pointer */
    uint32_t access;                 /* enum cllm_crash_access */
    uint32_t region_writable;        /* opened for writing, if not mapped so just now */
    char region[CLLM_CRASH_NAME_BYTES]; /* that address lies in; "" = none */
    uint64_t region_off;                /* of address in it */
    uint32_t work, lane;                /* as the status said: enum cllm_work */
    uint64_t step;
    uint64_t seq;     /* of the assignment that was being done; 0 = none */
    uint64_t time_ns; /* CLOCK_MONOTONIC */
    uint64_t reg[CLLM_CRASH_REGISTERS];
    uint32_t n_frames, n_modules;
    uint64_t frame[CLLM_CRASH_FRAMES]; /* ip, return addresses; assert: its own */
    struct cllm_crash_module module[CLLM_CRASH_MODULES]; /* [0] = the program */
    uint8_t build_id[20]; /* of the program; zeros = none */
    uint32_t thread;      /* of the process; 0 = its first */
    char words[256];      /* text of the assert that failed; "" = none */
    uint64_t sum;         /* hash of all bytes above, seeded with the generation */
};
static_assert(sizeof(struct cllm_crash_record) == 144 + 8 * CLLM_CRASH_REGISTERS +
                                                      8 * CLLM_CRASH_FRAMES +
                                                      56 * CLLM_CRASH_MODULES + 288,
              "no hidden padding in a crash record");
static_assert(sizeof(struct cllm_crash_record) <= CLLM_PAGE,
              "a crash record is one page");

/* A place to sleep; written by both sides, never the truth. */
struct cllm_bell {
    sem_t semaphore;
};

struct cllm_slot {
    alignas(CLLM_PAGE) struct cllm_command command;    /* Node Zero */
    alignas(CLLM_PAGE) struct cllm_own own;            /* the slot's process */
    alignas(CLLM_PAGE) struct cllm_crash_record crash; /* likewise */
    alignas(CLLM_PAGE) struct cllm_bell bell;          /* both */
};
static_assert(sizeof(struct cllm_slot) == 4 * CLLM_PAGE, "a slot is four pages");
static_assert(offsetof(struct cllm_slot, own) == CLLM_PAGE,
              "the own page follows the command");
static_assert(offsetof(struct cllm_slot, crash) == 2 * CLLM_PAGE,
              "the crash record follows the own page");
static_assert(offsetof(struct cllm_slot, bell) == 3 * CLLM_PAGE,
              "the bell is the last page");

/* ---- ring object: the loader writes ---- */

#define CLLM_BATCH_EVAL \
    (UINT64_C(1) << 63) /* batch = CLLM_BATCH_EVAL | index of a validation batch */

/*
 * One micro-batch: sequences rows of context + 1 tokens, uint32_t, row-major. Training
 * batch n of step s (1, 2, ...), lane l, micro-batch m is n = ((s - 1) * lanes + l) *
 * microbatches + m and stands in ring slot n % ring_slots; validation batch e = l *
 * eval_microbatches + m stands in slot ring_slots + e and stays for the whole run.
 */
struct cllm_ring_slot {
    uint64_t batch; /* what is in it */
    uint64_t sum;   /* cllm_hash(tokens, bytes, batch) */
    uint32_t n_tokens;
    uint32_t generation; /* of the loader that filled it */
    /* 0 while it is being filled, else batch + 1; stored last, release. */
    _Atomic uint64_t ready;
    uint64_t pad0[4];
};
static_assert(sizeof(struct cllm_ring_slot) == 64, "a ring slot's head is one line");

/* ---- sizes and identity ---- */

/* Over sizeof and offsetof of every struct above, the limits and the layout version. */
uint64_t cllm_layout_hash(void);

/* Elements of a vector for @n parameters, padding included: it ends on a page; one of
 * several huge pages on such a one, so that opening a chunk to its writer splits none. */
uint64_t cllm_vector_elements(uint64_t n);

/* Bytes of a version (w, m, v), of a lane buffer or fold, of the ring; tokens of a row.
 */
uint64_t cllm_params_bytes(const struct cllm_geometry *geometry);
uint64_t cllm_vector_bytes(const struct cllm_geometry *geometry);
uint64_t cllm_ring_bytes(const struct cllm_geometry *geometry);
uint64_t cllm_ring_row_tokens(const struct cllm_geometry *geometry);
uint64_t cllm_ring_batch_tokens(const struct cllm_geometry *geometry);

/* Batch number of (step from 1, lane, micro-batch), and of the validation. */
uint64_t cllm_batch_number(const struct cllm_geometry *geometry, uint64_t step,
                           uint32_t lane, uint32_t microbatch);
uint64_t cllm_eval_batch_number(const struct cllm_geometry *geometry, uint32_t lane,
                                uint32_t microbatch);
uint32_t cllm_ring_slot_of(const struct cllm_geometry *geometry, uint64_t batch);

#endif /* CLLM_SHM_LAYOUT_H */
