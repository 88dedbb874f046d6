/*
 * coordinator/frozen.h - what lies beneath adapters (docs/decisions/0016): a copy of
 * the model that [train] from names, in the run's directory, so that the run can be
 * resumed when that is gone; from it comes the one object in shared memory.
 */
#ifndef CLLM_COORDINATOR_FROZEN_H
#define CLLM_COORDINATOR_FROZEN_H

#include "base/config.h"
#include "coordinator/plan.h"

/* Make the copy, durable under its name, unless there is one with these weights: a Node
 * Zero that died before the first step may have made it. Returns 0 or a negative code
 * with text. */
int cllm_frozen_import(const struct cllm_config *config, const struct cllm_plan *plan);

/* Make the object and fill it from the copy, whose hash must be the one that the run's
 * identity knows. For who makes the run's objects, before READY; who fails unlinks them
 * all. Returns 0 or a negative code with text. */
int cllm_frozen_share(const struct cllm_plan *plan);

#endif /* CLLM_COORDINATOR_FROZEN_H */
