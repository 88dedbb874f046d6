/*
 * saver/save.h - a committed version of the parameters to disk, while training goes on.
 */
#ifndef CLLM_SAVER_SAVE_H
#define CLLM_SAVER_SAVE_H

#include "saver/saver.h"

/*
 * Write the checkpoint of @step, which is in params[@version]: durable when this returns
 * 0, read back and held against the hashes of the workers that computed it. A checkpoint
 * of that step that is there already stays if it is whole and of the same run, else it is
 * replaced. `last` and `best` are set, old checkpoints are removed.
 *
 * Returns -EBADMSG with text when the bytes in memory are not what the workers wrote;
 * another negative code with text when the disk did not take them (full, broken, no
 * permission). Older checkpoints are then untouched; call cllm_save_abandon().
 */
int cllm_save_step(struct cllm_saver *saver, uint64_t step, uint32_t version);

/* Remove what a failed cllm_save_step() left. Says so when it cannot. */
void cllm_save_abandon(const struct cllm_saver *saver, uint64_t step);

#endif /* CLLM_SAVER_SAVE_H */
