/*
 * compute/opencl/api.h - the OpenCL library, loaded while the program runs.
 *
 * Nothing is linked against it: without it everything else works. The only place that
 * loads a library, and with this folder the only one that knows <CL/cl.h>.
 */
#ifndef CLLM_COMPUTE_OPENCL_API_H
#define CLLM_COMPUTE_OPENCL_API_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include "base/base.h"

/* Names another library than libOpenCL.so.1. */
#define CLLM_CL_LIBRARY_ENVIRONMENT "CLLM_OPENCL_LIBRARY"

#define CLLM_CL_FUNCTIONS(F)     \
    F(BuildProgram)              \
    F(CreateBuffer)              \
    F(CreateCommandQueue)        \
    F(CreateContext)             \
    F(CreateKernel)              \
    F(CreateProgramWithBinary)   \
    F(CreateProgramWithSource)   \
    F(EnqueueFillBuffer)         \
    F(EnqueueMapBuffer)          \
    F(EnqueueMarkerWithWaitList) \
    F(EnqueueNDRangeKernel)      \
    F(EnqueueReadBuffer)         \
    F(EnqueueUnmapMemObject)     \
    F(EnqueueWriteBuffer)        \
    F(Finish)                    \
    F(Flush)                     \
    F(GetDeviceIDs)              \
    F(GetDeviceInfo)             \
    F(GetEventInfo)              \
    F(GetEventProfilingInfo)     \
    F(GetKernelWorkGroupInfo)    \
    F(GetPlatformIDs)            \
    F(GetPlatformInfo)           \
    F(GetProgramBuildInfo)       \
    F(GetProgramInfo)            \
    F(ReleaseCommandQueue)       \
    F(ReleaseContext)            \
    F(ReleaseEvent)              \
    F(ReleaseKernel)             \
    F(ReleaseMemObject)          \
    F(ReleaseProgram)            \
    F(RetainEvent)               \
    F(SetKernelArg)              \
    F(WaitForEvents)

/* clCreateBuffer() is cllm_cl.CreateBuffer(). */
struct cllm_cl_api {
#define CLLM_CL_MEMBER(name) __typeof__(cl##name) *name;
    CLLM_CL_FUNCTIONS(CLLM_CL_MEMBER)
#undef CLLM_CL_MEMBER
};

/* Filled by cllm_cl_load(), once for the process. */
extern struct cllm_cl_api cllm_cl;

/* Load the library. Returns 0, also when it is loaded; or -ENOENT, -ENOSYS with text. It
 * stays: drivers leave threads and handlers behind. */
int cllm_cl_load(void);

/* "CL_OUT_OF_RESOURCES", or "unknown error". */
const char *cllm_cl_error_name(cl_int error);

/*
 * A CL error as a negative code, with the text "cannot WHAT: CL_NAME (number)": -ENOMEM
 * when the device has no memory left, else -EIO. @error is not CL_SUCCESS.
 */
int cllm_cl_fail(cl_int error, const char *fmt, ...) CLLM_PRINTF(2, 3);

#endif /* CLLM_COMPUTE_OPENCL_API_H */
