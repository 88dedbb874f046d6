/*
 * coordinator/plan.h - everything about a run that follows from its configuration and
 * data.
 *
 * Made before a single byte of shared memory: geometry, identity, texts, memory forecast.
 * A pure function of the configuration, the shards and the machine's cores and devices;
 * --dry-run prints it.
 */
#ifndef CLLM_COORDINATOR_PLAN_H
#define CLLM_COORDINATOR_PLAN_H

#include "base/config.h"
#include "coordinator/devices.h"
#include "coordinator/placement.h"
#include "formats/mixture.h"
#include "model/model.h"
#include "model/optimizer.h"
#include "shm/control.h"

struct cllm_plan {
    struct cllm_geometry geometry;
    struct cllm_parameters model;      /* its tensors */
    struct cllm_parameters parameters; /* what is trained: these, or adapters of them */
    struct cllm_optimizer optimizer;
    uint32_t workers; /* to be started */
    uint32_t active;  /* of them at once, if there are so many */
    uint32_t spares;  /* besides */
    struct cllm_placement placement;
    struct cllm_devices devices;
    char run_id[CLLM_RUN_ID_BYTES];
    char run_dir[CLLM_PATH_BYTES]; /* absolute, exists */
    char *config_text;             /* heap */
    char *manifest_text;           /* heap: formats/mixture.h, "[valid]\n" lines */
    uint64_t config_hash;          /* of what the bits depend on */
    uint64_t manifest_hash;        /* of the data */
    uint64_t origin_hash;  /* of the weights that [train] from names; 0 = from the seed */
    uint64_t adapter_hash; /* of those that [lora] from names; likewise */

    struct cllm_mixture train; /* names, shares and counts; no files are open */
    uint64_t train_tokens, train_windows, train_shards;
    uint64_t valid_tokens, valid_windows;

    /* memory forecast, bytes */
    uint64_t control_bytes, params_bytes, frozen_bytes, buffers_bytes, folds_bytes,
        ring_bytes;
    uint64_t worker_bytes; /* private, each */
    uint64_t device_bytes; /* of each worker's device */
    uint64_t loader_bytes, saver_bytes, node_zero_bytes;
    uint64_t shared_bytes, total_bytes;
    uint64_t checkpoint_bytes; /* on disk, each */
};

/*
 * Make the plan of a checked configuration. Opens and checks all shards; makes the run
 * directory. Returns 0 or a negative code with text; on failure nothing is left to free.
 */
int cllm_plan_init(struct cllm_plan *plan, const struct cllm_config *config);
void cllm_plan_fini(struct cllm_plan *plan);

/* For people, to stdout (--dry-run). */
void cllm_plan_print(const struct cllm_plan *plan, const struct cllm_config *config);

/* The control object that the plan asks for; borrows the plan's texts. */
struct cllm_control_plan cllm_plan_control(const struct cllm_plan *plan);

#endif /* CLLM_COORDINATOR_PLAN_H */
