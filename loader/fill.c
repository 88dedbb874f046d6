/*
 * loader/fill.c - order of the stores, for each batch: not ready (release fence), rows,
 * hash, ready (release); then status.filled (release). A death between any two of them
 * leaves a batch that is whole, or one that says that it is not.
 */
#include "loader/fill.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "loader/sampler.h"

/* Data set @i of all: the parts of @train, then @valid. NULL behind the last. */
static const struct cllm_dataset *data_of(const struct cllm_mixture *train,
                                          const struct cllm_dataset *valid, uint32_t i)
{
    if (i < train->mix.n)
        return &train->part[i].data;
    return i == train->mix.n ? valid : NULL;
}

struct cllm_reader_file *cllm_fill_files(const struct cllm_mixture *train,
                                         const struct cllm_dataset *valid,
                                         uint32_t *n_files)
{
    const struct cllm_dataset *data;
    struct cllm_reader_file *file;
    uint32_t n = 0;

    for (uint32_t d = 0; (data = data_of(train, valid, d)) != NULL; d++)
        n += data->n_shards;
    CLLM_ASSERT(n > 0); /* a data set has a shard */
    file = calloc(n, sizeof *file);
    if (!file) {
        (void)cllm_err(-ENOMEM, "cannot list the shards");
        return NULL;
    }
    *n_files = 0;
    for (uint32_t d = 0; (data = data_of(train, valid, d)) != NULL; d++) {
        for (uint32_t i = 0; i < data->n_shards; i++) {
            const struct cllm_shard *shard = &data->shard[i];

            file[(*n_files)++] = (struct cllm_reader_file){
                .path = shard->path, .fd = shard->fd, .bytes = shard->file_bytes};
        }
    }
    return file;
}

/* The number that cllm_fill_files() gives to shard 0 of data set @d. */
static uint32_t first_file(const struct cllm_fill *fill, uint32_t d)
{
    uint32_t first = 0;

    for (uint32_t i = 0; i < d; i++)
        first += data_of(fill->train, fill->valid, i)->n_shards;
    return first;
}

static const struct cllm_shard *shard_of(const struct cllm_fill *fill, uint32_t file)
{
    const struct cllm_dataset *data;

    for (uint32_t d = 0; (data = data_of(fill->train, fill->valid, d)) != NULL; d++) {
        if (file < data->n_shards)
            return &data->shard[file];
        file -= data->n_shards;
    }
    CLLM_ASSERT(data != NULL);
    return NULL;
}

static uint32_t row_bytes(const struct cllm_dataset *dataset, uint32_t shard)
{
    return (dataset->window_tokens + 1) * dataset->shard[shard].token_bytes;
}

uint32_t cllm_fill_row_bytes(const struct cllm_mixture *train,
                             const struct cllm_dataset *valid)
{
    const struct cllm_dataset *data;
    uint32_t bytes = 0;

    for (uint32_t d = 0; (data = data_of(train, valid, d)) != NULL; d++)
        for (uint32_t i = 0; i < data->n_shards; i++)
            bytes = (uint32_t)cllm_max_u64(bytes, row_bytes(data, i));
    return bytes;
}

static uint64_t batches_of_step(const struct cllm_fill *fill)
{
    return (uint64_t)fill->geometry->lanes * fill->geometry->microbatches;
}

int cllm_fill_init(struct cllm_fill *fill, uint64_t committed)
{
    const struct cllm_geometry *geometry = fill->geometry;
    size_t slots = (size_t)geometry->ring_slots + geometry->ring_eval_slots;

    CLLM_ASSERT(geometry->ring_slots == geometry->ring_steps * batches_of_step(fill));
    CLLM_ASSERT(fill->train->mix.n > 0);
    if (geometry->ring_eval_slots > 0 && fill->valid->n_windows == 0)
        return cllm_err(CLLM_EDATA,
                        "there are no validation shards to fill %" PRIu32
                        " validation batches from",
                        geometry->ring_eval_slots);
    fill->rows_left = calloc(slots, sizeof *fill->rows_left);
    if (!fill->rows_left)
        return cllm_err(-ENOMEM, "cannot begin to fill the ring");
    fill->next_eval = 0;
    fill->next_row = 0;
    fill->filled_eval = 0;
    fill->next_train = fill->filled = committed * batches_of_step(fill);
    return 0;
}

