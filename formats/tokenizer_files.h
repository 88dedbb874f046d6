/*
 * formats/tokenizer_files.h - the files of a vocabulary that travel with data, runs,
 * checkpoints and models: always under the same names, as Hugging Face has them.
 */
#ifndef CLLM_FORMATS_TOKENIZER_FILES_H
#define CLLM_FORMATS_TOKENIZER_FILES_H

#include "base/base.h"

#define CLLM_N_TOKENIZER_FILES 9
#define CLLM_TOKENIZER_DIR     "tokenizer" /* of a run directory */

/* tokenizer.json, vocab.json ...; in byte order of their names. */
extern const char *const cllm_tokenizer_files[CLLM_N_TOKENIZER_FILES];

/* Is there any of the first three that make a vocabulary in @dir? */
bool cllm_tokenizer_files_in(const char *dir);

/* Copy those of directory @from that @to does not have; durable. Returns how many, or a
 * negative errno with text. */
int cllm_tokenizer_files_copy(const char *from, const char *to);

#endif /* CLLM_FORMATS_TOKENIZER_FILES_H */
