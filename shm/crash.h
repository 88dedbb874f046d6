/*
 * shm/crash.h - the last thing a child does: say where it was when a fault signal hit.
 *
 * The handler runs on a stack of its own, calls nothing but async-signal-safe functions
 * and pure arithmetic, fills struct cllm_crash_record in the slot's pages, and lets the
 * signal end the process as if there were no handler: the same exit status, the same
 * core. Whoever reads a record (Node Zero, tools) reads the words of a process that was
 * broken: cllm_crash_read() copies and checks.
 */
#ifndef CLLM_SHM_CRASH_H
#define CLLM_SHM_CRASH_H

#include "shm/control.h"

/*
 * From now on a fault signal leaves a record in @control's crash page. Once in a process,
 * early; @control stays where it is until cllm_crash_fini().
 */
void cllm_crash_init(const struct cllm_control *control, enum cllm_role role,
                     uint32_t generation);

/*
 * In thread @thread of this process, not its first, once, after cllm_crash_init(): faults
 * in it leave a record too, and an overflow of its stack is one. It gets a stack for the
 * handler, which stays.
 */
void cllm_crash_thread(uint32_t thread);

/* Records are no longer written; the page may be unmapped. Safe without init. */
void cllm_crash_fini(void);

/*
 * An assert has failed with @text and the abort comes next: keep the text, which
 * must stay, and the frames of the caller: the C library's own would hide them.
 * Async-signal-safe.
 */
void cllm_crash_note_assert(const char *text);

/* Is @signo one that leaves a record? */
bool cllm_crash_signal(int signo);

/*
 * Copy the record in @slot's page. True when it is whole and is that slot's: hash, slot
 * and role agree, every count is in range, texts end and are printable. Its generation
 * may be an older one of the slot: compare.
 */
bool cllm_crash_read(const struct cllm_control *control, uint32_t slot,
                     struct cllm_crash_record *out);

/* What record.sum must be. */
uint64_t cllm_crash_sum(const struct cllm_crash_record *record);

#endif /* CLLM_SHM_CRASH_H */
