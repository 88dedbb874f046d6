/*
 * tests/crash/step_walk.c - to the beginning of the step, through it, and away.
 */
#include "tests/crash/step_walk.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"

#define ATTACH_NS   (120 * CLLM_NS_PER_S)
#define RUN_NS      (240 * CLLM_NS_PER_S) /* to a breakpoint */
#define END_NS      (240 * CLLM_NS_PER_S)
#define GRADIENT_NS (2 * CLLM_NS_PER_MS) /* at most, until one has been seen */
#define MOST        (100u * 1000 * 1000) /* instructions of a walk; then it has no end */

/* Its first steps would be over before the tracer looks, on a busy machine. Where they
 * are even so, it is begun again. */
#define CREEP "lane_summed:sleep=3000:1*1000000"
#define TRIES 5

static uint64_t committed(const struct step_walk *walk)
{
    return cllm_load_acquire(&walk->nano.control.state->committed);
}

static const struct cllm_slot *slot_of(const struct step_walk *walk)
{
    return &walk->nano.control.slots[walk->process.slot];
}

static int ended(const struct step_walk *walk)
{
    return cllm_err(-ESRCH, "the %s ended while it was stepped",
                    nano_role_name(walk->process.role));
}

/* ---- an instruction, a body ---- */

/* The instruction, or body, at @ip is done: what did it change? @files: it may have
 * changed the run's directory. */
static int look(struct step_walk *walk, uint64_t ip, bool files)
{
    enum step_change change = step_watch_look(&walk->watch);

    if (!walk->counting)
        return 0;
    walk->n_changes += change != STEP_CHANGE_NONE;
    if (change != STEP_CHANGE_STATE && !files)
        return 0;
    return step_boundaries_add(&walk->boundaries, walk->n_instructions,
                               step_symbols_name(&walk->code.symbols, ip));
}

static int step_once(struct step_walk *walk, uint64_t ip, bool files)
{
    switch (step_trace_step(&walk->trace)) {
    case STEP_EVENT_ONE:
        walk->n_instructions++;
        return look(walk, ip, files);
    case STEP_EVENT_ENDED:
        return ended(walk);
    default:
        return -EIO; /* text is there */
    }
}

/* At full speed up to @address. */
static int run_to(struct step_walk *walk, uint64_t address)
{
    switch (step_trace_run(&walk->trace, &address, 1, false, RUN_NS)) {
    case STEP_EVENT_BREAKPOINT:
        return 0;
    case STEP_EVENT_TIMEOUT:
        return cllm_err(-ETIMEDOUT, "the %s never came to the place waited for",
                        nano_role_name(walk->process.role));
    case STEP_EVENT_ENDED:
        return ended(walk);
    default:
        return -EIO; /* text is there */
    }
}

/* Step, whatever stands there, until @address is reached. */
static int step_to(struct step_walk *walk, uint64_t address)
{
    struct step_registers regs;
    int rc = address != 0 ? 0 : ended(walk);

    while (rc == 0) {
        if (!step_trace_registers(&walk->trace, &regs))
            return ended(walk);
        if (regs.ip == address)
            return 0;
        rc = step_once(walk, regs.ip,
                       step_code_kind(&walk->code, &walk->trace, regs.ip) ==
                               STEP_KIND_SYSCALL &&
                           step_code_changes_files(regs.ax));
    }
    return rc;
}

/* In or after a body that begins at @ip. That it changed what only this process may write
 * is what nobody expects. */
static int look_in_body(struct step_walk *walk, uint64_t ip, bool files)
{
    uint64_t before = walk->boundaries.n;
    bool alone = walk->process.role != NANO_WORKER || walk->plan.workers == 1;
    int rc = look(walk, ip, files);

    walk->n_unseen += alone && !files && walk->boundaries.n > before;
    return rc;
}

