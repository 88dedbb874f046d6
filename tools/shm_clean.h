/*
 * tools/shm_clean.h - remove the shared memory of runs that nobody computes any more.
 */
#ifndef CLLM_TOOLS_SHM_CLEAN_H
#define CLLM_TOOLS_SHM_CLEAN_H

#include "tools/shm_view.h"

/*
 * May the objects of the run of @view be removed? False, with the reason in @why: Node
 * Zero lives, or a process can still write the objects, or they are too young to tell.
 * @locked: the caller holds the lock of the run directory, so a fresh heartbeat of a dead
 * Node Zero is its last, and no run begins there.
 */
bool cllm_shm_clean_allowed(const struct cllm_shm_view *view, bool locked, char *why,
                            size_t why_bytes);

/*
 * Remove every object of @run, the control object last, so that an interrupted clean can
 * be repeated. Holds the lock of the run directory meanwhile; where there is none, waits
 * up to 3 s for a fresh heartbeat to grow old. Returns 0, -EBUSY with the reason as text
 * when the run must stay, or another negative errno with text. @dry_run: removes nothing.
 */
int cllm_shm_clean_run(const struct cllm_shm_run *run, bool dry_run);

#endif /* CLLM_TOOLS_SHM_CLEAN_H */
