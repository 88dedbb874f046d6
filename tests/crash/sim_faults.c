/*
 * tests/crash/sim_faults.c - what befalls the processes: deaths, stops, and bugs of
 * theirs and of memory.
 *
 * sim_sched.c says when, always before a store; here is who, and how. All that is random
 * comes from the run's seed.
 */
#include <signal.h>

#include "base/clock.h"
#include "tests/crash/sim.h"

#define GUARDIAN_NS (10 * CLLM_NS_PER_S) /* a Node Zero silent for longer is ended */

void *__real_memcpy(void *to, const void *from, size_t n);

/* Weighted by role; mostly whoever runs now, because its next store is what counts. */
static struct sim_process *pick_victim(bool children_only)
{
    struct sim_process *self = sim.current;
    uint32_t first = 0;

    if (self && self->live && (sim_random() & 7) < 5 &&
        !(children_only && self->role == SIM_NODE_ZERO))
        return self;
    first = (uint32_t)(sim_random() % SIM_PROCESSES);
    for (uint32_t i = 0; i < SIM_PROCESSES; i++) {
        struct sim_process *process = &sim.process[(first + i) % SIM_PROCESSES];

        if (!process->live || (children_only && process->role == SIM_NODE_ZERO))
            continue;
        return process;
    }
    return NULL;
}

/* Node Zero with a bug: it writes anywhere in control, then a signal ends it. */
static void scribble_control(void)
{
    uint64_t bytes = sim.view.header ? sim.view.header->slots_off : 0;
    uint64_t base = (uint64_t)((uintptr_t)sim.view.header - (uintptr_t)sim.arena);

    for (uint32_t n = (uint32_t)(sim_random() % 4); sim.have_view && n > 0; n--) {
        uint64_t value = sim_random() >> (sim_random() & 32 ? 60 : 0);
        uint64_t off = CLLM_PAGE + sim_random() % (bytes - CLLM_PAGE) / 8 * 8;

        (void)__real_memcpy(sim.arena + base + off, &value, sizeof value);
        sim_trace(SIM_FAULT, &sim.process[0], base + off, value, "scribbles");
        sim.scribbled = true;
    }
    sim.suspect = true;
    sim.totals.faults++;
    sim_check_scribbled();
}

/* A bit of what is committed has flipped, or will, and Node Zero alone can know. */
static bool fragile(void)
{
    return sim.plan.flips > 0 || (sim.flipped && sim.scribbled);
}

void sim_kill_node_zero(void)
{
    struct sim_process *victim = &sim.process[0];

    if (!victim->live || fragile())
        return;
    sim.totals.crashes++;
    sim.totals.nz_crashes++;
    sim.totals.nested += victim->events < 400;
    sim_trace(SIM_KILL, victim, 0, 0, NULL);
    if (sim.plan.signal_mean > 0 && sim_chance(64)) {
        scribble_control();
        sim_end(victim, SIGSEGV, 0);
        return;
    }
    sim_end(victim, SIGKILL, 0);
}

void sim_kill_one(void)
{
    struct sim_process *victim = pick_victim(sim.plan.children_only);

    if (!victim)
        return;
    if (victim->role == SIM_NODE_ZERO) {
        if (sim_random() % 4 == 0)
            sim_kill_node_zero();
        return;
    }
    sim.totals.crashes++;
    sim_trace(SIM_KILL, victim, 0, 0, NULL);
    sim_end(victim, SIGKILL, 0);
}

/* Everybody at once, the guardian too; now and then the machine, and then shared memory
 * is gone as well. */
void sim_kill_tree(void)
{
    struct sim_process *self = sim.current;

    sim.totals.trees++;
    sim.guardian_pid++;
    for (uint32_t i = 0; i < SIM_PROCESSES; i++)
        sim.process[i].leaving |= sim.process[i].live && i > 0;
    for (uint32_t i = 0; i < SIM_PROCESSES; i++) {
        if (&sim.process[i] == self)
            continue;
        sim.totals.crashes += sim.process[i].live;
        sim.process[i].live = sim.process[i].exists = false;
    }
    sim.totals.crashes++;
    if (sim.plan.reboots > 0 && sim_chance(128)) {
        sim.plan.reboots--;
        sim.totals.reboots++;
        self->tear_bytes = 0;
        sim_memory_wipe();
    }
    sim_trace(SIM_KILL, self, 0, 0, "and everybody else");
    sim_end(self, SIGKILL, 0);
}

