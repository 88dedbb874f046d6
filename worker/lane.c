/*
 * worker/lane.c - the gradient of one lane: its micro-batches in order, into the lane's
 * buffer.
 */
#include <xmmintrin.h>

#include "base/fault.h"
#include "base/hash.h"
#include "base/random.h"
#include "compute/threads.h"
#include "worker/worker.h"

/* Default rounding, all exceptions masked, denormals kept: part of the bits. */
#define MXCSR_DEFAULT 0x1f80u
#define MXCSR_FLAGS   0x3fu /* sticky exception flags, not a mode */

/* A library may change the mode at load; set it, so that the result does not depend on
 * it. */
static void set_rounding(void)
{
    _mm_setcsr(MXCSR_DEFAULT);
}

static void check_rounding(void)
{
    CLLM_ASSERT((_mm_getcsr() & ~MXCSR_FLAGS) == MXCSR_DEFAULT);
}

/* A lane's gradient, in stretches that threads may share; how many is part of its sum. */
enum { PIECE = 4096, STRETCHES = 64 };

struct gradient {
    const struct cllm_ops *ops;
    float *dw;
    uint64_t n;
    uint64_t sum[STRETCHES];
    bool finite[STRETCHES];
};

/* The elements of stretch @part: whole pieces, from *@at to the result. */
static uint64_t stretch(const struct gradient *gradient, uint32_t part, uint64_t *at)
{
    uint64_t pieces = cllm_div_up(gradient->n, PIECE);

    *at = cllm_min_u64(pieces * part / STRETCHES * PIECE, gradient->n);
    return cllm_min_u64(pieces * (part + 1) / STRETCHES * PIECE, gradient->n);
}

/*
 * Hash it, and look for NaN and infinity in the same pass: a piece is in the first-level
 * cache when the second looks at it. The pieces' hashes are chained.
 */
static void sum_stretch(void *ctx, uint32_t part, uint32_t thread)
{
    struct gradient *gradient = ctx;
    uint64_t at, end = stretch(gradient, part, &at), sum = part;
    bool finite = true;

    (void)thread;
    for (; at < end; at += PIECE) {
        uint64_t count = cllm_min_u64(PIECE, end - at);

        finite = gradient->ops->is_finite(gradient->dw + at, count) && finite;
        sum = cllm_hash(gradient->dw + at, count * sizeof(float), sum);
    }
    gradient->sum[part] = sum;
    gradient->finite[part] = finite;
}

static void sum_gradient(struct gradient *gradient, struct cllm_report *report)
{
    bool finite = __builtin_isfinite(report->loss);

    cllm_threads_run(sum_stretch, gradient, STRETCHES);
    for (uint32_t part = 0; part < STRETCHES; part++)
        finite = gradient->finite[part] && finite;
    report->grad_sum = cllm_hash(gradient->sum, sizeof gradient->sum, report->lane);
    if (finite)
        report->flags |= CLLM_REPORT_FINITE;
}

/* The weights of version @version, which holds step @step, where the model finds them. */
static const float *weights(struct cllm_worker *worker, uint32_t version, uint64_t step)
{
    const float *w = cllm_worker_params(worker, version, 0);

    return worker->device.ops != NULL ? cllm_device_weights(worker, w, step) : w;
}

/* Everything is computed. Drivers run in this thread too, and may change its mode. */
static void finish(struct cllm_worker *worker)
{
    if (worker->device.ops == NULL) {
        check_rounding();
        return;
    }
    cllm_device_check(worker);
    set_rounding();
}

void cllm_worker_lane(struct cllm_worker *worker, const struct cllm_assignment *work,
                      struct cllm_report *report)
{
    const struct cllm_geometry *g = worker->child.geometry;
    const float *w = weights(worker, work->version, work->step - 1);
    struct cllm_region *region = &worker->buffer[work->buffer];
    float *dw = (float *)(void *)region->base;
    uint64_t bytes = g->n_elements * sizeof *dw;
    bool device = worker->device.ops != NULL;
    struct gradient gradient = {.ops = worker->ops, .dw = dw, .n = g->n_elements};

    set_rounding();
    cllm_region_allow(region, 0, bytes, true);
    if (device)
        dw = worker->device.arrays.dw;
    cllm_fault(CLLM_FAULT_lane_begun);
    for (uint32_t m = 0; m < g->microbatches; m++) {
        uint64_t batch = cllm_batch_number(g, work->step, work->lane, m);

        if (!cllm_ring_read(&worker->ring, batch, worker->tokens)) {
            report->flags |= CLLM_REPORT_BAD_BATCH;
            break;
        }
        worker->model.overwrite = m == 0;
        worker->model.dropout_key = cllm_random_u64(g->seed, CLLM_RANDOM_DROPOUT, batch);
        report->loss +=
            cllm_model_forward_backward(&worker->model, w, dw, worker->tokens);
        cllm_fault(CLLM_FAULT_lane_batch);
        report->tokens += (uint64_t)g->sequences * g->model.context;
    }
    if (device)
        cllm_device_fetch(worker, gradient.dw);
    if (cllm_fault_flips(CLLM_FAULT_lane_erred))
        ((uint32_t *)(void *)region->base)[g->n_elements / 2] ^= 1;
    cllm_region_allow(region, 0, bytes, false);
    finish(worker);
    sum_gradient(&gradient, report);
    cllm_fault(CLLM_FAULT_lane_summed);
}

void cllm_worker_eval(struct cllm_worker *worker, const struct cllm_assignment *work,
                      struct cllm_report *report)
{
    const struct cllm_geometry *g = worker->child.geometry;
    const float *w = weights(worker, work->version, work->step);

    set_rounding();
    for (uint32_t m = 0; m < g->eval_microbatches; m++) {
        uint64_t batch = cllm_eval_batch_number(g, work->lane, m);

        if (!cllm_ring_read(&worker->ring, batch, worker->tokens)) {
            report->flags |= CLLM_REPORT_BAD_BATCH;
            break;
        }
        report->loss += cllm_model_loss(&worker->model, w, worker->tokens);
        cllm_fault(CLLM_FAULT_eval_batch);
        report->tokens += (uint64_t)g->sequences * g->model.context;
    }
    finish(worker);
    if (__builtin_isfinite(report->loss))
        report->flags |= CLLM_REPORT_FINITE;
}
