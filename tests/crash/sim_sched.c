/*
 * tests/crash/sim_sched.c - who runs next, and who is killed, stopped or held up.
 *
 * Every process is a coroutine. A turn lasts until its process sleeps, or until the fuse
 * burns: at some event that the seed has chosen, always before a store. There the process
 * can be switched away from, stopped, or ended; what it has stored so far stays, the rest
 * never happens.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "tests/crash/sim.h"

#define STACK_BYTES (256u << 10)
#define HEAP_BYTES  (256u << 10)
#define GUARDIAN_NS (10 * CLLM_NS_PER_S) /* a Node Zero silent for longer is ended */

void *__real_memcpy(void *to, const void *from, size_t n);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);

uint64_t sim_random(void)
{
    uint64_t x = sim.random += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

bool sim_chance(uint32_t in_256)
{
    return (sim_random() & 255) < in_256;
}

uint64_t sim_gap(uint32_t mean)
{
    if (mean == 0)
        return SIM_FOREVER;
    /* Any order of magnitude: what needs long peace to come about is met too. */
    return 1 + sim_random() % ((cllm_max_u64(mean, 8) / 8) << sim_random() % 8);
}

const char *sim_process_name(const struct sim_process *process)
{
    static const char *const role[] = {"node zero", "worker", "loader", "saver"};
    static char text[4][40];
    static uint32_t turn;
    char *out = text[turn++ % CLLM_LEN(text)];

    if (process->role == SIM_NODE_ZERO)
        (void)snprintf(out, sizeof text[0], "node zero %u", process->pid);
    else
        (void)snprintf(out, sizeof text[0], "%s %u.%u", role[process->role],
                       process->slot, process->generation);
    return out;
}

/* ---- coroutines ---- */

static void enter(void)
{
    struct sim_process *self = sim.current;

    if (self->role == SIM_NODE_ZERO)
        sim_node_zero_ended(self);
    else
        sim_run_child(self);
    CLLM_ASSERT(!self->exists);
}

void sim_spawn(struct sim_process *process)
{
    if (!process->stack) {
        uint8_t *map = __real_mmap(NULL, STACK_BYTES + HEAP_BYTES, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        CLLM_ASSERT(map != MAP_FAILED);
        process->stack = map;
        process->heap = map + STACK_BYTES;
    }
    process->exists = process->live = true;
    process->asleep = process->stopped = process->hung = process->leaving = false;
    process->begun = false;
    process->stop_news = process->forever = false;
    process->heap_used = 0;
    process->events = process->cpu_ns = 0;
    process->tear_bytes = 0;
    process->answered = 0;
    process->answer_good = true;
    process->reading = 0;
    process->greeted = false;
    memset(process->allowed, 0, sizeof process->allowed);
    memset(process->held, 0, sizeof process->held);
    memset(process->answer, 0, sizeof process->answer);
    sim_trace(SIM_START, process, 0, process->pid, NULL);
}

static void resume(struct sim_process *process)
{
    sim.current = process;
    if (_setjmp(sim.scheduler) == 0) {
        if (process->begun)
            _longjmp(process->at, 1);
        process->begun = true;
        (void)getcontext(&process->context);
        process->context.uc_stack.ss_sp = process->stack;
        process->context.uc_stack.ss_size = STACK_BYTES;
        process->context.uc_link = NULL;
        makecontext(&process->context, enter, 0);
        (void)setcontext(&process->context);
    }
    sim.current = NULL;
}

/* Back to the scheduler; returns when this process has its next turn. */
static void yield(void)
{
    struct sim_process *self = sim.current;

    self->tear_bytes = 0;
    if (_setjmp(self->at) == 0)
        _longjmp(sim.scheduler, 1);
}

void sim_sleep(uint64_t wake_ns)
{
    struct sim_process *self = sim.current;

    if (sim.after != 0)
        sim_check_after();
    self->asleep = true;
    self->wake_ns = wake_ns;
    yield();
}

void sim_wake(struct sim_process *process)
{
    process->asleep = false;
}

/* ---- ends ---- */

/* A store of many words is cut where the death met it. */
static void tear(struct sim_process *process)
{
    uint32_t keep;

    if (process->tear_bytes == 0)
        return;
    keep = (uint32_t)(sim_random() % (process->tear_bytes / 8 + 1)) * 8;
    (void)__real_memcpy(sim.arena + process->tear_off + keep, process->tear_old + keep,
                        process->tear_bytes - keep);
    process->tear_bytes = 0;
    sim.newest = process->tear_newest;
    sim.newest_root = process->tear_root;
    sim_check_attach();
}

static void orphan_children(void)
{
    for (uint32_t i = 1; i < SIM_PROCESSES; i++) {
        struct sim_process *child = &sim.process[i];

        if (!child->exists)
            continue;
        if (!child->live) {
            child->exists = false;
            continue;
        }
        /* PR_SET_PDEATHSIG: it ends a moment later. A stopped one ends as well. */
        child->leaving = true;
        child->doom = (uint32_t)(sim_random() % 12);
        sim_wake(child);
        if (child != sim.current && (child->stopped || child->hung || child->doom == 0))
            sim_end(child, SIGKILL, 0);
    }
}

void sim_end(struct sim_process *process, int signal, int code)
{
    struct sim_process *self = sim.current;

    if (sim.after != 0)
        sim_check_after();
    process->live = false;
    process->asleep = false;
    process->end_signal = signal != 0;
    process->end_code = signal != 0 ? signal : code;
    sim_trace(SIM_END, process, 0, (uint64_t)process->end_code,
              signal != 0 ? "by signal" : "exit code");
    if (process == self)
        tear(process);
    else
        process->tear_bytes = 0;
    if (process->role == SIM_NODE_ZERO) {
        process->exists = false;
        orphan_children();
    } else if (process->leaving || !sim.process[0].live) {
        process->exists = false; /* init reaps it */
    } else {
        sim_signal_node_zero(SIGCHLD);
        sim_wake(&sim.process[0]);
    }
    if (process == self)
        _longjmp(sim.scheduler, 1);
}

/* ---- faults ---- */

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

static void kill_node_zero(void)
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

static void kill_one(void)
{
    struct sim_process *victim = pick_victim(sim.plan.children_only);

    if (!victim)
        return;
    if (victim->role == SIM_NODE_ZERO) {
        if (sim_random() % 4 == 0)
            kill_node_zero();
        return;
    }
    sim.totals.crashes++;
    sim_trace(SIM_KILL, victim, 0, 0, NULL);
    sim_end(victim, SIGKILL, 0);
}

/* Everybody at once, the guardian too; now and then the machine, and then shared memory
 * is gone as well. */
static void kill_tree(void)
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

static void stop_one(void)
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
        yield();
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
static void damage(void)
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

static void fault_one(void)
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

/* ---- decisions ---- */

static uint64_t at(uint32_t mean)
{
    uint64_t gap = sim_gap(mean);

    return gap == SIM_FOREVER ? SIM_FOREVER : sim.events + gap;
}

void sim_set_fuse(void)
{
    uint64_t fuse = sim.switch_at;

    fuse = cllm_min_u64(fuse, sim.kill_at);
    fuse = cllm_min_u64(fuse, sim.nz_at);
    fuse = cllm_min_u64(fuse, sim.damage_at);
    fuse = cllm_min_u64(fuse, sim.signal_at);
    fuse = cllm_min_u64(fuse, sim.stop_at);
    fuse = cllm_min_u64(fuse, sim.tree_at);
    if (sim.current && sim.current->leaving)
        fuse = sim.events + 1;
    sim.fuse = fuse;
}

void sim_next_nz(void)
{
    sim.nz_at = sim.quiet ? SIM_FOREVER : at(sim.plan.nz_mean);
}

static void fall_quiet(void)
{
    sim.quiet = true;
    /* Those that are stopped for good stay so: Node Zero ends them. */
    for (uint32_t i = 0; i < SIM_PROCESSES; i++)
        if (sim.process[i].stop_until_ns < SIM_FOREVER / 2)
            sim.process[i].stop_until_ns = cllm_min_u64(
                sim.process[i].stop_until_ns, sim.now_ns + sim_random() % CLLM_NS_PER_S);
    sim.kill_at = sim.nz_at = sim.signal_at = sim.stop_at = sim.tree_at = SIM_FOREVER;
    sim.damage_at = SIM_FOREVER;
}

static bool can_run(const struct sim_process *process)
{
    return process->live && !process->stopped && !process->hung &&
           (!process->asleep || process->wake_ns <= sim.now_ns);
}

static bool others_can_run(void)
{
    for (uint32_t i = 0; i < SIM_PROCESSES; i++)
        if (&sim.process[i] != sim.current && can_run(&sim.process[i]))
            return true;
    return false;
}

/* A word that others act upon, and not one of many in a record. */
static bool telling(uint64_t off)
{
    static const uint64_t word[] = {
        offsetof(struct cllm_slot, command.assignment[0].seq),
        offsetof(struct cllm_slot, command.assignment[1].seq),
        offsetof(struct cllm_slot, own.report[0].seq),
        offsetof(struct cllm_slot, own.report[1].seq),
        offsetof(struct cllm_slot, own.status.hello_generation),
        offsetof(struct cllm_slot, own.status.saving_step),
        offsetof(struct cllm_slot, own.status.holds_version),
        offsetof(struct cllm_slot, own.status.filled),
    };
    const struct sim_object *object = sim_object_at(off);
    uint64_t slots, in;

    if (object->kind != SIM_OBJECT_CONTROL)
        return object->kind != SIM_OBJECT_RING;
    slots = object->off + sim.view.header->slots_off;
    if (off < slots)
        return true;
    in = (off - slots) % sizeof(struct cllm_slot);
    for (uint32_t i = 0; i < CLLM_LEN(word); i++)
        if (in == word[i])
            return true;
    return false;
}

void sim_stall(uint64_t off)
{
    struct sim_process *self = sim.current;

    if (!sim.have_view || self->leaving || (off != SIM_NOWHERE && !telling(off)) ||
        !sim_chance(sim.plan.stall))
        return;
    sim.totals.stalls++;
    self->hung = true;
    self->spinning = false;
    self->forever = false;
    self->stop_since_ns = sim.now_ns;
    self->stop_until_ns =
        sim.now_ns + CLLM_NS_PER_MS * (UINT64_C(1) << sim_random() % 10) / 8;
    yield();
}

/* Most stores are the long middle of a report; most deaths should be elsewhere. */
static bool dull(enum sim_event_kind kind, uint64_t off)
{
    const struct sim_object *object = sim_object_at(off);
    uint64_t in;

    if (kind != SIM_STORE || object->kind != SIM_OBJECT_CONTROL || !sim.have_view ||
        off < object->off + sim.view.header->slots_off || sim_chance(64))
        return false;
    in = (off - object->off - sim.view.header->slots_off) % sizeof(struct cllm_slot);
    return in >=
           offsetof(struct cllm_slot, own.report) + offsetof(struct cllm_report, result);
}

void sim_decide(enum sim_event_kind kind, uint64_t off, uint32_t bytes)
{
    struct sim_process *self = sim.current;

    (void)bytes;
    if (!sim.quiet && sim.events >= sim.plan.quiet_at)
        fall_quiet();
    if (self->leaving && self->doom-- == 0)
        sim_end(self, SIGKILL, 0);
    if (sim.events >= sim.kill_at) {
        sim.kill_at = at(sim.plan.kill_mean);
        if (dull(kind, off))
            sim.kill_at = sim.events + 1 + sim_random() % 32;
        else
            kill_one();
    }
    if (sim.events >= sim.nz_at) {
        sim.nz_at = SIM_FOREVER; /* until the next one begins */
        kill_node_zero();
    }
    if (sim.events >= sim.signal_at) {
        sim.signal_at = at(sim.plan.signal_mean);
        fault_one();
    }
    if (sim.events >= sim.damage_at) {
        sim.damage_at = at(sim.plan.damage_mean);
        damage();
    }
    if (sim.events >= sim.stop_at) {
        sim.stop_at = at(sim.plan.stop_mean);
        stop_one();
    }
    if (sim.events >= sim.tree_at) {
        sim.tree_at = at(sim.plan.tree_mean);
        kill_tree();
    }
    if (sim.events >= sim.switch_at) {
        if (others_can_run())
            yield();
        else
            sim.switch_at = sim.events + 1 + sim_random() % sim.plan.burst;
    }
    sim_set_fuse();
}

/* ---- the loop ---- */

/* Nobody can run: to the moment when somebody can. */
static void advance_clock(void)
{
    uint64_t next = SIM_FOREVER;

    for (uint32_t i = 0; i < SIM_PROCESSES; i++) {
        const struct sim_process *process = &sim.process[i];

        if (!process->live)
            continue;
        if (process->stopped || process->hung)
            next = cllm_min_u64(next, process->stop_until_ns);
        else if (process->asleep)
            next = cllm_min_u64(next, process->wake_ns);
    }
    if (next == SIM_FOREVER)
        sim_violation("liveness", "nobody will ever run again");
    sim.now_ns = cllm_max_u64(sim.now_ns, next);
    for (uint32_t i = 0; i < SIM_PROCESSES; i++) {
        struct sim_process *process = &sim.process[i];

        if (process->live && (process->stopped || process->hung) &&
            process->stop_until_ns <= sim.now_ns)
            sim_continue(process);
    }
}

/* Those whose time as stopped is over go on, also while others run. */
static void release_stopped(void)
{
    for (uint32_t i = 0; i < SIM_PROCESSES; i++) {
        struct sim_process *process = &sim.process[i];

        if (process->live && (process->stopped || process->hung) &&
            process->stop_until_ns <= sim.now_ns)
            sim_continue(process);
    }
}

static struct sim_process *choose(void)
{
    struct sim_process *able[SIM_PROCESSES];
    uint32_t n = 0;

    for (uint32_t i = 0; i < SIM_PROCESSES; i++)
        if (can_run(&sim.process[i]))
            able[n++] = &sim.process[i];
    return n > 0 ? able[sim_random() % n] : NULL;
}

void sim_loop(void)
{
    sim.kill_at = at(sim.plan.kill_mean);
    sim_next_nz();
    sim.damage_at = at(sim.plan.damage_mean);
    sim.signal_at = at(sim.plan.signal_mean);
    sim.stop_at = at(sim.plan.stop_mean);
    sim.tree_at = at(sim.plan.tree_mean);
    while (!sim.over) {
        struct sim_process *next;

        if (sim.after != 0)
            sim_check_after();
        if (sim.events > sim.plan.bound)
            sim_violation("liveness", "no end after %llu events, %llu of them quiet",
                          (unsigned long long)sim.events,
                          (unsigned long long)(sim.events - sim.plan.quiet_at));
        if (!sim.process[0].live)
            sim_start_node_zero();
        release_stopped();
        next = choose();
        if (!next) {
            if (sim.process[0].live)
                advance_clock();
            continue;
        }
        next->asleep = false;
        sim.events++;
        sim.switch_at = sim.events + 1 + sim_random() % sim.plan.burst;
        sim_trace(SIM_SWITCH, next, 0, 0, NULL);
        sim.current = next;
        sim_set_fuse();
        resume(next);
    }
}
