/*
 * worker/update.c - work by chunk: fold lanes, merge groups, update, initial weights.
 *
 * The source of every chunk is frozen while the chunk is written somewhere else, so doing
 * a chunk twice writes the same bytes and nothing ever has to be undone. A chunk is
 * writable only while it is being written.
 */
#include <string.h>

#include <xmmintrin.h>

#include "base/fault.h"
#include "compute/threads.h"
#include "model/optimizer.h"
#include "shm/chunk.h"
#include "shm/frozen.h"
#include "worker/worker.h"

static void allow_params(struct cllm_worker *worker, uint32_t version, uint64_t lo,
                         uint64_t n, bool writable)
{
    uint64_t part_bytes = cllm_vector_bytes(worker->child.geometry);

    for (uint32_t part = 0; part < 3; part++)
        cllm_region_allow(&worker->params[version],
                          part * part_bytes + lo * sizeof(float), n * sizeof(float),
                          writable);
}

/* A fold that is CLLM_NONE needs no leave. */
static void allow_fold(struct cllm_worker *worker, uint32_t fold, uint64_t lo, uint64_t n,
                       bool writable)
{
    if (fold != CLLM_NONE)
        cllm_region_allow(&worker->fold[fold], lo * sizeof(float), n * sizeof(float),
                          writable);
}

/* What is added up, from left to right; pointers at element 0. */
struct summands {
    const float *before; /* a fold; NULL: none */
    const float *add[CLLM_GROUP_LANES];
    uint32_t n;
};

/* Elements of every array in turn: few, so that a CPU reads what follows from memory
 * while it still writes what came before. */
enum { STRIP = 128 };

/* Chunks are parts of an assignment, which threads may share. */
struct chunks {
    struct cllm_worker *worker;
    const struct cllm_assignment *work;
    struct cllm_report *report;
    struct cllm_optimizer_walk walk; /* of an update: at its beginning */
    struct summands gradient;        /* of an update */
    float *target[3];                /* of an update: w, m, v from element 0 on */
    uint32_t first;                  /* of an update: chunk of the first part */
};

/* ---- sums of gradients ---- */

static struct summands summands_of(const struct cllm_worker *worker,
                                   const struct cllm_assignment *work)
{
    struct summands all = {.n = work->lane_hi - work->lane_lo};

    CLLM_ASSERT(all.n <= CLLM_GROUP_LANES);
    if (work->fold_from != CLLM_NONE)
        all.before = cllm_worker_fold(worker, work->fold_from);
    for (uint32_t i = 0; i < all.n; i++)
        all.add[i] = (float *)(void *)worker->buffer[work->buffers[i]].base;
    if (work->fold_add != CLLM_NONE)
        all.add[all.n++] = cllm_worker_fold(worker, work->fold_add);
    CLLM_ASSERT(all.before || all.n > 0);
    return all;
}

/* Elements [lo, lo + n) of their sum: where they lie, or in @made. */
static const float *add_up(const struct cllm_worker *worker, const struct summands *all,
                           uint64_t lo, uint64_t n, float *made)
{
    const float *add[CLLM_GROUP_LANES];

    if (all->n == 0)
        return all->before + lo;
    for (uint32_t i = 0; i < all->n; i++)
        add[i] = all->add[i] + lo;
    worker->ops->fold(made, all->before ? all->before + lo : NULL, add, all->n, n);
    return made;
}

/* Piece by piece, as make_chunk(); where lanes are kept until the update, nothing is
 * written. Returns the sum of squares, which is that of pieces in order. */
static double fold_pieces(const struct cllm_worker *worker,
                          const struct cllm_assignment *work, uint64_t lo, uint64_t hi)
{
    struct summands all = summands_of(worker, work);
    float *to =
        work->fold_to == CLLM_NONE ? NULL : cllm_worker_fold(worker, work->fold_to);
    _Alignas(CLLM_CACHELINE) float made[CLLM_CHUNK_PIECE];
    double squares = 0;

    for (; lo < hi; lo += CLLM_CHUNK_PIECE) {
        uint64_t n = cllm_min_u64(CLLM_CHUNK_PIECE, hi - lo);
        const float *sum = all.n == 0 ? all.before + lo : made;

        for (uint64_t at = 0; at < n; at += STRIP) {
            uint64_t few = cllm_min_u64(STRIP, n - at);
            const float *strip = add_up(worker, &all, lo + at, few, made + at);

            if (to)
                worker->ops->stream(to + lo + at, strip, few);
        }
        squares += cllm_optimizer_sumsq(&worker->optimizer, worker->ops, sum, lo, lo + n);
    }
    if (to)
        _mm_sfence(); /* who hears of the chunk finds it */
    return squares;
}

