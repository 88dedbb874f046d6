/*
 * loader/reader.h - random reads of many small ranges from a few files, many in flight.
 *
 * Two methods stand behind one interface: io_uring (loader/uring.c) and pread with
 * look-ahead (loader/pread.c). What they have in common is in loader/reader.c: private
 * staging memory, alignment for O_DIRECT, retries, and the ladder of what to give up
 * when the machine refuses something. So every method passes the same checks.
 *
 * Reads land in memory of this process alone. A direct read can still land when its
 * process is gone; in private memory it then hits nothing
 * (docs/decisions/0006).
 *
 * Life of a read: submit -> (queued by the method) -> wait gives it back -> release.
 */
#ifndef CLLM_LOADER_READER_H
#define CLLM_LOADER_READER_H

#include "base/arena.h"
#include "base/base.h"

#define CLLM_READER_DEPTH_MAX 128
#define CLLM_READER_TEXT      64 /* what cllm_slot_say_hello() has room for */

struct cllm_reader;

/* What is to be read from; the descriptors are borrowed. */
struct cllm_reader_file {
    const char *path;
    int fd;         /* buffered, open for reading */
    uint64_t bytes; /* size that it must have */
};

/* One read. The first part is the caller's, the rest the reader's. */
struct cllm_read {
    uint32_t file;
    uint32_t bytes; /* wanted */
    uint64_t offset;
    uint64_t batch; /* the caller's own, not looked at */
    uint32_t row;   /* likewise */

    uint32_t tries; /* after failures */
    uint32_t interruptions;
    const uint8_t *data; /* the wanted bytes, after wait and before release */

    /* what the method is asked: read [io_offset, + io_bytes) to buffer; and its answer */
    uint64_t io_offset;
    uint32_t io_bytes;
    int32_t result; /* bytes, or a negative errno */
    uint8_t *buffer;
};

/* A way to read. Functions return 0 or a negative errno with text. */
struct cllm_reader_method {
    const char *name;
    bool single; /* one read at a time: O_DIRECT only on explicit demand */

    /* Make ready for reader->depth reads on the descriptors of reader->fd. May lower
     * reader->depth. Failure means: this method is not to be had here. */
    int (*open)(struct cllm_reader *reader);

    /* Take @read; it need not start before reap. At most reader->depth are taken. */
    void (*queue)(struct cllm_reader *reader, struct cllm_read *read);

    /* Start all that is queued, wait until at least one has ended. Stores those that
     * have in @done (room for reader->depth) and the number in @n_done; result is set. */
    int (*reap)(struct cllm_reader *reader, struct cllm_read **done, uint32_t *n_done);

    /* Waits for reads in flight: they write to the staging memory. */
    void (*close)(struct cllm_reader *reader);
};

extern const struct cllm_reader_method cllm_reader_uring;
extern const struct cllm_reader_method cllm_reader_pread;

enum cllm_reader_direct {
    CLLM_READER_DIRECT_AUTO = 0, /* supported, and all files are > half of memory */
    CLLM_READER_DIRECT_YES,      /* where supported */
    CLLM_READER_DIRECT_NO
};

struct cllm_reader_plan {
    const struct cllm_reader_method
        *method[2];                      /* by preference; the second may be NULL */
    const struct cllm_reader_file *file; /* [n_files]; must outlive the reader */
    uint32_t n_files;
    uint32_t max_bytes; /* of one read */
    uint32_t depth;     /* reads in flight, <= CLLM_READER_DEPTH_MAX */
    enum cllm_reader_direct direct;
    bool plain; /* register nothing with the kernel: to measure what that gives */
};

struct cllm_reader {
    const struct cllm_reader_method *method;
    const struct cllm_reader_file *file;
    uint32_t n_files;
    uint32_t max_bytes;
    uint32_t depth;

    int *fd;     /* [n_files] in use: direct ones are owned, buffered ones borrowed */
    bool direct; /* fd was opened with O_DIRECT */
    uint32_t alignment; /* of offset, length and memory; 1 when not direct */
    bool register_all;  /* the method may register buffers and files with the kernel */
    bool registered_buffers, registered_files; /* it has */
    char refused[40]; /* "io_uring: reason" when the first method was not to be had */

    struct cllm_arena staging; /* depth * stride bytes */
    uint64_t stride;
    struct cllm_read
        *read; /* [depth]; read[i] owns staging bytes [i * stride, + stride) */
    struct cllm_read **free; /* [depth]; the first n_free are valid */
    uint32_t n_free;

    uint64_t retries; /* reads that had to be repeated */
    void *state;      /* the method's */
};

/*
 * Choose a method and open it, giving up one thing after the other; each is said once
 * through base/log.h. Every file is read once, by the chosen way and by plain pread, and
 * the bytes are compared. Returns 0; CLLM_EDATA or a negative errno with text when a file
 * cannot be read or no method is to be had. On failure there is nothing to close.
 */
int cllm_reader_open(struct cllm_reader *reader, const struct cllm_reader_plan *plan);
void cllm_reader_close(struct cllm_reader *reader); /* safe on a zeroed struct */

/* The way that is in use, for people: "io_uring, O_DIRECT 512, 32 deep, ...". */
void cllm_reader_describe(const struct cllm_reader *reader, char out[CLLM_READER_TEXT]);

/* Reads that may be submitted now; depth of them when nothing is in flight. */
static inline uint32_t cllm_reader_room(const struct cllm_reader *reader)
{
    return reader->n_free;
}

/*
 * Ask for bytes [@offset, @offset + @bytes) of @file. There must be room; the range must
 * lie in the file and be at most max_bytes. @batch and @row come back with the read.
 */
void cllm_reader_submit(struct cllm_reader *reader, uint32_t file, uint64_t offset,
                        uint32_t bytes, uint64_t batch, uint32_t row);

/*
 * Wait until at least one read has ended; something must be in flight. @done has room for
 * depth reads; each is complete (data) and is to be released. An interrupted read is
 * repeated; one that fails or is short is repeated 3 times, then this returns CLLM_EDATA
 * or the negative errno, with file, offset, expected and found.
 */
int cllm_reader_wait(struct cllm_reader *reader, struct cllm_read **done,
                     uint32_t *n_done);

void cllm_reader_release(struct cllm_reader *reader, struct cllm_read *read);

#endif /* CLLM_LOADER_READER_H */
