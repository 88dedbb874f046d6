/*
 * formats/bpe_counts.h - how often each piece occurs in a corpus: all that training
 * needs.
 *
 * One object for each thread, merged at the end: the sums, and so the vocabulary, are the
 * same whatever the threads and the order of texts. Memory is bounded: beyond the cap
 * counting stops with -E2BIG, for the whole corpus if for any part of it.
 */
#ifndef CLLM_FORMATS_BPE_COUNTS_H
#define CLLM_FORMATS_BPE_COUNTS_H

#include "base/base.h"

struct cllm_bpe_counts; /* opaque, heap */

/* A sensible cap, in bytes: some six million different pieces, gigabytes of text. With
 * what tables leave free it is about double, and training takes as much again. */
#define CLLM_BPE_COUNTS_CAP ((size_t)256 << 20)

/* Pieces of one byte have no pairs and are not counted. Longer pieces (lines of base64,
 * rows of dashes) are counted in parts of this length, so that they cannot make training
 * slow. */
#define CLLM_BPE_PIECE_BYTES 256

/* @pattern is "gpt2", "cl100k", "qwen2" or "o200k"; @cap_bytes bounds what is held.
 * Returns 0, -ENOMEM, or CLLM_ECONFIG for another pattern, with text. */
int cllm_bpe_counts_new(struct cllm_bpe_counts **out, const char *pattern,
                        size_t cap_bytes);
void cllm_bpe_counts_free(struct cllm_bpe_counts **counts);

/* Count the pieces of @text, any bytes: a document, or a part of one that
 * cllm_tokenizer_cut() or cllm_bpe_counts_cut() allows. Returns 0, -ENOMEM or -E2BIG,
 * without text, since several threads may count at once. */
int cllm_bpe_counts_add(struct cllm_bpe_counts *counts, const void *text, size_t bytes);

/* Where text may be cut; see cllm_tokenizer_cut(). */
size_t cllm_bpe_counts_cut(const struct cllm_bpe_counts *counts, const void *text,
                           size_t bytes);

/* Add what @from holds; @from is empty afterwards. Both have the same pattern. Returns as
 * cllm_bpe_counts_add() does. */
int cllm_bpe_counts_merge(struct cllm_bpe_counts *counts, struct cllm_bpe_counts *from);

/* ---- what was counted ---- */

struct cllm_bpe_piece {
    const uint8_t *bytes;
    uint32_t n_bytes;
    uint64_t count;
};

const char *cllm_bpe_counts_pattern(const struct cllm_bpe_counts *counts);
uint32_t cllm_bpe_counts_size(const struct cllm_bpe_counts *counts); /* distinct pieces */
struct cllm_bpe_piece cllm_bpe_counts_piece(const struct cllm_bpe_counts *counts,
                                            uint32_t index);

#endif /* CLLM_FORMATS_BPE_COUNTS_H */