void cllm_fill_fini(struct cllm_fill *fill)
{
    free(fill->rows_left);
    fill->rows_left = NULL;
}

/* ---- what is read next ---- */

/* The first training batch that may not be filled yet. */
static uint64_t train_limit(const struct cllm_fill *fill, uint64_t committed)
{
    const struct cllm_geometry *geometry = fill->geometry;
    uint64_t steps = cllm_min_u64(committed + geometry->ring_steps, geometry->steps);

    /* Not past what this process has seen filled either: one slot, one batch. */
    return cllm_min_u64(steps * batches_of_step(fill),
                        fill->filled + geometry->ring_slots);
}

/* The window of row @row of @batch; returns the number of the data set it is in. */
static uint32_t window_of(const struct cllm_fill *fill, uint64_t batch, uint32_t row,
                          uint64_t *window)
{
    const struct cllm_geometry *geometry = fill->geometry;
    uint64_t sequence =
        cllm_sampler_sequence(batch & ~CLLM_BATCH_EVAL, geometry->sequences, row);
    const struct cllm_mixture_part *part;
    uint64_t rank;
    uint32_t d;

    if (batch & CLLM_BATCH_EVAL) {
        *window = cllm_sampler_eval_window(
            fill->valid->n_windows,
            (uint64_t)geometry->ring_eval_slots * geometry->sequences, sequence);
        return fill->train->mix.n;
    }
    cllm_mix_place(&fill->train->mix, sequence, &d, &rank);
    part = &fill->train->part[d];
    *window = cllm_sampler_window(cllm_sampler_seed(geometry->seed, part->key),
                                  part->data.n_windows, rank);
    return d;
}

static void submit_row(struct cllm_fill *fill, uint64_t batch, uint32_t row)
{
    const struct cllm_dataset *dataset;
    const struct cllm_shard *shard;
    uint64_t window, token_off;
    uint32_t index, d = window_of(fill, batch, row, &window);

    dataset = data_of(fill->train, fill->valid, d);
    cllm_dataset_locate(dataset, window, &index, &token_off);
    shard = &dataset->shard[index];
    cllm_reader_submit(fill->reader, first_file(fill, d) + index,
                       shard->data_off + token_off * shard->token_bytes,
                       row_bytes(dataset, index), batch, row);
}

/*
 * Submit rows of @batch from next_row on, while there is room. True when none is left to
 * submit. A batch that stands intact in the ring needs none.
 */
static bool submit_batch(struct cllm_fill *fill, uint64_t batch)
{
    uint32_t slot = cllm_ring_slot_of(fill->geometry, batch);

    if (fill->next_row == 0) {
        if (cllm_ring_has(fill->ring, batch)) {
            fill->rows_left[slot] = 0;
            return true;
        }
        (void)cllm_ring_begin(fill->ring, batch);
        fill->rows_left[slot] = fill->geometry->sequences;
    }
    while (fill->next_row < fill->geometry->sequences) {
        if (cllm_reader_room(fill->reader) == 0)
            return false;
        cllm_fault(CLLM_FAULT_fill_submit);
        submit_row(fill, batch, fill->next_row++);
    }
    fill->next_row = 0;
    return true;
}

/* Submit while there is room and something may be filled. True when anything was. */
static bool submit(struct cllm_fill *fill, uint64_t limit)
{
    bool any = false;

    while (cllm_reader_room(fill->reader) > 0 &&
           fill->next_eval < fill->geometry->ring_eval_slots) {
        any = true;
        if (submit_batch(fill, CLLM_BATCH_EVAL | fill->next_eval))
            fill->next_eval++;
    }
    while (cllm_reader_room(fill->reader) > 0 && fill->next_train < limit) {
        any = true;
        if (submit_batch(fill, fill->next_train))
            fill->next_train++;
    }
    return any;
}

