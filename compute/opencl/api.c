/*
 * compute/opencl/api.c - see compute/opencl/api.h.
 */
#include "compute/opencl/api.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

struct cllm_cl_api cllm_cl;

static void *library; /* never closed */

#if defined(__has_feature)
#    if __has_feature(address_sanitizer)
#        define WITH_LEAKS
#    endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(WITH_LEAKS)
/* What a compiler within a driver leaves behind is not ours; AddressSanitizer asks. */
const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:libpocl\nleak:libLLVM\nleak:libclang\nleak:libnvidia\n";
}
#endif

/* ---- errors ---- */

struct error_name {
    cl_int error;
    const char *name;
};

#define NAME(error)   \
    {                 \
        error, #error \
    }
static const struct error_name names[] = {
    NAME(CL_DEVICE_NOT_FOUND),
    NAME(CL_DEVICE_NOT_AVAILABLE),
    NAME(CL_COMPILER_NOT_AVAILABLE),
    NAME(CL_MEM_OBJECT_ALLOCATION_FAILURE),
    NAME(CL_OUT_OF_RESOURCES),
    NAME(CL_OUT_OF_HOST_MEMORY),
    NAME(CL_PROFILING_INFO_NOT_AVAILABLE),
    NAME(CL_MEM_COPY_OVERLAP),
    NAME(CL_BUILD_PROGRAM_FAILURE),
    NAME(CL_MAP_FAILURE),
    NAME(CL_MISALIGNED_SUB_BUFFER_OFFSET),
    NAME(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST),
    NAME(CL_INVALID_VALUE),
    NAME(CL_INVALID_DEVICE_TYPE),
    NAME(CL_INVALID_PLATFORM),
    NAME(CL_INVALID_DEVICE),
    NAME(CL_INVALID_CONTEXT),
    NAME(CL_INVALID_QUEUE_PROPERTIES),
    NAME(CL_INVALID_COMMAND_QUEUE),
    NAME(CL_INVALID_HOST_PTR),
    NAME(CL_INVALID_MEM_OBJECT),
    NAME(CL_INVALID_BINARY),
    NAME(CL_INVALID_BUILD_OPTIONS),
    NAME(CL_INVALID_PROGRAM),
    NAME(CL_INVALID_PROGRAM_EXECUTABLE),
    NAME(CL_INVALID_KERNEL_NAME),
    NAME(CL_INVALID_KERNEL_DEFINITION),
    NAME(CL_INVALID_KERNEL),
    NAME(CL_INVALID_ARG_INDEX),
    NAME(CL_INVALID_ARG_VALUE),
    NAME(CL_INVALID_ARG_SIZE),
    NAME(CL_INVALID_KERNEL_ARGS),
    NAME(CL_INVALID_WORK_DIMENSION),
    NAME(CL_INVALID_WORK_GROUP_SIZE),
    NAME(CL_INVALID_WORK_ITEM_SIZE),
    NAME(CL_INVALID_GLOBAL_OFFSET),
    NAME(CL_INVALID_EVENT_WAIT_LIST),
    NAME(CL_INVALID_EVENT),
    NAME(CL_INVALID_OPERATION),
    NAME(CL_INVALID_BUFFER_SIZE),
    NAME(CL_INVALID_GLOBAL_WORK_SIZE),
    NAME(CL_INVALID_PROPERTY),
    {-1001, "CL_PLATFORM_NOT_FOUND_KHR"},
};

const char *cllm_cl_error_name(cl_int error)
{
    for (size_t i = 0; i < CLLM_LEN(names); i++)
        if (names[i].error == error)
            return names[i].name;
    return "unknown error";
}

int cllm_cl_fail(cl_int error, const char *fmt, ...)
{
    bool memory = error == CL_MEM_OBJECT_ALLOCATION_FAILURE ||
                  error == CL_OUT_OF_HOST_MEMORY || error == CL_OUT_OF_RESOURCES ||
                  error == CL_INVALID_BUFFER_SIZE;
    char what[256];
    va_list args;
    int rc;

    va_start(args, fmt);
    (void)vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    rc = cllm_err(memory ? -ENOMEM : -EIO, "cannot %s", what);
    cllm_err_detail("OpenCL: %s (%d)", cllm_cl_error_name(error), error);
    return rc;
}

/* ---- loading ---- */

/* ISO C does not turn a pointer to an object into one to a function; POSIX does. */
static bool find(void *function, const char *name)
{
    void *symbol = dlsym(library, name);

    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

static int find_all(void)
{
    const char *missing = NULL;
    int rc;

#define FIND(name)                          \
    if (!find(&cllm_cl.name, "cl" #name)) { \
        missing = "cl" #name;               \
    }
    CLLM_CL_FUNCTIONS(FIND)
#undef FIND
    if (missing == NULL)
        return 0;
    rc = cllm_err(-ENOSYS, "cannot use the OpenCL library");
    cllm_err_detail("it has no %s; OpenCL 1.2 is needed", missing);
    return rc;
}

int cllm_cl_load(void)
{
    const char *name = getenv(CLLM_CL_LIBRARY_ENVIRONMENT);
    int rc;

    if (library != NULL)
        return 0;
    if (name == NULL || name[0] == '\0')
        name = "libOpenCL.so.1";
    library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        const char *why = dlerror();

        rc = cllm_err(-ENOENT, "cannot load the OpenCL library");
        cllm_err_detail("%s", why ? why : name);
        cllm_err_hint("install ocl-icd-libopencl1, and the device's driver");
        return rc;
    }
    rc = find_all();
    if (rc != 0) {
        (void)dlclose(library); /* nothing of it is in use */
        library = NULL;
    }
    return rc;
}
