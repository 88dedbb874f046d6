/*
 * tests/opencl_simulated.c - see tests/opencl_simulated.h.
 */
#include "tests/opencl_simulated.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "compute/opencl/current.h"

enum {
    MOST_BUFFERS = 256,
    SLOT = 1 << 16,
    MOST_PROGRAMS = 256,
    MOST_KERNELS = 512,
    NAME = 32,
    OPTIONS = 192
};

/* Tiles of products, which take long, are optimised: six times as fast. All others are
 * not: optimised shuffles of vectors confuse oclgrind, up to a crash, and it does not
 * know LLVM's freeze, which comes of a quotient and a rest by one number. */
#define TILES   "-DTILE_M="
#define PLAINLY " -cl-opt-disable"

#define LOG "OCLGRIND_LOG"

static const char source[] =
    "kernel void copy(global uint *to, ulong to_at, global const uint *from,\n"
    "                 ulong from_at)\n"
    "{\n"
    "    to[to_at + get_global_id(0)] = from[from_at + get_global_id(0)];\n"
    "}\n"
    "kernel void fill(global uint *to, ulong to_at, uint value)\n"
    "{\n"
    "    to[to_at + get_global_id(0)] = value;\n"
    "}\n";

/* What belongs to the device that is open is never released, as the process ends soon. */
static struct {
    struct cllm_cl_api real;
    cl_context context;
    cl_kernel copy, fill;
    cl_mem slot;               /* what the host writes */
    cl_mem seen[MOST_BUFFERS]; /* buffers that something was done with */
    size_t n_seen;
    uint64_t since_ns; /* progress */
} now;

/* What was built, the latest last: handles may come again. */
static struct {
    cl_program handle;
    char options[OPTIONS];
} programs[MOST_PROGRAMS];
static struct {
    cl_kernel handle;
    char name[NAME], options[OPTIONS];
    bool told;
} kernels[MOST_KERNELS];
static size_t n_programs, n_kernels;

bool cllm_opencl_simulated(void)
{
    return getenv("CLLM_OPENCL_SIMULATED") != NULL;
}

static void prepare(void);

/* Whether @mem is new. */
static bool see(cl_mem mem)
{
    prepare();
    for (size_t i = 0; i < now.n_seen; i++)
        if (now.seen[i] == mem)
            return false;
    assert_true(now.n_seen < MOST_BUFFERS);
    now.seen[now.n_seen++] = mem;
    return true;
}

static void set(cl_kernel kernel, cl_uint at, size_t bytes, const void *value)
{
    assert_int_equal(cllm_cl.SetKernelArg(kernel, at, bytes, value), CL_SUCCESS);
}

/* Words of 4 bytes: arrays have no others. */
static void set_array(cl_kernel kernel, cl_uint at, cl_mem mem, size_t offset)
{
    cl_ulong first = offset / sizeof(cl_uint);

    assert_int_equal(offset % sizeof(cl_uint), 0);
    set(kernel, at, sizeof mem, &mem);
    set(kernel, at + 1, sizeof first, &first);
}

static cl_int launch(cl_command_queue queue, cl_kernel kernel, size_t bytes, cl_uint n,
                     const cl_event *after, cl_event *event)
{
    const size_t items = bytes / sizeof(cl_uint);

    assert_int_equal(bytes % sizeof(cl_uint), 0);
    return now.real.EnqueueNDRangeKernel(queue, kernel, 1, NULL, &items, NULL, n, after,
                                         event);
}

static cl_int copy(cl_command_queue queue, cl_mem from, cl_mem to, size_t from_offset,
                   size_t to_offset, size_t bytes, cl_event *event)
{
    (void)see(to);
    set_array(now.copy, 0, to, to_offset);
    set_array(now.copy, 2, from, from_offset);
    return launch(queue, now.copy, bytes, 0, NULL, event);
}

