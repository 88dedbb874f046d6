/*
 * tools/lm.h - a trained model in memory, with its vocabulary: what cllm-generate and
 * cllm-eval have in common, and all they know of models.
 *
 * A model is read only once it is open. Readers are what a thread needs to run it.
 */
#ifndef CLLM_TOOLS_LM_H
#define CLLM_TOOLS_LM_H

#include "base/arena.h"
#include "formats/encoder.h"
#include "formats/tokenizer.h"
#include "model/decoder.h"
#include "model/model.h"
#include "tools/convert_tokenizer.h"

struct cllm_ops;

struct cllm_lm {
    char dir[CLLM_FILE_PATH_BYTES]; /* of a checkpoint, as found; or the file */
    uint64_t step;                  /* of a checkpoint, else 0 */
    char weights[17];               /* hash of all weights, 16 digits */
    struct cllm_parameters plan;
    uint32_t vocab, context;
    struct cllm_arena arena;
    float *w; /* the whole vector */
    struct cllm_convert_tokenizer found;
    struct cllm_tokenizer *tokenizer; /* found's; NULL: none */
    struct cllm_encoder *encoder;     /* of the main thread; NULL likewise */
};

/*
 * Open the model at @path: whatever formats/source.h reads; of a run its last checkpoint.
 * The vocabulary is at @tokenizer, or with NULL the one that lies in or beside it, in its
 * run, or with the run's training data; or bytes, when the model knows no more tokens
 * than there are. Returns 0 or a negative code with text; then there is nothing to close.
 */
int cllm_lm_open(struct cllm_lm *lm, const char *path, const char *tokenizer);
void cllm_lm_close(struct cllm_lm *lm); /* safe on a zeroed one */

/* Can tokens become text? Is there a vocabulary of any kind? */
bool cllm_lm_speaks(const struct cllm_lm *lm);

/* Tokens that have a meaning, at most as many as the model knows. */
uint32_t cllm_lm_known(const struct cllm_lm *lm);

/* Does @token end a text? And the one that begins one, or CLLM_TOKEN_NONE. */
bool cllm_lm_ends(const struct cllm_lm *lm, uint32_t token);
uint32_t cllm_lm_begin(const struct cllm_lm *lm);

/* The text of @token (below cllm_lm_known()) that follows @before (or CLLM_TOKEN_NONE);
 * *@bytes may be 0. It belongs to the model, or to @room. The model must speak. */
const char *cllm_lm_text(const struct cllm_lm *lm, uint32_t before, uint32_t token,
                         char room[1], size_t *bytes);

/* The tokens of @bytes of @text; heap, the caller frees. The model must have a tokenizer
 * of bytes or BPE: without one, or for a token beyond the model's, CLLM_EDATA with text.
 */
int cllm_lm_encode(const struct cllm_lm *lm, const char *text, size_t bytes,
                   uint32_t **tokens, uint32_t *n);

/* Bytes of text that @token stands for; 0 for special tokens, and without a tokenizer. */
size_t cllm_lm_token_bytes(const struct cllm_lm *lm, uint32_t token);

/* ---- running it ---- */

struct cllm_lm_reader {
    const struct cllm_lm *lm;
    struct cllm_arena arena;
    struct cllm_model model;     /* of CLLM_LM_WINDOWS */
    struct cllm_decoder decoder; /* of CLLM_LM_TEXT */
    const struct cllm_ops *ops;
    float *row; // (V) scratch
};

enum cllm_lm_use {
    CLLM_LM_WINDOWS, /* cllm_lm_loss() */
    CLLM_LM_TEXT     /* cllm_lm_feed() and what goes with it */
};

/* @ops must outlive the reader. Returns 0 or a negative code with text; then there is
 * nothing to finish. */
int cllm_lm_reader_init(struct cllm_lm_reader *reader, const struct cllm_lm *lm,
                        const struct cllm_ops *ops, enum cllm_lm_use use);
void cllm_lm_reader_fini(struct cllm_lm_reader *reader); /* safe on a zeroed one */

/* Sum of the losses, in nats, of tokens[1] to tokens[context], each given those before.
 * All are below the vocabulary. */
double cllm_lm_loss(struct cllm_lm_reader *reader, const uint32_t *tokens);

/* Tokens fed since the beginning. */
uint32_t cllm_lm_position(const struct cllm_lm_reader *reader);

/* Forget all but the first @position tokens; at most as many as have been fed. */
void cllm_lm_rewind(struct cllm_lm_reader *reader, uint32_t position);

/*
 * Feed @n >= 1 tokens below the vocabulary, for which the context must have room. Returns
 * the logits (V) of what follows, valid until the next call. With @losses (n - 1), the
 * loss of tokens[i + 1] to losses[i].
 */
const float *cllm_lm_feed(struct cllm_lm_reader *reader, const uint32_t *tokens,
                          uint32_t n, double *losses);

/* The loss of @token, in nats, where @logits (V) are those before it. */
double cllm_lm_token_loss(struct cllm_lm_reader *reader, const float *logits,
                          uint32_t token);

#endif /* CLLM_TOOLS_LM_H */
