/*
 * compute/opencl/memory.c - see compute/opencl/memory.h.
 */
#include "compute/opencl/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "base/units.h"

#define TWICE \
    (1u << 20) /* arrays up to here get a second buffer when that saves waiting */

/* Where a piece is valid. */
enum { HOST = 0, BOTH, DEVICE };

struct cllm_cl_array {
    uintptr_t begin, end;
    uintptr_t region; /* first address of what was reserved; 0: a mirror */
    size_t region_bytes;
    cl_mem mem;                  /* NULL: not used yet */
    cl_mem other;                /* the second buffer, or NULL */
    cl_event other_free;         /* no kernel uses it after this; NULL: none does */
    unsigned char *mirror;       /* the host's bytes, when kernels may write them */
    const unsigned char *source; /* the host's bytes; NULL: there are none */
    size_t source_bytes;
    uint64_t version;
    unsigned char *state; /* of each piece, with a source */
    bool used;            /* kernels have been launched that use mem */
    bool stale;           /* some did before the host's bytes became newer */
};

void cllm_cl_memory_init(struct cllm_cl_memory *memory,
                         const struct cllm_cl_device *device, struct cllm_cl_pool *pool,
                         struct cllm_cl_transfer *transfer)
{
    *memory =
        (struct cllm_cl_memory){.device = device, .pool = pool, .transfer = transfer};
}

static size_t bytes_of(const struct cllm_cl_array *array)
{
    return array->end - array->begin;
}

static void give_back(struct cllm_cl_memory *memory, struct cllm_cl_array *array)
{
    if (array->mem)
        cllm_cl_pool_release(memory->pool, bytes_of(array), array->mem);
    if (array->other)
        cllm_cl_pool_release(memory->pool, bytes_of(array), array->other);
    if (array->other_free)
        (void)cllm_cl.ReleaseEvent(array->other_free);
    free(array->state);
    if (array->begin == array->region)
        (void)munmap((void *)array->region, array->region_bytes); /* ours */
}

void cllm_cl_memory_fini(struct cllm_cl_memory *memory)
{
    for (size_t i = 0; i < memory->n; i++)
        give_back(memory, &memory->arrays[i]);
    free(memory->arrays);
    *memory = (struct cllm_cl_memory){0};
}

/* ---- ranges ---- */

/* The first array that ends behind @address; memory->n: none does. */
static size_t find(const struct cllm_cl_memory *memory, uintptr_t address)
{
    size_t lo = 0, hi = memory->n;

    while (lo < hi) {
        size_t middle = lo + (hi - lo) / 2;

        if (memory->arrays[middle].end <= address)
            lo = middle + 1;
        else
            hi = middle;
    }
    return lo;
}

/* The array with @bytes from @address on, which it must have. */
static struct cllm_cl_array *array_of(struct cllm_cl_memory *memory, uintptr_t address,
                                      size_t bytes)
{
    struct cllm_cl_array *array;
    size_t i = memory->last;

    if (i >= memory->n || memory->arrays[i].end <= address ||
        memory->arrays[i].begin > address)
        i = find(memory, address);
    CLLM_ASSERT(i < memory->n); /* an address that the device knows */
    memory->last = i;
    array = &memory->arrays[i];
    CLLM_ASSERT(address >= array->begin);
    CLLM_ASSERT(bytes <= array->end - address); /* within one array */
    return array;
}

size_t cllm_cl_memory_room(struct cllm_cl_memory *memory, const void *address)
{
    return array_of(memory, (uintptr_t)address, 0)->end - (uintptr_t)address;
}

/* The array that begins at @address. */
static struct cllm_cl_array *beginning(struct cllm_cl_memory *memory, const void *address)
{
    struct cllm_cl_array *array = array_of(memory, (uintptr_t)address, 0);

    CLLM_ASSERT(array->begin == (uintptr_t)address);
    return array;
}

