/*
 * tests/crash/step_boundary.c - count, pick, hold everybody, copy, resume.
 */
#include "tests/crash/step_boundary.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/random.h"
#include "tests/crash/step_watch.h"

#define STATES (1u << 20)
#define KEY    UINT64_C(0x57e9000000000000)

uint64_t step_boundaries_draw(struct step_boundaries *boundaries, uint64_t below)
{
    return cllm_random_u64(boundaries->pick.seed ^ KEY, CLLM_RANDOM_SELF_TEST,
                           boundaries->draws++) %
           below;
}

int step_boundaries_init(struct step_boundaries *boundaries, const struct step_pick *pick,
                         struct step_recovery *recovery, struct step_trace *trace,
                         const char *run_dir)
{
    *boundaries = (struct step_boundaries){.pick = *pick,
                                           .recovery = recovery,
                                           .trace = trace,
                                           .run_dir = run_dir,
                                           .next = 1};
    boundaries->state = calloc(STATES, sizeof *boundaries->state);
    if (!boundaries->state)
        return cllm_err(-ENOMEM, "cannot keep the states");
    if (pick->gap > 0)
        boundaries->next += step_boundaries_draw(boundaries, 2 * pick->gap);
    return 0;
}

void step_boundaries_fini(struct step_boundaries *boundaries)
{
    free(boundaries->state);
    boundaries->state = NULL;
}

/* False when @state has been seen before. */
static bool is_new(struct step_boundaries *boundaries, uint64_t state)
{
    uint32_t at = (uint32_t)(state % STATES);

    while (boundaries->state[at] != 0) {
        if (boundaries->state[at] == state)
            return false;
        at = (at + 1) % STATES;
    }
    boundaries->n_states++;
    CLLM_ASSERT(boundaries->n_states < STATES / 2);
    boundaries->state[at] = state;
    return true;
}

static void count_place(struct step_boundaries *boundaries, const char *name)
{
    uint32_t i = 0;

    while (i < boundaries->n_places && strcmp(boundaries->place[i].name, name) != 0)
        i++;
    if (i == STEP_PLACES)
        return;
    if (i == boundaries->n_places) {
        (void)snprintf(boundaries->place[i].name, sizeof boundaries->place[i].name,
                       "%.63s", name);
        boundaries->n_places++;
    }
    boundaries->place[i].n++;
}

static bool is_picked(struct step_boundaries *boundaries)
{
    const struct step_pick *pick = &boundaries->pick;

    if (boundaries->n < pick->from || boundaries->n > pick->to)
        return false;
    if (pick->gap == 0)
        return true;
    if (boundaries->n < boundaries->next ||
        (pick->most > 0 && boundaries->n_resumed >= pick->most))
        return false;
    boundaries->next =
        boundaries->n + 1 + step_boundaries_draw(boundaries, 2 * pick->gap);
    return true;
}

static int resume(struct step_boundaries *boundaries, uint64_t instruction,
                  const char *place, bool always)
{
    struct step_point point = {.boundary = boundaries->n, .instruction = instruction};
    struct run_copy copy = {0};
    int rc = step_trace_freeze(boundaries->trace);

    if (rc == 0)
        rc = run_copy_take(&copy, boundaries->run_dir);
    if (rc != 0)
        return rc;
    point.state = step_watch_state(&copy);
    point.sample = always ? ++boundaries->n_samples : 0;
    (void)snprintf(point.place, sizeof point.place, "%.63s", place);
    if (is_new(boundaries, point.state) || always) {
        rc = step_recovery_start(boundaries->recovery, &copy, &point);
        boundaries->n_resumed += rc == 0;
    } else {
        boundaries->n_known++;
        run_copy_free(&copy);
    }
    return rc != 0 ? rc : step_trace_thaw(boundaries->trace);
}

int step_boundaries_add(struct step_boundaries *boundaries, uint64_t instruction,
                        const char *place)
{
    boundaries->n++;
    count_place(boundaries, place);
    return is_picked(boundaries) ? resume(boundaries, instruction, place, false) : 0;
}

int step_boundaries_sample(struct step_boundaries *boundaries, uint64_t instruction,
                           const char *place)
{
    const struct step_pick *pick = &boundaries->pick;

    if (boundaries->n < pick->from || boundaries->n > pick->to)
        return 0;
    return resume(boundaries, instruction, place, true);
}
