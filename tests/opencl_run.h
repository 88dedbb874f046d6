/*
 * tests/opencl_run.h - an OpenCL device for a test, with kernels of the test's own.
 *
 * Caches and kernels are in a temporary directory; with the program's own kernels
 * $CLLM_CACHE_DIR is used if it is set, because they take long to compile. Where there is
 * no OpenCL the test is skipped, and says why.
 */
#ifndef CLLM_TESTS_OPENCL_RUN_H
#define CLLM_TESTS_OPENCL_RUN_H

#include "compute/opencl/launch.h"
#include "compute/opencl/opencl.h"

struct cllm_opencl_run {
    char directory[256]; /* made by begin(): cache/ and kernels/ in it */
};

/* Make the directory and point the environment to it; @kernels, the text of test.cl, may
 * be NULL: the kernels of the program. */
void cllm_opencl_run_begin(struct cllm_opencl_run *run, const char *kernels);

/* Between begin() and open(): no binaries are kept, only what PoCL keeps by itself below
 * $CLLM_CACHE_DIR. Asked for a binary, it compiles everything a second time. */
void cllm_opencl_run_keep_none(void);

/* Remove it all. */
void cllm_opencl_run_end(struct cllm_opencl_run *run);

/* Open the first device, or skip the test. */
void cllm_opencl_run_open(size_t most_bytes);

/* The same, for products of bf16 or of f32. */
void cllm_opencl_run_open_for(bool bf16);

/* It went well, or the reason why not is shown and the test fails. */
void cllm_opencl_run_fine(int rc);

/* Skip the test in a simulator; unless who asks for what takes minutes of compiling. */
void cllm_opencl_run_not_simulated(void);
void cllm_opencl_run_only_if_long(void);

/* Another size from 1 to 70 for each of them: 37 is prime to 70. */
size_t cllm_opencl_run_other(size_t i);

/* Whether tests of that style of kernels are wanted, "items" or "groups":
 * $CLLM_OPENCL_STYLE names the one that is, unset both. */
bool cllm_opencl_run_wants(const char *style);

/* Write test.cl again. */
void cllm_opencl_run_write(const struct cllm_opencl_run *run, const char *kernels);

#endif /* CLLM_TESTS_OPENCL_RUN_H */
