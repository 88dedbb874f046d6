/*
 * coordinator/crashes.h - what is kept of a process that a fault signal ended.
 *
 * Its crash record is copied out of its slot before the slot is used again, named in the
 * obituary, and written to RUN/crash/<n>.txt for people. A run directory that cannot be
 * written costs the file and a warning, never the run.
 */
#ifndef CLLM_COORDINATOR_CRASHES_H
#define CLLM_COORDINATOR_CRASHES_H

#include "coordinator/children.h"
#include "shm/control.h"

#define CLLM_CRASHES_KEPT 100 /* newest files; older ones are removed */

/*
 * The process of @slot was ended by a signal, is reaped, and its command still has its
 * pid and generation. Fills ending->where and ending->crash from its record, if it left
 * one and the signal was a fault. @binaries: directory of the programs.
 */
void cllm_crashes_keep(const struct cllm_control *control, uint32_t slot,
                       const char *binaries, struct cllm_ending *ending);

#endif /* CLLM_COORDINATOR_CRASHES_H */
