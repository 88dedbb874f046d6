/*
 * tests/deaths.h - children that attach to a small run (tests/control_temp.h) as worker 1
 * does, and die of every fault signal.
 */
#ifndef CLLM_TESTS_DEATHS_H
#define CLLM_TESTS_DEATHS_H

#include <sys/types.h>

#include "shm/crash.h"

#define DEATHS_SLOT 1

typedef void (*death_fn)(void);

void die_by_null_write(void);
void die_by_null_member(void);
void die_by_null_call(void);
void die_by_protected_write(void);
void die_by_foreign_write(void);
void die_by_short_object(void);
void die_by_stack_overflow(void);
void die_by_assert(void);
void die_by_abort(void);
void die_by_trap(void);
void die_by_division(void);
void die_by_breakpoint(void);
void die_by_waiting(void);
void die_by_bad_frame(void);
void die_by_unreal_address(void);

/* Another thread than the first dies by @how: the second of two, or both @at_once. */
void die_in_thread(void);
void deaths_in_thread(death_fn how, bool at_once);

/* A new child in the slot of @node_zero's run, which dies. */
pid_t deaths_fork(struct cllm_control *node_zero, death_fn how);

/* Let a child die; its record, and the signal that ended it. */
int deaths_wait(struct cllm_control *node_zero, death_fn how,
                struct cllm_crash_record *record);

#endif /* CLLM_TESTS_DEATHS_H */
