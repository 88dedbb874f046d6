/*
 * loader/uring.c - reading through io_uring. The only file that knows liburing.
 *
 * One ring, made and used by one thread, entered once for a batch of reads. What an older
 * kernel or a container refuses is given up step by step: ring flags, ring size,
 * registered files, registered buffers. Without any ring the open fails, and
 * loader/reader.c turns to pread.
 *
 * With DEFER_TASKRUN completions arrive only when the ring is entered for them, so
 * nothing here looks at the completion queue without entering first.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include <liburing.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "loader/reader.h"

#define ENTRIES_MIN     4
#define BUSY_ROUNDS_MAX 1000
#define BUSY_PAUSE_NS   CLLM_NS_PER_MS

struct state {
    struct io_uring ring;
    uint32_t in_flight; /* queued or submitted, not yet reaped */
};

/* ---- opening ---- */

/* From the best to the plainest; a kernel that does not know a flag says EINVAL. */
static const struct {
    unsigned flags;
    const char *says; /* when it is this one that works */
} ladder[] = {
    {IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN |
         IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
     NULL},
    {IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN,
     "io_uring without deferred task work (older kernel)"},
    {IORING_SETUP_CLAMP, "io_uring without task work flags (older kernel)"},
    {0, "io_uring without any flag (old kernel)"},
};

static int make_ring(struct cllm_reader *reader, struct io_uring *ring)
{
    uint32_t entries = reader->depth;
    size_t step = 0;

    for (;;) {
        struct io_uring_params params;
        int rc;

        memset(&params, 0, sizeof params);
        params.flags = ladder[step].flags;
        rc = io_uring_queue_init_params(entries, ring, &params);
        if (rc == 0)
            break;
        if (rc == -EINVAL && step + 1 < CLLM_LEN(ladder))
            step++;
        else if (rc == -ENOMEM && entries / 2 >= ENTRIES_MIN)
            entries /= 2;
        else
            return cllm_err(rc, "io_uring is not to be had");
    }
    if (ladder[step].says)
        cllm_info("%s", ladder[step].says);
    if (entries < reader->depth) {
        cllm_info("io_uring with %u instead of %u reads in flight (memory)", entries,
                  reader->depth);
        reader->depth = entries;
    }
    return 0;
}

static void register_all(struct cllm_reader *reader, struct io_uring *ring)
{
    struct iovec all = {.iov_base = reader->staging.base,
                        .iov_len = reader->depth * reader->stride};
    int rc;

    rc = io_uring_register_files(ring, reader->fd, reader->n_files);
    reader->registered_files = rc == 0;
    if (rc != 0)
        cllm_info("io_uring: files cannot be registered (%s)", strerror(-rc));
    rc = io_uring_register_buffers(ring, &all, 1);
    reader->registered_buffers = rc == 0;
    if (rc != 0)
        cllm_info("io_uring: %zu KiB of buffers cannot be registered (%s): plain reads",
                  all.iov_len / 1024, strerror(-rc));
}

static int uring_open(struct cllm_reader *reader)
{
    struct state *state = calloc(1, sizeof *state);
    int rc;

    if (!state)
        return cllm_err(-ENOMEM, "cannot open io_uring");
    rc = make_ring(reader, &state->ring);
    if (rc != 0) {
        free(state);
        return rc;
    }
    /* A forked child that touched the ring would break it. */
    (void)io_uring_ring_dontfork(&state->ring);
    reader->state = state;
    if (reader->register_all)
        register_all(reader, &state->ring);
    return 0;
}

/* ---- reading ---- */

static void uring_queue(struct cllm_reader *reader, struct cllm_read *read)
{
    struct state *state = reader->state;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&state->ring);
    int fd = reader->registered_files ? (int)read->file : reader->fd[read->file];

    /* The ring has at least depth entries, and no more reads than that exist. */
    CLLM_ASSERT(sqe);
    if (reader->registered_buffers)
        io_uring_prep_read_fixed(sqe, fd, read->buffer, read->io_bytes, read->io_offset,
                                 0);
    else
        io_uring_prep_read(sqe, fd, read->buffer, read->io_bytes, read->io_offset);
    if (reader->registered_files)
        sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data(sqe, read);
    state->in_flight++;
}

/* Submit all that is queued and wait for @wait completions. */
static int enter(struct state *state, uint32_t wait)
{
    const struct timespec pause = cllm_timespec(BUSY_PAUSE_NS);

    for (uint32_t round = 0; round < BUSY_ROUNDS_MAX; round++) {
        int rc = io_uring_submit_and_wait(&state->ring, wait);

        if (rc >= 0 && io_uring_sq_ready(&state->ring) == 0)
            return 0;
        if (rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY)
            return cllm_err(rc, "cannot enter io_uring");
        if (io_uring_cq_ready(&state->ring) > 0)
            return 0; /* make room first; the rest is submitted on the next round */
        if (rc == -EAGAIN || rc == -EBUSY)
            (void)nanosleep(&pause, NULL);
    }
    return cllm_err(-EBUSY, "io_uring takes no reads");
}

static int uring_reap(struct cllm_reader *reader, struct cllm_read **done,
                      uint32_t *n_done)
{
    struct state *state = reader->state;
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;
    int rc;

    CLLM_ASSERT(state->in_flight > 0);
    do {
        /* A quarter at a time: the disk stays busy with the rest, and one system call
         * serves many reads. */
        rc = enter(state, (uint32_t)cllm_max_u64(state->in_flight / 4, 1));
        if (rc != 0)
            return rc;
        io_uring_for_each_cqe(&state->ring, head, cqe)
        {
            struct cllm_read *read = io_uring_cqe_get_data(cqe);

            CLLM_ASSERT(n < reader->depth);
            read->result = cqe->res;
            done[n++] = read;
        }
        io_uring_cq_advance(&state->ring, n);
    } while (n == 0);
    CLLM_ASSERT(n <= state->in_flight);
    state->in_flight -= n;
    *n_done = n;
    return 0;
}

static void uring_close(struct cllm_reader *reader)
{
    struct state *state = reader->state;
    struct cllm_read *done[CLLM_READER_DEPTH_MAX];
    uint32_t n_done;

    /* The staging memory goes next: no read may be on its way to it. */
    while (state->in_flight > 0 && uring_reap(reader, done, &n_done) == 0)
        continue;
    io_uring_queue_exit(&state->ring);
    free(state);
    reader->state = NULL;
}

const struct cllm_reader_method cllm_reader_uring = {
    .name = "io_uring",
    .single = false,
    .open = uring_open,
    .queue = uring_queue,
    .reap = uring_reap,
    .close = uring_close,
};
