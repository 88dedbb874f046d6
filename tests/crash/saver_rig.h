/*
 * tests/crash/saver_rig.h - the saver's own code in this process, without the process
 * around it: what saver/main.c does with a SAVE, called by hand.
 */
#ifndef CLLM_TESTS_CRASH_SAVER_RIG_H
#define CLLM_TESTS_CRASH_SAVER_RIG_H

#include "saver/saver.h"
#include "tests/saver_run.h"

struct saver_rig {
    struct saver_run run; /* the test plays Node Zero and the workers */
    struct cllm_child child;
    struct cllm_saver saver;
    char checkpoints[CLLM_FILE_PATH_BYTES];
};

/* A run of the size @size, with @keep checkpoints kept; no saver yet. */
void saver_rig_open(struct saver_rig *rig, const struct saver_run_size *size, int keep);
void saver_rig_close(struct saver_rig *rig);

/* A saver begins (it removes what another one left), or ends. Returns cllm_saver_init().
 */
int saver_rig_start(struct saver_rig *rig);
void saver_rig_stop(struct saver_rig *rig);

/* Commit @step in memory and save it as the saver does, abandoning what fails. Returns
 * what the saver would report. */
int saver_rig_save(struct saver_rig *rig, uint64_t step, uint64_t best_step);

/* Save the step that saver_rig_save() committed last once more. */
int saver_rig_save_again(struct saver_rig *rig, uint64_t step);

#endif /* CLLM_TESTS_CRASH_SAVER_RIG_H */