/* The slot is free again when this returns. */
static cl_int write(cl_command_queue queue, cl_mem mem, cl_bool blocking, size_t offset,
                    size_t bytes, const void *from, cl_uint n, const cl_event *after,
                    cl_event *event)
{
    cl_int error;

    (void)blocking;
    prepare();
    assert_true(bytes <= SLOT);
    error = now.real.EnqueueWriteBuffer(queue, now.slot, CL_TRUE, 0, bytes, from, n,
                                        after, NULL);
    if (error == CL_SUCCESS)
        error = copy(queue, now.slot, mem, 0, offset, bytes, event);
    return error == CL_SUCCESS ? now.real.Finish(queue) : error;
}

/* The first of all is what a reserved array begins with: its memory is zero in a
 * simulator anyway, and counts as unwritten. */
static cl_int fill(cl_command_queue queue, cl_mem mem, const void *pattern,
                   size_t pattern_bytes, size_t offset, size_t bytes, cl_uint n,
                   const cl_event *after, cl_event *event)
{
    assert_int_equal(pattern_bytes, sizeof(cl_uint));
    if (see(mem))
        return now.real.EnqueueMarkerWithWaitList(queue, n, after, event);
    set_array(now.fill, 0, mem, offset);
    set(now.fill, 2, pattern_bytes, pattern);
    return launch(queue, now.fill, bytes, n, after, event);
}

/* ---- memory for transfers ---- */

/* It is the host's and no kernel sees it, but a simulator goes through all of it, as of
 * every buffer, at each launch. */
static cl_mem create(cl_context context, cl_mem_flags flags, size_t bytes, void *from,
                     cl_int *error)
{
    if (flags & CL_MEM_ALLOC_HOST_PTR)
        bytes = sizeof(cl_uint);
    return now.real.CreateBuffer(context, flags, bytes, from, error);
}

static void *map(cl_command_queue queue, cl_mem mem, cl_bool blocking, cl_map_flags flags,
                 size_t offset, size_t bytes, cl_uint n, const cl_event *after,
                 cl_event *event, cl_int *error)
{
    (void)queue;
    (void)mem;
    (void)flags;
    assert_true(blocking && offset == 0 && n == 0 && after == NULL && event == NULL);
    *error = CL_SUCCESS;
    return calloc(1, bytes);
}

static cl_int unmap(cl_command_queue queue, cl_mem mem, void *mapped, cl_uint n,
                    const cl_event *after, cl_event *event)
{
    (void)queue;
    (void)mem;
    assert_true(n == 0 && after == NULL && event == NULL);
    free(mapped);
    return CL_SUCCESS;
}

/* ---- which kernels were launched ---- */

static void keep(char *to, size_t bytes, const char *from)
{
    int n = snprintf(to, bytes, "%s", from);

    assert_true(n >= 0 && (size_t)n < bytes);
}

static cl_int build(cl_program program, cl_uint n, const cl_device_id *devices,
                    const char *options, void(CL_CALLBACK *then)(cl_program, void *),
                    void *data)
{
    const bool tiles = strstr(options, TILES) != NULL;
    char all[OPTIONS + sizeof PLAINLY];

    assert_true(n_programs < MOST_PROGRAMS);
    programs[n_programs].handle = program;
    keep(programs[n_programs++].options, OPTIONS, options);
    (void)snprintf(all, sizeof all, "%s%s", options, tiles ? "" : PLAINLY);
    return now.real.BuildProgram(program, n, devices, all, then, data);
}

static cl_kernel make(cl_program program, const char *name, cl_int *error)
{
    cl_kernel kernel = now.real.CreateKernel(program, name, error);
    size_t i = n_programs;

    assert_true(n_kernels < MOST_KERNELS);
    while (i > 0 && programs[i - 1].handle != program)
        i--;
    assert_true(i > 0);
    kernels[n_kernels].handle = kernel;
    keep(kernels[n_kernels].name, NAME, name);
    keep(kernels[n_kernels++].options, OPTIONS, programs[i - 1].options);
    return kernel;
}