/* The process stands in the entry of a system call within the body at @ip. */
static int finish_syscall(struct step_walk *walk, uint64_t ip)
{
    struct step_registers regs;

    if (!step_trace_registers(&walk->trace, &regs))
        return ended(walk);
    switch (step_trace_finish_syscall(&walk->trace)) {
    case STEP_EVENT_SYSCALL:
        return look_in_body(walk, ip, step_code_changes_files(regs.syscall));
    case STEP_EVENT_ERROR:
        return -EIO; /* text is there */
    default:
        return ended(walk);
    }
}

/* A function that begins at @ip and has no address of anything shared: to its return at
 * full speed, with a look after each system call on the way, and at the end. */
static int run_body(struct step_walk *walk, uint64_t ip)
{
    uint64_t back = step_code_return(&walk->trace);
    int rc = back != 0 ? 0 : ended(walk);

    walk->n_bodies++;
    while (rc == 0) {
        switch (step_trace_run(&walk->trace, &back, 1, true, RUN_NS)) {
        case STEP_EVENT_BREAKPOINT:
            return look_in_body(walk, ip, false);
        case STEP_EVENT_SYSCALL:
            rc = finish_syscall(walk, ip);
            break;
        case STEP_EVENT_TIMEOUT:
            return cllm_err(-ETIMEDOUT, "a function has no end");
        case STEP_EVENT_ENDED:
            return ended(walk);
        default:
            return -EIO; /* text is there */
        }
    }
    return rc;
}

/* A gradient, at full speed but for the progress counter; once, at a random instant, the
 * state is resumed as well. */
static int run_gradient(struct step_walk *walk, uint64_t ip)
{
    uint64_t address[2] = {step_code_return(&walk->trace), walk->code.bump};
    uint64_t began = cllm_now_ns(), at = 0;
    uint64_t limit = 1 + step_boundaries_draw(&walk->boundaries,
                                              walk->gradient_ns); /* to the sample */
    int rc = address[0] != 0 ? 0 : ended(walk);

    walk->n_bodies++;
    while (rc == 0) {
        switch (step_trace_run(&walk->trace, address, 2, false, limit)) {
        case STEP_EVENT_BREAKPOINT:
            break;
        case STEP_EVENT_TIMEOUT:
            if (limit == RUN_NS)
                return cllm_err(-ETIMEDOUT, "a gradient has no end");
            limit = RUN_NS;
            if (walk->counting)
                rc = step_boundaries_sample(&walk->boundaries, walk->n_instructions,
                                            "a gradient");
            continue;
        case STEP_EVENT_ENDED:
            return ended(walk);
        default:
            return -EIO; /* text is there */
        }
        if (!step_trace_ip(&walk->trace, &at))
            return ended(walk);
        if (at == address[0])
            break;
        rc = step_to(walk, step_code_return(&walk->trace)); /* it is shared */
    }
    if (limit != RUN_NS) /* it was over before the sample: none takes longer, then */
        walk->gradient_ns = cllm_min_u64(walk->gradient_ns, cllm_now_ns() - began);
    return rc != 0 ? rc : look_in_body(walk, ip, false);
}

static int go_on(struct step_walk *walk, uint64_t ip, enum step_kind kind)
{
    uint64_t next;

    switch (kind) {
    case STEP_KIND_BODY:
        return run_body(walk, ip);
    case STEP_KIND_GRADIENT:
        return run_gradient(walk, ip);
    case STEP_KIND_CALL:
        if (!step_code_call_is_shared(&walk->code, &walk->trace))
            return run_body(walk, ip);
        return step_to(walk, step_code_return(&walk->trace));
    case STEP_KIND_REPEAT:
        if (!step_code_repeat_is_shared(&walk->code, &walk->trace, ip, &next))
            return run_to(walk, next);
        return step_once(walk, ip, false);
    default:
        return step_once(walk, ip, false);
    }
}

/* ---- the window ---- */

/* What the process has answered: its own word, for Node Zero takes it a moment later, and
 * with that of the last save it asks the saver to leave. */
static uint64_t answered(const struct step_walk *walk)
{
    const struct cllm_own *own = &slot_of(walk)->own;

    return cllm_max_u64(cllm_load_acquire(&own->report[0].seq),
                        cllm_load_acquire(&own->report[1].seq));
}

