/*
 * saver/snapshot.c - pin, copy, check, let go.
 */
#include "saver/snapshot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "shm/chunk.h"

/* What is copied at once of each part: it is hashed and written while it is in the second
 * cache. Whole pieces of a chunk's hash. */
#define STRETCH_ELEMENTS (UINT64_C(8) * CLLM_CHUNK_PIECE)

/* Where part @part (0 w, 1 m, 2 v) of element @element lies in shared memory. */
static const float *shared_at(const struct cllm_snapshot *snapshot, uint32_t part,
                              uint64_t element)
{
    const float *base = (const float *)(const void *)snapshot->params.base;

    return base + part * snapshot->control->header->geometry.n_elements + element;
}

/*
 * Nothing of the version is read after this. Release: the copies are complete before Node
 * Zero, which loads the word with acquire, lets a worker write the version.
 */
static void let_go(struct cllm_snapshot *snapshot)
{
    const uint64_t one = 1;

    if (!snapshot->pinned)
        return;
    cllm_fault(CLLM_FAULT_save_let_go);
    snapshot->pinned = false;
    cllm_region_close(&snapshot->params);
    cllm_store_release(&snapshot->control->own->status.holds_version, 0);
    cllm_fault(CLLM_FAULT_save_free);
    /* Only a wake-up: Node Zero looks again after its timeout when it is lost. */
    if (write(snapshot->eventfd, &one, sizeof one) < 0)
        cllm_debug("cannot ring Node Zero: %s", strerror(errno));
}

/* The record of @step, copied out while it is pinned, and whether the hashes agree with
 * it. */
static int take_record(struct cllm_snapshot *snapshot, uint64_t step)
{
    const struct cllm_geometry *geometry = &snapshot->control->header->geometry;
    uint64_t root;
    int rc;

    cllm_read_words(&snapshot->record, &snapshot->control->record[step & 1],
                    sizeof snapshot->record);
    if (snapshot->record.step != step ||
        snapshot->record.sum != cllm_step_record_sum(&snapshot->record))
        return cllm_err(-EBADMSG, "there is no valid record of step %" PRIu64, step);
    /* The hashes of this version and nothing else: the rest is being written. */
    for (uint32_t c = 0; c < geometry->n_chunks; c++)
        snapshot->chunks[c].sum[snapshot->version] =
            snapshot->control->chunk[c].sum[snapshot->version];
    root = cllm_chunk_root(snapshot->chunks, geometry->n_chunks, snapshot->version);
    if (root == snapshot->record.root)
        return 0;
    rc = cllm_err(-EBADMSG,
                  "the chunk hashes of version %u are not those of step %" PRIu64,
                  snapshot->version, step);
    cllm_err_detail("root %016" PRIx64 " expected, %016" PRIx64 " found",
                    snapshot->record.root, root);
    return rc;
}

int cllm_snapshot_begin(struct cllm_snapshot *snapshot, struct cllm_control *control,
                        int eventfd, uint64_t step, uint32_t version)
{
    const struct cllm_geometry *geometry = &control->header->geometry;
    char name[CLLM_REGION_NAME_BYTES];
    int rc;

    *snapshot = (struct cllm_snapshot){
        .control = control, .eventfd = eventfd, .version = version};
    if (version > 1 || version != (step & 1))
        return cllm_err(-EINVAL, "step %" PRIu64 " is not in version %u", step, version);

    /* The pin first, then the step it belongs to: saving_step tells that the pin is real.
     */
    cllm_store_release(&control->own->status.holds_version, version + 1);
    cllm_fault(CLLM_FAULT_save_pinned);
    cllm_store_release(&control->own->status.saving_step, step);
    cllm_fault(CLLM_FAULT_save_named);
    snapshot->pinned = true;

    snapshot->chunks = calloc(geometry->n_chunks, sizeof *snapshot->chunks);
    snapshot->stage =
        malloc(3 * cllm_min_u64(STRETCH_ELEMENTS, cllm_chunk_hi(geometry, 0)) *
               sizeof *snapshot->stage);
    if (snapshot->chunks == NULL || snapshot->stage == NULL)
        return cllm_err(-ENOMEM, "cannot get memory to copy a chunk");
    rc = take_record(snapshot, step);
    if (rc != 0)
        return rc;
    cllm_fault(CLLM_FAULT_save_record);
    cllm_params_name(name, control->header->run_id, version);
    return cllm_region_open(&snapshot->params, name, cllm_params_bytes(geometry),
                            CLLM_REGION_READ);
}

