/*
 * loader/fill.h - turns reads of windows into batches of the ring, in order, ahead of
 * training.
 *
 * Validation batches come first and once; then training batches, as far ahead as the
 * ring goes: a batch of step s may be filled when step s - ring_steps is committed,
 * because its slot then serves nobody. Rows arrive in any order and go where they belong;
 * a batch is published when its last row is in. What an earlier loader has left intact
 * is kept.
 */
#ifndef CLLM_LOADER_FILL_H
#define CLLM_LOADER_FILL_H

#include "formats/mixture.h"
#include "loader/reader.h"
#include "shm/ring.h"

struct cllm_fill {
    const struct cllm_geometry *geometry; /* borrowed, as all pointers down to status */
    struct cllm_ring *ring;
    struct cllm_reader *reader;
    const struct cllm_mixture *train;
    const struct cllm_dataset *valid; /* no shards when there is no validation */
    struct cllm_status *status;
    uint32_t generation;

    uint32_t *rows_left;  /* [ring_slots + ring_eval_slots] of the batch being filled */
    uint64_t next_eval;   /* validation batch whose rows are submitted next */
    uint64_t next_train;  /* likewise, training batch */
    uint32_t next_row;    /* of the one of the two that is in turn */
    uint64_t filled_eval; /* validation batches [0, n) are there */
    uint64_t filled;      /* training batches [.., n) are there */
};

/*
 * The files of @train, part after part, then those of @valid, as the reader wants them:
 * heap, the caller frees; NULL when memory is out.
 */
struct cllm_reader_file *cllm_fill_files(const struct cllm_mixture *train,
                                         const struct cllm_dataset *valid,
                                         uint32_t *n_files);

/* Bytes of the largest read that @train and @valid need. */
uint32_t cllm_fill_row_bytes(const struct cllm_mixture *train,
                             const struct cllm_dataset *valid);

/*
 * Begin after step @committed. The pointers in *@fill down to generation are set by the
 * caller. Returns 0, or CLLM_EDATA / -ENOMEM with text.
 */
int cllm_fill_init(struct cllm_fill *fill, uint64_t committed);
void cllm_fill_fini(struct cllm_fill *fill); /* safe on a zeroed struct */

/*
 * Do a bounded piece of work: submit what there is room for, wait for one read or more,
 * publish what is complete. Stores status.filled and eval_ready (release) and the
 * counters. Returns 1 when something was done, so call it again; 0 when all that may be
 * filled with @committed steps done is there; CLLM_EDATA or a negative errno with text.
 */
int cllm_fill_advance(struct cllm_fill *fill, uint64_t committed);

#endif /* CLLM_LOADER_FILL_H */
