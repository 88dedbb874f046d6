/*
 * saver/load.h - a checkpoint from disk into a version of the parameters.
 */
#ifndef CLLM_SAVER_LOAD_H
#define CLLM_SAVER_LOAD_H

#include "saver/saver.h"
#include "shm/layout.h"

/*
 * Fill chunks [@asked->chunk_lo, @asked->chunk_hi) of params[@asked->target] from the
 * checkpoint of @asked->step: w, m, v, zero between the tensors. @report->result[i].sum
 * gets the hash of chunk chunk_lo + i. The checkpoint is verified in full before the
 * first chunk of a step is read, once. Returns 0; CLLM_EDATA with text for a checkpoint
 * that is damaged or of another model; another negative code with text.
 */
int cllm_load_chunks(struct cllm_saver *saver, const struct cllm_assignment *asked,
                     struct cllm_report *report);

#endif /* CLLM_SAVER_LOAD_H */
