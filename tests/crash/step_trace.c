/*
 * tests/crash/step_trace.c - seize, interrupt, single-step, hardware breakpoints.
 */
#include "tests/crash/step_trace.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/err.h"

#define BREAKPOINTS 4   /* debug registers */
#define LOOKS       200 /* before it sleeps between them */

static struct step_tracee *chosen(struct step_trace *trace)
{
    return &trace->tracee[trace->chosen];
}

static int fail(const char *what, pid_t pid)
{
    return cllm_err(-errno, "cannot %s process %d", what, (int)pid);
}

int step_trace_seize(struct step_trace *trace, pid_t pid)
{
    int rc;

    for (uint32_t i = 0; i < trace->n; i++)
        if (trace->tracee[i].pid == pid)
            return (int)i;
    if (trace->n == STEP_TRACE_CAP)
        return cllm_err(-ENOSPC, "too many processes to trace");
    if (ptrace(PTRACE_SEIZE, pid, NULL,
               (void *)(uintptr_t)(PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD)) != 0) {
        rc = fail("trace", pid);
        cllm_err_hint("stepping needs ptrace: CAP_SYS_PTRACE in a container, and "
                      "kernel.yama.ptrace_scope at most 1");
        return rc;
    }
    trace->tracee[trace->n] = (struct step_tracee){.pid = pid};
    return (int)trace->n++;
}

/* What waitpid() says of a tracee. */
enum stop {
    STOP_TRAP,      /* a step, a breakpoint */
    STOP_INTERRUPT, /* as asked */
    STOP_SYSCALL,   /* entry or end of a system call */
    STOP_SIGNAL,    /* a signal is about to be delivered */
    STOP_ENDED,
};

static enum stop sort(struct step_tracee *tracee, int status)
{
    if (!WIFSTOPPED(status)) {
        *tracee = (struct step_tracee){0};
        return STOP_ENDED;
    }
    tracee->stopped = true;
    if (status >> 16 == PTRACE_EVENT_STOP)
        return STOP_INTERRUPT;
    if (WSTOPSIG(status) == (SIGTRAP | 0x80))
        return STOP_SYSCALL;
    return WSTOPSIG(status) == SIGTRAP ? STOP_TRAP : STOP_SIGNAL;
}

static int resume(struct step_tracee *tracee, enum __ptrace_request how, int signal)
{
    if (ptrace(how, tracee->pid, NULL, (void *)(intptr_t)signal) != 0 && errno != ESRCH)
        return fail("resume", tracee->pid);
    tracee->stopped = false;
    return 0;
}

/* Stop @tracee where it is; a signal that comes first is delivered. */
static int interrupt(struct step_tracee *tracee)
{
    int status;

    if (tracee->pid == 0 || tracee->stopped)
        return 0;
    if (ptrace(PTRACE_INTERRUPT, tracee->pid, NULL, NULL) != 0 && errno != ESRCH)
        return fail("interrupt", tracee->pid);
    for (;;) {
        enum stop stop;

        if (waitpid(tracee->pid, &status, __WALL) != tracee->pid)
            return fail("wait for", tracee->pid);
        stop = sort(tracee, status);
        if (stop != STOP_SIGNAL)
            return 0;
        if (resume(tracee, PTRACE_CONT, WSTOPSIG(status)) != 0)
            return -EIO;
    }
}

int step_trace_choose(struct step_trace *trace, uint32_t index)
{
    CLLM_ASSERT(index < trace->n);
    trace->chosen = index;
    return interrupt(chosen(trace));
}

int step_trace_freeze(struct step_trace *trace)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < trace->n; i++)
        if (i != trace->chosen)
            rc = interrupt(&trace->tracee[i]);
    return rc;
}

int step_trace_thaw(struct step_trace *trace)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < trace->n; i++)
        if (i != trace->chosen && trace->tracee[i].stopped)
            rc = resume(&trace->tracee[i], PTRACE_CONT, 0);
    return rc;
}

/* Others that stand before a signal would stand there for ever. */
static void tend_others(struct step_trace *trace)
{
    for (uint32_t i = 0; i < trace->n; i++) {
        struct step_tracee *tracee = &trace->tracee[i];
        int status;

        if (i == trace->chosen || tracee->pid == 0 || tracee->stopped ||
            waitpid(tracee->pid, &status, __WALL | WNOHANG) <= 0)
            continue;
        if (sort(tracee, status) != STOP_ENDED)
            (void)resume(
                tracee, PTRACE_CONT,
                status >> 16 == 0 && WSTOPSIG(status) != SIGTRAP ? WSTOPSIG(status) : 0);
    }
}

enum step_event step_trace_step(struct step_trace *trace)
{
    struct step_tracee *tracee = chosen(trace);
    int signal = trace->signal, status;

    if (tracee->pid == 0)
        return STEP_EVENT_ENDED;
    trace->signal = 0;
    if (resume(tracee, PTRACE_SINGLESTEP, signal) != 0)
        return STEP_EVENT_ERROR;
    while (waitpid(tracee->pid, &status, __WALL) != tracee->pid)
        if (errno != EINTR) {
            (void)fail("wait for", tracee->pid);
            return STEP_EVENT_ERROR;
        }
    switch (sort(tracee, status)) {
    case STOP_ENDED:
        return STEP_EVENT_ENDED;
    case STOP_SIGNAL:
        trace->signal = WSTOPSIG(status);
        break;
    case STOP_TRAP:
    case STOP_SYSCALL:
    case STOP_INTERRUPT:
    default:
        break;
    }
    if (++trace->n_stepped % 4096 == 0)
        tend_others(trace);
    return STEP_EVENT_ONE;
}

