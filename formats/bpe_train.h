/*
 * formats/bpe_train.h - a vocabulary from counted pieces.
 *
 * Begins with the 256 bytes; again and again the pair of neighbouring tokens that is most
 * frequent becomes a token, until there are as many as wanted or no pair occurs twice.
 * Of pairs equally frequent the one with the smaller left id is taken, then the smaller
 * right id. The result is a function of the counts alone.
 *
 * Ids are GPT-2's: the bytes in the order of its alphabet, the merges by rank, last
 * <|endoftext|>.
 */
#ifndef CLLM_FORMATS_BPE_TRAIN_H
#define CLLM_FORMATS_BPE_TRAIN_H

#include "formats/bpe_counts.h"
#include "formats/tokenizer.h"

#define CLLM_BPE_VOCAB_MIN 257 /* bytes and <|endoftext|> */

/* Told now and then how many tokens there are; nonzero stops training with -EINTR. */
typedef int (*cllm_bpe_progress_fn)(void *context, uint32_t n_tokens);

/*
 * Train @vocab tokens (CLLM_BPE_VOCAB_MIN to CLLM_TOKENIZER_MAX), <|endoftext|> included.
 * @*out, which the caller frees, has fewer when the pieces do not yield as many: see
 * cllm_tokenizer_size(). @progress may be NULL. Returns 0, -ENOMEM, -EINTR, or
 * CLLM_ECONFIG with text.
 */
int cllm_bpe_train(const struct cllm_bpe_counts *counts, uint32_t vocab,
                   cllm_bpe_progress_fn progress, void *context,
                   struct cllm_tokenizer **out);

#endif /* CLLM_FORMATS_BPE_TRAIN_H */
