/*
 * compute/opencl/cache.h - compiled programs in files, by what they were compiled from.
 *
 * A file is trusted when its header has the key, the length and the hash of what follows;
 * whatever else it is, is as if it were not there. Files appear whole: written under
 * another name, then renamed. Failures to write are no failures: the next start compiles
 * again.
 */
#ifndef CLLM_COMPUTE_OPENCL_CACHE_H
#define CLLM_COMPUTE_OPENCL_CACHE_H

#include "base/base.h"

enum { CLLM_CL_CACHE_PATH = 4096, CLLM_CL_CACHE_FILE = CLLM_CL_CACHE_PATH + 32 };

/*
 * The directory of what may be computed again: $CLLM_CACHE_DIR, else
 * $XDG_CACHE_HOME/cllm, else ~/.cache/cllm; with @name a directory in it. Makes it. False
 * when there is none, and then nothing is cached.
 */
bool cllm_cl_cache_directory(char path[CLLM_CL_CACHE_PATH], const char *name);

/* The file of @key in the directory "opencl" there: @suffix says what of it (".bin",
 * ".turn",
 * ".tune"). False when there is no directory. */
bool cllm_cl_cache_path(char path[CLLM_CL_CACHE_FILE], uint64_t key, const char *suffix);

/* The binary of @key, malloced, and its size; NULL when there is none to be trusted. */
unsigned char *cllm_cl_cache_load(uint64_t key, size_t *bytes);

void cllm_cl_cache_store(uint64_t key, const unsigned char *binary, size_t bytes);

#endif /* CLLM_COMPUTE_OPENCL_CACHE_H */
