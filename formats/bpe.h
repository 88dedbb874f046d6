/*
 * formats/bpe.h - the merges of one piece: from bytes to the fewest steps' tokens.
 *
 * The merge of least rank comes first, of equal ones the leftmost: the rule of GPT-2,
 * tiktoken and Hugging Face's tokenizers. Short pieces, nearly all, are searched anew
 * after each merge; long ones keep a heap, so that a megabyte of one letter takes
 * n log n steps.
 */
#ifndef CLLM_FORMATS_BPE_H
#define CLLM_FORMATS_BPE_H

#include "formats/vocab.h"

/* Memory for long pieces; zeroed before the first use. */
struct cllm_bpe_scratch {
    uint32_t *words;
    size_t room;
};

void cllm_bpe_scratch_fini(struct cllm_bpe_scratch *scratch);

/* The tokens of @piece into @ids, which has room for @bytes; *n is how many. Merges of
 * rank @limit and above are left out; UINT32_MAX takes all. Returns 0, or -ENOMEM without
 * text. */
int cllm_bpe_merge(const struct cllm_vocab *vocab, struct cllm_bpe_scratch *scratch,
                   const uint8_t *piece, size_t bytes, uint32_t limit, uint32_t *ids,
                   size_t *n);

#endif /* CLLM_FORMATS_BPE_H */