/* Has the walk's step begun, now that the process stands where a turn begins? */
static bool has_begun(const struct step_walk *walk)
{
    switch (walk->process.role) {
    case NANO_NODE_ZERO: /* about to commit the step before */
        return committed(walk) + 2 >= walk->plan.step;
    case NANO_SAVER:
        return slot_of(walk)->command.posted > answered(walk);
    default:
        return committed(walk) + 1 >= walk->plan.step;
    }
}

/* Is what the walk is about done, now that the process stands where a turn ends? */
static bool is_over(const struct step_walk *walk)
{
    const struct cllm_geometry *g = &walk->nano.control.header->geometry;

    switch (walk->process.role) {
    case NANO_LOADER:
        return cllm_load_relaxed(&slot_of(walk)->own.status.filled) >=
               walk->filled + (uint64_t)g->lanes * g->microbatches;
    case NANO_SAVER:
        return answered(walk) >= walk->seq;
    default:
        return committed(walk) >= walk->plan.step;
    }
}

static int go_to_step(struct step_walk *walk)
{
    int rc;

    do {
        rc = run_to(walk, walk->code.enter);
        if (rc == 0 && !has_begun(walk))
            rc = step_once(walk, walk->code.enter, false); /* off the breakpoint */
    } while (rc == 0 && !has_begun(walk));
    return rc;
}

static int go_through_step(struct step_walk *walk)
{
    int rc = 0;

    for (uint64_t n = 0; rc == 0; n++) {
        enum step_kind kind;
        uint64_t ip;

        if (!step_trace_ip(&walk->trace, &ip))
            return ended(walk);
        kind = step_code_kind(&walk->code, &walk->trace, ip);
        if (kind == STEP_KIND_LEAVE && n > 0 && is_over(walk))
            return 0;
        if (n == MOST)
            return cllm_err(-ETIMEDOUT, "the step has no end");
        if (step_interrupted)
            return cllm_err(-EINTR, "the walk was ended");
        if (n % 1024 == 0)
            step_recovery_tend(walk->boundaries.recovery);
        rc = go_on(walk, ip, kind);
    }
    return rc;
}

static int go(struct step_walk *walk)
{
    int rc = go_to_step(walk);

    if (rc != 0)
        return rc;
    (void)step_watch_look(&walk->watch);
    walk->counting = true;
    walk->n_instructions = 0;
    walk->n_bodies = 0;
    walk->committed_from = committed(walk);
    if (walk->process.role == NANO_LOADER)
        walk->filled = cllm_load_relaxed(&slot_of(walk)->own.status.filled);
    if (walk->process.role == NANO_SAVER)
        walk->seq = answered(walk) + 1;
    rc = go_through_step(walk);
    walk->committed_to = committed(walk);
    if (rc == 0 && walk->n_unseen > 0)
        rc = cllm_err(-EPROTO,
                      "%" PRIu64 " functions that were not stepped changed shared memory",
                      walk->n_unseen);
    return rc;
}

/* ---- beginning and end ---- */

/*
 * Stop Node Zero before it commits version 0, and wait for those it has started: it does
 * not wait for all of them itself, and breakpoints are lost at an exec. A run of a few
 * milliseconds would be over before it is looked at otherwise.
 */
static int hold_at_start(struct step_walk *walk)
{
    struct nano_process *process = &walk->process;
    int rc;

    if (!nano_attach(&walk->nano, ATTACH_NS))
        return cllm_err(-ETIMEDOUT, "the run in %s did not begin", walk->nano.dir);
    *process =
        (struct nano_process){.role = NANO_NODE_ZERO,
                              .slot = CLLM_NONE,
                              .pid = (pid_t)walk->nano.control.header->creator_pid};
    rc = step_trace_seize(&walk->trace, process->pid);
    if (rc >= 0)
        rc = step_trace_choose(&walk->trace, (uint32_t)rc);
    if (rc == 0)
        rc = step_code_open(&walk->code, process);
    if (rc == 0)
        rc = run_to(walk, walk->code.enter);
    step_code_close(&walk->code);
    if (rc == 0 && committed(walk) > 1)
        rc = cllm_err(-EAGAIN, "the run was faster than its tracer");
    if (rc == 0 && !nano_wait_up(&walk->nano, ATTACH_NS))
        rc = cllm_err(-ETIMEDOUT, "the processes of the run in %s do not come up",
                      walk->nano.dir);
    if (rc == 0)
        rc = nano_disarm(&walk->nano);
    return rc;
}

