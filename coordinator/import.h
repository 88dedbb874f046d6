/*
 * coordinator/import.h - the weights that [train] from names, as the run has them: their
 * hash, and a checkpoint of step 0 with them.
 *
 * Both read all of a model, which may take minutes: cllm_pulse() in between, and who asks
 * to stop (cllm_pulse_stopped()) is obeyed, CLLM_ESTOPPED with text, with nothing left
 * behind.
 */
#ifndef CLLM_COORDINATOR_IMPORT_H
#define CLLM_COORDINATOR_IMPORT_H

#include "base/config.h"
#include "coordinator/plan.h"

/* Hash of the weights. Returns 0 or a negative code with text. */
int cllm_import_hash(const struct cllm_config *config, uint64_t *hash);

/* The same of the adapter that [lora] from names. */
int cllm_import_adapter_hash(const struct cllm_config *config, uint64_t *hash);

/* Make the checkpoint, durable under its name and linked as the last one; what it was
 * made of is kept (cllm_origin_keep()) before it has the name. The weights must have the
 * plan's hash. Returns 0 or a negative code with text. */
int cllm_import_checkpoint(const struct cllm_config *config,
                           const struct cllm_plan *plan);

/* The same of the adapter, on the model that is beneath it in the run's directory. */
int cllm_import_adapter(const struct cllm_config *config, const struct cllm_plan *plan);

#endif /* CLLM_COORDINATOR_IMPORT_H */