static int insert(struct cllm_cl_memory *memory, const struct cllm_cl_array *array)
{
    size_t at = find(memory, array->begin);

    CLLM_ASSERT(array->begin < array->end);
    CLLM_ASSERT(at == memory->n || array->end <= memory->arrays[at].begin);
    if (memory->n == memory->room) {
        size_t room = memory->room ? 2 * memory->room : 64;
        struct cllm_cl_array *more = realloc(memory->arrays, room * sizeof *more);

        if (!more)
            return cllm_err(-ENOMEM, "cannot keep another array of the device");
        memory->arrays = more;
        memory->room = room;
    }
    memmove(&memory->arrays[at + 1], &memory->arrays[at],
            (memory->n - at) * sizeof *array);
    memory->arrays[at] = *array;
    memory->n++;
    return 0;
}

static void drop(struct cllm_cl_memory *memory, size_t at)
{
    give_back(memory, &memory->arrays[at]);
    memory->n--;
    memmove(&memory->arrays[at], &memory->arrays[at + 1],
            (memory->n - at) * sizeof memory->arrays[at]);
}

int cllm_cl_memory_forget(struct cllm_cl_memory *memory, const void *address)
{
    uintptr_t region = beginning(memory, address)->region;
    size_t at = find(memory, (uintptr_t)address);
    int rc = cllm_cl_progress_finish(memory->transfer->progress);

    /* The first goes last: it unmaps the addresses. */
    while (region != 0 && at + 1 < memory->n && memory->arrays[at + 1].region == region)
        drop(memory, at + 1);
    drop(memory, at);
    return rc;
}

/* ---- declaring ---- */

/* The end of the array that begins at @begin: the last cut, or the end, that one buffer
 * reaches; @begin: none. */
static size_t cut_at(const size_t *cuts, size_t n_cuts, size_t begin, size_t bytes,
                     size_t most)
{
    size_t end = begin;

    if (bytes - begin <= most)
        return bytes;
    for (size_t i = 0; i < n_cuts; i++)
        if (cuts[i] > begin && cuts[i] - begin <= most)
            end = cuts[i];
    return end;
}

static int cut(struct cllm_cl_memory *memory, uintptr_t base, size_t bytes,
               const size_t *cuts, size_t n_cuts)
{
    size_t most = memory->device->info.most_bytes;
    char has[CLLM_UNITS_BYTES];
    int rc = 0;

    for (size_t begin = 0, end; rc == 0 && begin < bytes; begin = end) {
        end = cut_at(cuts, n_cuts, begin, bytes, most);
        if (end == begin) {
            rc = cllm_err(-ENOMEM,
                          "cannot keep an array on the device: no buffer of it "
                          "has more than %s",
                          cllm_format_bytes(has, most));
            cllm_err_hint("fewer sequences in a micro-batch, or a smaller vocabulary");
        } else {
            rc = insert(memory, &(struct cllm_cl_array){.begin = base + begin,
                                                        .end = base + end,
                                                        .region = base,
                                                        .region_bytes = bytes});
        }
    }
    return rc;
}

int cllm_cl_memory_reserve(struct cllm_cl_memory *memory, void **address, size_t bytes,
                           const size_t *cuts, size_t n_cuts)
{
    size_t n = memory->n;
    void *base =
        mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int rc;

    if (base == MAP_FAILED)
        return cllm_err(-errno, "cannot reserve %zu bytes of addresses", bytes);
    rc = cut(memory, (uintptr_t)base, bytes, cuts, n_cuts);
    if (rc == 0) {
        *address = base;
        return 0;
    }
    if (memory->n == n) {
        (void)munmap(base, bytes);
        return rc;
    }
    while (memory->n > n) /* its own are neighbours */
        drop(memory, find(memory, (uintptr_t)base) + (memory->n - n - 1));
    return rc;
}

static size_t pieces(size_t bytes)
{
    return cllm_div_up(bytes, CLLM_CL_PIECE);
}

/* States of pieces, all on the host. */
static int make_state(struct cllm_cl_array *array)
{
    if (array->state == NULL)
        array->state = malloc(pieces(bytes_of(array)));
    if (array->state == NULL)
        return cllm_err(-ENOMEM, "cannot keep what is valid where");
    memset(array->state, HOST, pieces(bytes_of(array)));
    return 0;
}

