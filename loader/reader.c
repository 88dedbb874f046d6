/*
 * loader/reader.c - staging, alignment, retries, and the ladder down from the best
 * method.
 */
#include "loader/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"

#define TRIES_MAX         3
#define INTERRUPTIONS_MAX 1000
#define ALIGNMENT_UNKNOWN 4096 /* where statx does not tell: no device wants more */

/* ---- O_DIRECT ---- */

/* Alignment that direct reads of @fd want; 0 when there are none. */
static uint32_t direct_alignment(int fd)
{
    struct statx stx;

    memset(&stx, 0, sizeof stx);
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) != 0 ||
        !(stx.stx_mask & STATX_DIOALIGN))
        return ALIGNMENT_UNKNOWN; /* an older kernel: opening and the first read decide */
    if (stx.stx_dio_offset_align == 0)
        return 0;
    return (uint32_t)cllm_max_u64(stx.stx_dio_offset_align, stx.stx_dio_mem_align);
}

static bool larger_than_half_of_memory(const struct cllm_reader *reader)
{
    uint64_t pages = (uint64_t)sysconf(_SC_PHYS_PAGES);
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < reader->n_files; i++)
        bytes += reader->file[i].bytes;
    return bytes > pages * page / 2;
}

static void leave_direct(struct cllm_reader *reader)
{
    for (uint32_t i = 0; i < reader->n_files; i++) {
        if (reader->direct && reader->fd[i] >= 0)
            (void)close(reader->fd[i]);
        reader->fd[i] = reader->file[i].fd;
        /* Windows are read in random order: read-ahead would fetch what nobody wants. */
        (void)posix_fadvise(reader->fd[i], 0, 0, POSIX_FADV_RANDOM);
    }
    reader->direct = false;
    reader->alignment = 1;
}

