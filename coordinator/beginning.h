/*
 * coordinator/beginning.h - where a run begins: from nothing, from memory, from disk.
 *
 * Shared memory that a dead Node Zero left is the newest state there is; after a reboot
 * the newest checkpoint that verifies counts. Neither is ever thrown away unasked.
 */
#ifndef CLLM_COORDINATOR_BEGINNING_H
#define CLLM_COORDINATOR_BEGINNING_H

#include "coordinator/plan.h"

enum cllm_beginning_kind {
    CLLM_BEGIN_FRESH = 0,  /* version 0 from the seed */
    CLLM_BEGIN_ADOPTED,    /* objects were there; record is what they hold */
    CLLM_BEGIN_CHECKPOINT, /* record comes from disk; its version must be loaded */
};

struct cllm_beginning {
    enum cllm_beginning_kind kind;
    struct cllm_step_record record; /* ADOPTED, CHECKPOINT */
    bool imported; /* CHECKPOINT: it was just made of [train] from; the run begins */
};

/*
 * Decide and make the objects: on success @control is mapped, published and without
 * processes.
 * @resume: the user wants to go on; without it anything that is there already is an error
 * with a hint. Every process of an earlier generation must be confirmed dead before.
 */
int cllm_beginning_find(struct cllm_beginning *beginning, struct cllm_control *control,
                        const struct cllm_config *config, const struct cllm_plan *plan,
                        bool resume, bool allow_numerics_change);

#endif /* CLLM_COORDINATOR_BEGINNING_H */