static void fold_chunk(void *ctx, uint32_t part, uint32_t thread)
{
    const struct chunks *chunks = ctx;
    struct cllm_worker *worker = chunks->worker;
    const struct cllm_assignment *work = chunks->work;
    const struct cllm_geometry *g = worker->child.geometry;
    uint32_t c = work->chunk_lo + part;
    uint64_t lo = cllm_chunk_lo(g, c), hi = cllm_chunk_hi(g, c);

    (void)thread;
    allow_fold(worker, work->fold_to, lo, hi - lo, true);
    cllm_fault(CLLM_FAULT_fold_opened);
    chunks->report->result[part].sum_squares = fold_pieces(worker, work, lo, hi);
    cllm_fault(CLLM_FAULT_fold_written);
    allow_fold(worker, work->fold_to, lo, hi - lo, false);
    cllm_fault(CLLM_FAULT_fold_summed);
}

void cllm_worker_fold_chunks(struct cllm_worker *worker,
                             const struct cllm_assignment *work,
                             struct cllm_report *report)
{
    struct chunks chunks = {.worker = worker, .work = work, .report = report};

    cllm_threads_run(fold_chunk, &chunks, work->chunk_hi - work->chunk_lo);
}

/* Hash what is in version @version of chunk @c into its result. */
static void sum_chunk(struct cllm_worker *worker, uint32_t version, uint32_t c,
                      struct cllm_chunk_result *result)
{
    const struct cllm_geometry *g = worker->child.geometry;
    uint64_t lo = cllm_chunk_lo(g, c);

    result->sum = cllm_chunk_sum(cllm_worker_params(worker, version, 0) + lo,
                                 cllm_worker_params(worker, version, 1) + lo,
                                 cllm_worker_params(worker, version, 2) + lo,
                                 cllm_chunk_hi(g, c) - lo, c);
}

/* How many of [lo,hi) are the model's; then comes padding. */
static uint64_t elements_of_model(const struct cllm_worker *worker, uint64_t lo,
                                  uint64_t hi)
{
    return cllm_max_u64(lo, cllm_min_u64(hi, worker->plan.n_elements)) - lo;
}

/* Elements [lo, lo + n) of the three parts of the target: made in @made and written past
 * the caches; padding behind the model is zeros. */
static void make_strip(const struct chunks *chunks, struct cllm_optimizer_walk *walk,
                       uint64_t lo, uint64_t n, float *const made[3])
{
    struct cllm_worker *worker = chunks->worker;
    uint64_t of_model = elements_of_model(worker, lo, lo + n);
    _Alignas(CLLM_CACHELINE) float gradient[STRIP];

    if (of_model > 0)
        cllm_optimizer_range(walk, lo, lo + of_model,
                             add_up(worker, &chunks->gradient, lo, n, gradient), made[0],
                             made[1], made[2]);
    for (uint32_t part = 0; part < 3; part++) {
        if (of_model < n)
            memset(made[part] + of_model, 0, (n - of_model) * sizeof(float));
        worker->ops->stream(chunks->target[part] + lo, made[part], n);
    }
}

/*
 * A chunk in pieces that are made and hashed in the first-level cache and leave it past
 * the others: who reads them next does so in the next step.
 */
static uint64_t make_chunk(const struct chunks *chunks, uint32_t c)
{
    const struct cllm_geometry *g = chunks->worker->child.geometry;
    struct cllm_optimizer_walk walk = chunks->walk;
    _Alignas(CLLM_CACHELINE) float made[3][CLLM_CHUNK_PIECE];
    uint64_t hi = cllm_chunk_hi(g, c), sum = c;

    for (uint64_t lo = cllm_chunk_lo(g, c); lo < hi; lo += CLLM_CHUNK_PIECE) {
        uint64_t n = cllm_min_u64(CLLM_CHUNK_PIECE, hi - lo);

        for (uint64_t at = 0; at < n; at += STRIP)
            make_strip(chunks, &walk, lo + at, cllm_min_u64(STRIP, n - at),
                       (float *const[3]){made[0] + at, made[1] + at, made[2] + at});
        sum = cllm_chunk_sum_piece(made[0], made[1], made[2], n, sum);
    }
    _mm_sfence(); /* who hears of the chunk finds it */
    return sum;
}

static void update_chunk(void *ctx, uint32_t part, uint32_t thread)
{
    const struct chunks *chunks = ctx;
    struct cllm_worker *worker = chunks->worker;
    const struct cllm_assignment *work = chunks->work;
    const struct cllm_geometry *g = worker->child.geometry;
    uint32_t c = chunks->first + part;
    uint64_t lo = cllm_chunk_lo(g, c), n = cllm_chunk_hi(g, c) - lo;

    (void)thread;
    allow_params(worker, work->target, lo, n, true);
    cllm_fault(CLLM_FAULT_update_opened);
    chunks->report->result[c - work->chunk_lo].sum = make_chunk(chunks, c);
    cllm_fault(CLLM_FAULT_update_written);
    allow_params(worker, work->target, lo, n, false);
    cllm_fault(CLLM_FAULT_update_summed);
}

/* Does chunk @c need tensors as a whole? */
static bool is_whole(struct cllm_worker *worker, uint32_t c)
{
    const struct cllm_geometry *g = worker->child.geometry;

    return cllm_optimizer_is_whole(&worker->optimizer, cllm_chunk_lo(g, c),
                                   cllm_chunk_hi(g, c));
}