/* Open all files a second time, with O_DIRECT. False, with the reason said: buffered. */
static bool enter_direct(struct cllm_reader *reader)
{
    uint32_t alignment = 1;

    reader->direct = true;
    for (uint32_t i = 0; i < reader->n_files; i++)
        reader->fd[i] = -1;
    for (uint32_t i = 0; i < reader->n_files; i++) {
        const struct cllm_reader_file *file = &reader->file[i];
        uint32_t wanted = direct_alignment(file->fd);

        if (wanted == 0 || wanted > CLLM_PAGE) {
            cllm_info("%s cannot be read with O_DIRECT: buffered reads", file->path);
            break;
        }
        alignment = (uint32_t)cllm_max_u64(alignment, wanted);
        reader->fd[i] = open(file->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
        if (reader->fd[i] < 0) {
            cllm_info("%s: O_DIRECT is refused (%s): buffered reads", file->path,
                      strerror(errno));
            break;
        }
        if (i + 1 == reader->n_files) {
            reader->alignment = alignment;
            return true;
        }
    }
    leave_direct(reader);
    return false;
}

static bool wants_direct(const struct cllm_reader *reader, enum cllm_reader_direct direct)
{
    if (direct == CLLM_READER_DIRECT_AUTO)
        return !reader->method->single && larger_than_half_of_memory(reader);
    return direct == CLLM_READER_DIRECT_YES;
}

/* ---- reads ---- */

static void aim(const struct cllm_reader *reader, struct cllm_read *read)
{
    uint64_t mask = (uint64_t)reader->alignment - 1;
    uint64_t delta = read->offset & mask;

    read->io_offset = read->offset - delta;
    read->io_bytes =
        (uint32_t)cllm_align_up(delta + read->bytes, (uint64_t)reader->alignment);
    read->data = read->buffer + delta;
    CLLM_ASSERT(read->io_bytes <= reader->stride);
}

void cllm_reader_submit(struct cllm_reader *reader, uint32_t file, uint64_t offset,
                        uint32_t bytes, uint64_t batch, uint32_t row)
{
    struct cllm_read *read;

    CLLM_ASSERT(reader->n_free > 0);
    CLLM_ASSERT(file < reader->n_files);
    CLLM_ASSERT(bytes > 0 && bytes <= reader->max_bytes);
    CLLM_ASSERT(offset + bytes <= reader->file[file].bytes);
    read = reader->free[--reader->n_free];
    read->file = file;
    read->bytes = bytes;
    read->offset = offset;
    read->batch = batch;
    read->row = row;
    read->tries = 0;
    read->interruptions = 0;
    aim(reader, read);
    reader->method->queue(reader, read);
}

void cllm_reader_release(struct cllm_reader *reader, struct cllm_read *read)
{
    CLLM_ASSERT(reader->n_free < reader->depth);
    reader->free[reader->n_free++] = read;
}

/* Bytes of the wanted range that are there. A direct read that crosses the end of the
 * file is short by right, so what counts is the wanted part, not the request. */
static uint32_t found(const struct cllm_read *read)
{
    uint64_t delta = read->offset - read->io_offset;

    if (read->result < 0 || (uint64_t)read->result <= delta)
        return 0;
    return (uint32_t)cllm_min_u64((uint64_t)read->result - delta, read->bytes);
}

static int failure(const struct cllm_reader *reader, const struct cllm_read *read)
{
    const char *path = reader->file[read->file].path;
    int rc;

    if (read->result < 0)
        return cllm_err(read->result,
                        "cannot read %s at offset %" PRIu64 " (%" PRIu32
                        " bytes, %u tries)",
                        path, read->offset, read->bytes, TRIES_MAX + 1);
    rc = cllm_err(CLLM_EDATA,
                  "%s is shorter than it was: at offset %" PRIu64 " expected %" PRIu32
                  " bytes, found %" PRIu32,
                  path, read->offset, read->bytes, found(read));
    cllm_err_hint("put the file of %" PRIu64 " bytes back, then resume the run",
                  reader->file[read->file].bytes);
    return rc;
}

static bool interrupted(const struct cllm_read *read)
{
    return read->result == -EINTR || read->result == -EAGAIN;
}

/* Let a read have failed, or have found less, where a test wants it. */
static void spoil(struct cllm_read *read)
{
    size_t bytes = read->result < 0 ? 0 : (size_t)read->result;
    int rc = cllm_fault_io(CLLM_FAULT_read_result, &bytes);

    if (rc != 0)
        read->result = rc;
    else if (read->result > 0)
        read->result = (int32_t)bytes;
}

int cllm_reader_wait(struct cllm_reader *reader, struct cllm_read **done,
                     uint32_t *n_done)
{
    CLLM_ASSERT(reader->n_free < reader->depth);
    *n_done = 0;
    while (*n_done == 0) {
        struct cllm_read *ended[CLLM_READER_DEPTH_MAX];
        uint32_t n_ended = 0;
        int rc = cllm_fault_error(CLLM_FAULT_read_wait);

        if (rc != 0)
            return cllm_err(rc, "cannot wait for reads");
        rc = reader->method->reap(reader, ended, &n_ended);
        if (rc != 0)
            return rc;
        for (uint32_t i = 0; i < n_ended; i++) {
            struct cllm_read *read = ended[i];

            spoil(read);
            if (read->result >= 0 && found(read) == read->bytes) {
                done[(*n_done)++] = read;
                continue;
            }
            if (interrupted(read) ? read->interruptions++ == INTERRUPTIONS_MAX
                                  : read->tries++ == TRIES_MAX)
                return failure(reader, read);
            /* The whole of it again: the rest of a direct read is not aligned. */
            reader->retries++;
            reader->method->queue(reader, read);
        }
    }
    return 0;
}

/* ---- opening ---- */

enum probe { PROBE_SAME, PROBE_DIFFERS, PROBE_REFUSED, PROBE_BAD_FILE };

/* Read the end of a file, where direct reads are short, by both ways. @rc is the error of
 * PROBE_REFUSED and PROBE_BAD_FILE. */
static enum probe probe_file(struct cllm_reader *reader, uint32_t index,
                             uint8_t *expected, int *rc)
{
    const struct cllm_reader_file *file = &reader->file[index];
    uint32_t bytes = (uint32_t)cllm_min_u64(reader->max_bytes, file->bytes);
    uint64_t offset = file->bytes - bytes;
    struct cllm_read *done[CLLM_READER_DEPTH_MAX] = {NULL};
    uint32_t n_done;
    bool same;
    ssize_t n;

    do {
        n = pread(file->fd, expected, bytes, (off_t)offset);
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t)bytes) {
        struct cllm_read read = {.file = index,
                                 .bytes = bytes,
                                 .offset = offset,
                                 .io_offset = offset,
                                 .result = n < 0 ? -errno : (int32_t)n};

        *rc = failure(reader, &read);
        return PROBE_BAD_FILE;
    }
    cllm_reader_submit(reader, index, offset, bytes, 0, 0);
    *rc = cllm_reader_wait(reader, done, &n_done);
    if (*rc != 0)
        return PROBE_REFUSED;
    CLLM_ASSERT(n_done == 1 && done[0]);
    same = memcmp(done[0]->data, expected, bytes) == 0;
    cllm_reader_release(reader, done[0]);
    return same ? PROBE_SAME : PROBE_DIFFERS;
}

