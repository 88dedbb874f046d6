/*
 * tests/crash/chaos_takeover.c - a picture of the lane table, and what becomes of it.
 */
#include "tests/crash/chaos_takeover.h"

#include <poll.h>

#include "base/atomic.h"
#include "base/clock.h"

#define DEATH_MS 5000
#define WATCH_NS (3 * CLLM_NS_PER_S)
#define LOOKS    200 /* at the table between two looks at the clock */

enum mark { MARK_NONE = 0, MARK_FINISHED, MARK_BEGUN };

struct picture {
    uint64_t committed, lanes_of;
    uint32_t n; /* lanes */
    uint8_t mark[CLLM_MAX_LANES];
    bool again[CLLM_MAX_LANES]; /* seen given out, or to be given out */
};

/* Does some worker compute lane @lane, or has it, and nobody knows? */
static bool in_hands(const struct cllm_control *control, uint32_t lane, uint64_t step)
{
    for (uint32_t s = 0; s < control->header->geometry.n_worker_slots; s++) {
        const struct cllm_slot *slot = &control->slots[s];
        uint64_t next = CHAOS_LOOK(slot->command.reported) + 1;
        const struct cllm_assignment *asked = &slot->command.assignment[next & 1];
        const struct cllm_status *status = &slot->own.status;

        if (CHAOS_LOOK(slot->command.posted) < next || asked->kind != CLLM_WORK_LANE ||
            asked->lane != lane || asked->step != step)
            continue;
        if (cllm_load_relaxed(&slot->own.report[next & 1].seq) == next ||
            (cllm_load_relaxed(&status->work) == CLLM_WORK_LANE &&
             cllm_load_relaxed(&status->lane) == lane))
            return true;
    }
    return false;
}

static void take_picture(struct picture *picture, const struct cllm_control *control)
{
    picture->committed = cllm_load_relaxed(&control->state->committed);
    picture->lanes_of = cllm_load_relaxed(&control->state->lanes_of);
    picture->n = control->header->geometry.lanes;
    for (uint32_t i = 0; i < picture->n; i++) {
        uint32_t state = CHAOS_LOOK(control->lane[i].state);

        picture->again[i] = false;
        picture->mark[i] = MARK_NONE;
        if (state == CLLM_LANE_DONE || state == CLLM_LANE_FOLDED)
            picture->mark[i] = MARK_FINISHED;
        else if (in_hands(control, i, picture->committed + 1))
            picture->mark[i] = MARK_BEGUN;
    }
}

/* The table of the same step: who is given out again? */
static void compare(struct picture *picture, const struct cllm_control *control)
{
    for (uint32_t i = 0; i < picture->n; i++) {
        uint32_t state = CHAOS_LOOK(control->lane[i].state);

        /* Half of the table may be the next step's already: look before and after. */
        if (picture->mark[i] != MARK_NONE && state != CLLM_LANE_DONE &&
            state != CLLM_LANE_FOLDED &&
            cllm_load_acquire(&control->state->committed) == picture->committed &&
            cllm_load_acquire(&control->state->lanes_of) == picture->lanes_of)
            picture->again[i] = true;
    }
}

static void add_up(const struct picture *picture, uint32_t workers,
                   struct chaos_takeover_counts *counts)
{
    uint32_t twice = 0;

    for (uint32_t i = 0; i < picture->n; i++) {
        bool finished = picture->mark[i] == MARK_FINISHED;
        bool begun = picture->mark[i] == MARK_BEGUN;

        counts->finished += finished;
        counts->begun += begun;
        counts->lost += finished && picture->again[i];
        counts->redone += begun && picture->again[i];
        twice += picture->again[i];
    }
    counts->n++;
    counts->beyond += twice > workers;
    if (twice > counts->worst)
        counts->worst = twice;
}

void chaos_takeover_watch(struct chaos_view *view, const struct chaos_run *run,
                          const struct chaos_target *target,
                          struct chaos_takeover_counts *counts)
{
    struct pollfd death = {.fd = target->pidfd, .events = POLLIN};
    struct pollfd end = {.fd = run->nano.pidfd, .events = POLLIN};
    uint64_t until = cllm_now_ns() + WATCH_NS;
    struct picture picture;
    uint32_t phase;

    if (poll(&death, 1, DEATH_MS) <= 0 || !chaos_view_refresh(view))
        return;
    phase = cllm_load_relaxed(&view->control.state->phase);
    if (phase < CLLM_PHASE_COMPUTE)
        return; /* no step was open */
    take_picture(&picture, &view->control);
    while (cllm_now_ns() < until && poll(&end, 1, 0) == 0 && chaos_view_refresh(view) &&
           cllm_load_relaxed(&view->control.state->committed) == picture.committed)
        for (uint32_t i = 0; i < LOOKS; i++)
            compare(&picture, &view->control);
    add_up(&picture, run->kind->workers, counts);
}
