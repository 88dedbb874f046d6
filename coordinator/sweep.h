/*
 * coordinator/sweep.h - one kind of work done once for every chunk, by whoever is free.
 *
 * A fold run, a merge, an update, an initialisation and the loading of a checkpoint are
 * sweeps: every chunk goes OLD -> ASSIGNED -> NEW, back to OLD when its worker is
 * confirmed dead. The chunk table lives in the control object; what the sweep is about
 * lives here, and a new Node Zero begins the step again.
 */
#ifndef CLLM_COORDINATOR_SWEEP_H
#define CLLM_COORDINATOR_SWEEP_H

#include "shm/control.h"

struct cllm_sweep {
    bool active;
    struct cllm_assignment work;    /* what to do; its chunk range is filled in */
    uint32_t chunks_per_assignment; /* so that every worker gets some */
};

/* Begin: all chunks OLD. @workers shares them. */
void cllm_sweep_begin(struct cllm_sweep *sweep, struct cllm_control *control,
                      const struct cllm_assignment *work, uint32_t workers);

/* Give @slot the next OLD chunks. False when there are none. */
bool cllm_sweep_assign(struct cllm_sweep *sweep, struct cllm_control *control,
                       uint32_t slot);

/* A valid report: its chunks are NEW, hashes and sums of squares kept in the table. */
void cllm_sweep_take(const struct cllm_sweep *sweep, struct cllm_control *control,
                     const struct cllm_report *report);

/* @slot is confirmed dead: its chunks are OLD again. */
void cllm_sweep_revoke(struct cllm_control *control, uint32_t slot);

uint32_t cllm_sweep_count(const struct cllm_control *control,
                          enum cllm_chunk_state state);

/* Every chunk is NEW. */
bool cllm_sweep_done(const struct cllm_sweep *sweep, const struct cllm_control *control);

#endif /* CLLM_COORDINATOR_SWEEP_H */
