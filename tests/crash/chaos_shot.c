/*
 * tests/crash/chaos_shot.c - the aim is polled without a sleep, because most phases of a
 * small model last some tens of microseconds.
 */
#include "tests/crash/chaos_shot.h"

#include <poll.h>
#include <signal.h>

#include "base/atomic.h"
#include "base/clock.h"

#define TREE_MAX         (CLLM_MAX_WORKERS + 4)
#define WAIT_NS          (300 * CLLM_NS_PER_MS) /* for a phase that comes every step */
#define WAIT_STARTING_NS (500 * CLLM_NS_PER_MS) /* for a successor */
#define WAIT_ENDING_NS   (120 * CLLM_NS_PER_S)
#define PRIME_NS         (2 * CLLM_NS_PER_MS) /* nobody starts: make somebody start */
#define STARTING_STRETCH 40                   /* to start takes longer than a phase */
#define BLINK_NS         40000
#define SYSTEM_TURNS     8   /* of looking, between two looks at the system */
#define LOOKS            500 /* at shared memory in a turn */

static bool is_over(const struct chaos_run *run)
{
    struct pollfd fd = {.fd = run->nano.pidfd, .events = POLLIN};

    return poll(&fd, 1, 0) > 0;
}

static void spin_until(uint64_t ns)
{
    while (cllm_now_ns() < ns)
        continue;
}

/* The run needs the processor too. */
static void blink(void)
{
    const struct timespec wait = {.tv_nsec = BLINK_NS};

    (void)nanosleep(&wait, NULL);
}

static void count(struct chaos_tally *tally, enum chaos_role role, enum chaos_phase phase)
{
    tally->hits[role][phase]++;
    tally->n++;
}

/* The whole tree, found before the moment comes; who is born later dies with its
 * parent. */
struct tree {
    struct chaos_target target[TREE_MAX];
    uint32_t n;
};

static void close_tree(struct tree *tree)
{
    for (uint32_t i = 0; i < tree->n; i++)
        chaos_target_close(&tree->target[i]);
    tree->n = 0;
}

/* Beginning with another one each time; the guardian is the last in the table. */
static void kill_tree(const struct tree *tree, const struct chaos_target *node_zero,
                      uint32_t pick)
{
    for (uint32_t i = 0; i < tree->n; i++)
        (void)chaos_target_signal(&tree->target[(pick + i) % tree->n], SIGKILL);
    (void)chaos_target_signal(node_zero, SIGKILL); /* born after the tree was looked at */
}

static uint64_t patience(enum chaos_phase phase)
{
    if (phase == CHAOS_STARTING)
        return WAIT_STARTING_NS;
    return phase == CHAOS_ENDING ? WAIT_ENDING_NS : WAIT_NS;
}

/* A phase that cannot come any more is not waited for. */
static bool can_come(const struct chaos_view *view, enum chaos_phase phase)
{
    return phase != CHAOS_INIT || !view->attached ||
           (cllm_load_relaxed(&view->control.state->phase) <= CLLM_PHASE_INIT &&
            cllm_load_relaxed(&view->control.state->committed) == 0);
}

/* Is this the moment? The target must be known. */
static bool is_moment(const struct chaos_view *view, const struct chaos_target *target,
                      enum chaos_phase phase)
{
    return phase == CHAOS_PHASES || chaos_view_phase(view, target) == phase;
}

/* What an aim holds while it waits. */
struct aim {
    struct chaos_view *view;
    const struct chaos_run *run;
    const struct chaos_shot *shot;
    enum chaos_phase phase; /* CHAOS_PHASES: any */
    uint64_t since_ns;
    bool primed;
};

/* Nobody of the role is starting: end one, so that its successor does. */
static void prime(struct aim *aim, struct chaos_tally *tally)
{
    struct chaos_target victim;
    enum chaos_role role =
        aim->shot->role == CHAOS_TREE ? CHAOS_NODE_ZERO : aim->shot->role;

    if (aim->primed || cllm_now_ns() - aim->since_ns < PRIME_NS)
        return;
    if (!chaos_view_find(aim->view, &victim, role, aim->shot->pick, CHAOS_WANT_UP))
        return;
    if (aim->view->attached) {
        enum chaos_phase phase = chaos_view_phase(aim->view, &victim);

        if (phase != CHAOS_STARTING && chaos_target_signal(&victim, SIGKILL)) {
            count(tally, role, phase);
            aim->primed = true;
        }
    }
    chaos_target_close(&victim);
}

