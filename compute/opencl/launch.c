/*
 * compute/opencl/launch.c - see compute/opencl/launch.h.
 */
#include "compute/opencl/launch.h"

#include "base/clock.h"
#include "base/fault.h"
#include "compute/opencl/current.h"

struct cllm_cl_current cllm_cl_current;

int cllm_cl_keep_error(int rc)
{
    if (rc != 0 && cllm_cl_current.rc == 0) {
        cllm_cl_current.rc = rc;
        cllm_err_save(&cllm_cl_current.why);
    }
    return rc;
}

/* ---- kernels ---- */

static int handle_of(struct cllm_cl_kernel *kernel)
{
    struct cllm_cl_current *current = &cllm_cl_current;
    uint64_t began;
    cl_kernel handle;
    int rc;

    CLLM_ASSERT(current->open);
    if (kernel->handle && kernel->generation == current->generation)
        return 0;
    began = cllm_now_ns();
    rc = cllm_cl_programs_kernel(&current->programs, kernel, &handle);
    current->program_ns += cllm_now_ns() - began;
    if (rc != 0)
        return rc;
    kernel->handle = handle;
    kernel->generation = current->generation;
    return 0;
}

int cllm_cl_prepare(struct cllm_cl_kernel *kernel, size_t *most)
{
    cl_int error;
    int rc = handle_of(kernel);

    if (rc != 0 || most == NULL)
        return rc;
    error = cllm_cl.GetKernelWorkGroupInfo(kernel->handle, cllm_cl_current.device.id,
                                           CL_KERNEL_WORK_GROUP_SIZE, sizeof *most, most,
                                           NULL);
    return error == CL_SUCCESS ? 0
                               : cllm_cl_fail(error, "ask about kernel %s", kernel->name);
}

void cllm_cl_begin(struct cllm_cl_launch *launch, struct cllm_cl_kernel *kernel)
{
    *launch = (struct cllm_cl_launch){.kernel = kernel};
    launch->skip = cllm_cl_current.rc != 0 || cllm_cl_keep_error(handle_of(kernel)) != 0;
}

/* ---- arguments ---- */

static void set(struct cllm_cl_launch *launch, const void *value, size_t bytes)
{
    cl_int error;

    if (launch->skip)
        return;
    error = cllm_cl.SetKernelArg(launch->kernel->handle, launch->n_args, bytes, value);
    if (error != CL_SUCCESS) {
        (void)cllm_cl_keep_error(cllm_cl_fail(error, "set argument %u of kernel %s",
                                              launch->n_args, launch->kernel->name));
        launch->skip = true;
    }
    launch->n_args++;
}

static void array(struct cllm_cl_launch *launch, const void *address, size_t bytes,
                  enum cllm_cl_use use)
{
    cl_ulong elements = CLLM_CL_NO_ARRAY;
    cl_mem mem = cllm_cl_current.nothing;
    size_t offset;
    int rc;

    if (launch->skip)
        return;
    if (address) {
        rc = cllm_cl_memory_use(&cllm_cl_current.memory, address, bytes, use, &mem,
                                &offset);
        if (rc != 0)
            cllm_err_add("kernel %s, argument %u", launch->kernel->name, launch->n_args);
        launch->skip = cllm_cl_keep_error(rc) != 0;
        elements = offset / sizeof(float);
    }
    set(launch, &mem, sizeof mem);
    set(launch, &elements, sizeof elements);
}

void cllm_cl_in(struct cllm_cl_launch *launch, const void *address, size_t bytes)
{
    array(launch, address, bytes, CLLM_CL_IN);
}

void cllm_cl_out(struct cllm_cl_launch *launch, void *address, size_t bytes)
{
    array(launch, address, bytes, CLLM_CL_OUT);
}

void cllm_cl_inout(struct cllm_cl_launch *launch, void *address, size_t bytes)
{
    array(launch, address, bytes, CLLM_CL_INOUT);
}

void cllm_cl_value(struct cllm_cl_launch *launch, const void *value, size_t bytes)
{
    set(launch, value, bytes);
}

void cllm_cl_u32(struct cllm_cl_launch *launch, uint32_t x)
{
    set(launch, &x, sizeof x);
}

void cllm_cl_u64(struct cllm_cl_launch *launch, uint64_t x)
{
    set(launch, &x, sizeof x);
}

