/*
 * compute/opencl/current.h - the device that is open, with all that belongs to it.
 *
 * One for each process: the operations table has no context argument, as threads.c has
 * one pool. Only launch.c, opencl.c and table_tensor.c look here.
 */
#ifndef CLLM_COMPUTE_OPENCL_CURRENT_H
#define CLLM_COMPUTE_OPENCL_CURRENT_H

#include "base/err.h"
#include "compute/opencl/memory.h"
#include "compute/opencl/program.h"
#include "compute/opencl/turn.h"

struct cllm_cl_current {
    bool open, bf16;
    uint32_t generation; /* of openings: handles of an older one are void */
    struct cllm_cl_device device;
    struct cllm_cl_pool pool;
    struct cllm_cl_profile profile;
    struct cllm_cl_progress progress;
    struct cllm_cl_transfer transfer;
    struct cllm_cl_memory memory;
    struct cllm_cl_programs programs;
    struct cllm_cl_turn first; /* of what is launched for the first time */
    cl_mem nothing;            /* what a kernel gets for NULL */
    uint64_t launches;
    uint64_t program_ns; /* until kernels were there */
    int rc;              /* the first failure, which stays; 0: none */
    struct cllm_err_text why;
};

extern struct cllm_cl_current cllm_cl_current;

/* @rc and the text of this thread become the failure of the device, if they are the
 * first; 0 is no failure. Returns @rc. In launch.c. */
int cllm_cl_keep_error(int rc);

/* Open the device again as it was, without its first failure: one that has failed, maybe
 * with its context, before anybody had an array there. Returns 0 or a negative code with
 * text; then no device is open. In opencl.c. */
int cllm_opencl_reopen(void);

#endif /* CLLM_COMPUTE_OPENCL_CURRENT_H */
