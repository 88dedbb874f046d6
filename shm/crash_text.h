/*
 * shm/crash_text.h - crash records for people: one phrase, or all of it.
 *
 * For records that cllm_crash_read() has let through.
 */
#ifndef CLLM_SHM_CRASH_TEXT_H
#define CLLM_SHM_CRASH_TEXT_H

#include <stdio.h>

#include "shm/crash.h"

#define CLLM_CRASH_PHRASE 160 /* bytes of a phrase */
#define CLLM_CRASH_PLACE  96  /* bytes of a place */

/*
 * What happened and where, in one phrase:
 *     "write to params0+0x1f40 (weights, chunk 3, read-only here) at cllm-worker+0x5a31"
 * and, unless it was the process's first, " in thread 2". For a failed assert its text.
 * Chunks are those of @geometry.
 */
void cllm_crash_phrase(char out[CLLM_CRASH_PHRASE],
                       const struct cllm_crash_record *record,
                       const struct cllm_geometry *geometry);

/* What lies at the fault's address: "NULL+0x8", "ring+0x40 (read-only here)", ... */
void cllm_crash_place(char out[CLLM_CRASH_PLACE], const struct cllm_crash_record *record,
                      const struct cllm_geometry *geometry);

/* Where code is: "cllm-worker+0x5a31", or the bare address. */
void cllm_crash_code(char out[CLLM_CRASH_PLACE], const struct cllm_crash_record *record,
                     uint64_t address);

/* "SIGSEGV", and what its si_code means: "no permission". */
const char *cllm_crash_signal_name(int signo, char out[16]);
const char *cllm_crash_code_name(int signo, int code);

/* All of it, many lines; @binaries: directory of the programs, for addr2line. */
void cllm_crash_print(FILE *out, const struct cllm_crash_record *record,
                      const struct cllm_geometry *geometry, const char *binaries);

#endif /* CLLM_SHM_CRASH_TEXT_H */
