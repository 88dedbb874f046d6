/*
 * tests/shm_run.h - the shared memory of a small run, written as Node Zero and its
 * children would write it; no process of it exists.
 *
 * Every run's id begins with the pid of the test, so that tests that run at the same time
 * do not meet, and teardown finds what a failed test left.
 */
#ifndef CLLM_TESTS_SHM_RUN_H
#define CLLM_TESTS_SHM_RUN_H

#include "shm/control.h"
#include "tools/shm_runs.h"
#include "tools/shm_view.h"

#define SHM_RUN_STEP    120 /* committed */
#define SHM_RUN_OBJECTS 10  /* names in /dev/shm of one run */

extern char shm_run_id[32];  /* of the test that runs */
extern char shm_run_dir[64]; /* its run directory; not made */

int shm_run_setup(void **state);    /* names the run */
int shm_run_teardown(void **state); /* removes what the test left in shared memory */

struct cllm_geometry shm_run_geometry(void);

/* A whole run that this process made; @publish: finished. */
void shm_run_make(const char *run_id, bool publish);

/* The same, by a process that has ended since. @old: its heartbeat was 182 s ago. */
void shm_run_make_dead(const char *run_id, bool publish, bool old);

/* Names of this test in shared memory. */
int shm_run_n_left(void);

/* Scan and take the run shm_run_id; and let both go. */
void shm_run_take(struct cllm_shm_runs *runs, struct cllm_shm_view *view);
void shm_run_drop(struct cllm_shm_runs *runs, struct cllm_shm_view *view);

#endif /* CLLM_TESTS_SHM_RUN_H */
