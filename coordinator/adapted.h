/*
 * coordinator/adapted.h - going on with an adapter that is there: version 0 of what a run
 * trains.
 *
 * [lora] from names it: a directory of peft's (formats/peft.h), or a checkpoint or a run
 * of adapters. The options of [lora] follow from it; its weights become the run's
 * checkpoint of step 0, with moments zero. What the run began from is kept in
 * adapter.json, so that it can be resumed when the adapter is gone; a hash of the weights
 * is part of the run's identity. The model beneath is [train] from's
 * (coordinator/origin.h).
 */
#ifndef CLLM_COORDINATOR_ADAPTED_H
#define CLLM_COORDINATOR_ADAPTED_H

#include "base/config.h"
#include "coordinator/plan.h"
#include "formats/file.h"

#define CLLM_ADAPTED_FILE "adapter.json" /* of a run directory */

/* Is there one? */
bool cllm_adapted_is_set(const struct cllm_config *config);

/* The directory that [lora] from means: itself, or a run's last checkpoint. */
int cllm_adapted_directory(const struct cllm_config *config,
                           char dir[CLLM_FILE_PATH_BYTES]);

/*
 * Give the options of [lora] that were not given the adapter's values; those that were
 * given must agree. [model] is complete. Without [lora] from, nothing. Returns 0 or a
 * negative code with text.
 */
int cllm_adapted_complete(struct cllm_config *config);

/* Hash of its weights: from adapter.json of @run_dir, or by reading them; 0 without
 * [lora] from. Returns 0 or a negative code with text. */
int cllm_adapted_hash(const struct cllm_config *config, const char *run_dir,
                      uint64_t *hash);

/* Write adapter.json of the run. Returns 0 or a negative errno with text. */
int cllm_adapted_keep(const struct cllm_config *config, const struct cllm_plan *plan);

#endif /* CLLM_COORDINATOR_ADAPTED_H */
