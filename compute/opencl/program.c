/*
 * compute/opencl/program.c - see compute/opencl/program.h.
 */
#include "compute/opencl/program.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "compute/opencl/cache.h"
#include "compute/opencl/turn.h"

/* Of the cache: another number, and what other versions of CLLM left is not found. */
#define FORMAT 1

/* For every program; -cl-std, because drivers take the newest they know. */
#define OPTIONS "-cl-std=CL1.2"

/* For another process that compiles the same. */
#define PATIENCE_NS (120 * CLLM_NS_PER_S)

enum { NAME_BYTES = 256, LOG_BYTES = 16384 };

struct kernel {
    struct kernel *next;
    char *name;
    cl_kernel handle;
};

struct cllm_cl_program {
    struct cllm_cl_program *next;
    char *sources, *options;
    uint64_t key; /* in the cache */
    cl_program handle;
    struct kernel *kernels;
};

void cllm_cl_programs_init(struct cllm_cl_programs *programs,
                           const struct cllm_cl_device *device)
{
    *programs = (struct cllm_cl_programs){.device = device};
}

static void free_program(struct cllm_cl_program *program)
{
    while (program->kernels) {
        struct kernel *kernel = program->kernels;

        program->kernels = kernel->next;
        (void)cllm_cl.ReleaseKernel(kernel->handle); /* its memory is all there is */
        free(kernel->name);
        free(kernel);
    }
    if (program->handle)
        (void)cllm_cl.ReleaseProgram(program->handle);
    free(program->sources);
    free(program->options);
    free(program);
}

void cllm_cl_programs_fini(struct cllm_cl_programs *programs)
{
    while (programs->first) {
        struct cllm_cl_program *program = programs->first;

        programs->first = program->next;
        free_program(program);
    }
}

/* ---- text ---- */

struct text {
    char *at; /* NUL-terminated, malloced; NULL: empty */
    size_t bytes;
};

static int add_bytes(struct text *text, const void *from, size_t bytes)
{
    char *at = realloc(text->at, text->bytes + bytes + 1);

    if (!at)
        return cllm_err(-ENOMEM, "cannot keep the text of a program");
    memcpy(at + text->bytes, from, bytes);
    text->at = at;
    text->bytes += bytes;
    at[text->bytes] = '\0';
    return 0;
}

static int add_file(struct text *text, const char *directory, const char *name)
{
    char path[CLLM_CL_CACHE_PATH], piece[4096];
    ssize_t n;
    int rc = 0, fd;

    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        rc = cllm_err(-errno, "cannot read %s", path);
        cllm_err_hint("$" CLLM_CL_KERNELS_ENVIRONMENT " names a directory of .cl files");
        return rc;
    }
    while (rc == 0 && (n = read(fd, piece, sizeof piece)) != 0)
        rc = n < 0 ? cllm_err(-errno, "cannot read %s", path)
                   : add_bytes(text, piece, (size_t)n);
    (void)close(fd); /* read only */
    return rc;
}

static int add_source(struct text *text, const char *name)
{
    const char *directory = getenv(CLLM_CL_KERNELS_ENVIRONMENT);

    if (directory && directory[0])
        return add_file(text, directory, name);
    for (const struct cllm_cl_source *source = cllm_cl_sources; source->name; source++)
        if (strcmp(source->name, name) == 0)
            return add_bytes(text, source->text, source->bytes);
    return cllm_err(-ENOENT, "cannot find the kernels %s in this program", name);
}

/* The files of @names, one after the other, each with its own line numbers. */
static int gather(struct text *text, const char *names)
{
    char name[NAME_BYTES], line[NAME_BYTES + 16];
    int rc = 0;

    while (rc == 0 && *names) {
        size_t n = strcspn(names, " ");

        CLLM_ASSERT(n < sizeof name);
        memcpy(name, names, n);
        name[n] = '\0';
        names += n;
        names += strspn(names, " ");
        (void)snprintf(line, sizeof line, "#line 1 \"%s\"\n", name);
        rc = add_bytes(text, line, strlen(line));
        if (rc == 0)
            rc = add_source(text, name);
    }
    return rc;
}

/* ---- compiling ---- */

