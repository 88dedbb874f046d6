/*
 * coordinator/guardian.h - the process that a user starts: it holds the run and keeps
 * Node Zero going.
 *
 * It maps no shared memory and opens no library, so that nothing which kills a run can
 * kill it. The run lock makes sure that two coordinators never drive one run.
 */
#ifndef CLLM_COORDINATOR_GUARDIAN_H
#define CLLM_COORDINATOR_GUARDIAN_H

#include "base/config.h"

struct cllm_options;

/*
 * Take the lock of the run directory (made if missing), freeze the configuration in its
 * node-zero.ini, start Node Zero from that, pass signals on to it, start it again with
 * --resume when it was killed. Returns the exit code.
 */
int cllm_guardian(const struct cllm_config *config, const struct cllm_options *options);

#endif /* CLLM_COORDINATOR_GUARDIAN_H */
