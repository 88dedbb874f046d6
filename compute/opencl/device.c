/*
 * compute/opencl/device.c - see compute/opencl/device.h.
 */
#include "compute/opencl/device.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "compute/opencl/cache.h"

enum { PLATFORMS = 16, DEVICES = 16 /* of one platform */ };

/* cl_nv_device_attribute_query. */
#define NVIDIA_MAJOR 0x4000u
#define NVIDIA_MINOR 0x4001u

const char *const cllm_opencl_kind_names[] = {"cpu", "gpu", "other"};

/* ---- the driver's environment ---- */

static void set_default(const char *name, const char *value)
{
    (void)setenv(name, value, 0); /* without memory the driver has its own defaults */
}

void cllm_cl_device_environment(void)
{
    char path[CLLM_CL_CACHE_PATH];

    set_default("POCL_MAX_PTHREAD_COUNT", "1"); /* workers are as many as cores */
    set_default("POCL_AFFINITY", "0");
    if (getenv("POCL_CACHE_DIR") == NULL && cllm_cl_cache_directory(path, "pocl"))
        set_default("POCL_CACHE_DIR", path);
}

/* ---- what there is ---- */

/* Text without blanks around it; "" when it cannot be had. */
static void trim(char *text)
{
    size_t n = strlen(text), skip = strspn(text, " \t");

    while (n > skip && isspace((unsigned char)text[n - 1]))
        n--;
    memmove(text, text + skip, n - skip);
    text[n - skip] = '\0';
}

static void platform_text(cl_platform_id id, cl_platform_info what,
                          char out[CLLM_OPENCL_NAME])
{
    char text[1024] = "";

    if (cllm_cl.GetPlatformInfo(id, what, sizeof text - 1, text, NULL) != CL_SUCCESS)
        text[0] = '\0';
    trim(text);
    (void)snprintf(out, CLLM_OPENCL_NAME, "%.*s", CLLM_OPENCL_NAME - 1, text);
}

static void device_text(cl_device_id id, cl_device_info what, char out[CLLM_OPENCL_NAME])
{
    char text[1024] = "";

    if (cllm_cl.GetDeviceInfo(id, what, sizeof text - 1, text, NULL) != CL_SUCCESS)
        text[0] = '\0';
    trim(text);
    (void)snprintf(out, CLLM_OPENCL_NAME, "%.*s", CLLM_OPENCL_NAME - 1, text);
}

static uint32_t number(cl_device_id id, cl_device_info what)
{
    cl_uint x = 0;

    return cllm_cl.GetDeviceInfo(id, what, sizeof x, &x, NULL) == CL_SUCCESS ? x : 0;
}

static uint64_t big_number(cl_device_id id, cl_device_info what)
{
    cl_ulong x = 0;

    return cllm_cl.GetDeviceInfo(id, what, sizeof x, &x, NULL) == CL_SUCCESS ? x : 0;
}

static enum cllm_opencl_kind kind_of(cl_device_id id)
{
    cl_device_type type = big_number(id, CL_DEVICE_TYPE);

    if (type & CL_DEVICE_TYPE_GPU)
        return CLLM_OPENCL_GPU;
    return type & CL_DEVICE_TYPE_CPU ? CLLM_OPENCL_CPU : CLLM_OPENCL_OTHER;
}

static void describe(struct cllm_opencl_device *out, cl_platform_id platform,
                     cl_device_id id)
{
    size_t group = 0;

    if (cllm_cl.GetDeviceInfo(id, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof group, &group,
                              NULL) == CL_SUCCESS)
        out->most_group = group;
    platform_text(platform, CL_PLATFORM_NAME, out->platform_name);
    platform_text(platform, CL_PLATFORM_VERSION, out->platform_version);
    device_text(id, CL_DEVICE_NAME, out->name);
    device_text(id, CL_DEVICE_VENDOR, out->vendor);
    device_text(id, CL_DEVICE_VERSION, out->version);
    device_text(id, CL_DRIVER_VERSION, out->driver);
    out->kind = kind_of(id);
    out->units = number(id, CL_DEVICE_MAX_COMPUTE_UNITS);
    out->megahertz = number(id, CL_DEVICE_MAX_CLOCK_FREQUENCY);
    out->memory_bytes = big_number(id, CL_DEVICE_GLOBAL_MEM_SIZE);
    out->most_bytes = big_number(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
    out->local_bytes = big_number(id, CL_DEVICE_LOCAL_MEM_SIZE);
    out->local_is_fast = number(id, CL_DEVICE_LOCAL_MEM_TYPE) == CL_LOCAL;
    out->unified = number(id, CL_DEVICE_HOST_UNIFIED_MEMORY) != 0;
    if (strcasestr(out->vendor, "nvidia") == NULL) /* others call it an error */
        return;
    out->nvidia_major = number(id, NVIDIA_MAJOR);
    out->nvidia_minor = number(id, NVIDIA_MINOR);
}

/* Where a device comes from, beside what it says of itself. */
struct found {
    cl_platform_id platform;
    cl_device_id id;
};

static uint32_t list_platform(struct cllm_opencl_device *out, struct found *found,
                              uint32_t most, cl_platform_id platform, uint32_t number)
{
    cl_device_id ids[DEVICES];
    cl_uint n = 0;

    if (cllm_cl.GetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, DEVICES, ids, &n) !=
        CL_SUCCESS)
        return 0; /* a platform without devices answers with an error */
    n = n < DEVICES ? n : DEVICES;
    n = n < most ? n : most;
    for (uint32_t i = 0; i < n; i++) {
        out[i] = (struct cllm_opencl_device){.platform = number, .device = i};
        describe(&out[i], platform, ids[i]);
        found[i] = (struct found){.platform = platform, .id = ids[i]};
    }
    return n;
}

