/*
 * compute/opencl/transfer.c - see compute/opencl/transfer.h.
 */
#include "compute/opencl/transfer.h"

#include <string.h>

#include "base/err.h"

int cllm_cl_transfer_init(struct cllm_cl_transfer *transfer,
                          const struct cllm_cl_device *device,
                          struct cllm_cl_progress *progress,
                          struct cllm_cl_profile *profile)
{
    size_t bytes = (size_t)CLLM_CL_SLOTS * CLLM_CL_PIECE;
    cl_int error;

    *transfer = (struct cllm_cl_transfer){.device = device,
                                          .progress = progress,
                                          .profile = profile,
                                          .arriving = CLLM_CL_SLOTS};
    transfer->block = cllm_cl.CreateBuffer(
        device->context, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR, bytes, NULL, &error);
    if (error == CL_SUCCESS)
        transfer->pinned = cllm_cl.EnqueueMapBuffer(device->copy, transfer->block,
                                                    CL_TRUE, CL_MAP_READ | CL_MAP_WRITE,
                                                    0, bytes, 0, NULL, NULL, &error);
    else
        transfer->block = NULL;
    if (error == CL_SUCCESS)
        return 0;
    transfer->pinned = NULL;
    cllm_cl_transfer_fini(transfer);
    return cllm_cl_fail(error, "get memory for transfers");
}

static void release(cl_event *event)
{
    if (*event)
        (void)cllm_cl.ReleaseEvent(*event);
    *event = NULL;
}

void cllm_cl_transfer_fini(struct cllm_cl_transfer *transfer)
{
    for (uint32_t i = 0; i < CLLM_CL_SLOTS; i++)
        release(&transfer->slot[i]);
    if (transfer->pinned) {
        (void)cllm_cl.EnqueueUnmapMemObject(transfer->device->copy, transfer->block,
                                            transfer->pinned, 0, NULL, NULL);
        (void)cllm_cl.Finish(transfer->device->copy);
    }
    if (transfer->block)
        (void)cllm_cl.ReleaseMemObject(transfer->block);
    *transfer = (struct cllm_cl_transfer){0};
}

/* Until what uses @slot is done. */
static int await(struct cllm_cl_transfer *transfer, uint32_t slot)
{
    int rc;

    if (transfer->slot[slot] == NULL)
        return 0;
    rc = cllm_cl_progress_wait(transfer->progress, transfer->slot[slot]);
    release(&transfer->slot[slot]);
    if (transfer->arriving == slot)
        transfer->arriving = CLLM_CL_SLOTS;
    cllm_cl_progress_tell(transfer->progress);
    return rc;
}

static unsigned char *bytes_of(const struct cllm_cl_transfer *transfer, uint32_t slot)
{
    return transfer->pinned + (size_t)slot * CLLM_CL_PIECE;
}

static uint32_t take(struct cllm_cl_transfer *transfer)
{
    uint32_t slot = transfer->next;

    transfer->next = (slot + 1) % CLLM_CL_SLOTS;
    return slot;
}

/* @bytes at @from to the device, in @queue, by way of a slot, which *@used becomes. */
static int send(struct cllm_cl_transfer *transfer, cl_command_queue queue, cl_mem mem,
                size_t offset, const void *from, size_t bytes, cl_event after,
                uint32_t *used)
{
    uint32_t slot = take(transfer);
    cl_int error;
    int rc = await(transfer, slot);

    CLLM_ASSERT(bytes > 0 && bytes <= CLLM_CL_PIECE);
    if (rc != 0)
        return rc;
    memcpy(bytes_of(transfer, slot), from, bytes);
    error = cllm_cl.EnqueueWriteBuffer(queue, mem, CL_FALSE, offset, bytes,
                                       bytes_of(transfer, slot), after ? 1 : 0,
                                       after ? &after : NULL, &transfer->slot[slot]);
    if (error != CL_SUCCESS)
        transfer->slot[slot] = NULL;
    else
        error = cllm_cl.Flush(queue);
    if (error != CL_SUCCESS)
        return cllm_cl_fail(error, "send %zu bytes to the device", bytes);
    transfer->ups++;
    transfer->up_bytes += bytes;
    *used = slot;
    return 0;
}

