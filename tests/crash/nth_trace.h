/*
 * tests/crash/nth_trace.h - a whole run under ptrace, one of its system calls failing.
 *
 * The programs are the ones that are shipped. A filter of seccomp stops the processes at
 * calls of one class alone; it lives together with the sandbox of the children, whose own
 * filter forbids more and never less.
 */
#ifndef CLLM_TESTS_CRASH_NTH_TRACE_H
#define CLLM_TESTS_CRASH_NTH_TRACE_H

#include "tests/crash/nano.h"

#define NTH_SHORT (-1) /* in place of an errno: half the bytes are moved */

/* Calls that fail in the same ways. */
struct nth_class {
    const char *name;
    int call[8];  /* ends with 0 or full; read(2), number 0, is named NTH_READ */
    int error[4]; /* errno or NTH_SHORT; ends with 0 or full */
    bool stays;   /* may also fail from the n-th on */
};

#define NTH_READ (-100)

extern const struct nth_class nth_class[];
extern const uint32_t nth_n_classes;
#define NTH_MOST_CLASSES 24

struct nth_fault {
    enum nano_role role;
    const struct nth_class *class; /* NULL: nothing fails, all classes are counted */
    int error;
    uint64_t n;   /* the n-th call of this role's processes */
    bool persist; /* and all that follow */
};

struct nth_outcome {
    uint64_t count[NANO_ROLES][NTH_MOST_CLASSES]; /* calls seen of what was traced */
    uint64_t injected;
    int status;           /* of the guardian, as waitpid() gives it */
    bool hang;            /* it had not ended in time, and was killed */
    bool stays;           /* a process had not ended a while after the guardian */
    int signal;           /* a crash's signal, 0 = nobody crashed */
    enum nano_role crash; /* who */
    char module[256];     /* the file whose code the signal met */
};

/*
 * Run @argv with output to @log until every process of it has ended, at most @limit_ns.
 * With @trace_calls false no call is stopped at (signals are seen all the same). Returns
 * 0 or a negative code with error text.
 */
int nth_trace_run(struct nth_outcome *out, char *const argv[], const char *log,
                  const struct nth_fault *fault, bool trace_calls, uint64_t limit_ns);

#endif /* CLLM_TESTS_CRASH_NTH_TRACE_H */
