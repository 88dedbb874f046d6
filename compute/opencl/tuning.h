/*
 * compute/opencl/tuning.h - which variant of the product is the fastest for a shape, as
 * somebody has measured it, in a file beside the compiled programs.
 *
 * The file is text, named by the key of all that the measurement depends on: device,
 * driver, kernels, precision (compute/opencl/variant.c):
 *
 *     cllm-tuning 1
 *     key 0123456789abcdef
 *     m n k form variant         a line for each shape
 *     end 0123456789abcdef       hash of all that is before
 *
 * A file is taken whole or not at all. Variants give the same bits, so that the file, or
 * its loss, is a matter of time alone.
 */
#ifndef CLLM_COMPUTE_OPENCL_TUNING_H
#define CLLM_COMPUTE_OPENCL_TUNING_H

#include "compute/opencl/cache.h"

enum {
    CLLM_CL_TUNED = 256,       /* shapes in a file */
    CLLM_CL_VARIANT_BYTES = 24 /* a variant's name with its NUL */
};

struct cllm_cl_tuned {
    uint32_t m, n, k;
    uint32_t form;                       /* 1: A is stored (k,m); 2: B is stored (n,k) */
    char variant[CLLM_CL_VARIANT_BYTES]; /* letters, digits, '-' */
};

enum cllm_cl_tuning {
    CLLM_CL_TUNING_NONE = 0, /* there is no file for the key */
    CLLM_CL_TUNING_BAD,      /* there is, and nothing of it can be trusted */
    CLLM_CL_TUNING_GOOD
};

/* Where the file of @key is; false: there is no directory for it. */
bool cllm_cl_tuning_path(char path[CLLM_CL_CACHE_FILE], uint64_t key);

/* What was stored for @key: *@n entries to @out (CLLM_CL_TUNED); 0 of them unless GOOD.
 */
enum cllm_cl_tuning cllm_cl_tuning_load(uint64_t key, struct cllm_cl_tuned *out,
                                        size_t *n);

/* Store @n entries, at most CLLM_CL_TUNED, in place of those before; the file appears
 * whole. Returns 0 or a negative code with text. */
int cllm_cl_tuning_store(uint64_t key, const struct cllm_cl_tuned *entries, size_t n);

#endif /* CLLM_COMPUTE_OPENCL_TUNING_H */
