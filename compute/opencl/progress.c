/*
 * compute/opencl/progress.c - see compute/opencl/progress.h.
 */
#include "compute/opencl/progress.h"

#include <errno.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"

#define LOOKS    50u                   /* before the first sleep */
#define LEAST_NS (20 * UINT64_C(1000)) /* of sleep; doubled up to the most */
#define MOST_NS  CLLM_NS_PER_MS

void cllm_cl_progress_init(struct cllm_cl_progress *progress,
                           const struct cllm_cl_device *device)
{
    *progress = (struct cllm_cl_progress){.device = device};
}

static void drop_first(struct cllm_cl_progress *progress)
{
    /* What it was for has been seen. */
    (void)cllm_cl.ReleaseEvent(progress->mark[progress->first]);
    progress->first = (progress->first + 1) % CLLM_CL_MARKS;
    progress->n--;
}

void cllm_cl_progress_fini(struct cllm_cl_progress *progress)
{
    while (progress->n > 0)
        drop_first(progress);
}

void cllm_cl_progress_tell(const struct cllm_cl_progress *progress)
{
    if (progress->fn)
        progress->fn(progress->ctx);
}

/* @done: reached. An event that ended in an error is one. */
static int look(cl_event event, bool *done)
{
    cl_int status = CL_QUEUED;
    cl_int error = cllm_fault_error(CLLM_FAULT_device_wait) != 0
                       ? CL_DEVICE_NOT_AVAILABLE
                       : cllm_cl.GetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS,
                                              sizeof status, &status, NULL);

    *done = status == CL_COMPLETE;
    if (error == CL_SUCCESS && status >= 0)
        return 0;
    return cllm_cl_fail(error == CL_SUCCESS ? status : error,
                        "go on: the device has failed");
}

/* Drops the marks that are reached. */
static int collect(struct cllm_cl_progress *progress)
{
    bool done = true;
    int rc = 0;

    while (progress->n > 0) {
        rc = look(progress->mark[progress->first], &done);
        if (rc != 0 || !done)
            return rc;
        drop_first(progress);
        cllm_cl_progress_tell(progress);
    }
    return 0;
}

int cllm_cl_progress_wait(struct cllm_cl_progress *progress, cl_event event)
{
    uint64_t sleep_ns = LEAST_NS;

    for (uint32_t looks = 0;; looks++) {
        struct timespec pause;
        bool done = false;
        int rc = look(event, &done);

        if (rc == 0)
            rc = collect(progress);
        if (rc != 0 || done)
            return rc;
        if (looks < LOOKS)
            continue;
        pause = cllm_timespec(sleep_ns);
        (void)nanosleep(&pause, NULL); /* whatever ends it, we look again */
        sleep_ns = cllm_min_u64(2 * sleep_ns, MOST_NS);
    }
}

/* A marker on @queue, which is started. */
static int make_marker(cl_command_queue queue, cl_event *event)
{
    cl_int error = cllm_cl.EnqueueMarkerWithWaitList(queue, 0, NULL, event);

    if (error == CL_SUCCESS)
        error = cllm_cl.Flush(queue);
    else
        *event = NULL;
    return error == CL_SUCCESS ? 0 : cllm_cl_fail(error, "mark a place in a queue");
}

/* Until the first mark is reached. Waiting drops it, so it is held. */
static int wait_for_first(struct cllm_cl_progress *progress)
{
    cl_event event = progress->mark[progress->first];
    cl_int error = cllm_cl.RetainEvent(event);
    int rc;

    if (error != CL_SUCCESS)
        return cllm_cl_fail(error, "hold a mark");
    rc = cllm_cl_progress_wait(progress, event);
    (void)cllm_cl.ReleaseEvent(event);
    return rc;
}

int cllm_cl_progress_mark(struct cllm_cl_progress *progress)
{
    uint32_t at;
    cl_event event;
    int rc = collect(progress);

    while (rc == 0 && progress->n == CLLM_CL_MARKS) {
        rc = wait_for_first(progress);
        if (rc == 0)
            rc = collect(progress);
    }
    if (rc == 0)
        rc = make_marker(progress->device->compute, &event);
    if (rc != 0)
        return rc;
    at = (progress->first + progress->n) % CLLM_CL_MARKS;
    progress->mark[at] = event;
    progress->n++;
    return 0;
}

static int finish(struct cllm_cl_progress *progress, cl_command_queue queue)
{
    cl_event event;
    int rc = make_marker(queue, &event);

    if (rc != 0)
        return rc;
    rc = cllm_cl_progress_wait(progress, event);
    (void)cllm_cl.ReleaseEvent(event);
    return rc;
}

int cllm_cl_progress_finish(struct cllm_cl_progress *progress)
{
    int rc = finish(progress, progress->device->copy);

    return rc != 0 ? rc : finish(progress, progress->device->compute);
}
