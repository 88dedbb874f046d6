/*
 * tests/crash/sim_files.c - what the children read and write: the loader's shard, and the
 * saver's checkpoints.
 *
 * The loops of both, the sampler, the ring and the pinned snapshot are real. A read comes
 * in any order and a save takes any time or fails, as the seed says.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "formats/dataset.h"
#include "loader/fill.h"
#include "loader/reader.h"
#include "loader/sampler.h"
#include "saver/load.h"
#include "saver/save.h"
#include "saver/saver.h"
#include "saver/snapshot.h"
#include "shm/child.h"
#include "shm/chunk.h"
#include "tests/crash/sim.h"

/* ---- the loader's data ---- */

int cllm_dataset_from_manifest(struct cllm_dataset *dataset, const char *text,
                               size_t bytes, uint32_t window_tokens)
{
    static char path[] = "/sim/shard.bin";

    (void)text;
    (void)bytes;
    *dataset = (struct cllm_dataset){.n_shards = 1,
                                     .window_tokens = window_tokens,
                                     .n_tokens = SIM_SHARD_TOKENS,
                                     .n_windows = SIM_SHARD_TOKENS - 1};
    dataset->shard = calloc(1, sizeof *dataset->shard);
    dataset->shard[0] = (struct cllm_shard){.path = path,
                                            .fd = 9000,
                                            .kind = CLLM_TOKEN_U32,
                                            .token_bytes = 4,
                                            .file_bytes = 4 * SIM_SHARD_TOKENS};
    return 0;
}

int cllm_mixture_from_manifest(struct cllm_mixture *mixture, const char **text,
                               uint32_t window_tokens)
{
    *mixture = (struct cllm_mixture){.mix = {.n = 1, .weight = {1}}};
    *text = strstr(*text, "[valid]");
    return cllm_dataset_from_manifest(&mixture->part[0].data, NULL, 0, window_tokens);
}

void cllm_mixture_close(struct cllm_mixture *mixture)
{
    mixture->mix.n = 0;
}

void cllm_dataset_close(struct cllm_dataset *dataset)
{
    dataset->n_shards = 0;
}

/* The toy's offset is the number of the window. */
void cllm_dataset_locate(const struct cllm_dataset *dataset, uint64_t window,
                         uint32_t *shard, uint64_t *token_off)
{
    (void)dataset;
    *shard = 0;
    *token_off = window;
}

const struct cllm_reader_method cllm_reader_uring = {.name = "toy"};
const struct cllm_reader_method cllm_reader_pread = {.name = "toy"};

int cllm_reader_open(struct cllm_reader *reader, const struct cllm_reader_plan *plan)
{
    uint32_t depth = 1 + (uint32_t)(sim_random() % 6);

    *reader = (struct cllm_reader){
        .n_files = plan->n_files, .max_bytes = plan->max_bytes, .depth = depth};
    reader->read = calloc(depth, sizeof *reader->read);
    reader->free = calloc(depth, sizeof *reader->free);
    for (uint32_t i = 0; i < depth; i++) {
        reader->read[i].buffer = calloc(1, 64);
        reader->free[i] = &reader->read[i];
    }
    reader->n_free = depth;
    return 0;
}

void cllm_reader_close(struct cllm_reader *reader)
{
    (void)reader;
}

void cllm_reader_describe(const struct cllm_reader *reader, char out[CLLM_READER_TEXT])
{
    (void)reader;
    (void)snprintf(out, CLLM_READER_TEXT, "toy");
}

void cllm_reader_submit(struct cllm_reader *reader, uint32_t file, uint64_t offset,
                        uint32_t bytes, uint64_t batch, uint32_t row)
{
    struct cllm_read *read = reader->free[--reader->n_free];
    uint8_t *buffer = read->buffer;
    uint32_t tokens[16];
    uint64_t sequence =
        cllm_sampler_sequence(batch & ~CLLM_BATCH_EVAL, sim.geometry.sequences, row);

    *read = (struct cllm_read){.file = file,
                               .bytes = bytes,
                               .offset = offset,
                               .batch = batch,
                               .row = row,
                               .data = buffer,
                               .buffer = buffer};
    sim_tokens((batch & CLLM_BATCH_EVAL) != 0, sequence, tokens);
    (void)memcpy(buffer, tokens, bytes);
    read->tries = 1; /* in flight */
}

int cllm_reader_wait(struct cllm_reader *reader, struct cllm_read **done,
                     uint32_t *n_done)
{
    uint32_t first = (uint32_t)(sim_random() % reader->depth);

    if (sim_chance(64))
        sim_sleep(sim.now_ns + sim_random() % CLLM_NS_PER_MS);
    *n_done = 0;
    while (*n_done == 0)
        for (uint32_t i = 0; i < reader->depth; i++) {
            struct cllm_read *read = &reader->read[(first + i) % reader->depth];

            if (read->tries == 1 && (sim_random() & 1)) {
                read->tries = 0;
                done[(*n_done)++] = read;
            }
        }
    return 0;
}

