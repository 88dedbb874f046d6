/*
 * model/decoder.h - tokens as they come: logits of the next, with keys and values kept.
 *
 * A text is fed in rows, so that its matrix products are products of matrices; a token
 * alone is a text of one. The bits do not depend on how a text is cut.
 */
#ifndef CLLM_MODEL_DECODER_H
#define CLLM_MODEL_DECODER_H

#include "base/arena.h"
#include "base/base.h"

struct cllm_ops;
struct cllm_parameters;

#define CLLM_DECODER_ROWS 32 /* of a text at once; n below is that, or the context */
#define CLLM_DECODER_LOSS 8  /* rows of logits at once */

struct cllm_decoder {
    const struct cllm_parameters *plan; /* must outlive this */
    const struct cllm_ops *ops;
    uint32_t position;  /* tokens fed since the reset; at most context */
    float *keys;        // (L,context,KV D), turned
    float *values;      // (L,context,KV D)
    float *x, *norm;    // (n,C)
    float *mean, *rstd; // (n)
    float *qkv;         // (n,(H + 2 KV) D)
    float *att;         // (n,H D)
    float *gate;        // (n,F) llama
    float *fc, *act;    // (n,F)
    float *scores;      // (n,context)
    float *points;      // (3,context) with crystalline_bias, to the next 16
    float *similar;     // (n,context) likewise
    float *logits;      // (V)
    float *rows;        // (CLLM_DECODER_LOSS,V)
    float *rope;        // (context,D) llama
};

/* Bytes that cllm_decoder_init() takes from an arena: exact. */
size_t cllm_decoder_arena_bytes(const struct cllm_parameters *plan);
void cllm_decoder_init(struct cllm_decoder *decoder, const struct cllm_parameters *plan,
                       const struct cllm_ops *ops, struct cllm_arena *arena);

/* Forget all tokens. */
void cllm_decoder_reset(struct cllm_decoder *decoder);

/* Forget all but the first @position tokens; at most as many as were fed. */
void cllm_decoder_rewind(struct cllm_decoder *decoder, uint32_t position);

/*
 * Feed @n >= 1 @tokens (below V) at the next positions and return the logits (V) of the
 * token after them, valid until the next call; position + n must not exceed the context.
 * With @losses (n - 1; may be NULL), the loss in nats of tokens[i + 1] goes to losses[i].
 */
const float *cllm_decoder_feed(struct cllm_decoder *decoder, const float *w,
                               const uint32_t *tokens, uint32_t n, double *losses);

/* The same of one token. The caller keeps position below context: when it is full, rewind
 * and feed the newer half of the text again. */
const float *cllm_decoder_step(struct cllm_decoder *decoder, const float *w,
                               uint32_t token);

#endif /* CLLM_MODEL_DECODER_H */