static uint64_t add_to_key(uint64_t key, const char *text)
{
    return cllm_hash(text, strlen(text) + 1, key);
}

uint64_t cllm_cl_program_key(const struct cllm_opencl_device *device, const char *text,
                             const char *options)
{
    uint64_t key = FORMAT;

    key = add_to_key(key, device->platform_name);
    key = add_to_key(key, device->platform_version);
    key = add_to_key(key, device->name);
    key = add_to_key(key, device->version);
    key = add_to_key(key, device->driver);
    key = add_to_key(key, options);
    return add_to_key(key, text);
}

int cllm_cl_sources_key(const struct cllm_opencl_device *device, const char *sources,
                        const char *options, uint64_t *key)
{
    struct text text = {0};
    int rc = gather(&text, sources);

    *key = cllm_cl_program_key(device, text.at ? text.at : "", options ? options : "");
    free(text.at);
    return rc;
}

/* What the compiler said, whole to the debug log, its beginning as detail. */
static void show_log(const struct cllm_cl_device *device,
                     const struct cllm_cl_program *program)
{
    char *log = calloc(1, LOG_BYTES);

    if (log &&
        cllm_cl.GetProgramBuildInfo(program->handle, device->id, CL_PROGRAM_BUILD_LOG,
                                    LOG_BYTES - 1, log, NULL) == CL_SUCCESS) {
        cllm_debug("%s, options %s:\n%s", program->sources, program->options, log);
        cllm_err_detail("options %s: %.400s", program->options, log);
    }
    free(log);
}

static int build(const struct cllm_cl_device *device, struct cllm_cl_program *program)
{
    cl_int error = cllm_cl.BuildProgram(program->handle, 1, &device->id, program->options,
                                        NULL, NULL);

    if (error == CL_SUCCESS)
        return 0;
    (void)cllm_cl_fail(error, "compile the kernels %s for %s", program->sources,
                       device->info.name);
    show_log(device, program);
    cllm_err_hint("CLLM_LOG=debug shows all that the compiler says; [compute] backend = "
                  "cpu does without");
    return -EIO;
}

static void release(struct cllm_cl_program *program)
{
    if (program->handle)
        (void)cllm_cl.ReleaseProgram(program->handle);
    program->handle = NULL;
}

/* From the cache; false when it is not there, or the driver does not want it. */
static bool load(const struct cllm_cl_device *device, struct cllm_cl_program *program,
                 uint64_t key)
{
    size_t bytes;
    unsigned char *binary = cllm_cl_cache_load(key, &bytes);
    const unsigned char *const_binary = binary;
    cl_int error, status = CL_SUCCESS;

    if (!binary)
        return false;
    program->handle = cllm_cl.CreateProgramWithBinary(
        device->context, 1, &device->id, &bytes, &const_binary, &status, &error);
    free(binary);
    if (error == CL_SUCCESS && status == CL_SUCCESS &&
        cllm_cl.BuildProgram(program->handle, 1, &device->id, program->options, NULL,
                             NULL) == CL_SUCCESS)
        return true;
    if (error != CL_SUCCESS)
        program->handle = NULL;
    release(program);
    return false;
}

/* For a binary some drivers compile everything once more: not without a place for it. */
static void store(const struct cllm_cl_program *program, uint64_t key)
{
    char directory[CLLM_CL_CACHE_PATH];
    unsigned char *binary = NULL;
    size_t bytes = 0;

    if (!cllm_cl_cache_directory(directory, "opencl"))
        return;
    if (cllm_cl.GetProgramInfo(program->handle, CL_PROGRAM_BINARY_SIZES, sizeof bytes,
                               &bytes, NULL) == CL_SUCCESS &&
        bytes > 0)
        binary = malloc(bytes);
    if (binary && cllm_cl.GetProgramInfo(program->handle, CL_PROGRAM_BINARIES,
                                         sizeof binary, &binary, NULL) == CL_SUCCESS)
        cllm_cl_cache_store(key, binary, bytes);
    free(binary);
}

