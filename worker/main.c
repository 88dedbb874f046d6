/*
 * worker/main.c - cllm-worker: take an assignment, do it, report; until told to leave.
 */
#include <errno.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "compute/threads.h"
#include "shm/crash.h"
#include "shm/sandbox.h"
#include "worker/worker.h"

#define SLEEP_NS      (100 * CLLM_NS_PER_MS) /* a lost ring costs at most this */
#define LIBRARY_BYTES (256u << 20)           /* private, besides copies of operands */
#define TURN_NS       (100 * CLLM_NS_PER_MS) /* the longest that Linux gives */

/*
 * Where workers share a core, each finds the core's caches full of another's activations
 * when its turn comes: turns are to be long. Linux before 6.12 takes the wish and ignores
 * it. Who gave us another policy knows why.
 */
static void take_long_turns(void)
{
    struct sched_attr attr = {0};

    if (syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) != 0 ||
        attr.sched_policy != SCHED_NORMAL)
        return;
    attr.sched_policy = SCHED_BATCH;
    attr.sched_runtime = TURN_NS;
    if (syscall(SYS_sched_setattr, 0, &attr, 0) != 0)
        cllm_debug("cannot ask for long turns: %s", strerror(errno));
}

static void add_relaxed(_Atomic uint64_t *counter, uint64_t n)
{
    (void)atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void count(struct cllm_status *status, const struct cllm_assignment *work,
                  uint64_t ns)
{
    uint64_t chunks = work->chunk_hi - work->chunk_lo;

    switch (work->kind) {
    case CLLM_WORK_LANE:
        add_relaxed(&status->lanes_done, 1);
        add_relaxed(&status->lane_ns, ns);
        break;
    case CLLM_WORK_EVAL:
        add_relaxed(&status->evals_done, 1);
        add_relaxed(&status->eval_ns, ns);
        break;
    case CLLM_WORK_FOLD:
    case CLLM_WORK_MERGE:
        add_relaxed(&status->chunks_folded, chunks);
        add_relaxed(&status->fold_ns, ns);
        break;
    default:
        add_relaxed(&status->chunks_updated, chunks);
        add_relaxed(&status->update_ns, ns);
    }
}

/* Node Zero is trusted, its memory is not: nothing out of range gets further than this.
 */
static void check_work(const struct cllm_worker *worker,
                       const struct cllm_assignment *work)
{
    const struct cllm_geometry *g = worker->child.geometry;

    CLLM_ASSERT(work->kind >= CLLM_WORK_LANE);
    CLLM_ASSERT(work->kind <= CLLM_WORK_INIT);
    CLLM_ASSERT(work->version < 2);
    CLLM_ASSERT(work->target < 2);
    CLLM_ASSERT(work->chunk_lo <= work->chunk_hi);
    CLLM_ASSERT(work->chunk_hi <= g->n_chunks);
    CLLM_ASSERT(work->chunk_hi - work->chunk_lo <= CLLM_MAX_ASSIGN_CHUNKS);
    CLLM_ASSERT((work->kind != CLLM_WORK_UPDATE && work->kind != CLLM_WORK_COPY) ||
                work->target != work->version);
    CLLM_ASSERT(work->kind != CLLM_WORK_LANE || work->buffer < g->n_buffers);
    if (work->kind == CLLM_WORK_FOLD) {
        CLLM_ASSERT(work->lane_lo < work->lane_hi);
        CLLM_ASSERT(work->lane_hi - work->lane_lo <= CLLM_GROUP_LANES);
        for (uint32_t i = 0; i < work->lane_hi - work->lane_lo; i++)
            CLLM_ASSERT(work->buffers[i] < g->n_buffers);
    }
}

static void execute(struct cllm_worker *worker, const struct cllm_assignment *work,
                    struct cllm_report *report)
{
    check_work(worker, work);
    switch (work->kind) {
    case CLLM_WORK_LANE:
        cllm_worker_lane(worker, work, report);
        break;
    case CLLM_WORK_EVAL:
        cllm_worker_eval(worker, work, report);
        break;
    case CLLM_WORK_FOLD:
    case CLLM_WORK_MERGE:
        cllm_worker_fold_chunks(worker, work, report);
        break;
    case CLLM_WORK_UPDATE:
        cllm_worker_update(worker, work, report);
        break;
    case CLLM_WORK_COPY:
        cllm_worker_copy(worker, work, report);
        break;
    case CLLM_WORK_VERIFY:
        cllm_worker_verify(worker, work, report);
        break;
    case CLLM_WORK_INIT:
    default:
        cllm_worker_init_params(worker, work, report);
    }
}

static void do_work(struct cllm_worker *worker, const struct cllm_assignment *work,
                    uint64_t seq)
{
    struct cllm_status *status = &worker->child.control.own->status;
    uint64_t began = cllm_now_ns();
    struct cllm_report report;

    cllm_slot_answer(&report, work);
    cllm_store_relaxed(&status->step, work->step);
    cllm_store_relaxed(&status->lane, work->lane);
    cllm_store_relaxed(&status->work, work->kind);
    cllm_fault(CLLM_FAULT_worker_begin);
    execute(worker, work, &report);
    cllm_store_relaxed(&status->work, CLLM_WORK_NONE);

    report.busy_ns = cllm_now_ns() - began;
    count(status, work, report.busy_ns);
    cllm_fault(CLLM_FAULT_worker_end);
    cllm_slot_report(&worker->child.control, &report, seq, worker->child.eventfd);
}

static void serve(struct cllm_worker *worker)
{
    struct cllm_child *child = &worker->child;
    struct cllm_assignment work;
    uint64_t seq = 1;

    for (;;) {
        uint64_t idle_since = cllm_now_ns();

        while (!cllm_slot_next(&child->control, child->generation, seq, &work)) {
            cllm_slot_sleep(&child->control, SLEEP_NS);
            cllm_child_check_parent(child);
        }
        add_relaxed(&child->control.own->status.idle_ns, cllm_now_ns() - idle_since);
        if (work.kind == CLLM_WORK_EXIT) {
            cllm_fault(CLLM_FAULT_worker_exit);
            return;
        }
        do_work(worker, &work, seq++);
    }
}

/* A device has no use for more than one. */
static bool has_threads(const struct cllm_worker *worker)
{
    return worker->child.config.compute_threads > 1 && worker->device.ops == NULL;
}

/* What it computes with is mapped and allocated; libraries take the rest from a budget.
 */
static void confine(const struct cllm_worker *worker, char *how, size_t bytes)
{
    bool device = worker->device.ops != NULL;
    const struct cllm_sandbox sandbox = {
        .role = CLLM_ROLE_WORKER,
        .off = worker->child.config.run_sandbox == CLLM_SANDBOX_OFF,
        .driver = device,
        .private_bytes = device ? 0
                                : LIBRARY_BYTES + worker->arena.bytes +
                                      cllm_vector_bytes(worker->child.geometry),
        .everywhere = has_threads(worker) ? cllm_threads_everywhere : NULL,
    };

    (void)snprintf(how, bytes, "%.40s",
                   device ? worker->device.ops->name : worker->ops->name);
    cllm_sandbox_enter(&sandbox, how, bytes);
}

static void note_thread(void *ctx, uint32_t part, uint32_t thread)
{
    (void)ctx;
    (void)part;
    if (thread != 0) /* the first is known */
        cllm_crash_thread(thread);
}

/* The table to compute with, and the threads or the device that it takes: before the
 * sandbox, which lets nobody make or open one. */
static int choose_kernels(struct cllm_worker *worker)
{
    const struct cllm_config *config = &worker->child.config;
    uint32_t T = (uint32_t)cllm_max_u64(worker->child.geometry->model.context,
                                        CLLM_SELF_TEST_CONTEXT);
    int rc = cllm_ops_pick(&worker->ops, (enum cllm_isa)config->compute_isa,
                           (enum cllm_precision)config->compute_precision);

    if (rc == 0)
        rc = cllm_device_open(worker);
    if (rc == 0 && worker->device.ops == NULL)
        take_long_turns(); /* so do its threads */
    if (rc != 0 || !has_threads(worker))
        return rc;
    rc = cllm_threads_start((uint32_t)config->compute_threads,
                            cllm_model_thread_bytes(T) / sizeof(float));
    if (rc != 0)
        return rc;
    cllm_threads_everywhere(note_thread, NULL);
    worker->ops = cllm_ops_threaded(worker->ops, 0);
    return 0;
}

int main(int argc, char **argv)
{
    struct cllm_worker worker = {0};
    char how[64] = "";
    uint64_t numerics = 0;
    int rc = cllm_child_init(&worker.child, CLLM_ROLE_WORKER, argc, argv);

    if (rc != 0)
        return cllm_child_fail(&worker.child, rc);
    rc = choose_kernels(&worker);
    if (rc == 0)
        rc = cllm_worker_self_test(worker.ops, worker.device.ops,
                                   (enum cllm_arch)worker.child.geometry->model.arch,
                                   &worker.child.config, &numerics);
    cllm_fault(CLLM_FAULT_worker_tested);
    if (rc == 0)
        rc = cllm_worker_map(&worker);
    if (rc == 0) {
        cllm_fault(CLLM_FAULT_worker_mapped);
        confine(&worker, how, sizeof how);
        cllm_device_introduce(&worker);
        cllm_slot_say_hello(&worker.child.control, worker.child.generation, numerics, how,
                            worker.child.eventfd);
        cllm_device_tell_start(&worker);
        serve(&worker);
    }
    cllm_threads_stop();
    cllm_device_close(&worker);
    if (worker.child.geometry)
        cllm_worker_unmap(&worker);
    if (rc != 0)
        return cllm_child_fail(&worker.child, rc);
    cllm_child_fini(&worker.child);
    return CLLM_EXIT_OK;
}
