/*
 * saver/snapshot.h - a committed version of the parameters, read from its begin to its
 * end while the next step is computed.
 *
 * The version is pinned while it is read: status.holds_version says so, and Node Zero
 * delays the update that would overwrite it. When Node Zero asks to hurry, the rest is
 * copied to private memory at once and the pin is dropped; the bytes are the same either
 * way. Everything is copied first, and the copies of a chunk are checked against the hash
 * that the updater computed: what gets a name on the disk is what the worker wrote.
 */
#ifndef CLLM_SAVER_SNAPSHOT_H
#define CLLM_SAVER_SNAPSHOT_H

#include "shm/control.h"

struct cllm_snapshot {
    struct cllm_control *control;
    int eventfd; /* rung when the pin is dropped */
    struct cllm_step_record record;
    uint32_t version;
    struct cllm_region params; /* (w, m, v), each (n_elements); closed with the pin */
    struct cllm_chunk *chunks; /* the chunk table as it was at the beginning */
    float *stage;              /* (3, n): what is being looked at */
    uint64_t at, sum;          /* elements copied so far; hash of those of their chunk */
    uint64_t aside_at;         /* elements from here on are in: */
    float *aside;              /* (3, n_elements - aside_at) */
    size_t aside_bytes;        /* 0: nothing was copied aside */
    bool pinned;
    bool cannot_hurry; /* no memory for the copy: say so once */
};

/* A private copy of a stretch within one chunk; good until the next call. */
struct cllm_stretch {
    uint64_t lo, n;       /* elements [lo, lo + n) of the vector */
    const float *part[3]; /* w, m, v: (n) each */
};

/*
 * Pin @version, which holds @step, and remember its hashes. Returns 0; -EBADMSG when
 * there is no valid record of that step or the chunk table does not give its root;
 * another negative errno. End it with cllm_snapshot_end() in every case.
 */
int cllm_snapshot_begin(struct cllm_snapshot *snapshot, struct cllm_control *control,
                        int eventfd, uint64_t step, uint32_t version);

/*
 * Copy the next stretch; after the last the pin is dropped. Returns 1; 0 when there is
 * none; -EBADMSG instead of the last stretch of a chunk when the copies of the chunk do
 * not have the hash of its updater: nothing that was given counts then.
 */
int cllm_snapshot_next(struct cllm_snapshot *snapshot, struct cllm_stretch *stretch);

/* Drop the pin if it is still held, free everything. Safe on a zeroed struct, and twice.
 */
void cllm_snapshot_end(struct cllm_snapshot *snapshot);

#endif /* CLLM_SAVER_SNAPSHOT_H */
