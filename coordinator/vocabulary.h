/*
 * coordinator/vocabulary.h - the run's own copy of the tokenizer's files.
 *
 * A checkpoint should load elsewhere as it is, so it carries the vocabulary; the saver
 * cannot see the data's directory, but it can see the run's.
 */
#ifndef CLLM_COORDINATOR_VOCABULARY_H
#define CLLM_COORDINATOR_VOCABULARY_H

struct cllm_config;
struct cllm_plan;

/*
 * Copy the tokenizer that lies beside the training data, else that of the model which
 * training begins from, into the run directory: once, whole or not at all. Without any
 * there is nothing to do. Returns 0; negative errno with text.
 */
int cllm_vocabulary_keep(const struct cllm_config *config, const struct cllm_plan *plan);

#endif /* CLLM_COORDINATOR_VOCABULARY_H */