int cllm_cl_memory_mirror(struct cllm_cl_memory *memory, void *host, size_t bytes)
{
    struct cllm_cl_array array = {.begin = (uintptr_t)host,
                                  .end = (uintptr_t)host + bytes,
                                  .mirror = host,
                                  .source = host,
                                  .source_bytes = bytes};
    char has[CLLM_UNITS_BYTES], wants[CLLM_UNITS_BYTES];
    int rc;

    if (bytes > memory->device->info.most_bytes)
        return cllm_err(-ENOMEM,
                        "cannot mirror %s: no buffer of the device has more "
                        "than %s",
                        cllm_format_bytes(wants, bytes),
                        cllm_format_bytes(has, memory->device->info.most_bytes));
    rc = insert(memory, &array);
    if (rc != 0)
        return rc;
    rc = make_state(beginning(memory, host));
    if (rc != 0)
        drop(memory, find(memory, array.begin));
    return rc;
}

/* What is on the host is newer, all of it. */
static void make_stale(struct cllm_cl_array *array)
{
    array->stale = array->stale || array->used;
    array->used = false;
}

void cllm_cl_memory_wrote(struct cllm_cl_memory *memory, const void *host)
{
    struct cllm_cl_array *array = beginning(memory, host);

    CLLM_ASSERT(array->mirror != NULL);
    memset(array->state, HOST, pieces(bytes_of(array)));
    make_stale(array);
}

int cllm_cl_memory_put(struct cllm_cl_memory *memory, void *address, const void *host,
                       size_t bytes, uint64_t version)
{
    uintptr_t region = beginning(memory, address)->region;
    size_t done = 0;
    int rc = 0;

    CLLM_ASSERT(region == (uintptr_t)address);
    CLLM_ASSERT(version != 0);
    for (size_t i = find(memory, region); rc == 0 && done < bytes; i++) {
        struct cllm_cl_array *array = &memory->arrays[i];
        const unsigned char *source = (const unsigned char *)host + done;

        CLLM_ASSERT(i < memory->n && array->region == region);
        done += bytes_of(array);
        if (array->source == source && array->version == version)
            continue;
        rc = make_state(array);
        array->source = source;
        array->source_bytes = bytes_of(array) - (done > bytes ? done - bytes : 0);
        array->version = version;
        make_stale(array);
    }
    return rc;
}

/* ---- buffers and what is in them ---- */

static int fill(struct cllm_cl_memory *memory, struct cllm_cl_array *array)
{
    static const cl_uint zero = 0;
    cl_int error = cllm_cl.EnqueueFillBuffer(
        memory->device->compute, array->mem, &zero, sizeof zero, 0,
        cllm_align_up(bytes_of(array), sizeof zero), 0, NULL, NULL);

    array->used = true;
    if (array->source)
        make_stale(array);
    return error == CL_SUCCESS ? 0 : cllm_cl_fail(error, "clear memory of the device");
}

/* The array has a buffer: zero, but where the host's bytes will be. */
static int make_buffer(struct cllm_cl_memory *memory, struct cllm_cl_array *array)
{
    int rc;

    if (array->mem)
        return 0;
    rc = cllm_cl_pool_acquire(memory->pool, bytes_of(array), &array->mem);
    if (rc == 0 && array->source_bytes < bytes_of(array))
        rc = fill(memory, array);
    return rc;
}

/* An event behind all kernels that are enqueued. */
static int mark(struct cllm_cl_memory *memory, cl_event *event)
{
    cl_int error =
        cllm_cl.EnqueueMarkerWithWaitList(memory->device->compute, 0, NULL, event);

    if (error == CL_SUCCESS)
        error = cllm_cl.Flush(memory->device->compute);
    else
        *event = NULL;
    return error == CL_SUCCESS ? 0 : cllm_cl_fail(error, "mark a place in a queue");
}

/*
 * What goes up is about to overwrite what kernels may still read: @after becomes the
 * event to wait for. A small mirror, which changes with each batch, changes buffers
 * instead and waits for what used the other one, which has long been done.
 */
static int make_way(struct cllm_cl_memory *memory, struct cllm_cl_array *array,
                    cl_event *after)
{
    cl_mem mem = array->mem;
    cl_event free_now;
    int rc = mark(memory, &free_now);

    if (rc != 0)
        return rc;
    if (array->mirror == NULL || bytes_of(array) > TWICE) {
        *after = free_now;
        return 0;
    }
    if (array->other == NULL)
        rc = cllm_cl_pool_acquire(memory->pool, bytes_of(array), &array->other);
    if (rc != 0) {
        (void)cllm_cl.ReleaseEvent(free_now);
        return rc;
    }
    *after = array->other_free;
    array->mem = array->other;
    array->other = mem;
    array->other_free = free_now;
    return 0;
}