void cllm_reader_release(struct cllm_reader *reader, struct cllm_read *read)
{
    reader->free[reader->n_free++] = read;
}

/* ---- the saver's disk ---- */

int cllm_saver_init(struct cllm_saver *saver, struct cllm_child *child)
{
    memset(saver, 0, sizeof *saver);
    saver->child = child;
    saver->control = &child->control;
    saver->geometry = child->geometry;
    return 0;
}

void cllm_saver_fini(struct cllm_saver *saver)
{
    (void)saver;
}

static void tick(const struct cllm_saver *saver)
{
    sim_message("progress", 0);
    (void)atomic_fetch_add_explicit(&saver->control->own->status.progress, 1,
                                    memory_order_relaxed);
    cllm_child_check_parent(saver->child);
}

static int copy_version(struct cllm_saver *saver, struct cllm_snapshot *snapshot,
                        uint64_t *words)
{
    struct cllm_stretch stretch;
    uint32_t n = sim_words();
    int rc;

    while ((rc = cllm_snapshot_next(snapshot, &stretch)) == 1) {
        sim.current->reading = snapshot->pinned ? snapshot->version + 1 : 0;
        for (uint32_t part = 0; part < 3; part++)
            (void)memcpy(words + part * n + stretch.lo / 2, stretch.part[part],
                         stretch.n * sizeof(float));
        tick(saver);
    }
    if (rc == -EBADMSG && !sim.scribbled)
        sim_violation("pin", "elements before %llu changed while they were being saved",
                      (unsigned long long)snapshot->at);
    return rc;
}

int cllm_save_step(struct cllm_saver *saver, uint64_t step, uint32_t version)
{
    struct sim_checkpoint made = {.there = true};
    struct cllm_snapshot snapshot;
    int rc;

    if (!sim.quiet && sim_chance(sim.plan.slow_saves))
        sim_sleep(sim.now_ns +
                  (sim_random() % (20 * CLLM_NS_PER_MS) << sim_random() % 10));
    rc = cllm_snapshot_begin(&snapshot, saver->control, saver->child->eventfd, step,
                             version);

    if (rc == -EBADMSG && !sim.scribbled)
        sim_violation("pin", "step %llu was gone before it was saved",
                      (unsigned long long)step);
    if (rc == 0) {
        sim.current->reading = version + 1;
        made.record = snapshot.record;
        rc = copy_version(saver, &snapshot, made.words);
    }
    sim.current->reading = 0;
    cllm_snapshot_end(&snapshot);
    for (uint32_t i = 0; i < 3; i++) { /* write, fsync, read back */
        sim_sleep(sim.now_ns + (sim_random() % (4 * CLLM_NS_PER_MS)
                                << (sim_chance(sim.plan.slow_saves) ? 7 : 0)));
        tick(saver);
    }
    if (rc == 0 && !sim.quiet && sim_chance(sim.plan.save_failures)) {
        sim.saves_failed++;
        rc = cllm_err(-ENOSPC, "cannot save");
    }
    if (rc != 0)
        return rc;
    sim_message("rename", step);
    sim.checkpoint[step] = made;
    sim.totals.saves++;
    sim_house_verify_checkpoint(step);
    return 0;
}

void cllm_save_abandon(const struct cllm_saver *saver, uint64_t step)
{
    (void)saver;
    (void)step;
}

int cllm_load_chunks(struct cllm_saver *saver, const struct cllm_assignment *asked,
                     struct cllm_report *report)
{
    const struct cllm_geometry *g = saver->geometry;
    const struct sim_checkpoint *from = &sim.checkpoint[asked->step];
    uint64_t part_bytes = cllm_vector_bytes(g);
    struct cllm_region params = {0};
    char name[CLLM_REGION_NAME_BYTES];
    uint32_t n = sim_words();
    int rc;

    cllm_params_name(name, "sim", asked->target);
    rc = cllm_region_open(&params, name, cllm_params_bytes(g), CLLM_REGION_GUARDED);
    if (rc != 0)
        return rc;
    for (uint32_t c = asked->chunk_lo; c < asked->chunk_hi; c++) {
        uint64_t lo = cllm_chunk_lo(g, c) / 2, hi = cllm_chunk_hi(g, c) / 2;
        float *part[3];

        for (uint32_t p = 0; p < 3; p++) {
            part[p] = (float *)(void *)(params.base + p * part_bytes + lo * 8);
            cllm_region_allow(&params, p * part_bytes + lo * 8, (hi - lo) * 8, true);
            for (uint64_t i = lo; i < hi; i++)
                sim_store64((uint64_t *)(void *)part[p] + (i - lo),
                            from->words[p * n + i]);
            cllm_region_allow(&params, p * part_bytes + lo * 8, (hi - lo) * 8, false);
        }
        report->result[c - asked->chunk_lo].sum =
            cllm_chunk_sum(part[0], part[1], part[2], (hi - lo) * 2, c);
        tick(saver);
    }
    return 0;
}
