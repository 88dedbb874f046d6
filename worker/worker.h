/*
 * worker/worker.h - one worker process: what it has mapped, and the kinds of work it
 * does.
 *
 * A worker is a pure function with a place to sleep: an assignment and the frozen bytes
 * that it names determine every byte it writes. It holds no state between assignments, so
 * any worker can do any of them, twice, after a crash, with the same bits.
 */
#ifndef CLLM_WORKER_WORKER_H
#define CLLM_WORKER_WORKER_H

#include "base/arena.h"
#include "compute/ops.h"
#include "model/model.h"
#include "model/optimizer.h"
#include "shm/child.h"
#include "shm/ring.h"
#include "shm/slot.h"
#include "worker/device.h"

#define CLLM_MAX_FOLDS 4

/* Positions of the model that a worker tests itself with. */
#define CLLM_SELF_TEST_CONTEXT 40

struct cllm_worker {
    struct cllm_child child;
    const struct cllm_ops *ops; /* of the processor */
    struct cllm_device device;
    struct cllm_parameters plan; /* of the vector that is trained */
    struct cllm_parameters base; /* of the model beneath adapters; else nothing */
    struct cllm_model model;
    struct cllm_optimizer optimizer;
    struct cllm_arena arena;
    uint32_t *tokens; // (sequences, context + 1)

    struct cllm_ring ring;
    struct cllm_region
        params[2];             /* guarded: writable in UPDATE and INIT, chunk by chunk */
    struct cllm_region frozen; /* weights beneath adapters; read-only for good */
    struct cllm_region fold[CLLM_MAX_FOLDS]; /* guarded: writable in FOLD and MERGE */
    struct cllm_region *buffer; /* [n_buffers], guarded: writable while it is ours */
};

/* worker/mapping.c: map everything, plan the arena. Allocates nothing afterwards. */
int cllm_worker_map(struct cllm_worker *worker);
void cllm_worker_unmap(struct cllm_worker *worker);

/* First element of weights, first moments or second moments (part 0, 1, 2) of a version.
 */
float *cllm_worker_params(const struct cllm_worker *worker, uint32_t version,
                          uint32_t part);
float *cllm_worker_fold(const struct cllm_worker *worker, uint32_t fold);

/* worker/lane.c: one lane's gradient, or one validation lane's loss. */
void cllm_worker_lane(struct cllm_worker *worker, const struct cllm_assignment *work,
                      struct cllm_report *report);
void cllm_worker_eval(struct cllm_worker *worker, const struct cllm_assignment *work,
                      struct cllm_report *report);

/* worker/update.c: chunks of the fold, of the next version, of version 0; copied, hashed.
 */
void cllm_worker_fold_chunks(struct cllm_worker *worker,
                             const struct cllm_assignment *work,
                             struct cllm_report *report);
void cllm_worker_update(struct cllm_worker *worker, const struct cllm_assignment *work,
                        struct cllm_report *report);
void cllm_worker_copy(struct cllm_worker *worker, const struct cllm_assignment *work,
                      struct cllm_report *report);
void cllm_worker_verify(struct cllm_worker *worker, const struct cllm_assignment *work,
                        struct cllm_report *report);
void cllm_worker_init_params(struct cllm_worker *worker,
                             const struct cllm_assignment *work,
                             struct cllm_report *report);

/*
 * worker/selftest.c: train a fixed tiny model of family @arch for one step, with
 * @device's operations (NULL: with @ops) and @ops' update, and hash everything that comes
 * out; once more with another optimizer, dropout and smoothed targets where @config uses
 * any of them. Two processes with the same hash run the same kernels. Returns 0 or a
 * negative code.
 */
int cllm_worker_self_test(const struct cllm_ops *ops, const struct cllm_ops *device,
                          enum cllm_arch arch, const struct cllm_config *config,
                          uint64_t *numerics);

#endif /* CLLM_WORKER_WORKER_H */