static enum probe probe(struct cllm_reader *reader, int *rc)
{
    uint8_t *expected = malloc(reader->max_bytes);
    enum probe result = PROBE_SAME;

    if (!expected) {
        *rc = cllm_err(-ENOMEM, "cannot try the shards");
        return PROBE_BAD_FILE;
    }
    for (uint32_t i = 0; i < reader->n_files && result == PROBE_SAME; i++)
        result = probe_file(reader, i, expected, rc);
    free(expected);
    return result;
}

/* All entries free; entry i owns piece i of the staging memory. */
static void reset_entries(struct cllm_reader *reader)
{
    for (uint32_t i = 0; i < reader->depth; i++) {
        /* The lowest is on top, so that few reads in flight use little memory. */
        reader->free[reader->depth - 1 - i] = &reader->read[i];
        reader->read[i].buffer = reader->staging.base + i * reader->stride;
    }
    reader->n_free = reader->depth;
}

/* The method opened, but reads do not work: give up the likeliest culprit. */
static bool step_down_reads(struct cllm_reader *reader, enum probe result)
{
    const char *why = result == PROBE_DIFFERS ? "wrong bytes" : cllm_err_text();

    if (reader->direct && (result == PROBE_REFUSED || !reader->registered_buffers)) {
        cllm_warn("O_DIRECT does not work here (%s): buffered reads", why);
        leave_direct(reader);
        return true;
    }
    if (reader->registered_buffers || reader->registered_files) {
        cllm_warn("registered buffers do not work here (%s): plain reads", why);
        reader->register_all = false;
        return true;
    }
    return false;
}

/* The method itself is not to be had, error text is there. */
static bool step_down_method(struct cllm_reader *reader,
                             const struct cllm_reader_plan *plan, int rc)
{
    const struct cllm_reader_method *next = plan->method[1];

    if (!next || reader->method == next)
        return false;
    (void)snprintf(reader->refused, sizeof reader->refused, "%s: %s",
                   reader->method->name, rc < 0 && rc > -4096 ? strerror(-rc) : "failed");
    cllm_warn("%s; reading with %s", cllm_err_text(), next->name);
    reader->method = next;
    if (reader->direct && plan->direct == CLLM_READER_DIRECT_AUTO)
        leave_direct(reader);
    return true;
}