int cllm_cl_transfer_up(struct cllm_cl_transfer *transfer, cl_mem mem, size_t offset,
                        const void *from, size_t bytes, cl_event after)
{
    uint32_t slot = 0;
    int rc =
        send(transfer, transfer->device->copy, mem, offset, from, bytes, after, &slot);

    if (rc != 0)
        return rc;
    transfer->arriving = slot;
    cllm_cl_profile_add(transfer->profile, &transfer->profile->copies,
                        transfer->slot[slot]);
    return 0;
}

int cllm_cl_transfer_write(struct cllm_cl_transfer *transfer, cl_mem mem, size_t offset,
                           const void *from, size_t bytes, cl_event after)
{
    int rc = 0;

    for (size_t done = 0, n; rc == 0 && done < bytes; done += n) {
        uint32_t slot = 0;

        n = cllm_min_u64(CLLM_CL_PIECE, bytes - done);
        rc = send(transfer, transfer->device->compute, mem, offset + done,
                  (const unsigned char *)from + done, n, done == 0 ? after : NULL, &slot);
    }
    return rc;
}

cl_event cllm_cl_transfer_arriving(struct cllm_cl_transfer *transfer)
{
    uint32_t slot = transfer->arriving;

    transfer->arriving = CLLM_CL_SLOTS;
    return slot == CLLM_CL_SLOTS ? NULL : transfer->slot[slot];
}

/* ---- down ---- */

/* A download on its way: bytes that are asked for, and those of them that are here. */
struct down {
    unsigned char *to;
    cl_mem mem;
    size_t offset, bytes;
    size_t asked, here;
    cl_event after; /* for the first */
};

static int ask(struct cllm_cl_transfer *transfer, struct down *down)
{
    size_t bytes = cllm_min_u64(CLLM_CL_PIECE, down->bytes - down->asked);
    uint32_t slot = take(transfer);
    cl_int error;
    int rc = await(transfer, slot);

    if (rc != 0)
        return rc;
    error = cllm_cl.EnqueueReadBuffer(
        transfer->device->copy, down->mem, CL_FALSE, down->offset + down->asked, bytes,
        bytes_of(transfer, slot), down->asked == 0 ? 1 : 0,
        down->asked == 0 ? &down->after : NULL, &transfer->slot[slot]);
    if (error != CL_SUCCESS)
        transfer->slot[slot] = NULL;
    else
        error = cllm_cl.Flush(transfer->device->copy);
    if (error != CL_SUCCESS)
        return cllm_cl_fail(error, "bring %zu bytes from the device", bytes);
    cllm_cl_profile_add(transfer->profile, &transfer->profile->copies,
                        transfer->slot[slot]);
    transfer->downs++;
    transfer->down_bytes += bytes;
    down->asked += bytes;
    return 0;
}

/* @oldest: the slot that was asked for first. */
static int receive(struct cllm_cl_transfer *transfer, struct down *down, uint32_t oldest)
{
    size_t bytes = cllm_min_u64(CLLM_CL_PIECE, down->bytes - down->here);
    int rc = await(transfer, oldest);

    if (rc == 0)
        memcpy(down->to + down->here, bytes_of(transfer, oldest), bytes);
    down->here += bytes;
    return rc;
}

static int bring(struct cllm_cl_transfer *transfer, struct down *down)
{
    uint32_t oldest = transfer->next;
    int rc = 0;

    transfer->arriving = CLLM_CL_SLOTS; /* it comes before what we wait for */
    while (rc == 0 && down->here < down->bytes) {
        while (rc == 0 && down->asked < down->bytes &&
               down->asked - down->here < (CLLM_CL_SLOTS - 1) * (size_t)CLLM_CL_PIECE)
            rc = ask(transfer, down);
        if (rc == 0)
            rc = receive(transfer, down, oldest);
        oldest = (oldest + 1) % CLLM_CL_SLOTS;
    }
    return rc;
}

int cllm_cl_transfer_down(struct cllm_cl_transfer *transfer, void *to, cl_mem mem,
                          size_t offset, size_t bytes)
{
    struct down down = {.to = to, .mem = mem, .offset = offset, .bytes = bytes};
    cl_int error = cllm_cl.EnqueueMarkerWithWaitList(transfer->device->compute, 0, NULL,
                                                     &down.after);
    int rc;

    if (error == CL_SUCCESS)
        error = cllm_cl.Flush(transfer->device->compute);
    else
        down.after = NULL;
    rc = error == CL_SUCCESS ? bring(transfer, &down)
                             : cllm_cl_fail(error, "mark a place in a queue");
    release(&down.after);
    return rc;
}
