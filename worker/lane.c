/*
 * worker/lane.c - the gradient of one lane: its micro-batches in order, into the lane's
 * buffer.
 */
#include <string.h>

#include <xmmintrin.h>

#include "base/fault.h"
#include "base/hash.h"
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

/*
 * Hash the gradient @dw, and look for NaN and infinity in the same pass: a piece is in
 * the first-level cache when the second looks at it. The pieces' hashes are chained.
 */
static void sum_gradient(const struct cllm_worker *worker, const float *dw,
                         struct cllm_report *report)
{
    enum { PIECE = 4096 };
    uint64_t n = worker->child.geometry->n_elements;
    bool finite = __builtin_isfinite(report->loss);

    report->grad_sum = report->lane;
    for (uint64_t at = 0; at < n; at += PIECE) {
        uint64_t count = cllm_min_u64(PIECE, n - at);

        finite = worker->ops->is_finite(dw + at, count) && finite;
        report->grad_sum = cllm_hash(dw + at, count * sizeof *dw, report->grad_sum);
    }
    if (finite)
        report->flags |= CLLM_REPORT_FINITE;
}

void cllm_worker_lane(struct cllm_worker *worker, const struct cllm_assignment *work,
                      struct cllm_report *report)
{
    const struct cllm_geometry *g = worker->child.geometry;
    const float *w = cllm_worker_params(worker, work->version, 0);
    struct cllm_region *region = &worker->buffer[work->buffer];
    float *dw = (float *)(void *)region->base;
    uint64_t bytes = g->n_elements * sizeof *dw;

    set_rounding();
    cllm_region_allow(region, 0, bytes, true);
    memset(dw, 0, bytes);
    cllm_fault(CLLM_FAULT_lane_zeroed);
    for (uint32_t m = 0; m < g->microbatches; m++) {
        uint64_t batch = cllm_batch_number(g, work->step, work->lane, m);

        if (!cllm_ring_read(&worker->ring, batch, worker->tokens)) {
            report->flags |= CLLM_REPORT_BAD_BATCH;
            break;
        }
        report->loss += cllm_gpt_forward_backward(&worker->gpt, w, dw, worker->tokens);
        cllm_fault(CLLM_FAULT_lane_batch);
        report->tokens += (uint64_t)g->sequences * g->context;
    }
    cllm_region_allow(region, 0, bytes, false);
    check_rounding();
    sum_gradient(worker, dw, report);
    cllm_fault(CLLM_FAULT_lane_summed);
}

void cllm_worker_eval(struct cllm_worker *worker, const struct cllm_assignment *work,
                      struct cllm_report *report)
{
    const struct cllm_geometry *g = worker->child.geometry;
    const float *w = cllm_worker_params(worker, work->version, 0);

    set_rounding();
    for (uint32_t m = 0; m < g->eval_microbatches; m++) {
        uint64_t batch = cllm_eval_batch_number(g, work->lane, m);

        if (!cllm_ring_read(&worker->ring, batch, worker->tokens)) {
            report->flags |= CLLM_REPORT_BAD_BATCH;
            break;
        }
        report->loss += cllm_gpt_loss(&worker->gpt, w, worker->tokens);
        cllm_fault(CLLM_FAULT_eval_batch);
        report->tokens += (uint64_t)g->sequences * g->context;
    }
    check_rounding();
    if (__builtin_isfinite(report->loss))
        report->flags |= CLLM_REPORT_FINITE;
}
