/*
 * saver/load.c - verify once, then chunk by chunk into shared memory.
 */
#include "saver/load.h"

#include <errno.h>
#include <inttypes.h>

#include "base/atomic.h"
#include "base/err.h"
#include "base/fault.h"
#include "shm/chunk.h"

/* Make the checkpoint of @step the open archive, verified to the last byte. */
static int open_step(struct cllm_saver *saver, uint64_t step)
{
    struct cllm_checkpoint_info info;
    char name[32], dir[CLLM_FILE_PATH_BYTES];
    int rc;

    if (saver->archive.is_open && saver->archive_step == step)
        return 0;
    cllm_archive_close(&saver->archive);
    cllm_checkpoint_name(name, step, false);
    rc = cllm_file_join(dir, saver->checkpoints, name);
    if (rc == 0)
        rc = cllm_checkpoint_verify(dir, true, &info);
    if (rc == 0 && info.step != step)
        rc = cllm_err(CLLM_EDATA, "%s holds step %" PRIu64, dir, info.step);
    if (rc == 0)
        rc = cllm_archive_open(&saver->archive, dir,
                               cllm_checkpoint_weights(&saver->geometry->lora),
                               saver->plan.tensors, saver->plan.n_tensors);
    if (rc == 0)
        saver->archive_step = step;
    return rc;
}

/* Read @chunk to its place in @params, which is writable for that long only. */
static int load_chunk(const struct cllm_saver *saver, struct cllm_region *params,
                      uint32_t chunk, uint64_t *sum)
{
    uint64_t lo = cllm_chunk_lo(saver->geometry, chunk);
    uint64_t n = cllm_chunk_hi(saver->geometry, chunk) - lo;
    size_t bytes = n * sizeof(float);
    size_t off[3];
    float *part[3]; // (n) each
    int rc;

    for (uint32_t p = 0; p < 3; p++) {
        off[p] = (p * saver->geometry->n_elements + lo) * sizeof(float);
        part[p] = (float *)(void *)(params->base + off[p]);
        cllm_region_allow(params, off[p], bytes, true);
    }
    rc = cllm_archive_read(&saver->archive, lo, n, part);
    cllm_fault(CLLM_FAULT_load_chunk);
    for (uint32_t p = 0; p < 3; p++)
        cllm_region_allow(params, off[p], bytes, false);
    if (rc == 0)
        *sum = cllm_chunk_sum(part[0], part[1], part[2], n, chunk);
    cllm_fault(CLLM_FAULT_load_summed);
    return rc;
}

int cllm_load_chunks(struct cllm_saver *saver, const struct cllm_assignment *asked,
                     struct cllm_report *report)
{
    struct cllm_region params = {0};
    char name[CLLM_REGION_NAME_BYTES];
    int rc;

    if (asked->target > 1 || asked->chunk_lo >= asked->chunk_hi ||
        asked->chunk_hi > saver->geometry->n_chunks ||
        asked->chunk_hi - asked->chunk_lo > CLLM_MAX_ASSIGN_CHUNKS)
        return cllm_err(-EINVAL, "there are no chunks %u to %u of version %u",
                        asked->chunk_lo, asked->chunk_hi, asked->target);
    rc = open_step(saver, asked->step);
    if (rc != 0)
        return rc;
    cllm_fault(CLLM_FAULT_load_opened);
    cllm_params_name(name, saver->control->header->run_id, asked->target);
    rc = cllm_region_open(&params, name, cllm_params_bytes(saver->geometry),
                          CLLM_REGION_GUARDED);
    for (uint32_t c = asked->chunk_lo; rc == 0 && c < asked->chunk_hi; c++) {
        rc = load_chunk(saver, &params, c, &report->result[c - asked->chunk_lo].sum);
        atomic_fetch_add_explicit(&saver->control->own->status.progress, 1,
                                  memory_order_relaxed);
    }
    cllm_region_close(&params);
    return rc;
}
