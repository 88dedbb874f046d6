/*
 * loader/fill.c - order of the stores, for each batch: not ready (release fence), rows,
 * hash, ready (release); then status.filled (release). A death between any two of them
 * leaves a batch that is whole, or one that says that it is not.
 */
#include "loader/fill.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "loader/sampler.h"

struct cllm_reader_file *cllm_fill_files(const struct cllm_dataset *train,
                                         const struct cllm_dataset *valid,
                                         uint32_t *n_files)
{
    uint32_t n = train->n_shards + valid->n_shards;
    struct cllm_reader_file *file = calloc(n, sizeof *file);

    if (!file) {
        (void)cllm_err(-ENOMEM, "cannot list the shards");
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct cllm_shard *shard =
            i < train->n_shards ? &train->shard[i] : &valid->shard[i - train->n_shards];

        file[i] = (struct cllm_reader_file){
            .path = shard->path, .fd = shard->fd, .bytes = shard->file_bytes};
    }
    *n_files = n;
    return file;
}

static uint32_t row_bytes(const struct cllm_dataset *dataset, uint32_t shard)
{
    return (dataset->window_tokens + 1) * dataset->shard[shard].token_bytes;
}

uint32_t cllm_fill_row_bytes(const struct cllm_dataset *train,
                             const struct cllm_dataset *valid)
{
    uint32_t bytes = 0;

    for (uint32_t i = 0; i < train->n_shards; i++)
        bytes = (uint32_t)cllm_max_u64(bytes, row_bytes(train, i));
    for (uint32_t i = 0; i < valid->n_shards; i++)
        bytes = (uint32_t)cllm_max_u64(bytes, row_bytes(valid, i));
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
    CLLM_ASSERT(fill->train->n_windows > 0);
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

static void submit_row(struct cllm_fill *fill, uint64_t batch, uint32_t row)
{
    const struct cllm_geometry *geometry = fill->geometry;
    const struct cllm_dataset *dataset = fill->train;
    const struct cllm_shard *shard;
    uint64_t sequence, window, token_off;
    uint32_t index, file;

    if (batch & CLLM_BATCH_EVAL) {
        dataset = fill->valid;
        sequence =
            cllm_sampler_sequence(batch & ~CLLM_BATCH_EVAL, geometry->sequences, row);
        window = cllm_sampler_eval_window(
            dataset->n_windows, (uint64_t)geometry->ring_eval_slots * geometry->sequences,
            sequence);
    } else {
        sequence = cllm_sampler_sequence(batch, geometry->sequences, row);
        window = cllm_sampler_window(geometry->seed, dataset->n_windows, sequence);
    }
    cllm_dataset_locate(dataset, window, &index, &token_off);
    shard = &dataset->shard[index];
    file = dataset == fill->train ? index : fill->train->n_shards + index;
    cllm_reader_submit(fill->reader, file,
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

/* Widen @n tokens of @token_bytes each; returns the largest. */
static uint32_t widen(uint32_t *out, const uint8_t *in, uint32_t token_bytes, uint64_t n)
{
    uint32_t largest = 0;

    if (token_bytes == sizeof(uint32_t)) {
        memcpy(out, in, n * sizeof *out);
        for (uint64_t i = 0; i < n; i++)
            largest = out[i] > largest ? out[i] : largest;
        return largest;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint16_t token;

        memcpy(&token, in + i * sizeof token, sizeof token);
        out[i] = token;
        largest = token > largest ? token : largest;
    }
    return largest;
}

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
    const struct cllm_shard *shard =
        read->file < fill->train->n_shards
            ? &fill->train->shard[read->file]
            : &fill->valid->shard[read->file - fill->train->n_shards];
    uint64_t row_tokens = cllm_ring_row_tokens(fill->geometry);
    uint32_t slot = cllm_ring_slot_of(fill->geometry, read->batch);
    uint32_t *row = fill->ring->tokens + slot * fill->ring->batch_tokens +
                    read->row * row_tokens; /* (sequences, context + 1) */

    CLLM_ASSERT(fill->rows_left[slot] > 0);
    if (widen(row, read->data, shard->token_bytes, row_tokens) >=
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