void cllm_cl_i32(struct cllm_cl_launch *launch, int32_t x)
{
    set(launch, &x, sizeof x);
}

void cllm_cl_f32(struct cllm_cl_launch *launch, float x)
{
    set(launch, &x, sizeof x);
}

void cllm_cl_local(struct cllm_cl_launch *launch, size_t bytes)
{
    set(launch, NULL, bytes);
}

/* ---- running ---- */

/* What is common to all that goes into the queue of kernels: what to wait for, and an
 * event when the device is profiled. */
struct wait {
    cl_event arriving, event;
};

static struct wait begin_wait(void)
{
    return (struct wait){.arriving =
                             cllm_cl_transfer_arriving(&cllm_cl_current.transfer)};
}

static void end_wait(struct wait *wait)
{
    struct cllm_cl_profile *profile = &cllm_cl_current.profile;

    if (wait->event == NULL)
        return;
    cllm_cl_profile_add(profile, &profile->kernels, wait->event);
    (void)cllm_cl.ReleaseEvent(wait->event); /* the profile has its own */
}

void cllm_cl_run(struct cllm_cl_launch *launch, uint32_t dims, const size_t *global,
                 const size_t *local)
{
    struct wait wait;
    size_t items = 1;
    cl_int error;

    CLLM_ASSERT(dims >= 1 && dims <= 3);
    for (uint32_t i = 0; i < dims; i++) {
        CLLM_ASSERT(local == NULL || global[i] % local[i] == 0);
        items *= global[i];
    }
    if (launch->skip || items == 0)
        return;
    wait = begin_wait();
    error = cllm_fault_error(CLLM_FAULT_device_launch) != 0
                ? CL_OUT_OF_RESOURCES
                : cllm_cl.EnqueueNDRangeKernel(
                      cllm_cl_current.device.compute, launch->kernel->handle, dims, NULL,
                      global, local, wait.arriving ? 1 : 0,
                      wait.arriving ? &wait.arriving : NULL,
                      cllm_cl_current.profile.on ? &wait.event : NULL);
    if (error != CL_SUCCESS) {
        wait.event = NULL;
        (void)cllm_cl_keep_error(
            cllm_cl_fail(error, "launch kernel %s", launch->kernel->name));
    }
    end_wait(&wait);
    cllm_cl_current.launches++;
}

/* @bytes of one buffer. */
static void zero_buffer(const void *address, size_t bytes)
{
    static const cl_uint zero = 0;
    struct cllm_cl_current *current = &cllm_cl_current;
    struct wait wait;
    size_t offset;
    cl_int error;
    cl_mem mem;

    if (current->rc != 0 ||
        cllm_cl_keep_error(cllm_cl_memory_use(&current->memory, address, bytes,
                                              CLLM_CL_OUT, &mem, &offset)) != 0)
        return;
    wait = begin_wait();
    error = cllm_cl.EnqueueFillBuffer(current->device.compute, mem, &zero, sizeof zero,
                                      offset, bytes, wait.arriving ? 1 : 0,
                                      wait.arriving ? &wait.arriving : NULL,
                                      current->profile.on ? &wait.event : NULL);
    if (error != CL_SUCCESS) {
        wait.event = NULL;
        (void)cllm_cl_keep_error(cllm_cl_fail(error, "clear %zu bytes", bytes));
    }
    end_wait(&wait);
}

void cllm_cl_zero(void *address, size_t bytes)
{
    CLLM_ASSERT(bytes % sizeof(cl_uint) == 0);
    for (size_t done = 0, n; done < bytes; done += n) {
        const char *at = (const char *)address + done;

        n = cllm_min_u64(bytes - done, cllm_cl_memory_room(&cllm_cl_current.memory, at));
        zero_buffer(at, n);
    }
}

void cllm_cl_write(void *to, const void *from, size_t bytes)
{
    struct cllm_cl_current *current = &cllm_cl_current;
    size_t offset;
    cl_mem mem;

    if (current->rc != 0 ||
        cllm_cl_keep_error(cllm_cl_memory_use(&current->memory, to, bytes, CLLM_CL_OUT,
                                              &mem, &offset)) != 0)
        return;
    (void)cllm_cl_keep_error(cllm_cl_transfer_write(&current->transfer, mem, offset, from,
                                                    bytes, begin_wait().arriving));
}
