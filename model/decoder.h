/*
 * model/decoder.h - one token at a time: logits of the next, with keys and values kept.
 */
#ifndef CLLM_MODEL_DECODER_H
#define CLLM_MODEL_DECODER_H

#include "base/arena.h"
#include "base/base.h"

struct cllm_parameters;
struct cllm_ops;

struct cllm_decoder {
    const struct cllm_parameters *plan; /* must outlive this */
    const struct cllm_ops *ops;
    uint32_t position; /* tokens fed since the reset; at most context */
    float *keys;       // (L,context,C)
    float *values;     // (L,context,C)
    float *x, *norm;   // (C)
    float *qkv;        // (3C)
    float *att;        // (C)
    float *fc, *act;   // (4C)
    float *scores;     // (context)
    float *logits;     // (V)
};

/* Bytes that cllm_decoder_init() takes from an arena: exact. */
size_t cllm_decoder_arena_bytes(const struct cllm_parameters *plan);
void cllm_decoder_init(struct cllm_decoder *decoder, const struct cllm_parameters *plan,
                       const struct cllm_ops *ops, struct cllm_arena *arena);

/* Forget all tokens. */
void cllm_decoder_reset(struct cllm_decoder *decoder);

/*
 * Feed @token (below V) at the next position and return the logits (V) of the token after
 * it, valid until the next call. The caller keeps position below context: when it is
 * full, reset and feed the newer half of the text again.
 */
const float *cllm_decoder_step(struct cllm_decoder *decoder, const float *w,
                               uint32_t token);

#endif /* CLLM_MODEL_DECODER_H */
