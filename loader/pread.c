/*
 * loader/pread.c - reading without io_uring: the kernel is told of the windows that come
 * next, and the one that is due is read with pread.
 *
 * While pread copies one window, the disk fetches the others, as far ahead as the queue
 * is deep. With O_DIRECT there is nothing to tell the kernel, so each read waits alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "loader/reader.h"

/* Reads that were taken and not yet done, oldest first. */
struct queue {
    struct cllm_read *read[CLLM_READER_DEPTH_MAX];
    uint32_t first, n;
};

static int pread_open(struct cllm_reader *reader)
{
    reader->state = calloc(1, sizeof(struct queue));
    if (!reader->state)
        return cllm_err(-ENOMEM, "cannot open the reader");
    return 0;
}

static void pread_queue(struct cllm_reader *reader, struct cllm_read *read)
{
    struct queue *queue = reader->state;

    CLLM_ASSERT(queue->n < CLLM_READER_DEPTH_MAX);
    queue->read[(queue->first + queue->n) % CLLM_READER_DEPTH_MAX] = read;
    queue->n++;
    if (!reader->direct) /* only a hint: what it cannot do, pread does */
        (void)posix_fadvise(reader->fd[read->file], (off_t)read->io_offset,
                            (off_t)read->io_bytes, POSIX_FADV_WILLNEED);
}

static int pread_reap(struct cllm_reader *reader, struct cllm_read **done,
                      uint32_t *n_done)
{
    struct queue *queue = reader->state;
    struct cllm_read *read = queue->read[queue->first];
    ssize_t n;

    CLLM_ASSERT(queue->n > 0);
    queue->first = (queue->first + 1) % CLLM_READER_DEPTH_MAX;
    queue->n--;
    n = pread(reader->fd[read->file], read->buffer, read->io_bytes,
              (off_t)read->io_offset);
    read->result = n < 0 ? -errno : (int32_t)n;
    done[0] = read;
    *n_done = 1;
    return 0;
}

static void pread_close(struct cllm_reader *reader)
{
    free(reader->state);
    reader->state = NULL;
}

const struct cllm_reader_method cllm_reader_pread = {
    .name = "pread",
    .single = true,
    .open = pread_open,
    .queue = pread_queue,
    .reap = pread_reap,
    .close = pread_close,
};
