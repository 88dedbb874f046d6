/*
 * tests/crash/step_code.h - what stands at an address of the program that is stepped:
 * an instruction like any other, a system call, a repeated store, or the beginning of a
 * body that only computes and need not be stepped.
 */
#ifndef CLLM_TESTS_CRASH_STEP_CODE_H
#define CLLM_TESTS_CRASH_STEP_CODE_H

#include "tests/crash/nano.h"
#include "tests/crash/step_symbols.h"
#include "tests/crash/step_trace.h"

enum step_kind {
    STEP_KIND_UNKNOWN = 0,
    STEP_KIND_PLAIN,
    STEP_KIND_SYSCALL,
    STEP_KIND_REPEAT,   /* rep movs, rep stos */
    STEP_KIND_CALL,     /* a function of a library */
    STEP_KIND_BODY,     /* a function of the program that writes nothing shared */
    STEP_KIND_GRADIENT, /* one that writes the lane's buffer, and the progress counter */
    STEP_KIND_LEAVE     /* where a turn of the role ends */
};

#define STEP_CODE_BODIES 8

struct step_known {
    uint64_t ip;
    uint32_t kind;
};

struct step_code {
    struct step_symbols symbols;
    uint64_t enter, leave; /* functions at which a turn of the role begins and ends */
    uint64_t bump;         /* worker: counts progress, in the midst of a gradient */
    uint64_t body[STEP_CODE_BODIES]; /* 0 = the program has none of that name */
    struct step_known *known;        /* heap, a hash table by ip */
};

/* Read the program of @process. Returns 0 or a negative code with error text. */
int step_code_open(struct step_code *code, const struct nano_process *process);
void step_code_close(struct step_code *code); /* safe on a zeroed struct */

enum step_kind step_code_kind(struct step_code *code, const struct step_trace *trace,
                              uint64_t ip);

/* May system call @number change the run's directory? */
bool step_code_changes_files(uint64_t number);

/* The process stands where a function of a library begins: is it given an address in an
 * object of the run other than a lane buffer? If not, it can write nothing shared. */
bool step_code_call_is_shared(const struct step_code *code,
                              const struct step_trace *trace);

/* The process stands before a repeated store at @ip: does it store into an object of the
 * run other than a lane buffer? If not, *@next is the address after it. */
bool step_code_repeat_is_shared(const struct step_code *code,
                                const struct step_trace *trace, uint64_t ip,
                                uint64_t *next);

/* The process stands where a function begins: the address that it returns to; 0 when that
 * cannot be read. */
uint64_t step_code_return(const struct step_trace *trace);

#endif /* CLLM_TESTS_CRASH_STEP_CODE_H */
