/*
 * tests/crash/chaos_plan.c - from (seed, index) to a shot; no state.
 */
#include "tests/crash/chaos_plan.h"

#include <math.h>
#include <signal.h>
#include <string.h>

#include "base/random.h"

#define DRAWS        8 /* random words for each shot */
#define STOP_MIN_US  10e3
#define STOP_MAX_US  5e6
#define DELAY_MIN_US 0.5
#define DELAY_MAX_US 200.0

static const char *const role_names[CHAOS_ROLES] = {"worker", "loader", "saver",
                                                    "node-zero", "tree"};
static const char *const phase_names[CHAOS_PHASES] = {
    "starting", "init",   "compute", "fold",   "update",
    "eval",     "commit", "saving",  "ending", "verify"};
static const char *const mode_names[CHAOS_MODES] = {"kill", "node-zero", "stop", "fault",
                                                    "load", "goodput",   "mttr"};

/* Of a thousand shots. Node Zero takes everybody with it, so it is rarer. */
static const uint32_t kill_mix[CHAOS_ROLES] = {700, 120, 120, 50, 10};
static const uint32_t stop_mix[CHAOS_ROLES] = {900, 40, 40, 20, 0};
static const uint32_t fault_mix[CHAOS_ROLES] = {800, 100, 100, 0, 0};

const char *chaos_role_name(enum chaos_role role)
{
    return role < CHAOS_ROLES ? role_names[role] : "?";
}

const char *chaos_phase_name(enum chaos_phase phase)
{
    return phase < CHAOS_PHASES ? phase_names[phase] : "?";
}

const char *chaos_mode_name(enum chaos_mode mode)
{
    return mode < CHAOS_MODES ? mode_names[mode] : "?";
}

static uint32_t find_name(const char *const *names, uint32_t n, const char *text,
                          size_t bytes)
{
    for (uint32_t i = 0; i < n; i++)
        if (strlen(names[i]) == bytes && strncmp(names[i], text, bytes) == 0)
            return i;
    return n;
}

enum chaos_mode chaos_mode_find(const char *name)
{
    return (enum chaos_mode)find_name(mode_names, CHAOS_MODES, name, strlen(name));
}

bool chaos_plan_set_focus(struct chaos_plan *plan, const char *text)
{
    const char *colon = strchr(text, ':');
    uint32_t role, phase;

    if (!colon)
        return false;
    role = find_name(role_names, CHAOS_ROLES, text, (size_t)(colon - text));
    phase = find_name(phase_names, CHAOS_PHASES, colon + 1, strlen(colon + 1));
    if (role == CHAOS_ROLES || phase == CHAOS_PHASES)
        return false;
    plan->focused = true;
    plan->focus_role = (enum chaos_role)role;
    plan->focus_phase = (enum chaos_phase)phase;
    return true;
}

/* [0, 1) with 53 bits. */
static double unit(uint64_t word)
{
    return (double)(word >> 11) * 0x1p-53;
}

/* Every magnitude between @lo and @hi is as likely as every other. */
static uint32_t log_uniform(uint64_t word, double lo, double hi)
{
    return (uint32_t)(lo * pow(hi / lo, unit(word)));
}

static enum chaos_role draw_role(const uint32_t mix[CHAOS_ROLES], uint64_t word)
{
    uint32_t at = (uint32_t)(word % 1000), role = 0;

    while (at >= mix[role])
        at -= mix[role++];
    return (enum chaos_role)role;
}

static enum chaos_role draw_mode_role(const struct chaos_plan *plan, uint64_t word)
{
    switch (plan->mode) {
    case CHAOS_NODE_ZERO_KILL:
        return plan->tree_every > 0 && word % plan->tree_every == 0 ? CHAOS_TREE
                                                                    : CHAOS_NODE_ZERO;
    case CHAOS_STOP:
        return draw_role(stop_mix, word);
    case CHAOS_FAULT:
        return draw_role(fault_mix, word);
    case CHAOS_KILL:
    case CHAOS_LOAD:
    case CHAOS_GOODPUT:
    case CHAOS_MTTR:
    case CHAOS_MODES:
    default:
        return draw_role(kill_mix, word);
    }
}

static int draw_signal(enum chaos_mode mode, uint64_t word)
{
    static const int faults[] = {SIGSEGV, SIGABRT, SIGBUS};

    if (mode == CHAOS_FAULT)
        return faults[word % CLLM_LEN(faults)];
    return mode == CHAOS_STOP ? SIGSTOP : SIGKILL;
}

/* To find somebody who starts, somebody else may have to be killed: not here. ENDING
 * comes once a run and is for a focus. */
static enum chaos_phase draw_phase(enum chaos_mode mode, uint64_t word)
{
    uint32_t first = mode == CHAOS_STOP || mode == CHAOS_FAULT ? CHAOS_INIT : 0;

    return (enum chaos_phase)(first + word % (CHAOS_ENDING - first));
}

struct chaos_shot chaos_plan_shot(const struct chaos_plan *plan, uint64_t index)
{
    struct chaos_shot shot = {.phase = CHAOS_PHASES};
    uint64_t word[DRAWS];

    for (uint32_t i = 0; i < DRAWS; i++)
        word[i] = cllm_random_u64(plan->seed, CLLM_RANDOM_TEST, index * DRAWS + i);
    shot.role = draw_mode_role(plan, word[0]);
    /* Half of all shots fall where time takes them. */
    if (word[1] & 1) {
        shot.phase = draw_phase(plan->mode, word[1] >> 1);
        if (plan->focused && (word[1] >> 32) % 8 != 0) {
            shot.role = plan->focus_role;
            shot.phase = plan->focus_phase;
        }
    }
    shot.pick = (uint32_t)(word[2] >> 32);
    shot.gap_us = (uint32_t)(unit(word[3]) * 2.0 * plan->gap_us);
    shot.delay_us = log_uniform(word[4], DELAY_MIN_US, DELAY_MAX_US);
    shot.signal = draw_signal(plan->mode, word[5]);
    if (shot.signal == SIGSTOP)
        shot.stop_us = log_uniform(word[6], STOP_MIN_US, STOP_MAX_US);
    return shot;
}
