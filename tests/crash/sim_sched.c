/*
 * tests/crash/sim_sched.c - who runs next, who is held up, and when something befalls.
 *
 * Every process is a coroutine. A turn lasts until its process sleeps, or until the fuse
 * burns: at some event that the seed has chosen, always before a store. There the process
 * can be switched away from, stopped, or ended; what it has stored so far stays, the rest
 * never happens.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "tests/crash/sim.h"

#define STACK_BYTES (256u << 10)
#define HEAP_BYTES  (256u << 10)

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
    process->beat = NULL;
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
void sim_yield(void)
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
    sim_yield();
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
    sim_yield();
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
            sim_kill_one();
    }
    if (sim.events >= sim.nz_at) {
        sim.nz_at = SIM_FOREVER; /* until the next one begins */
        sim_kill_node_zero();
    }
    if (sim.events >= sim.signal_at) {
        sim.signal_at = at(sim.plan.signal_mean);
        sim_fault_one();
    }
    if (sim.events >= sim.damage_at) {
        sim.damage_at = at(sim.plan.damage_mean);
        sim_damage_one();
    }
    if (sim.events >= sim.stop_at) {
        sim.stop_at = at(sim.plan.stop_mean);
        sim_stop_one();
    }
    if (sim.events >= sim.tree_at) {
        sim.tree_at = at(sim.plan.tree_mean);
        sim_kill_tree();
    }
    if (sim.events >= sim.switch_at) {
        if (others_can_run())
            sim_yield();
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