void sim_stop_one(void)
{
    static const uint64_t length[] = {
        CLLM_NS_PER_MS / 20, CLLM_NS_PER_MS,    20 * CLLM_NS_PER_MS, 500 * CLLM_NS_PER_MS,
        CLLM_NS_PER_S * 2,   4 * CLLM_NS_PER_S, 40 * CLLM_NS_PER_S,  SIM_FOREVER / 2};
    struct sim_process *victim = pick_victim(sim_random() % 16 != 0);

    if (!victim || victim->stopped || victim->hung || victim->leaving)
        return;
    sim.totals.stops++;
    victim->stop_since_ns = sim.now_ns;
    victim->stop_until_ns = sim.now_ns + length[sim_random() % CLLM_LEN(length)];
    if (victim->role == SIM_NODE_ZERO &&
        victim->stop_until_ns > sim.now_ns + GUARDIAN_NS) {
        victim->stop_until_ns = sim.now_ns + GUARDIAN_NS;
        victim->forever = !fragile();
    }
    if (sim_chance(160)) {
        victim->stopped = true;
        victim->stop_news = true;
        if (victim->role != SIM_NODE_ZERO)
            sim_signal_node_zero(SIGCHLD);
    } else {
        victim->hung = true;
        victim->spinning = sim_random() & 1;
    }
    sim_trace(SIM_STOP, victim, 0, victim->stop_until_ns,
              victim->stopped ? "stopped" : "hung");
    if (victim == sim.current)
        sim_yield();
}

void sim_continue(struct sim_process *process)
{
    if (process->forever) {
        sim_end(process, SIGKILL, 0);
        return;
    }
    if (process->stopped) {
        process->stopped = false;
        process->stop_news = true;
        if (process->role != SIM_NODE_ZERO)
            sim_signal_node_zero(SIGCHLD);
    }
    process->hung = false;
    sim.totals.zombies++;
    sim_trace(SIM_CONTINUE, process, 0, 0, NULL);
}

/* A bug in the victim: it writes what it may write, then a signal ends it. */
static void scribble(struct sim_process *victim)
{
    struct cllm_slot *slot = &sim.view.slots[victim->slot];
    uint32_t n = 1 + (uint32_t)(sim_random() % 6);

    for (uint32_t i = 0; i < n; i++) {
        const struct sim_range *range = &victim->allowed[sim_random() % SIM_ALLOWED];
        uint64_t value = sim_random();
        uint64_t words;

        if (range->bytes >= 8 && sim_chance(128)) {
            words = range->bytes / 8;
            (void)__real_memcpy(sim.arena + range->off + sim_random() % words * 8, &value,
                                8);
        } else if (sim.have_view) {
            words = sizeof slot->own.report / 8;
            (void)__real_memcpy((uint8_t *)slot->own.report + sim_random() % words * 8,
                                &value, 8);
            victim->answer_good = false;
        }
    }
}

/* Three faults on one lane would make it poison, which has runs of its own. A lane that
 * was answered counts as well: the answer may be damaged, or not taken yet. */
static bool may_fault(const struct sim_process *victim)
{
    const struct sim_held *held[] = {&victim->held[0],   &victim->held[1],
                                     &victim->held[2],   &victim->held[3],
                                     &victim->answer[0], &victim->answer[1]};
    uint32_t *count[CLLM_LEN(held)];
    uint32_t n = 0;

    for (uint32_t h = 0; h < CLLM_LEN(held); h++) {
        if (held[h]->seq == 0 || (held[h]->work.kind != CLLM_WORK_LANE &&
                                  held[h]->work.kind != CLLM_WORK_EVAL))
            continue;
        count[n] = &sim.faults_on[held[h]->work.step][held[h]->work.lane];
        if (*count[n++] >= 2)
            return false;
    }
    for (uint32_t i = 0; i < n; i++)
        ++*count[i];
    return true;
}

/* A report that is there and not taken yet; NULL: none. */
static struct cllm_report *fresh_report(struct sim_process **whose)
{
    uint32_t first = (uint32_t)(sim_random() % sim.geometry.n_slots);

