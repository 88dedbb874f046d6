/*
 * tools/bench_count.h - what the processes of a run have counted up to a moment, and the
 * difference of two moments: where the time went.
 */
#ifndef CLLM_TOOLS_BENCH_COUNT_H
#define CLLM_TOOLS_BENCH_COUNT_H

#include "shm/control.h"

/* Where a worker's time goes. */
enum cllm_bench_phase {
    CLLM_BENCH_COMPUTE = 0,   /* lanes: forward and backward */
    CLLM_BENCH_EVAL,          /* lanes of the validation */
    CLLM_BENCH_FOLD,          /* sums of gradients */
    CLLM_BENCH_UPDATE,        /* AdamW, both versions' hashes */
    CLLM_BENCH_WAIT_DATA,     /* no lane, because the ring was behind */
    CLLM_BENCH_WAIT_SCHEDULE, /* nothing to do for any other reason */
    CLLM_BENCH_REST,          /* taking orders, reporting, and what is not finished */
    CLLM_BENCH_PHASES
};
extern const char *const cllm_bench_phase_names[CLLM_BENCH_PHASES]; /* of the JSON */
extern const char *const cllm_bench_phase_texts[CLLM_BENCH_PHASES]; /* for people */

struct cllm_bench_process {
    enum cllm_role role; /* NONE: of the coordinator */
    uint32_t slot;       /* CLLM_NONE: the guardian; of Node Zero 0 */
    uint64_t pid;        /* 0 = none */
    uint64_t cpu_ns;     /* time on a CPU since its start */
};

/* Guardian, Node Zero, workers, loader, saver. */
#define CLLM_BENCH_MAX_PROCESSES (CLLM_MAX_WORKERS + 4)

struct cllm_bench_count {
    uint64_t ns;   /* CLOCK_MONOTONIC */
    uint64_t step; /* committed */
    uint32_t n_workers;
    uint64_t phase_ns[CLLM_MAX_WORKERS][CLLM_BENCH_PHASES]; /* REST: 0 */
    uint64_t chunks_folded;                                 /* all workers */
    uint64_t wait_saver_ns;
    uint64_t deaths;
    struct cllm_bench_process process[CLLM_BENCH_MAX_PROCESSES];
    uint32_t n_processes;
};

/* Everything as it is now. */
void cllm_bench_count_take(struct cllm_bench_count *count,
                           const struct cllm_control *control);

/*
 * @to -= @from, REST becomes what is missing to the time between them. Returns 0, or
 * CLLM_EREFUSED with text when a process has died meanwhile, so that the difference says
 * nothing.
 */
int cllm_bench_count_since(struct cllm_bench_count *to,
                           const struct cllm_bench_count *from);

/* Proportional share of memory of process @pid in bytes; 0 when it cannot be read. */
uint64_t cllm_bench_pss(uint64_t pid);

#endif /* CLLM_TOOLS_BENCH_COUNT_H */
