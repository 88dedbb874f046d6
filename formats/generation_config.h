/*
 * formats/generation_config.h - generation_config.json: the tokens with which a text
 * begins and ends, as Hugging Face's libraries read it.
 */
#ifndef CLLM_FORMATS_GENERATION_CONFIG_H
#define CLLM_FORMATS_GENERATION_CONFIG_H

#include "formats/json.h"

#define CLLM_GENERATION_CONFIG "generation_config.json"
#define CLLM_GENERATION_NONE   UINT32_MAX /* no such token, as CLLM_TOKEN_NONE */

/* The file into directory @dir, unless one came with the vocabulary. @bos NONE: a text
 * has neither begin nor end. Returns 0 or a negative errno with text. */
int cllm_generation_config_put(uint32_t bos, uint32_t eos, const char *dir);

/*
 * Give @config, the object of a config.json, the begin and end that @dir's file has: each
 * a token below @vocab or a list of them, else null. Without the file @config stays as it
 * is. Returns 0; CLLM_EDATA or a negative errno with text.
 */
int cllm_generation_config_apply(const char *dir, uint32_t vocab, json_t *config);

#endif /* CLLM_FORMATS_GENERATION_CONFIG_H */
