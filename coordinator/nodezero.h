/*
 * coordinator/nodezero.h - Node Zero: one thread, one epoll loop, no tensors.
 *
 * It schedules and commits and never computes a batch. Everything that must outlive it
 * stands in the control object; what is here can be made again from there.
 */
#ifndef CLLM_COORDINATOR_NODEZERO_H
#define CLLM_COORDINATOR_NODEZERO_H

#include "base/config.h"

struct cllm_options {
    const char *config_path;
    bool resume;
    bool dry_run;
    bool allow_numerics_change;
    bool suspect;  /* Node Zero: the one before was ended by a fault signal and may have
                      scribbled */
    int heartbeat; /* Node Zero: descriptor that the guardian listens to; else -1 */
    int keeper; /* Node Zero: socket to the guardian as keeper (shm/keeper.h); else -1 */
    int run_lock; /* Node Zero: descriptor of the run's lock, from the guardian; else -1
                   */
};

/* Train the run that @config describes to its end. Returns an exit code (base/err.h);
 * error text has been printed. */
int cllm_node_zero(const struct cllm_config *config, const struct cllm_options *options);

#endif /* CLLM_COORDINATOR_NODEZERO_H */
