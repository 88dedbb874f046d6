/*
 * saver/archive.h - a checkpoint on disk seen as the parameter vectors it was made from.
 *
 * Saving ends with reading back through this what was written, loading begins with it:
 * what the one accepts, the other can use.
 */
#ifndef CLLM_SAVER_ARCHIVE_H
#define CLLM_SAVER_ARCHIVE_H

#include "base/parameters.h"
#include "formats/safetensors.h"

struct cllm_archive {
    bool is_open;
    struct cllm_safetensors file[2];   /* model, optimizer */
    const struct cllm_tensor *tensors; /* borrowed */
    uint32_t n_tensors;
    const struct cllm_safetensors_tensor **place; /* [3][n_tensors]: w, m, v; heap */
};

/*
 * Open the two safetensors files in @dir and find every tensor of @tensors three times:
 * weight, in the file @weights, first and second moment. Both must outlive the archive.
 * Returns 0; CLLM_EDATA with text when a tensor is missing or has another shape; another
 * negative code with text. On failure nothing is left to close.
 */
int cllm_archive_open(struct cllm_archive *archive, const char *dir, const char *weights,
                      const struct cllm_tensor *tensors, uint32_t n_tensors);
void cllm_archive_close(struct cllm_archive *archive); /* safe on a zeroed struct */

/*
 * Elements [@lo, @lo + @n) of the vectors w, m, v into @part[0..2], (n) each; what lies
 * between tensors is zero. Returns 0 or a negative code with text.
 */
int cllm_archive_read(const struct cllm_archive *archive, uint64_t lo, uint64_t n,
                      float *const part[3]);

#endif /* CLLM_SAVER_ARCHIVE_H */
