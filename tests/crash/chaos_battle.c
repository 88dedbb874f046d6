/*
 * tests/crash/chaos_battle.c - start, fire, resume where the whole tree was killed, wait,
 * check. Nothing is waited for without a bound.
 */
#include "tests/crash/chaos_battle.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "tests/crash/chaos_check.h"

#define GONE_MS  240000                /* a killed tree is gone within */
#define STUCK_NS (240 * CLLM_NS_PER_S) /* an undisturbed run commits a step within */
#define LOOK_MS  5
#define TEND_NS  (2 * CLLM_NS_PER_MS) /* who is due is continued this late at most */

struct battle {
    struct chaos_run *run;
    const struct chaos_plan *plan;
    struct chaos_score *score;
    struct chaos_view view;
    struct chaos_stops stops;
    uint32_t faults;         /* signals sent that leave a crash record */
    uint64_t disturbed_step; /* committed at the last shot */
    uint64_t deaths, redone; /* as the control object said last */
    uint64_t watched_step;
    uint64_t watched_ns;
    char *text;
    size_t bytes;
};

static bool fail(struct battle *b, const char *text)
{
    (void)snprintf(b->text, b->bytes, "%s", text);
    return false;
}

static bool start(struct battle *b, bool resume)
{
    if (chaos_run_start(b->run, resume) != 0)
        return fail(b, cllm_err_text());
    chaos_view_init(&b->view, b->run->nano.run_id, b->run->nano.guardian);
    b->watched_ns = cllm_now_ns();
    return true;
}

/* Counters live as long as the control object does: remember them while it is there. */
static void note_counters(struct battle *b)
{
    if (!chaos_view_refresh(&b->view))
        return;
    b->deaths = cllm_load_relaxed(&b->view.control.state->deaths);
    b->redone = cllm_load_relaxed(&b->view.control.state->lanes_redone);
}

/* Everybody was killed: wait until they are gone, then go on from what they left. */
static bool resume(struct battle *b)
{
    if (!nano_ended(&b->run->nano, GONE_MS * CLLM_NS_PER_MS))
        return fail(b, "the guardian survived SIGKILL");
    if (!chaos_run_reap(GONE_MS))
        return fail(b, "a process of a killed tree lives on");
    chaos_view_fini(&b->view);
    b->score->resumed++;
    return start(b, true);
}

/* No step within a long time: false. */
static bool is_moving(struct battle *b)
{
    uint64_t step = 0, now = cllm_now_ns();

    if (chaos_view_refresh(&b->view))
        step = cllm_load_relaxed(&b->view.control.state->committed);
    if (step != b->watched_step) {
        b->watched_step = step;
        b->watched_ns = now;
    }
    return now - b->watched_ns < STUCK_NS;
}

/* A fault costs the step it falls into, three in one lane end the run: one a step. Nor
 * is there a step to be taken over until the run has come that far. */
static void wait_next_step(struct battle *b)
{
    uint64_t until = cllm_now_ns() + STUCK_NS;

    while (cllm_now_ns() < until && !nano_ended(&b->run->nano, CLLM_NS_PER_MS) &&
           (!chaos_view_refresh(&b->view) ||
            cllm_load_relaxed(&b->view.control.state->committed) <= b->disturbed_step))
        continue;
    if (b->view.attached)
        b->disturbed_step = cllm_load_relaxed(&b->view.control.state->committed);
}

/* Let time pass, and continue who is due. */
static void pause_us(struct battle *b, uint32_t us)
{
    uint64_t until = cllm_now_ns() + (uint64_t)us * 1000;
    uint64_t now;

    while ((now = cllm_now_ns()) < until) {
        struct timespec wait = cllm_timespec(cllm_min_u64(until - now, TEND_NS));

        chaos_stops_tend(&b->stops, &b->view, now, &b->score->stops);
        (void)nanosleep(&wait, NULL);
    }
}

/* What follows a hit, by mode. Takes @target over. */
static void follow_up(struct battle *b, const struct chaos_shot *shot,
                      struct chaos_target *target)
{
    if (b->plan->mode == CHAOS_STOP) {
        chaos_stops_add(&b->stops, target,
                        cllm_now_ns() + (uint64_t)shot->stop_us * 1000);
        return;
    }
    b->faults += b->plan->mode == CHAOS_FAULT;
    if (b->plan->mode == CHAOS_NODE_ZERO_KILL && shot->role == CHAOS_NODE_ZERO)
        chaos_takeover_watch(&b->view, b->run, target, &b->score->takeovers);
    chaos_target_close(target);
}

/* Fire shot @index. False: the run is over, or *b->text says what went wrong. */
static bool fire(struct battle *b, uint32_t index)
{
    struct chaos_shot shot = chaos_plan_shot(b->plan, index);
    struct chaos_target target;

    pause_us(b, shot.gap_us);
    while (chaos_stops_full(&b->stops))
        pause_us(b, TEND_NS / 1000);
    if (b->plan->mode == CHAOS_FAULT ||
        (b->plan->mode == CHAOS_NODE_ZERO_KILL && shot.phase != CHAOS_STARTING &&
         shot.phase != CHAOS_INIT))
        wait_next_step(b);
    switch (chaos_shot_fire(&b->view, b->run, &shot, &b->score->tally, &target)) {
    case CHAOS_RUN_OVER:
        return false;
    case CHAOS_TREE_KILLED:
        return resume(b);
    case CHAOS_HIT:
        follow_up(b, &shot, &target);
        break;
    case CHAOS_MISSED:
    default:
        break;
    }
    note_counters(b);
    return true;
}

/* Until the guardian has ended by itself. */
static bool wait_for_end(struct battle *b)
{
    b->watched_ns = cllm_now_ns();
    while (!nano_ended(&b->run->nano, LOOK_MS * CLLM_NS_PER_MS)) {
        chaos_stops_tend(&b->stops, &b->view, cllm_now_ns(), &b->score->stops);
        note_counters(b);
        if (!is_moving(b))
            return fail(b, "no step was committed for 240 s, and nobody was disturbed");
    }
    return true;
}

static bool judge(struct battle *b)
{
    int code = nano_exit_code(&b->run->nano);

    if (code != 0) {
        char text[64];

        (void)snprintf(text, sizeof text, "the run ended with exit code %d", code);
        return fail(b, text);
    }
    if (!chaos_run_reap(GONE_MS))
        return fail(b, "a process of the run outlives its guardian");
    return chaos_check(b->run, b->faults, b->text, b->bytes);
}

bool chaos_battle(struct chaos_run *run, const struct chaos_plan *plan, uint32_t shots,
                  uint64_t until_ns, struct chaos_score *score, char *text, size_t bytes)
{
    struct battle b = {.run = run,
                       .plan = plan,
                       .score = score,
                       .text = text,
                       .bytes = bytes,
                       .view = {.attached = false}};
    bool good;

    text[0] = '\0';
    good = start(&b, false);
    for (uint32_t i = 0; good && i < shots && cllm_now_ns() < until_ns; i++)
        if (!fire(&b, i))
            break;
    good = good && text[0] == '\0' && wait_for_end(&b) && judge(&b);
    chaos_stops_tend(&b.stops, &b.view, UINT64_MAX, &score->stops);
    chaos_view_fini(&b.view);
    score->runs++;
    score->failed += !good;
    score->deaths += b.deaths;
    score->lanes_redone += b.redone;
    score->steps += good ? run->kind->steps : 0;
    return good;
}
