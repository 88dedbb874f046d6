/*
 * tests/crash/chaos_mttr.c - kill, look, stop the clock.
 */
#include "tests/crash/chaos_mttr.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/random.h"
#include "tests/crash/chaos_view.h"

#define SETTLE_NS (30 * CLLM_NS_PER_S) /* everybody is up again within */
#define LOST_NS   (20 * CLLM_NS_PER_S) /* longer is a failure, not a sample */
#define LOOKS     100                  /* at shared memory between two at the system */

struct series {
    struct chaos_run run;
    struct chaos_view view;
    bool node_zero;
    uint32_t wanted; /* worker processes that must be up before a sample */
    uint32_t generation[CLLM_MAX_WORKERS]; /* of the worker slots at the kill */
};

/* What was lost. */
struct loss {
    uint32_t slot, lane;
    uint64_t step;
};

enum sample { SAMPLE_TAKEN = 0, SAMPLE_VOID, SAMPLE_FAILED };

static bool is_over(const struct series *s)
{
    struct pollfd fd = {.fd = s->run.nano.pidfd, .events = POLLIN};

    return poll(&fd, 1, 0) > 0;
}

static const struct cllm_slot *slot_of(const struct series *s, uint32_t slot)
{
    return &s->view.control.slots[slot];
}

static uint32_t count_up(const struct series *s)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->view.control.header->geometry.n_worker_slots; i++) {
        uint32_t state = CHAOS_LOOK(slot_of(s, i)->command.state);

        n += state == CLLM_SLOT_IDLE || state == CLLM_SLOT_BUSY;
    }
    return n;
}

/* Until all workers are up and a step goes on. */
static bool settle(struct series *s)
{
    uint64_t until = cllm_now_ns() + SETTLE_NS;
    const struct timespec wait = cllm_timespec(CLLM_NS_PER_MS);

    while (cllm_now_ns() < until && !is_over(s)) {
        if (chaos_view_refresh(&s->view) && count_up(s) >= s->wanted &&
            cllm_load_relaxed(&s->view.control.state->phase) == CLLM_PHASE_COMPUTE)
            return true;
        (void)nanosleep(&wait, NULL);
    }
    return false;
}

/* Does @slot's process, of generation @generation at least, compute a lane? */
static bool computes(const struct series *s, uint32_t slot, uint32_t generation)
{
    const struct cllm_status *status = &slot_of(s, slot)->own.status;

    return cllm_load_relaxed(&status->hello_generation) >= generation &&
           cllm_load_relaxed(&status->work) == CLLM_WORK_LANE;
}

/* Until @target computes a lane: which one. */
static bool catch_at_work(struct series *s, const struct chaos_target *target,
                          struct loss *loss)
{
    uint64_t until = cllm_now_ns() + SETTLE_NS;
    const struct cllm_status *status = &slot_of(s, target->slot)->own.status;

    do {
        for (uint32_t i = 0; i < LOOKS; i++) {
            if (!computes(s, target->slot, target->generation))
                continue;
            *loss = (struct loss){.slot = target->slot,
                                  .lane = cllm_load_relaxed(&status->lane),
                                  .step = cllm_load_relaxed(&status->step)};
            if (loss->lane < s->view.control.header->geometry.lanes)
                return true;
        }
    } while (cllm_now_ns() < until && chaos_target_alive(target));
    return false;
}

/* 1: the lost lane is computed by another process; -1: it had been finished in time. */
static int look_for_lane(const struct series *s, const struct loss *loss)
{
    const struct cllm_lane *lane = &s->view.control.lane[loss->lane];
    uint32_t state = CHAOS_LOOK(lane->state);

    for (uint32_t i = 0; i < s->view.control.header->geometry.n_worker_slots; i++) {
        const struct cllm_status *status = &slot_of(s, i)->own.status;

        if (computes(s, i, s->generation[i] + (i == loss->slot ? 1 : 0)) &&
            cllm_load_relaxed(&status->lane) == loss->lane &&
            cllm_load_relaxed(&status->step) == loss->step)
            return 1;
    }
    if (cllm_load_acquire(&s->view.control.state->committed) >= loss->step)
        return -1;
    if (state != CLLM_LANE_DONE && state != CLLM_LANE_FOLDED)
        return 0;
    return CHAOS_LOOK(lane->slot) == loss->slot &&
                   CHAOS_LOOK(lane->generation) == s->generation[loss->slot]
               ? -1
               : 1;
}

