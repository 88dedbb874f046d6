/*
 * compute/opencl/opencl.h - training on an OpenCL device: what a worker, a tool or a test
 * needs of it.
 *
 * One device for each process, opened after exec and never across fork. The model's code
 * is the CPU's: its arrays are addresses. Those that live on the device alone are
 * reserved and can be neither read nor written here: a stray access faults at once. The
 * operations of the device's table find the buffer that stands behind an address.
 *
 *     reserve   activations, weights, gradient      device alone; put() gives them the
 *                                                    host's values, get() brings them
 * back mirror    token ids, tables, losses           memory of the host, with a copy on
 * the device; wrote() and fetch()
 *
 * Nothing goes up or down twice, and what goes up does so when a kernel first needs it,
 * in pieces, while kernels that need other pieces run.
 *
 * Calls that return int give 0 or a negative code with text. Not for several threads.
 */
#ifndef CLLM_COMPUTE_OPENCL_OPENCL_H
#define CLLM_COMPUTE_OPENCL_OPENCL_H

#include "base/base.h"

/* ---- devices ---- */

enum cllm_opencl_kind { CLLM_OPENCL_CPU = 0, CLLM_OPENCL_GPU, CLLM_OPENCL_OTHER };

enum { CLLM_OPENCL_NAME = 128, CLLM_OPENCL_DEVICES = 64 };

struct cllm_opencl_device {
    uint32_t platform, device; /* numbers, as in device = PLATFORM:DEVICE */
    char platform_name[CLLM_OPENCL_NAME];
    char platform_version[CLLM_OPENCL_NAME];
    char name[CLLM_OPENCL_NAME];
    char vendor[CLLM_OPENCL_NAME];
    char version[CLLM_OPENCL_NAME];
    char driver[CLLM_OPENCL_NAME];
    enum cllm_opencl_kind kind;
    uint32_t units;        /* compute units */
    uint32_t megahertz;    /* as the driver says */
    size_t most_group;     /* work-items of a group */
    uint64_t memory_bytes; /* of the device */
    uint64_t most_bytes;   /* of one buffer */
    uint64_t local_bytes;  /* of a work-group */
    bool local_is_fast;    /* local memory is the device's, and not global memory */
    bool unified;          /* host and device share their memory */
    uint32_t nvidia_major; /* compute capability; 0: not NVIDIA's */
    uint32_t nvidia_minor;
};

/*
 * All devices of all platforms, at most @most. *@n of them. Returns 0, or a negative code
 * with the reason why there is none. It loads drivers, which may crash or hang: for a
 * process that can be missed (tools/devices.c).
 */
int cllm_opencl_list(struct cllm_opencl_device *out, uint32_t most, uint32_t *n);

extern const char *const cllm_opencl_kind_names[];

/* ---- one device ---- */

struct cllm_opencl_options {
    /* PLATFORM:DEVICE, each a number or a part of a name, either may be empty; NULL or
     * "": the first GPU, else the first device. */
    const char *device;
    size_t most_bytes; /* of one buffer, below the device's; 0: the device's */
    bool profile;      /* times of kernels and transfers; slower */
    bool bf16;         /* operands of matrix products are rounded to that */
};

/* Load the library, choose a device, make its queues. */
int cllm_opencl_open(const struct cllm_opencl_options *options);

/* Free everything; safe when nothing is open. Kernels that run are waited for. */
void cllm_opencl_close(void);

/* Of the device that is open (asserted). */
const struct cllm_opencl_device *cllm_opencl_device(void);

/* As it was opened (asserted). */
bool cllm_opencl_bf16(void);

/* ---- the first time ---- */

/*
 * Drivers compile when a kernel is first launched, too, and keep that themselves. Of
 * processes that are about to launch for the first time, between begin and end, one goes
 * first and the others wait, so that they find what it has left; once that has been done,
 * nobody waits. What they launch depends on the programs that are built and on @what
 * (@bytes). True: nobody has done it yet. @done: without failure. Ends with the device or
 * the process, too.
 */
bool cllm_opencl_first_begin(const void *what, size_t bytes);
void cllm_opencl_first_end(bool done);

/* ---- arrays ---- */

/*
 * Reserve @bytes of addresses, page-aligned, for arrays that live on the device; zero at
 * first. @cuts (n_cuts): ascending offsets at which another array begins, so that more
 * than the largest buffer can be had: no array lies in two buffers. Buffers are made when
 * something is first in them.
 */
int cllm_opencl_reserve(void **address, size_t bytes, const size_t *cuts, size_t n_cuts);

/*
 * Give the array at @address, @bytes long, the values at @host, which must stay as they
 * are until the next put() or the end of use: pieces go up as they are needed. The same
 * @host and @version (not 0) as last time: nothing happens. From the beginning of what
 * was reserved on (asserted); kernels may not write it.
 */
int cllm_opencl_put(void *address, const void *host, size_t bytes, uint64_t version);

/* Bring @bytes from @address on to @to, as all launches until now leave them. Waits. */
int cllm_opencl_get(void *to, const void *address, size_t bytes);

/* Keep a copy on the device of @bytes at @host, memory of the caller; what the host has
 * is what counts. 4-byte aligned; meets no other array (asserted). */
int cllm_opencl_mirror(void *host, size_t bytes);

/* The host has written the mirrored array that begins at @host, all or some of it. */
void cllm_opencl_wrote(const void *host);

/* The host may read the mirrored array that begins at @host: what kernels have written is
 * there when it returns. */
int cllm_opencl_fetch(void *host);

/* The array that was reserved or mirrored at @address is no more; its buffers go back to
 * the pool. Launches that use it are waited for. */
void cllm_opencl_forget(const void *address);

/* ---- time ---- */

/* Called, from within calls here that wait, whenever the device has got on. */
typedef void (*cllm_opencl_progress_fn)(void *ctx);
void cllm_opencl_on_progress(cllm_opencl_progress_fn progress, void *ctx);

/* A place in the order of launches at which progress will be seen; also starts what is
 * enqueued. When too many are open, it waits for the first. @ctx is not used: this is a
 * model's progress callback. */
void cllm_opencl_mark(void *ctx);

/* Until all that was launched is done. The first error since opening, or 0. */
int cllm_opencl_wait(void);

/* The first error, if there is one: its code, and its text in base/err.h. Never waits. */
int cllm_opencl_error(void);

/* ---- counters, since opening ---- */

struct cllm_opencl_counters {
    uint64_t acquires, hits, creates; /* buffers wanted, reused, made */
    uint64_t buffer_bytes;            /* allocated, rounded as they are */
    uint64_t ups, up_bytes;           /* transfers to the device */
    uint64_t downs, down_bytes;       /* and from it */
    uint64_t launches;
    uint64_t builds, loads;      /* programs compiled; taken from the cache */
    uint64_t program_ns;         /* the time that this took */
    uint64_t kernel_ns, copy_ns; /* profile: time that each queue ran ... */
    uint64_t overlap_ns;         /* ... and that both did */
};
void cllm_opencl_count(struct cllm_opencl_counters *out);

#endif /* CLLM_COMPUTE_OPENCL_OPENCL_H */
