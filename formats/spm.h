/*
 * formats/spm.h - llama2.c's tokenizer.bin: a SentencePiece vocabulary with scores.
 *
 *     int32 longest token | for each token: f32 score, int32 bytes, the bytes
 *
 * Tokens 0, 1 and 2 are unknown, begin and end of text, 3 to 258 single bytes "<0x0A>".
 * The file does not say how many tokens there are: the model does. CLLM does not encode
 * with it; it travels with a model into GGUF files, and its pieces make text of tokens.
 */
#ifndef CLLM_FORMATS_SPM_H
#define CLLM_FORMATS_SPM_H

#include "base/base.h"

#define CLLM_SPM_FIRST_BYTE 3 /* token of byte 0 */
#define CLLM_SPM_BOS        1
#define CLLM_SPM_EOS        2

struct cllm_spm {
    char *path;     /* heap */
    uint8_t *bytes; /* the file; heap; NULL when parsed from memory */
    uint32_t n_tokens;
    struct cllm_spm_token {
        const char *text; /* not terminated */
        uint32_t bytes;
        float score;
    } * token; /* [n_tokens]; heap */
};

/* Read the tokenizer of a model with @vocab tokens. Returns 0; CLLM_EDATA with text
 * (file, offset, expected, found); a negative errno with text. On failure nothing is
 * left. */
int cllm_spm_open(struct cllm_spm *spm, const char *path, uint32_t vocab);

/* The same from memory, which must outlive @spm. */
int cllm_spm_parse(struct cllm_spm *spm, const void *data, size_t bytes, uint32_t vocab,
                   const char *name);

/* For zeroed memory a no-op. */
void cllm_spm_close(struct cllm_spm *spm);

#endif /* CLLM_FORMATS_SPM_H */