    for (uint32_t i = 0; i < sim.geometry.n_slots; i++) {
        uint32_t slot = (first + i) % sim.geometry.n_slots;
        struct sim_process *process = &sim.process[1 + slot];

        if (!process->live || process->answered <= sim.view.slots[slot].command.reported)
            continue;
        *whose = process;
        return &sim.view.slots[slot].own.report[process->answered & 1];
    }
    return NULL;
}

/* A word of a batch that is there: between its bytes and their hash nobody can tell. */
static void damage_ring(uint8_t *ring)
{
    const struct cllm_geometry *g = &sim.geometry;
    uint64_t slots = (uint64_t)g->ring_slots + g->ring_eval_slots;
    uint64_t at = sim_random() % slots, value = sim_random();
    struct cllm_ring_slot *head = (struct cllm_ring_slot *)(void *)ring + at;
    uint64_t bytes = cllm_ring_batch_tokens(g) * sizeof(uint32_t);

    if (head->ready == 0)
        return;
    if (sim_chance(64))
        (void)__real_memcpy((uint8_t *)head + sim_random() % 4 * 8, &value, sizeof value);
    else
        (void)__real_memcpy(ring + cllm_align_up(slots * sizeof *head, CLLM_PAGE) +
                                at * bytes + sim_random() % (bytes / 4) * 4,
                            &value, sizeof(uint32_t));
    sim.ring_damaged = true;
    sim_trace(SIM_FAULT, NULL, 0, at, "a slot of the ring is damaged");
}

/* Memory errs and nobody dies: a word of a report, or of the ring. */
void sim_damage_one(void)
{
    struct sim_process *whose = NULL;
    uint64_t value = sim_random();
    uint8_t *ring = sim_object_base(SIM_OBJECT_RING, 0);
    struct cllm_report *report;
    uint64_t words;

    if (!sim.have_view)
        return;
    report = fresh_report(&whose);
    if (report) {
        /* What counts: the head, and the results of the chunks it is about. */
        words = (offsetof(struct cllm_report, result) +
                 sizeof report->result[0] * sim.geometry.n_chunks) /
                8;
        (void)__real_memcpy((uint8_t *)report + sim_random() % words * 8, &value,
                            sizeof value);
        whose->answer_good = false;
        sim_trace(SIM_FAULT, whose, 0, 0, "not: its report is damaged");
    } else if (ring) {
        damage_ring(ring);
    }
    sim.totals.damages++;
}

/* With a victim that computes a lane of the open step, so that nothing can be committed
 * before its death is seen: a bit of the committed version flips. */
static void flip(const struct sim_process *victim)
{
    uint8_t *base = sim_object_base(SIM_OBJECT_PARAMS, (uint32_t)(sim.newest & 1));
    bool computes = false;

    if (sim.newest == UINT64_MAX || !base ||
        sim.view.state->phase != (uint32_t)CLLM_PHASE_COMPUTE)
        return;
    for (uint32_t h = 0; h < CLLM_LEN(victim->held); h++) {
        const struct cllm_assignment *work = &victim->held[h].work;

        computes |= victim->held[h].active && work->kind == CLLM_WORK_LANE &&
                    work->step == sim.newest + 1 &&
                    sim.view.lane[work->lane].state == CLLM_LANE_ASSIGNED &&
                    sim.view.lane[work->lane].slot == victim->slot;
    }
    if (!computes)
        return;
    sim.plan.flips = 0;
    sim.flipped = true;
    base[sim_random() % (sim_words() * 8)] ^= 16;
    sim.scribbled = true;
    sim_trace(SIM_FAULT, victim, 0, 0, "flips a bit of the committed version");
    sim_check_scribbled();
}

void sim_fault_one(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};
    struct sim_process *victim = pick_victim(true);

    if (!victim || !victim->begun || !may_fault(victim))
        return;
    sim.totals.faults++;
    sim.totals.crashes++;
    if (sim.plan.flips > 0)
        flip(victim);
    if (sim_chance(160))
        scribble(victim);
    sim_trace(SIM_FAULT, victim, 0, 0, NULL);
    sim_end(victim, signals[sim_random() % CLLM_LEN(signals)], 0);
}
