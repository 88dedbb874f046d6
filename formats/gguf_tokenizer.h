/*
 * formats/gguf_tokenizer.h - the vocabulary inside a GGUF file.
 *
 * Byte-level BPE is tokenizer.ggml.model "gpt2": tokens in GPT-2's alphabet of bytes,
 * merges "a b", and a name for the pattern, which llama.cpp looks up. SentencePiece is
 * model "llama": tokens with U+2581 in place of spaces, scores, types.
 */
#ifndef CLLM_FORMATS_GGUF_TOKENIZER_H
#define CLLM_FORMATS_GGUF_TOKENIZER_H

#include "formats/gguf_writer.h"
#include "formats/spm.h"
#include "formats/tokenizer.h"

/* Put @tokenizer for a model of @vocab tokens; what the model has beyond the tokenizer is
 * marked unused. CLLM_EREFUSED with text when the tokenizer has more, or a pattern that
 * llama.cpp does not know. */
int cllm_gguf_put_tokenizer(struct cllm_gguf_writer *writer,
                            const struct cllm_tokenizer *tokenizer, uint32_t vocab);

/* The same of a SentencePiece vocabulary, which has exactly the model's tokens. */
int cllm_gguf_put_spm(struct cllm_gguf_writer *writer, const struct cllm_spm *spm);

/* Of a model "gpt2": write vocab.json and merges.txt into directory @dir. Returns 0; 1
 * when @gguf has no such tokenizer; CLLM_EDATA or a negative errno with text. */
int cllm_gguf_save_tokenizer(const struct cllm_gguf *gguf, const char *dir);

#endif /* CLLM_FORMATS_GGUF_TOKENIZER_H */
