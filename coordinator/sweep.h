/*
 * coordinator/sweep.h - one kind of work done once for every chunk, by whoever is free.
 *
 * A fold run, a merge, an update, an initialisation and the loading of a checkpoint are
 * sweeps: every chunk goes OLD -> ASSIGNED -> NEW, back to OLD when its worker is
 * confirmed dead or given up. A sweep is over when every chunk is NEW and nobody who may
 * still live owes an answer about any: until then what it reads and writes stays as it
 * is, so that a worker that was given up and wakes up writes the bytes that are there.
 * The chunk table lives in the control object; what the sweep is about lives here, and a
 * new Node Zero begins it again.
 */
#ifndef CLLM_COORDINATOR_SWEEP_H
#define CLLM_COORDINATOR_SWEEP_H

#include "shm/control.h"

struct cllm_sweep {
    bool active;
    struct cllm_assignment work; /* what to do; its chunk range is filled in */
    uint32_t workers;            /* that share it */
    uint32_t least;              /* chunks in an assignment, if there are so many */
    uint32_t damaged;            /* VERIFY: a chunk that is not what it was; or none */
};

/* Begin: all chunks OLD. @workers shares them. */
void cllm_sweep_begin(struct cllm_sweep *sweep, struct cllm_control *control,
                      const struct cllm_assignment *work, uint32_t workers);

/* Give @slot the next OLD chunks. False when there are none. */
bool cllm_sweep_assign(struct cllm_sweep *sweep, struct cllm_control *control,
                       uint32_t slot);

/*
 * A valid report of @slot, answer to assignment @seq: the chunks that it still holds are
 * NEW, their hashes and sums of squares kept in the table. False: it held none (any
 * more).
 */
bool cllm_sweep_take(struct cllm_sweep *sweep, struct cllm_control *control,
                     uint32_t slot, uint64_t seq, const struct cllm_report *report);

/* @slot is confirmed dead or given up: its chunks are OLD again. */
void cllm_sweep_revoke(struct cllm_control *control, uint32_t slot);

/* Does @slot owe an answer that is about chunks? */
bool cllm_sweep_owed(const struct cllm_control *control, uint32_t slot);

/* Does anybody? */
bool cllm_sweep_owed_by_any(const struct cllm_control *control);

uint32_t cllm_sweep_count(const struct cllm_control *control,
                          enum cllm_chunk_state state);

/* Every chunk is NEW, and nobody may still write one. */
bool cllm_sweep_done(const struct cllm_sweep *sweep, const struct cllm_control *control);

#endif /* CLLM_COORDINATOR_SWEEP_H */