/* A line for each kernel into the file that the environment names. */
static void tell(size_t kernel)
{
    const char *path = getenv("CLLM_OPENCL_LAUNCHED");
    FILE *file;

    if (path == NULL || kernels[kernel].told)
        return;
    kernels[kernel].told = true;
    file = fopen(path, "ae");
    assert_non_null(file);
    assert_true(fprintf(file, "%s %s\n", kernels[kernel].name, kernels[kernel].options) >
                0);
    assert_int_equal(fclose(file), 0);
}

static cl_int run(cl_command_queue queue, cl_kernel kernel, cl_uint dims,
                  const size_t *offset, const size_t *global, const size_t *local,
                  cl_uint n, const cl_event *after, cl_event *event)
{
    size_t i = n_kernels;

    while (i > 0 && kernels[i - 1].handle != kernel)
        i--;
    assert_true(i > 0);
    tell(i - 1);
    return now.real.EnqueueNDRangeKernel(queue, kernel, dims, offset, global, local, n,
                                         after, event);
}

void cllm_opencl_simulated_done(const char *what)
{
    const uint64_t before = now.since_ns;

    if (!cllm_opencl_simulated())
        return;
    now.since_ns = cllm_now_ns();
    print_message("  %-40s %6.1f s\n", what, (double)(now.since_ns - before) / 1e9);
    (void)fflush(stdout);
}

/* ---- the beginning ---- */

static cl_kernel kernel_of(cl_program program, const char *name)
{
    cl_int error;
    cl_kernel kernel = now.real.CreateKernel(program, name, &error);

    assert_int_equal(error, CL_SUCCESS);
    return kernel;
}

/* The device that is open may be another one than last time. */
static void prepare(void)
{
    const struct cllm_cl_device *device = &cllm_cl_current.device;
    const char *text = source;
    cl_program program;
    cl_int error;

    if (now.context == device->context)
        return;
    now.context = device->context;
    now.n_seen = 0;
    program = cllm_cl.CreateProgramWithSource(now.context, 1, &text, NULL, &error);
    assert_int_equal(error, CL_SUCCESS);
    assert_int_equal(now.real.BuildProgram(program, 1, &device->id, "", NULL, NULL),
                     CL_SUCCESS);
    now.copy = kernel_of(program, "copy");
    now.fill = kernel_of(program, "fill");
    now.slot = now.real.CreateBuffer(now.context, CL_MEM_READ_WRITE, SLOT, NULL, &error);
    assert_int_equal(error, CL_SUCCESS);
}

/* oclgrind empties its log whenever a context is made, and so forgets what it has said of
 * the one before: a file for each. */
static void begin_log(void)
{
    static char first[192];
    static unsigned contexts;
    const char *path = getenv(LOG);
    char mine[sizeof first + 16];

    if (path == NULL)
        return;
    if (contexts++ == 0)
        (void)snprintf(first, sizeof first, "%s", path);
    (void)snprintf(mine, sizeof mine, "%s.%u", first, contexts);
    assert_int_equal(setenv(LOG, mine, 1), 0);
}

void cllm_opencl_simulate(void)
{
    begin_log();
    if (now.real.Finish != NULL)
        return;
    now.since_ns = cllm_now_ns();
    assert_int_equal(cllm_cl_load(), 0);
    now.real = cllm_cl;
    cllm_cl.BuildProgram = build;
    cllm_cl.CreateKernel = make;
    cllm_cl.CreateBuffer = create;
    cllm_cl.EnqueueNDRangeKernel = run;
    cllm_cl.EnqueueMapBuffer = map;
    cllm_cl.EnqueueUnmapMemObject = unmap;
    cllm_cl.EnqueueWriteBuffer = write;
    cllm_cl.EnqueueFillBuffer = fill;
}