/* Copy what is left aside and let go of the version. */
static void copy_aside(struct cllm_snapshot *snapshot)
{
    uint64_t n = snapshot->control->header->geometry.n_elements - snapshot->at;
    size_t bytes = 3 * n * sizeof(float);
    void *map;

    cllm_fault(CLLM_FAULT_save_hurry);
    map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        cllm_warn("no memory to copy %.1f MiB aside; the update waits for the disk",
                  (double)bytes / (1 << 20));
        snapshot->cannot_hurry = true;
        return;
    }
    (void)madvise(map, bytes, MADV_HUGEPAGE); /* the update waits for these pages */
    snapshot->aside = map;
    snapshot->aside_bytes = bytes;
    snapshot->aside_at = snapshot->at;
    for (uint32_t part = 0; part < 3; part++)
        memcpy(snapshot->aside + part * n, shared_at(snapshot, part, snapshot->at),
               n * sizeof(float));
    atomic_fetch_add_explicit(&snapshot->control->own->status.copied_bytes, bytes,
                              memory_order_relaxed);
    cllm_fault(CLLM_FAULT_save_aside);
    let_go(snapshot);
}

/* The copy of part @part of @n elements from @lo: in the stage, or in what was copied
 * aside. */
static const float *fetch(struct cllm_snapshot *snapshot, uint32_t part, uint64_t lo,
                          uint64_t n)
{
    uint64_t n_elements = snapshot->control->header->geometry.n_elements;

    if (snapshot->aside)
        return snapshot->aside + part * (n_elements - snapshot->aside_at) +
               (lo - snapshot->aside_at);
    return memcpy(snapshot->stage + part * n, shared_at(snapshot, part, lo),
                  n * sizeof(float));
}

/* Has @chunk, of which all was copied, its updater's hash? */
static int check(const struct cllm_snapshot *snapshot, uint32_t chunk)
{
    const struct cllm_geometry *geometry = &snapshot->control->header->geometry;
    uint64_t expected = snapshot->chunks[chunk].sum[snapshot->version];
    int rc;

    if (snapshot->sum == expected)
        return 0;
    rc =
        cllm_err(-EBADMSG, "chunk %u of version %u does not have the hash of its updater",
                 chunk, snapshot->version);
    cllm_err_detail("elements %" PRIu64 " to %" PRIu64 ": %016" PRIx64
                    " expected, %016" PRIx64 " found",
                    cllm_chunk_lo(geometry, chunk), cllm_chunk_hi(geometry, chunk),
                    expected, snapshot->sum);
    return rc;
}

int cllm_snapshot_next(struct cllm_snapshot *snapshot, struct cllm_stretch *stretch)
{
    const struct cllm_geometry *geometry = &snapshot->control->header->geometry;
    uint32_t chunk = (uint32_t)(snapshot->at / geometry->chunk_elements);
    uint64_t lo = snapshot->at, n;
    int rc;

    if (lo == geometry->n_elements)
        return 0;
    if (snapshot->pinned && !snapshot->cannot_hurry &&
        cllm_load_relaxed(&snapshot->control->state->hurry_version) ==
            snapshot->version + 1)
        copy_aside(snapshot);
    n = cllm_min_u64(STRETCH_ELEMENTS, cllm_chunk_hi(geometry, chunk) - lo);
    *stretch = (struct cllm_stretch){.lo = lo, .n = n};
    for (uint32_t part = 0; part < 3; part++)
        stretch->part[part] = fetch(snapshot, part, lo, n);
    snapshot->at += n;
    if (snapshot->at == geometry->n_elements)
        let_go(snapshot);
    if (lo == cllm_chunk_lo(geometry, chunk))
        snapshot->sum = chunk;
    snapshot->sum = cllm_chunk_sum(stretch->part[0], stretch->part[1], stretch->part[2],
                                   n, snapshot->sum);
    if (snapshot->at < cllm_chunk_hi(geometry, chunk))
        return 1;
    rc = check(snapshot, chunk);
    if (rc != 0)
        return rc;
    cllm_fault(CLLM_FAULT_save_chunk);
    return 1;
}

void cllm_snapshot_end(struct cllm_snapshot *snapshot)
{
    let_go(snapshot);
    if (snapshot->aside)
        (void)munmap(snapshot->aside, snapshot->aside_bytes);
    snapshot->aside = NULL;
    free(snapshot->chunks);
    snapshot->chunks = NULL;
    free(snapshot->stage);
    snapshot->stage = NULL;
}
