/*
 * compute/opencl/program.h - from .cl files to kernels.
 *
 * The files are in the program (scripts/embed.sh makes them an array); during development
 * $CLLM_OPENCL_KERNELS names a directory whose files are used instead. A program is the
 * files that its kernel names, one after the other, with its options; it is compiled once
 * for a device and driver, by one of the processes that want it (turn.h), and taken from
 * the cache after that.
 */
#ifndef CLLM_COMPUTE_OPENCL_PROGRAM_H
#define CLLM_COMPUTE_OPENCL_PROGRAM_H

#include "compute/opencl/device.h"
#include "compute/opencl/launch.h"

#define CLLM_CL_KERNELS_ENVIRONMENT "CLLM_OPENCL_KERNELS"

/* A .cl file, as the build embeds it: sorted by nothing, the end has name NULL. */
struct cllm_cl_source {
    const char *name;
    const unsigned char *text;
    size_t bytes;
};
extern const struct cllm_cl_source cllm_cl_sources[];

struct cllm_cl_programs {
    const struct cllm_cl_device *device; /* must outlive this */
    struct cllm_cl_program *first;
    uint64_t builds, loads; /* compiled; taken from the cache */
};

void cllm_cl_programs_init(struct cllm_cl_programs *programs,
                           const struct cllm_cl_device *device);

/* Releases all programs and kernels. */
void cllm_cl_programs_fini(struct cllm_cl_programs *programs);

/* @kernel's handle, which belongs to @programs. Returns 0 or a negative code with text;
 * the compiler's log goes to the debug log, its beginning into the text. */
int cllm_cl_programs_kernel(struct cllm_cl_programs *programs,
                            const struct cllm_cl_kernel *kernel, cl_kernel *out);

/* Of all programs that were made, in their order: changes with whatever they depend on.
 */
uint64_t cllm_cl_programs_key(const struct cllm_cl_programs *programs);

/* The key of a program in the cache: of all that its binary depends on. */
uint64_t cllm_cl_program_key(const struct cllm_opencl_device *device, const char *text,
                             const char *options);

/* The same of the files of @sources, as a kernel names them. Returns 0 or a negative code
 * with text. */
int cllm_cl_sources_key(const struct cllm_opencl_device *device, const char *sources,
                        const char *options, uint64_t *key);

#endif /* CLLM_COMPUTE_OPENCL_PROGRAM_H */
