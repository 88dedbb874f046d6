/*
 * compute/opencl/profile.c - see compute/opencl/profile.h.
 */
#include "compute/opencl/profile.h"

#include <stdlib.h>

void cllm_cl_profile_init(struct cllm_cl_profile *profile, bool on)
{
    *profile = (struct cllm_cl_profile){.on = on};
}

static void clear(struct cllm_cl_track *track)
{
    for (size_t i = 0; i < track->n; i++)
        (void)cllm_cl.ReleaseEvent(track->event[i]); /* it was for us alone */
    track->n = 0;
}

void cllm_cl_profile_fini(struct cllm_cl_profile *profile)
{
    clear(&profile->kernels);
    clear(&profile->copies);
    free(profile->kernels.event);
    free(profile->copies.event);
    *profile = (struct cllm_cl_profile){0};
}

void cllm_cl_profile_add(struct cllm_cl_profile *profile, struct cllm_cl_track *track,
                         cl_event event)
{
    if (!profile->on)
        return;
    if (track->n == track->room) {
        size_t room = track->room ? 2 * track->room : 1024;
        cl_event *more = realloc(track->event, room * sizeof(cl_event));

        if (!more)
            return;
        track->event = more;
        track->room = room;
    }
    if (cllm_cl.RetainEvent(event) == CL_SUCCESS)
        track->event[track->n++] = event;
}

struct span {
    cl_ulong begin, end;
};

static struct span span_of(cl_event event)
{
    struct span span = {0};

    if (cllm_cl.GetEventProfilingInfo(event, CL_PROFILING_COMMAND_START,
                                      sizeof span.begin, &span.begin,
                                      NULL) != CL_SUCCESS ||
        cllm_cl.GetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof span.end,
                                      &span.end, NULL) != CL_SUCCESS ||
        span.end < span.begin)
        return (struct span){0};
    return span;
}

static uint64_t sum(const struct cllm_cl_track *track)
{
    uint64_t ns = 0;

    for (size_t i = 0; i < track->n; i++) {
        struct span span = span_of(track->event[i]);

        ns += span.end - span.begin;
    }
    return ns;
}

static uint64_t overlap(const struct cllm_cl_track *a, const struct cllm_cl_track *b)
{
    uint64_t ns = 0;

    for (size_t i = 0, k = 0; i < a->n && k < b->n;) {
        struct span x = span_of(a->event[i]), y = span_of(b->event[k]);
        cl_ulong begin = x.begin > y.begin ? x.begin : y.begin;
        cl_ulong end = x.end < y.end ? x.end : y.end;

        if (begin < end)
            ns += end - begin;
        if (x.end < y.end)
            i++;
        else
            k++;
    }
    return ns;
}

void cllm_cl_profile_sum(struct cllm_cl_profile *profile)
{
    profile->kernel_ns += sum(&profile->kernels);
    profile->copy_ns += sum(&profile->copies);
    profile->overlap_ns += overlap(&profile->kernels, &profile->copies);
    clear(&profile->kernels);
    clear(&profile->copies);
}