/* Threads share chunks; but where a tensor is needed as a whole, they share the making of
 * it, and chunks go one after the other. */
void cllm_worker_update(struct cllm_worker *worker, const struct cllm_assignment *work,
                        struct cllm_report *report)
{
    const struct summands gradient = summands_of(worker, work);
    const struct cllm_update update = {.ops = worker->ops,
                                       .w = cllm_worker_params(worker, work->version, 0),
                                       .m = cllm_worker_params(worker, work->version, 1),
                                       .v = cllm_worker_params(worker, work->version, 2),
                                       .whole = gradient.n == 0 ? gradient.before : NULL,
                                       .learning_rate = work->learning_rate,
                                       .grad_scale = work->grad_scale,
                                       .step = work->step};
    struct chunks chunks = {
        .worker = worker, .work = work, .report = report, .gradient = gradient};
    uint32_t c = work->chunk_lo;

    for (uint32_t part = 0; part < 3; part++)
        chunks.target[part] = cllm_worker_params(worker, work->target, part);
    cllm_optimizer_begin(&chunks.walk, &worker->optimizer, &update);
    while (c < work->chunk_hi) {
        chunks.first = c;
        if (is_whole(worker, c)) {
            update_chunk(&chunks, 0, 0);
            c++;
            continue;
        }
        while (c < work->chunk_hi && !is_whole(worker, c))
            c++;
        cllm_threads_run(update_chunk, &chunks, c - chunks.first);
    }
}

void cllm_worker_copy(struct cllm_worker *worker, const struct cllm_assignment *work,
                      struct cllm_report *report)
{
    const struct cllm_geometry *g = worker->child.geometry;

    for (uint32_t c = work->chunk_lo; c < work->chunk_hi; c++) {
        uint64_t lo = cllm_chunk_lo(g, c), n = cllm_chunk_hi(g, c) - lo;

        allow_params(worker, work->target, lo, n, true);
        for (uint32_t part = 0; part < 3; part++)
            memcpy(cllm_worker_params(worker, work->target, part) + lo,
                   cllm_worker_params(worker, work->version, part) + lo,
                   n * sizeof(float));
        allow_params(worker, work->target, lo, n, false);
        sum_chunk(worker, work->target, c, &report->result[c - work->chunk_lo]);
    }
}

void cllm_worker_verify(struct cllm_worker *worker, const struct cllm_assignment *work,
                        struct cllm_report *report)
{
    const struct cllm_geometry *g = worker->child.geometry;

    for (uint32_t c = work->chunk_lo; c < work->chunk_hi; c++) {
        struct cllm_chunk_result *result = &report->result[c - work->chunk_lo];

        sum_chunk(worker, work->target, c, result);
        /* With each chunk its share of what is frozen: damage there is damage here. */
        if (g->lora.rank > 0 && !cllm_frozen_intact(&worker->frozen, g, c, g->n_chunks))
            result->sum = ~result->sum;
    }
}

/*
 * Piece by piece, as make_chunk(). Nothing else is written on the way, no zeros before
 * the weights: whoever was given up and goes on writes what is there already, and may be
 * ended in the middle of it.
 */
static uint64_t init_chunk(const struct cllm_worker *worker, uint32_t target, uint32_t c)
{
    const struct cllm_geometry *g = worker->child.geometry;
    _Alignas(CLLM_CACHELINE) float w[CLLM_CHUNK_PIECE], zeros[CLLM_CHUNK_PIECE] = {0};
    const float *made[3] = {w, zeros, zeros};
    uint64_t hi = cllm_chunk_hi(g, c), sum = c;

    for (uint64_t lo = cllm_chunk_lo(g, c); lo < hi; lo += CLLM_CHUNK_PIECE) {
        uint64_t n = cllm_min_u64(CLLM_CHUNK_PIECE, hi - lo);
        uint64_t of_model = elements_of_model(worker, lo, lo + n);

        if (of_model > 0)
            cllm_model_initial_weights(&worker->plan, w, lo, lo + of_model, g->seed);
        memset(w + of_model, 0, (n - of_model) * sizeof *w);
        sum = cllm_chunk_sum_piece(w, zeros, zeros, n, sum);
        for (uint32_t part = 0; part < 3; part++)
            worker->ops->stream(cllm_worker_params(worker, target, part) + lo, made[part],
                                n);
    }
    _mm_sfence(); /* who hears of the chunk finds it */
    return sum;
}

void cllm_worker_init_params(struct cllm_worker *worker,
                             const struct cllm_assignment *work,
                             struct cllm_report *report)
{
    const struct cllm_geometry *g = worker->child.geometry;

    for (uint32_t c = work->chunk_lo; c < work->chunk_hi; c++) {
        uint64_t lo = cllm_chunk_lo(g, c), n = cllm_chunk_hi(g, c) - lo;

        allow_params(worker, work->target, lo, n, true);
        report->result[c - work->chunk_lo].sum = init_chunk(worker, work->target, c);
        cllm_fault(CLLM_FAULT_init_written);
        allow_params(worker, work->target, lo, n, false);
        cllm_fault(CLLM_FAULT_init_summed);
    }
}
