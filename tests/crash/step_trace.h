/*
 * tests/crash/step_trace.h - the processes of a run under ptrace: one of them goes an
 * instruction at a time, the others go freely or stand still.
 *
 * Every process is seized, not attached to: nobody is stopped by a signal, so nothing
 * that looks for stopped processes sees any. The tracer's end ends the tracees.
 */
#ifndef CLLM_TESTS_CRASH_STEP_TRACE_H
#define CLLM_TESTS_CRASH_STEP_TRACE_H

#include <sys/types.h>

#include "base/base.h"

#define STEP_TRACE_CAP 64

struct step_tracee {
    pid_t pid; /* 0 = it has ended */
    bool stopped;
};

struct step_trace {
    struct step_tracee tracee[STEP_TRACE_CAP];
    uint32_t n;
    uint32_t chosen;    /* index of the one that is stepped */
    int signal;         /* to be delivered to it with its next instruction; 0 = none */
    uint64_t n_stepped; /* instructions */
};

enum step_event {
    STEP_EVENT_ONE = 0,    /* one instruction (or one iteration of a repeated one) done */
    STEP_EVENT_BREAKPOINT, /* stands before the instruction of a breakpoint */
    STEP_EVENT_SYSCALL,    /* stands in the entry of a system call */
    STEP_EVENT_TIMEOUT,    /* stands where it was when the time was up */
    STEP_EVENT_ENDED,      /* the process is gone */
    STEP_EVENT_ERROR       /* with error text */
};

/* Seize @pid; it goes on running. Returns its index, or a negative errno with text
 * (-EPERM: ptrace is not permitted). A process that is seized already keeps its index. */
int step_trace_seize(struct step_trace *trace, pid_t pid);

/* Choose the process that is stepped and stop it where it is. */
int step_trace_choose(struct step_trace *trace, uint32_t index);

/* Stop all others where they are; and let them go on. */
int step_trace_freeze(struct step_trace *trace);
int step_trace_thaw(struct step_trace *trace);

/* One instruction of the chosen process. A system call is one, however long it waits. */
enum step_event step_trace_step(struct step_trace *trace);

/* Run it at full speed up to one of @n (at most 4) addresses, or to the next system call
 * as well if @syscalls, for at most @timeout_ns. */
enum step_event step_trace_run(struct step_trace *trace, const uint64_t *address,
                               uint32_t n, bool syscalls, uint64_t timeout_ns);

/* From the entry of a system call to its end, however long it waits: STEP_EVENT_SYSCALL.
 */
enum step_event step_trace_finish_syscall(struct step_trace *trace);

/* Registers and memory of the chosen process, which stands still. */
struct step_registers {
    uint64_t ip, sp, ax, di;
    uint64_t syscall;     /* in the entry of one: its number */
    uint64_t argument[6]; /* where a function begins */
};
bool step_trace_registers(const struct step_trace *trace, struct step_registers *out);
bool step_trace_ip(const struct step_trace *trace, uint64_t *ip);
bool step_trace_peek(const struct step_trace *trace, uint64_t address, void *out,
                     size_t bytes);

/* Let all go, for good. */
void step_trace_release(struct step_trace *trace);

#endif /* CLLM_TESTS_CRASH_STEP_TRACE_H */