static int open_method(struct cllm_reader *reader, const struct cllm_reader_plan *plan)
{
    for (;;) {
        enum probe result;
        bool again;
        int rc;

        reader->depth = plan->depth;
        reader->registered_buffers = false;
        reader->registered_files = false;
        rc = reader->method->open(reader);
        if (rc == 0) {
            reset_entries(reader);
            result = probe(reader, &rc);
            if (result == PROBE_SAME) {
                reader->retries = 0;
                return 0;
            }
            reader->method->close(reader);
            if (result == PROBE_BAD_FILE)
                return rc;
            if (result == PROBE_DIFFERS)
                rc = cllm_err(CLLM_EDATA, "%s reads wrong bytes", reader->method->name);
            again = step_down_reads(reader, result) || step_down_method(reader, plan, rc);
        } else {
            again = step_down_method(reader, plan, rc);
        }
        if (!again)
            return rc;
    }
}

static int allocate(struct cllm_reader *reader)
{
    int rc;

    /* Room for the worst case of an aligned read; pages, so that all entries are aligned
     * to whatever a device wants of memory. */
    reader->stride =
        cllm_align_up((uint64_t)reader->max_bytes + 2 * (CLLM_PAGE - 1), CLLM_PAGE);
    rc = cllm_arena_init(&reader->staging, reader->depth * reader->stride);
    if (rc != 0)
        return rc;
    reader->read = calloc(reader->depth, sizeof *reader->read);
    reader->free = calloc(reader->depth, sizeof *reader->free);
    reader->fd = calloc(reader->n_files, sizeof *reader->fd);
    if (!reader->read || !reader->free || !reader->fd)
        return cllm_err(-ENOMEM, "cannot open the reader");
    return 0;
}

static void release_all(struct cllm_reader *reader)
{
    if (reader->fd && reader->direct)
        leave_direct(reader);
    cllm_arena_fini(&reader->staging);
    free(reader->read);
    free(reader->free);
    free(reader->fd);
    *reader = (struct cllm_reader){.method = NULL};
}

int cllm_reader_open(struct cllm_reader *reader, const struct cllm_reader_plan *plan)
{
    int rc;

    CLLM_ASSERT(plan->n_files > 0);
    CLLM_ASSERT(plan->depth > 0 && plan->depth <= CLLM_READER_DEPTH_MAX);
    *reader = (struct cllm_reader){
        .method = plan->method[0],
        .file = plan->file,
        .n_files = plan->n_files,
        .max_bytes = plan->max_bytes,
        .depth = plan->depth,
        .alignment = 1,
        .register_all = !plan->plain,
    };
    rc = allocate(reader);
    if (rc == 0) {
        leave_direct(reader);
        if (wants_direct(reader, plan->direct))
            (void)enter_direct(reader);
        rc = open_method(reader, plan);
    }
    if (rc != 0)
        release_all(reader);
    return rc;
}

void cllm_reader_close(struct cllm_reader *reader)
{
    if (!reader->method)
        return;
    reader->method->close(reader);
    release_all(reader);
}

void cllm_reader_describe(const struct cllm_reader *reader, char out[CLLM_READER_TEXT])
{
    char how[24], ring[48] = "", refused[48] = "", text[160];

    (void)snprintf(how, sizeof how, "buffered");
    if (reader->direct)
        (void)snprintf(how, sizeof how, "O_DIRECT %u", reader->alignment);
    if (!reader->method->single) {
        const char *registered = reader->registered_buffers && reader->registered_files
                                     ? "all registered"
                                 : reader->registered_buffers ? "registered buffers"
                                 : reader->registered_files   ? "registered files"
                                                              : "plain reads";

        (void)snprintf(ring, sizeof ring, ", %u deep, %s", reader->depth, registered);
    }
    if (reader->refused[0] != '\0')
        (void)snprintf(refused, sizeof refused, " (%s)", reader->refused);
    (void)snprintf(text, sizeof text, "%s, %s%s%s", reader->method->name, how, ring,
                   refused);
    (void)snprintf(out, CLLM_READER_TEXT, "%.*s", CLLM_READER_TEXT - 1, text);
}