static int send_piece(struct cllm_cl_memory *memory, struct cllm_cl_array *array,
                      size_t piece)
{
    size_t offset = piece * CLLM_CL_PIECE;
    cl_event after = NULL;
    int rc = 0;

    if (array->stale)
        rc = make_way(memory, array, &after);
    array->stale = false;
    if (rc == 0 && offset < array->source_bytes)
        rc = cllm_cl_transfer_up(
            memory->transfer, array->mem, offset, array->source + offset,
            cllm_min_u64(CLLM_CL_PIECE, array->source_bytes - offset), after);
    if (after)
        (void)cllm_cl.ReleaseEvent(after);
    if (rc == 0)
        array->state[piece] = BOTH;
    return rc;
}

/* Bytes [lo,hi) of @array are on the device, and after @use valid where they should be.
 */
static int send(struct cllm_cl_memory *memory, struct cllm_cl_array *array, size_t lo,
                size_t hi, enum cllm_cl_use use)
{
    int rc = make_buffer(memory, array);

    if (array->source == NULL)
        return rc;
    CLLM_ASSERT(use == CLLM_CL_IN || array->mirror != NULL);
    for (size_t piece = lo / CLLM_CL_PIECE; rc == 0 && piece < pieces(hi); piece++) {
        size_t begin = piece * CLLM_CL_PIECE;
        size_t end = cllm_min_u64(begin + CLLM_CL_PIECE, bytes_of(array));
        bool overwritten = use == CLLM_CL_OUT && lo <= begin && end <= hi;

        if (array->state[piece] == HOST && !overwritten)
            rc = send_piece(memory, array, piece);
        if (use != CLLM_CL_IN)
            array->state[piece] = DEVICE;
    }
    return rc;
}

int cllm_cl_memory_use(struct cllm_cl_memory *memory, const void *address, size_t bytes,
                       enum cllm_cl_use use, cl_mem *mem, size_t *offset)
{
    struct cllm_cl_array *array = array_of(memory, (uintptr_t)address, bytes);
    size_t lo = (uintptr_t)address - array->begin;
    int rc;

    CLLM_ASSERT(bytes > 0 && lo % sizeof(uint32_t) == 0);
    rc = send(memory, array, lo, lo + bytes, use);
    array->used = true;
    *mem = array->mem;
    *offset = lo;
    return rc;
}

/* ---- back ---- */

int cllm_cl_memory_get(struct cllm_cl_memory *memory, void *to, const void *address,
                       size_t bytes)
{
    uintptr_t at = (uintptr_t)address, end = at + bytes;
    unsigned char *out = to;
    int rc = 0;

    while (rc == 0 && at < end) {
        struct cllm_cl_array *array = array_of(memory, at, 0);
        size_t lo = at - array->begin, hi = cllm_min_u64(end, array->end) - array->begin;

        CLLM_ASSERT(hi > lo);
        rc = send(memory, array, lo, hi, CLLM_CL_IN);
        if (rc == 0)
            rc = cllm_cl_transfer_down(memory->transfer, out, array->mem, lo, hi - lo);
        out += hi - lo;
        at += hi - lo;
    }
    return rc;
}

int cllm_cl_memory_fetch(struct cllm_cl_memory *memory, void *host)
{
    struct cllm_cl_array *array = beginning(memory, host);
    size_t n = pieces(bytes_of(array));
    int rc = 0;

    CLLM_ASSERT(array->mirror != NULL);
    for (size_t piece = 0, last; rc == 0 && piece < n; piece = last + 1) {
        size_t lo = piece * CLLM_CL_PIECE, hi;

        for (last = piece; last < n && array->state[last] == DEVICE; last++)
            ;
        hi = cllm_min_u64(last * CLLM_CL_PIECE, bytes_of(array));
        if (last == piece)
            continue;
        rc = cllm_cl_transfer_down(memory->transfer, array->mirror + lo, array->mem, lo,
                                   hi - lo);
        memset(array->state + piece, BOTH, last - piece);
    }
    return rc;
}