/* ---- breakpoints ---- */

static bool poke_debug(const struct step_tracee *tracee, uint32_t i, uint64_t value)
{
    return ptrace(PTRACE_POKEUSER, tracee->pid,
                  (void *)(offsetof(struct user, u_debugreg) + i * sizeof(uint64_t)),
                  (void *)(uintptr_t)value) == 0;
}

static bool set_breakpoints(const struct step_tracee *tracee, const uint64_t *address,
                            uint32_t n)
{
    uint64_t enable = 0;

    for (uint32_t i = 0; i < n; i++) {
        if (!poke_debug(tracee, i, address[i]))
            return false;
        enable |= UINT64_C(1) << (2 * i); /* local; execute, one byte */
    }
    return poke_debug(tracee, 7, enable);
}

/* The chosen one was resumed as @how says: wait for it at most until @until; then
 * interrupt it. */
static enum step_event await(struct step_trace *trace, enum __ptrace_request how,
                             uint64_t until)
{
    struct step_tracee *tracee = chosen(trace);

    for (uint32_t look = 0;; look++) {
        int status = 0;
        pid_t pid = waitpid(tracee->pid, &status, __WALL | WNOHANG);

        if (pid < 0) {
            (void)fail("wait for", tracee->pid);
            return STEP_EVENT_ERROR;
        }
        if (pid == 0) {
            struct timespec wait = cllm_timespec(CLLM_NS_PER_MS / 100);

            if (cllm_now_ns() > until)
                return interrupt(tracee) != 0 ? STEP_EVENT_ERROR
                       : tracee->pid == 0     ? STEP_EVENT_ENDED
                                              : STEP_EVENT_TIMEOUT;
            if (look > LOOKS)
                (void)nanosleep(&wait, NULL);
            continue;
        }
        switch (sort(tracee, status)) {
        case STOP_ENDED:
            return STEP_EVENT_ENDED;
        case STOP_TRAP:
            return STEP_EVENT_BREAKPOINT;
        case STOP_SYSCALL:
            return STEP_EVENT_SYSCALL;
        case STOP_SIGNAL:
        case STOP_INTERRUPT:
        default:
            if (resume(tracee, how, status >> 16 == 0 ? WSTOPSIG(status) : 0) != 0)
                return STEP_EVENT_ERROR;
        }
    }
}

enum step_event step_trace_run(struct step_trace *trace, const uint64_t *address,
                               uint32_t n, bool syscalls, uint64_t timeout_ns)
{
    enum __ptrace_request how = syscalls ? PTRACE_SYSCALL : PTRACE_CONT;
    struct step_tracee *tracee = chosen(trace);
    enum step_event event;
    int signal = trace->signal;

    CLLM_ASSERT(n <= BREAKPOINTS);
    if (tracee->pid == 0)
        return STEP_EVENT_ENDED;
    if (!set_breakpoints(tracee, address, n)) {
        (void)fail("set breakpoints in", tracee->pid);
        return STEP_EVENT_ERROR;
    }
    trace->signal = 0;
    if (resume(tracee, how, signal) != 0)
        return STEP_EVENT_ERROR;
    event = await(trace, how, cllm_now_ns() + timeout_ns);
    if (tracee->pid != 0 && tracee->stopped)
        (void)poke_debug(tracee, 7, 0);
    return event;
}

enum step_event step_trace_finish_syscall(struct step_trace *trace)
{
    if (resume(chosen(trace), PTRACE_SYSCALL, 0) != 0)
        return STEP_EVENT_ERROR;
    return await(trace, PTRACE_SYSCALL, UINT64_MAX);
}

/* ---- look ---- */

bool step_trace_registers(const struct step_trace *trace, struct step_registers *out)
{
    struct user_regs_struct regs;

    if (ptrace(PTRACE_GETREGS, trace->tracee[trace->chosen].pid, NULL, &regs) != 0)
        return false;
    *out = (struct step_registers){
        .ip = regs.rip,
        .sp = regs.rsp,
        .ax = regs.rax,
        .di = regs.rdi,
        .syscall = regs.orig_rax,
        .argument = {regs.rdi, regs.rsi, regs.rdx, regs.rcx, regs.r8, regs.r9}};
    return true;
}

bool step_trace_ip(const struct step_trace *trace, uint64_t *ip)
{
    long word;

    errno = 0;
    word = ptrace(PTRACE_PEEKUSER, trace->tracee[trace->chosen].pid,
                  (void *)offsetof(struct user_regs_struct, rip), NULL);
    *ip = (uint64_t)word;
    return errno == 0;
}

bool step_trace_peek(const struct step_trace *trace, uint64_t address, void *out,
                     size_t bytes)
{
    struct iovec to = {.iov_base = out, .iov_len = bytes};
    struct iovec from = {.iov_base = (void *)(uintptr_t)address, .iov_len = bytes};

    return process_vm_readv(trace->tracee[trace->chosen].pid, &to, 1, &from, 1, 0) ==
           (ssize_t)bytes;
}

void step_trace_release(struct step_trace *trace)
{
    for (uint32_t i = 0; i < trace->n; i++) {
        struct step_tracee *tracee = &trace->tracee[i];

        if (tracee->pid == 0 || interrupt(tracee) != 0 || tracee->pid == 0)
            continue;
        (void)ptrace(PTRACE_DETACH, tracee->pid, NULL,
                     (void *)(intptr_t)(i == trace->chosen ? trace->signal : 0));
    }
    *trace = (struct step_trace){0};
}