static int seize_all(struct step_walk *walk)
{
    struct nano_process all[STEP_TRACE_CAP];
    uint32_t n = nano_processes(&walk->nano, all, CLLM_LEN(all));
    int rc = 0;

    for (uint32_t i = 0; rc >= 0 && i < n; i++)
        rc = step_trace_seize(&walk->trace, all[i].pid);
    if (rc < 0)
        return rc;
    walk->process = nano_process(&walk->nano, walk->plan.role, 0);
    if (walk->process.pid == 0)
        return cllm_err(-ESRCH, "the run has no %s", nano_role_name(walk->plan.role));
    rc = step_trace_seize(&walk->trace, walk->process.pid);
    return rc < 0 ? rc : step_trace_choose(&walk->trace, (uint32_t)rc);
}

static int begin(struct step_walk *walk, struct step_recovery *recovery)
{
    int rc = hold_at_start(walk);

    if (rc == 0)
        rc = seize_all(walk);
    if (rc == 0)
        rc = step_code_open(&walk->code, &walk->process);
    if (rc == 0)
        rc = step_watch_open(&walk->watch, &walk->nano, &walk->process);
    if (rc == 0)
        rc = step_boundaries_init(&walk->boundaries, &walk->plan.pick, recovery,
                                  &walk->trace, walk->nano.dir);
    return rc != 0 ? rc : step_trace_thaw(&walk->trace);
}

/* The run that was stepped goes on, and is as good as any. */
static int finish(struct step_walk *walk, const struct step_recovery *recovery)
{
    char bits[CLLM_SHA256_HEX_BYTES];
    int rc;

    if (!nano_ended(&walk->nano, END_NS))
        return cllm_err(-ETIMEDOUT, "the run that was stepped does not end");
    if (nano_exit_code(&walk->nano) != 0)
        return cllm_err(-EIO, "the run that was stepped ended with exit code %d",
                        nano_exit_code(&walk->nano));
    rc = nano_bits(walk->nano.dir, bits);
    if (rc == 0 && strcmp(bits, recovery->golden) != 0)
        rc = cllm_err(-EBADMSG, "the run that was stepped ended with other bits");
    return rc;
}

static int start(struct step_walk *walk, const struct step_walk_plan *plan,
                 struct step_recovery *recovery, const char *dir)
{
    struct nano_plan run = recovery->plan;
    int rc;

    *walk = (struct step_walk){.plan = *plan, .gradient_ns = GRADIENT_NS};
    run.dir = dir;
    run.workers = plan->workers;
    run.resume = false;
    run.faults = CREEP;
    rc = nano_start(&walk->nano, &run);
    return rc != 0 ? rc : begin(walk, recovery);
}

int step_walk(struct step_walk *walk, const struct step_walk_plan *plan,
              struct step_recovery *recovery, const char *dir)
{
    int rc = start(walk, plan, recovery, dir);

    for (uint32_t i = 1; rc == -EAGAIN && i < TRIES; i++) {
        step_trace_release(&walk->trace);
        nano_remove(&walk->nano);
        rc = start(walk, plan, recovery, dir);
    }
    if (rc == 0)
        rc = go(walk);
    step_trace_release(&walk->trace);
    if (rc == 0)
        rc = finish(walk, recovery);
    step_recovery_finish(recovery);
    step_boundaries_fini(&walk->boundaries);
    step_watch_close(&walk->watch);
    step_code_close(&walk->code);
    nano_remove(&walk->nano);
    return rc;
}