/* ---- what has been read ---- */

static int bad_token(const struct cllm_fill *fill, const struct cllm_read *read,
                     const struct cllm_shard *shard, const uint32_t *tokens)
{
    uint64_t at = 0, index;
    int rc;

    while (tokens[at] < fill->geometry->model.vocab)
        at++;
    index = (read->offset - shard->data_off) / shard->token_bytes + at;
    rc = cllm_err(CLLM_EDATA,
                  "%s: token %" PRIu64 " (byte offset %" PRIu64 ") is %" PRIu32
                  ", expected less than %" PRIu32 " ([model] vocab)",
                  shard->path, index, read->offset + at * shard->token_bytes, tokens[at],
                  fill->geometry->model.vocab);
    cllm_err_hint("the shard was made for another vocabulary, or is damaged");
    return rc;
}

/* Put a row where it belongs; publish its batch when it was the last one. */
static int accept_row(struct cllm_fill *fill, const struct cllm_read *read)
{
    const struct cllm_shard *shard = shard_of(fill, read->file);
    uint64_t row_tokens = cllm_ring_row_tokens(fill->geometry);
    uint32_t slot = cllm_ring_slot_of(fill->geometry, read->batch);
    uint32_t *row = fill->ring->tokens + slot * fill->ring->batch_tokens +
                    read->row * row_tokens; /* (sequences, context + 1) */

    CLLM_ASSERT(fill->rows_left[slot] > 0);
    if (cllm_token_widen(row, read->data, shard->kind, row_tokens) >=
        fill->geometry->model.vocab)
        return bad_token(fill, read, shard, row);
    cllm_fault(CLLM_FAULT_fill_row);
    if (--fill->rows_left[slot] == 0)
        cllm_ring_publish(fill->ring, read->batch, fill->generation);
    return 0;
}

static void count(_Atomic uint64_t *counter, uint64_t n)
{
    /* One writer: no need for an atomic addition. */
    cllm_store_relaxed(counter, cllm_load_relaxed(counter) + n);
}

/* Move filled and filled_eval over all batches that are complete, in order. */
static void announce(struct cllm_fill *fill)
{
    const struct cllm_geometry *geometry = fill->geometry;

    while (fill->filled_eval < fill->next_eval &&
           fill->rows_left[geometry->ring_slots + fill->filled_eval] == 0)
        fill->filled_eval++;
    while (fill->filled < fill->next_train &&
           fill->rows_left[fill->filled % geometry->ring_slots] == 0)
        fill->filled++;
    cllm_fault(CLLM_FAULT_fill_filled);
    /* release: who acquires these finds the batches published */
    cllm_store_release(&fill->status->filled, fill->filled);
    if (fill->filled_eval == geometry->ring_eval_slots)
        cllm_store_release(&fill->status->eval_ready, 1);
    cllm_fault(CLLM_FAULT_fill_announced);
}

static int take_rows(struct cllm_fill *fill)
{
    struct cllm_read *done[CLLM_READER_DEPTH_MAX];
    uint32_t n_done;
    uint64_t retries = fill->reader->retries;
    int rc = cllm_reader_wait(fill->reader, done, &n_done);

    count(&fill->status->retries, fill->reader->retries - retries);
    for (uint32_t i = 0; i < n_done && rc == 0; i++) {
        rc = accept_row(fill, done[i]);
        count(&fill->status->progress, 1);
        count(&fill->status->reads, 1);
        count(&fill->status->read_bytes, done[i]->bytes);
        cllm_reader_release(fill->reader, done[i]);
    }
    return rc;
}

int cllm_fill_advance(struct cllm_fill *fill, uint64_t committed)
{
    uint64_t began = cllm_now_ns();
    bool any = submit(fill, train_limit(fill, committed));
    int rc = 0;

    if (cllm_reader_room(fill->reader) < fill->reader->depth) {
        any = true;
        rc = take_rows(fill);
    }
    announce(fill);
    count(&fill->status->busy_ns, cllm_now_ns() - began);
    if (rc != 0)
        return rc;
    return any ? 1 : 0;
}
