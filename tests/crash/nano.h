/*
 * tests/crash/nano.h - a small run of the real programs, started and looked at by a test.
 *
 * The run lives in a session of its own and dies with the test (PR_SET_PDEATHSIG); its
 * processes are known from its control object and are ended through pidfds, never by
 * name. What it prints stands in "<run directory>.log".
 */
#ifndef CLLM_TESTS_CRASH_NANO_H
#define CLLM_TESTS_CRASH_NANO_H

#include <sys/types.h>

#include "formats/file.h"
#include "formats/sha256.h"
#include "shm/control.h"

struct nano_plan {
    const char *bin;        /* directory of the programs */
    const char *config;     /* configs/nano.ini */
    const char *data;       /* directory that nano_make_data() filled */
    const char *dir;        /* run directory: absolute, without links */
    uint32_t workers;       /* -n */
    bool resume;            /* --resume */
    const char *const *set; /* NULL or: "section.name=value" ..., NULL */
    const char *faults;     /* NULL or CLLM_FAULTS of its environment */
};

struct nano {
    char dir[CLLM_FILE_PATH_BYTES];
    char run_id[CLLM_RUN_ID_BYTES];
    pid_t guardian; /* 0 = ended and reaped, or never started */
    int pidfd;      /* of the guardian; -1 likewise */
    int status;     /* of the guardian, as waitpid() gives it, once it has ended */
    struct cllm_control control; /* read-only, after nano_attach() */
};

enum nano_role {
    NANO_GUARDIAN = 0,
    NANO_NODE_ZERO,
    NANO_WORKER,
    NANO_LOADER,
    NANO_SAVER,
    NANO_ROLES
};

struct nano_process {
    enum nano_role role;
    uint32_t slot; /* CLLM_NONE: has none */
    uint32_t generation;
    pid_t pid;
};

const char *nano_role_name(enum nano_role role);

/* The role of that name, or NANO_ROLES. */
enum nano_role nano_role_of(const char *name);

/* Write a text that is the same everywhere into @dir (made if missing) and cut it into
 * shards with cllm-prep. Returns 0 or a negative code with error text. */
int nano_make_data(const char *bin, const char *dir);

/* Start cllm-coord. Returns 0 or a negative code with error text. */
int nano_start(struct nano *nano, const struct nano_plan *plan);

/* Map the control object as soon as it is there. False: not within @timeout_ns, or the
 * run has ended. */
bool nano_attach(struct nano *nano, uint64_t timeout_ns);

/* Wait until @step is committed; nano_attach() came before. False: not within
 * @timeout_ns, or the run has ended before. */
bool nano_wait_step(struct nano *nano, uint64_t step, uint64_t timeout_ns);

/* Wait until every process that Node Zero has started has said hello; nano_attach() came
 * before. False as above. */
bool nano_wait_up(struct nano *nano, uint64_t timeout_ns);

/* Disarm what nano_plan.faults armed. Returns 0 or a negative code with error text. */
int nano_disarm(const struct nano *nano);

/*
 * The processes of the run as its control object names them now, guardian first; at most
 * @cap. Returns how many. A pid may have ended since: take a pidfd before it is used.
 */
uint32_t nano_processes(const struct nano *nano, struct nano_process *out, uint32_t cap);

/* The @index-th process of @role that lives; pid 0 = there is none now. */
struct nano_process nano_process(const struct nano *nano, enum nano_role role,
                                 uint32_t index);

/* Has the guardian ended? Waits up to @timeout_ns (0 = only looks); then it is reaped and
 * nano->status says how. */
bool nano_ended(struct nano *nano, uint64_t timeout_ns);

/* Exit code of an ended run; -1 when a signal ended its guardian. */
int nano_exit_code(const struct nano *nano);

/* Kill the guardian; Node Zero and the children follow. Returns when every process of the
 * run is gone. Shared memory and the directory stay. False: some process stays. */
bool nano_kill(struct nano *nano);

/* Let go of the control object, kill what lives, and remove the run's objects, directory
 * and log. */
void nano_remove(struct nano *nano);

/* Wait until no process holds the locks of the run in @dir any more. */
bool nano_wait_gone(const char *dir, uint64_t timeout_ns);

/* What the bits of a finished run are: SHA-256 over its journal and every file of its
 * last checkpoint, with their names. Returns 0 or a negative code with error text. */
int nano_bits(const char *dir, char hex[CLLM_SHA256_HEX_BYTES]);

#endif /* CLLM_TESTS_CRASH_NANO_H */