static int list(struct cllm_opencl_device *out, struct found *found, uint32_t most,
                uint32_t *n)
{
    cl_platform_id platforms[PLATFORMS];
    cl_uint n_platforms = 0;
    cl_int error;
    int rc;

    *n = 0;
    cllm_cl_device_environment();
    rc = cllm_cl_load();
    if (rc != 0)
        return rc;
    error = cllm_cl.GetPlatformIDs(PLATFORMS, platforms, &n_platforms);
    n_platforms = n_platforms < PLATFORMS ? n_platforms : PLATFORMS;
    for (uint32_t i = 0; error == CL_SUCCESS && i < n_platforms; i++)
        *n += list_platform(out + *n, found + *n, most - *n, platforms[i], i);
    if (*n > 0)
        return 0;
    rc = cllm_err(-ENODEV, "cannot find an OpenCL device: %s",
                  error == CL_SUCCESS && n_platforms > 0
                      ? "the drivers that are installed find none"
                      : "the OpenCL library finds no driver");
    if (error != CL_SUCCESS)
        cllm_err_detail("clGetPlatformIDs: %s (%d)", cllm_cl_error_name(error), error);
    cllm_err_hint(
        "drivers name themselves in /etc/OpenCL/vendors; pocl-opencl-icd is one "
        "for the processor");
    return rc;
}

int cllm_opencl_list(struct cllm_opencl_device *out, uint32_t most, uint32_t *n)
{
    struct found found[CLLM_OPENCL_DEVICES];

    return list(out, found, most < CLLM_OPENCL_DEVICES ? most : CLLM_OPENCL_DEVICES, n);
}

/* ---- choosing one ---- */

static bool is_number(const char *text)
{
    return text[0] != '\0' && text[strspn(text, "0123456789")] == '\0';
}

/* @wanted: "", the number @i, or a part of @name. */
static bool means(const char *wanted, uint32_t i, const char *name)
{
    if (wanted[0] == '\0')
        return true;
    if (is_number(wanted))
        return strtoul(wanted, NULL, 10) == i;
    return strcasestr(name, wanted) != NULL;
}

uint32_t cllm_cl_device_choose(const struct cllm_opencl_device *devices, uint32_t n,
                               const char *text)
{
    char platform[CLLM_OPENCL_NAME], *device;
    uint32_t first = n;

    (void)snprintf(platform, sizeof platform, "%s", text ? text : "");
    device = strchr(platform, ':');
    if (device)
        *device++ = '\0';
    for (uint32_t i = 0; i < n; i++) {
        if (!means(platform, devices[i].platform, devices[i].platform_name) ||
            !means(device ? device : "", devices[i].device, devices[i].name))
            continue;
        if (devices[i].kind == CLLM_OPENCL_GPU || (device && device[0]))
            return i;
        first = first == n ? i : first;
    }
    return first;
}

/* ---- opening it ---- */

static int make_queues(struct cllm_cl_device *device, bool profile)
{
    const cl_context_properties properties[] = {
        CL_CONTEXT_PLATFORM, (cl_context_properties)device->platform, 0};
    cl_command_queue_properties how = profile ? CL_QUEUE_PROFILING_ENABLE : 0;
    cl_int error;

    device->context =
        cllm_cl.CreateContext(properties, 1, &device->id, NULL, NULL, &error);
    if (error == CL_SUCCESS)
        device->compute =
            cllm_cl.CreateCommandQueue(device->context, device->id, how, &error);
    if (error == CL_SUCCESS)
        device->copy =
            cllm_cl.CreateCommandQueue(device->context, device->id, how, &error);
    if (error == CL_SUCCESS)
        return 0;
    return cllm_cl_fail(error, "use the device %s", device->info.name);
}

int cllm_cl_device_open(struct cllm_cl_device *device, const char *text, bool profile)
{
    struct cllm_opencl_device devices[CLLM_OPENCL_DEVICES] = {0};
    struct found found[CLLM_OPENCL_DEVICES] = {0};
    uint32_t n, i;
    int rc = list(devices, found, CLLM_OPENCL_DEVICES, &n);

    *device = (struct cllm_cl_device){0};
    if (rc != 0)
        return rc;
    i = cllm_cl_device_choose(devices, n, text);
    if (i == n) {
        rc = cllm_err(-ENODEV, "cannot find the OpenCL device '%s'", text);
        cllm_err_detail("there are %u, the first is %u:%u, %s: %s", n,
                        devices[0].platform, devices[0].device, devices[0].platform_name,
                        devices[0].name);
        cllm_err_hint("cllm-info lists them");
        return rc;
    }
    device->info = devices[i];
    device->platform = found[i].platform;
    device->id = found[i].id;
    rc = make_queues(device, profile);
    if (rc != 0)
        cllm_cl_device_close(device);
    return rc;
}

void cllm_cl_device_close(struct cllm_cl_device *device)
{
    cl_command_queue queues[] = {device->compute, device->copy};

    for (size_t i = 0; i < CLLM_LEN(queues); i++) {
        if (queues[i] == NULL)
            continue;
        (void)cllm_cl.Finish(queues[i]); /* a lost device has nothing to wait for */
        (void)cllm_cl.ReleaseCommandQueue(queues[i]);
    }
    if (device->context)
        (void)cllm_cl.ReleaseContext(device->context);
    *device = (struct cllm_cl_device){0};
}
