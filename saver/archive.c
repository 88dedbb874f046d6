/*
 * saver/archive.c - tensors back into vectors.
 */
#include "saver/archive.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "formats/checkpoint.h"
#include "saver/piece.h"

/* Weights are in the first file, both moments in the second. */
static const struct cllm_safetensors *file_of(const struct cllm_archive *archive,
                                              uint32_t part)
{
    return &archive->file[part == 0 ? 0 : 1];
}

/* Find @want as part @part (0 w, 1 m, 2 v) and compare its shape. */
static int find(const struct cllm_archive *archive, uint32_t part,
                const struct cllm_tensor *want,
                const struct cllm_safetensors_tensor **out)
{
    static const char *const prefix[3] = {"", "m.", "v."};
    const struct cllm_safetensors *file = file_of(archive, part);
    char name[CLLM_TENSOR_NAME_BYTES + 2];
    const struct cllm_safetensors_tensor *found;

    (void)snprintf(name, sizeof name, "%s%s", prefix[part], want->name);
    found = cllm_safetensors_find(file, name);
    if (found == NULL)
        return cllm_err(CLLM_EDATA, "%s: there is no tensor %s", file->path, name);
    if (found->dtype != CLLM_DTYPE_F32 || found->rank != want->rank ||
        found->shape[0] != want->shape[0] ||
        (want->rank == 2 && found->shape[1] != want->shape[1])) {
        int rc = cllm_err(CLLM_EDATA, "%s: %s is not the tensor of this run's model",
                          file->path, name);

        cllm_err_hint("the checkpoint was made with other [model] options");
        return rc;
    }
    *out = found;
    return 0;
}

int cllm_archive_open(struct cllm_archive *archive, const char *dir, const char *weights,
                      const struct cllm_tensor *tensors, uint32_t n_tensors)
{
    const char *const name[2] = {weights, CLLM_CHECKPOINT_OPTIMIZER};
    char path[CLLM_FILE_PATH_BYTES];
    uint32_t n_open = 0;
    int rc = 0;

    *archive = (struct cllm_archive){.tensors = tensors, .n_tensors = n_tensors};
    archive->place = calloc((size_t)3 * n_tensors, sizeof *archive->place);
    if (archive->place == NULL)
        return cllm_err(-ENOMEM, "cannot get memory for %u tensors", n_tensors);
    while (rc == 0 && n_open < 2) {
        rc = cllm_file_join(path, dir, name[n_open]);
        if (rc == 0)
            rc = cllm_safetensors_open(&archive->file[n_open], path);
        if (rc == 0)
            n_open++;
    }
    for (uint32_t part = 0; rc == 0 && part < 3; part++)
        for (uint32_t i = 0; rc == 0 && i < n_tensors; i++)
            rc = find(archive, part, &tensors[i], &archive->place[part * n_tensors + i]);
    if (rc == 0) {
        archive->is_open = true;
        return 0;
    }
    while (n_open > 0)
        cllm_safetensors_close(&archive->file[--n_open]);
    free(archive->place);
    archive->place = NULL;
    return rc;
}

void cllm_archive_close(struct cllm_archive *archive)
{
    if (!archive->is_open)
        return;
    for (uint32_t i = 0; i < 2; i++)
        cllm_safetensors_close(&archive->file[i]);
    free(archive->place);
    *archive = (struct cllm_archive){0};
}

int cllm_archive_read(const struct cllm_archive *archive, uint64_t lo, uint64_t n,
                      float *const part[3])
{
    for (uint32_t p = 0; p < 3; p++) {
        struct cllm_piece piece =
            cllm_piece_begin(archive->tensors, archive->n_tensors, lo, lo + n);
        uint64_t done = 0;

        while (cllm_piece_next(&piece)) {
            int rc;

            memset(part[p] + done, 0, (piece.range_off - done) * sizeof(float));
            rc = cllm_safetensors_read(
                file_of(archive, p),
                archive->place[p * archive->n_tensors + piece.tensor], piece.tensor_off,
                piece.n, part[p] + piece.range_off);
            if (rc != 0)
                return rc;
            done = piece.range_off + piece.n;
        }
        memset(part[p] + done, 0, (n - done) * sizeof(float));
    }
    return 0;
}