/* 1: some worker of Node Zero's successor computes a lane. */
static int look_for_any(const struct series *s)
{
    for (uint32_t i = 0; i < s->view.control.header->geometry.n_worker_slots; i++)
        if (computes(s, i, s->generation[i] + 1))
            return 1;
    return 0;
}

static enum sample stop_clock(struct series *s, const struct loss *loss, uint64_t since,
                              double *ms)
{
    int found = 0;

    while (found == 0 && cllm_now_ns() - since < LOST_NS) {
        for (uint32_t i = 0; found == 0 && i < LOOKS; i++)
            found = s->node_zero ? look_for_any(s) : look_for_lane(s, loss);
        *ms = (double)(cllm_now_ns() - since) * 1e-6;
        if (found == 0 && is_over(s))
            break;
    }
    if (found == 0)
        return SAMPLE_FAILED;
    return found > 0 ? SAMPLE_TAKEN : SAMPLE_VOID;
}

static enum sample sample(struct series *s, uint32_t pick, double *ms)
{
    enum chaos_role role = s->node_zero ? CHAOS_NODE_ZERO : CHAOS_WORKER;
    enum sample result = SAMPLE_VOID;
    struct chaos_target target;
    struct loss loss = {.slot = CLLM_NONE};
    uint64_t since;

    if (!settle(s))
        return SAMPLE_FAILED;
    if (!chaos_view_find(&s->view, &target, role, pick, CHAOS_WANT_UP))
        return SAMPLE_VOID;
    if (!s->node_zero && !catch_at_work(s, &target, &loss)) {
        chaos_target_close(&target);
        return SAMPLE_VOID;
    }
    for (uint32_t i = 0; i < s->view.control.header->geometry.n_worker_slots; i++)
        s->generation[i] = cllm_load_relaxed(&slot_of(s, i)->command.generation);
    since = cllm_now_ns();
    if (chaos_target_signal(&target, SIGKILL))
        result = stop_clock(s, &loss, since, ms);
    chaos_target_close(&target);
    return result;
}

static int take_series(struct series *s, uint32_t samples, uint64_t seed,
                       struct chaos_times *times)
{
    for (uint32_t i = 0; times->n < samples; i++) {
        uint64_t word = cllm_random_u64(seed, CLLM_RANDOM_TEST, i);
        const struct timespec wait =
            cllm_timespec((word & 0xffff) * (CLLM_NS_PER_MS / 2048));

        (void)nanosleep(&wait, NULL); /* up to 32 ms: no rhythm of the step's */
        switch (sample(s, (uint32_t)(word >> 32), &times->ms[times->n])) {
        case SAMPLE_TAKEN:
            times->n++;
            break;
        case SAMPLE_FAILED:
            return cllm_err(-ETIMEDOUT, "after %u samples nothing was computed any more",
                            times->n);
        case SAMPLE_VOID:
        default:
            break;
        }
    }
    return 0;
}

int chaos_mttr(const struct chaos_bench *bench, const struct chaos_kind *kind,
               bool node_zero, uint32_t samples, uint64_t seed, struct chaos_times *times)
{
    struct series s = {.node_zero = node_zero, .wanted = kind->workers + kind->spares};
    int rc;

    CLLM_ASSERT(samples <= CHAOS_MTTR_SAMPLES);
    times->n = 0;
    chaos_run_init(&s.run, bench, kind, kind->name);
    rc = chaos_run_start(&s.run, false);
    if (rc == 0) {
        chaos_view_init(&s.view, s.run.nano.run_id, s.run.nano.guardian);
        rc = take_series(&s, samples, seed, times);
        chaos_view_fini(&s.view);
    }
    chaos_run_fini(&s.run, rc != 0);
    return rc;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

double chaos_times_percentile(struct chaos_times *times, double p)
{
    uint32_t at = (uint32_t)(p * times->n);

    if (times->n == 0)
        return 0;
    qsort(times->ms, times->n, sizeof times->ms[0], by_value);
    return times->ms[at < times->n ? at : times->n - 1];
}