static int compile(const struct cllm_cl_device *device, struct cllm_cl_program *program,
                   const struct text *text)
{
    const char *at = text->at;
    cl_int error;
    int rc;

    program->handle =
        cllm_cl.CreateProgramWithSource(device->context, 1, &at, &text->bytes, &error);
    if (error != CL_SUCCESS) {
        program->handle = NULL;
        return cllm_cl_fail(error, "make a program of %s", program->sources);
    }
    rc = build(device, program);
    if (rc == 0)
        store(program, program->key);
    return rc;
}

/* Compiled, by one of the processes that want it at the same time. */
static int compile_in_turn(struct cllm_cl_programs *programs,
                           struct cllm_cl_program *program, const struct text *text)
{
    struct cllm_cl_turn turn;
    int rc = 0;

    (void)cllm_cl_turn_begin(&turn, program->key, PATIENCE_NS);
    if (load(programs->device, program, program->key)) {
        programs->loads++;
    } else {
        rc = compile(programs->device, program, text);
        programs->builds++;
    }
    cllm_cl_turn_end(&turn);
    return rc;
}

/* ---- one of each ---- */

static int make_program(struct cllm_cl_programs *programs,
                        struct cllm_cl_program *program)
{
    struct text text = {0};
    int rc = gather(&text, program->sources);

    if (rc == 0) {
        program->key = cllm_cl_program_key(&programs->device->info,
                                           text.at ? text.at : "", program->options);
        if (load(programs->device, program, program->key))
            programs->loads++;
        else
            rc = compile_in_turn(programs, program, &text);
    }
    free(text.at);
    return rc;
}

uint64_t cllm_cl_programs_key(const struct cllm_cl_programs *programs)
{
    uint64_t key = FORMAT;

    for (const struct cllm_cl_program *p = programs->first; p; p = p->next)
        key = cllm_hash(&p->key, sizeof p->key, key);
    return key;
}

static int find_program(struct cllm_cl_programs *programs, const char *sources,
                        const char *options, struct cllm_cl_program **out)
{
    struct cllm_cl_program *program = programs->first;
    int rc;

    while (program && (strcmp(program->sources, sources) != 0 ||
                       strcmp(program->options, options) != 0))
        program = program->next;
    *out = program;
    if (program)
        return 0;
    program = calloc(1, sizeof *program);
    if (program) {
        program->sources = strdup(sources);
        program->options = strdup(options);
    }
    if (!program || !program->sources || !program->options)
        rc = cllm_err(-ENOMEM, "cannot keep a program");
    else
        rc = make_program(programs, program);
    if (rc != 0) {
        if (program)
            free_program(program);
        return rc;
    }
    program->next = programs->first;
    programs->first = program;
    *out = program;
    return 0;
}

static int make_kernel(struct cllm_cl_program *program, const char *name, cl_kernel *out)
{
    struct kernel *kernel = calloc(1, sizeof *kernel);
    cl_int error = CL_SUCCESS;

    if (kernel)
        kernel->name = strdup(name);
    if (kernel && kernel->name)
        kernel->handle = cllm_cl.CreateKernel(program->handle, name, &error);
    if (kernel && kernel->name && error == CL_SUCCESS) {
        kernel->next = program->kernels;
        program->kernels = kernel;
        *out = kernel->handle;
        return 0;
    }
    if (kernel)
        free(kernel->name);
    free(kernel);
    if (error == CL_SUCCESS)
        return cllm_err(-ENOMEM, "cannot keep the kernel %s", name);
    return cllm_cl_fail(error, "make the kernel %s of %s", name, program->sources);
}

int cllm_cl_programs_kernel(struct cllm_cl_programs *programs,
                            const struct cllm_cl_kernel *kernel, cl_kernel *out)
{
    struct cllm_cl_program *program;
    char options[NAME_BYTES];
    int n, rc;

    n = snprintf(options, sizeof options, "%s%s%s", OPTIONS, kernel->options ? " " : "",
                 kernel->options ? kernel->options : "");
    CLLM_ASSERT(n >= 0 && n < NAME_BYTES);
    rc = find_program(programs, kernel->sources, options, &program);
    if (rc != 0)
        return rc;
    for (struct kernel *known = program->kernels; known; known = known->next) {
        if (strcmp(known->name, kernel->name) == 0) {
            *out = known->handle;
            return 0;
        }
    }
    return make_kernel(program, kernel->name, out);
}
