/*
 * tools/convert_tokenizer.h - the vocabulary that travels with a model.
 */
#ifndef CLLM_TOOLS_CONVERT_TOKENIZER_H
#define CLLM_TOOLS_CONVERT_TOKENIZER_H

#include "formats/file.h"
#include "formats/source.h"
#include "formats/spm.h"
#include "formats/tokenizer.h"

struct cllm_convert_tokenizer {
    struct cllm_tokenizer *tokenizer; /* bytes or BPE; NULL: none */
    struct cllm_spm spm;              /* n_tokens 0: none */
    char path[CLLM_FILE_PATH_BYTES];  /* where it was found; "" none */
    char made[CLLM_FILE_PATH_BYTES];  /* directory to be removed again; "" none */
};

/*
 * Load what @path names (see cllm_tokenizer_load(); or llama2.c's tokenizer.bin); with
 * NULL what lies beside or inside @source, bytes for a vocabulary of 256; else there is
 * none. A tokenizer of more tokens than the model is CLLM_EREFUSED with text.
 */
int cllm_convert_tokenizer_find(struct cllm_convert_tokenizer *found,
                                const struct cllm_source *source, const char *path);
void cllm_convert_tokenizer_fini(struct cllm_convert_tokenizer *found);

/* Write its files into directory @dir: those that lie beside the source as they are, the
 * rest of what Hugging Face expects made to fit. @context is the model's. */
int cllm_convert_tokenizer_save(const struct cllm_convert_tokenizer *found,
                                const struct cllm_source *source, const char *dir);

/* "bpe, 8192 tokens, from DIR"; for people. */
void cllm_convert_tokenizer_describe(const struct cllm_convert_tokenizer *found,
                                     char *out, size_t bytes);

#endif /* CLLM_TOOLS_CONVERT_TOKENIZER_H */
