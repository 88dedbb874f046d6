/*
 * tools/shm_life.h - does a run live? From the processes and the lock that its control
 * object and its directory name.
 */
#ifndef CLLM_TOOLS_SHM_LIFE_H
#define CLLM_TOOLS_SHM_LIFE_H

#include "tools/shm_view.h"

/* Fill life, pid, process_state, guardian_pid and heartbeat_age_ns of @view, whose header
 * and state are copied already. A zombie has ended: nobody reaped it yet. */
void cllm_shm_life_judge(struct cllm_shm_view *view, const struct cllm_control *control);

/* Does a process hold the lock @name of @run_dir: "run.lock" a guardian,
 * "generation.lock" whoever belongs to a Node Zero? */
bool cllm_shm_life_locked(const char *run_dir, const char *name);

/* Is Node Zero gone, for good or for a moment? What the slots say is then the past. */
bool cllm_shm_life_headless(const struct cllm_shm_view *view);

#endif /* CLLM_TOOLS_SHM_LIFE_H */
