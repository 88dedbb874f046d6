/*
 * formats/tokenizer_config.h - what Hugging Face's libraries expect beside a vocabulary:
 * tokenizer_config.json with class and special tokens, and special_tokens_map.json with
 * the same tokens for old versions.
 */
#ifndef CLLM_FORMATS_TOKENIZER_CONFIG_H
#define CLLM_FORMATS_TOKENIZER_CONFIG_H

#include "formats/tokenizer.h"

/* Both files for a byte-level BPE @tokenizer and a model of @context positions, into
 * directory @dir; one that came with the vocabulary stays as it is. Returns 0 or a
 * negative errno with text. */
int cllm_tokenizer_config_put(const struct cllm_tokenizer *tokenizer, uint32_t context,
                              const char *dir);

#endif /* CLLM_FORMATS_TOKENIZER_CONFIG_H */