/* A process that the shot may be for, if there is one now. */
static bool acquire(struct aim *aim, struct chaos_target *target,
                    struct chaos_tally *tally)
{
    bool starting = aim->phase == CHAOS_STARTING;
    enum chaos_want want = starting ? CHAOS_WANT_STARTING : CHAOS_WANT_UP;

    if (!chaos_view_refresh(aim->view))
        return false;
    if (!chaos_view_find(aim->view, target, aim->shot->role, aim->shot->pick, want)) {
        if (starting)
            prime(aim, tally);
        return false;
    }
    if (starting && chaos_view_phase(aim->view, target) != CHAOS_STARTING) {
        chaos_target_close(target);
        prime(aim, tally);
        return false;
    }
    return true;
}

/* Until @target lives and the phase is there. False: not in time, or the run is over. */
static bool take_aim(struct aim *aim, struct chaos_target *target,
                     struct chaos_tally *tally)
{
    uint64_t until = aim->since_ns + patience(aim->phase);

    *target = (struct chaos_target){.pidfd = -1};
    for (uint32_t turn = 0;; turn++) {
        bool known = target->pidfd >= 0;

        if (!known || (turn % SYSTEM_TURNS == 0 &&
                       (!chaos_target_alive(target) || !chaos_view_refresh(aim->view)))) {
            chaos_target_close(target);
            known = acquire(aim, target, tally);
        }
        for (uint32_t i = 0; known && i < LOOKS; i++) {
            if (is_moment(aim->view, target, aim->phase))
                return true;
        }
        if (turn % SYSTEM_TURNS == 0 && is_over(aim->run))
            break;
        if (cllm_now_ns() > until || !can_come(aim->view, aim->phase)) {
            /* Too late for the phase; once more for any. */
            if (aim->phase == CHAOS_PHASES)
                break;
            aim->phase = CHAOS_PHASES;
            until = cllm_now_ns() + WAIT_STARTING_NS;
        }
        blink();
    }
    chaos_target_close(target);
    return false;
}

static enum chaos_hit shoot(struct aim *aim, struct chaos_target *target,
                            struct tree *tree, struct chaos_tally *tally)
{
    const struct chaos_shot *shot = aim->shot;
    enum chaos_phase hit;
    uint64_t delay_ns = (uint64_t)shot->delay_us * 1000;

    if (aim->phase == CHAOS_STARTING)
        delay_ns *= STARTING_STRETCH;
    spin_until(cllm_now_ns() + delay_ns);
    hit = chaos_view_phase(aim->view, target);
    if (shot->role == CHAOS_TREE)
        kill_tree(tree, target, shot->pick);
    else if (!chaos_target_signal(target, shot->signal))
        return CHAOS_MISSED;
    count(tally, shot->role, hit);
    tally->aimed += shot->phase != CHAOS_PHASES;
    tally->on_aim += shot->phase == hit;
    return shot->role == CHAOS_TREE ? CHAOS_TREE_KILLED : CHAOS_HIT;
}

enum chaos_hit chaos_shot_fire(struct chaos_view *view, const struct chaos_run *run,
                               const struct chaos_shot *shot, struct chaos_tally *tally,
                               struct chaos_target *target)
{
    struct aim aim = {.view = view,
                      .run = run,
                      .shot = shot,
                      .phase = shot->phase,
                      .since_ns = cllm_now_ns()};
    enum chaos_hit hit = CHAOS_MISSED;
    struct chaos_target own;
    struct tree tree = {.n = 0};

    if (shot->role == CHAOS_TREE)
        tree.n = chaos_view_tree(view, tree.target, TREE_MAX);
    if (take_aim(&aim, &own, tally))
        hit = shoot(&aim, &own, &tree, tally);
    close_tree(&tree);
    if (hit == CHAOS_MISSED && is_over(run))
        hit = CHAOS_RUN_OVER;
    tally->missed += hit == CHAOS_MISSED;
    if (hit == CHAOS_HIT)
        *target = own;
    else
        chaos_target_close(&own);
    return hit;
}
