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
 * A run begins: copy the tokenizer that lies beside the training data, else that of the
 * model which training begins from, into the run directory, whole or not at all, and add
 * what Hugging Face expects beside it (formats/tokenizer_config.h). A rank file, OpenAI's
 * names and what lies inside a file of GGUF become tokenizer.json, vocab.json and
 * merges.txt. What an attempt that
 * was given up has left there is replaced, or, when there is no tokenizer, put aside.
 * Returns 0; a negative code with text.
 */
int cllm_vocabulary_keep(const struct cllm_config *config, const struct cllm_plan *plan);

#endif /* CLLM_COORDINATOR_VOCABULARY_H */
