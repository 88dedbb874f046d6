/*
 * shm/child.h - what worker, loader and saver have in common: how they begin and end.
 *
 * Node Zero executes a child as
 *     cllm-<role> --run RUN_ID --slot N --generation G --eventfd FD --parent PID
 * The child checks that its parent still lives (PR_SET_PDEATHSIG was set before the exec
 * and kills it when Node Zero dies), maps control, checks that it is the role and
 * generation that slot N expects, reads the configuration text, and installs the
 * last-words hook and the handlers of fault signals (shm/crash.h).
 */
#ifndef CLLM_SHM_CHILD_H
#define CLLM_SHM_CHILD_H

#include "base/config.h"
#include "shm/control.h"

struct cllm_child {
    struct cllm_control control;
    struct cllm_config config; /* parsed from the control object */
    const struct cllm_geometry *geometry;
    const char *run_id;
    uint32_t slot;
    uint32_t generation;
    int eventfd; /* Node Zero's; written to after each change it should look at */
    uint64_t parent_pid;
};

/*
 * Begin. Handles --help and --version (prints and exits). Returns 0, or a negative code
 * with error text; the caller then ends through cllm_child_fail().
 */
int cllm_child_init(struct cllm_child *child, enum cllm_role role, int argc, char **argv);

/* Node Zero is gone or has replaced this process: leave at once. Cheap; call in every
 * wait. */
void cllm_child_check_parent(const struct cllm_child *child);

/* Leave the error text as last words, print it, return the exit code for main(). */
int cllm_child_fail(struct cllm_child *child, int rc);

void cllm_child_fini(struct cllm_child *child);

#endif /* CLLM_SHM_CHILD_H */
