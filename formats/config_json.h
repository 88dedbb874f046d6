/*
 * formats/config_json.h - a model's config.json as Hugging Face has it: GPT2LMHeadModel
 * and LlamaForCausalLM.
 *
 * What is written loads in transformers, old and new (the RoPE base stands there in both
 * forms). What is read may leave out all that has a usual value; what CLLM cannot compute
 * (biases, another activation, unknown kinds of scaling) is refused with its name.
 */
#ifndef CLLM_FORMATS_CONFIG_JSON_H
#define CLLM_FORMATS_CONFIG_JSON_H

#include "base/model_config.h"
#include "formats/json.h"

/* The configuration of the completed @model; the caller json_decref()s. NULL when memory
 * is out. */
json_t *cllm_config_json_pack(const struct cllm_model_config *model, double init_range);

/*
 * The other way: @model completed and checked, @init_range the deviation of initial
 * weights. @where is the file, for messages. Returns 0, or CLLM_EDATA with text.
 */
int cllm_config_json_parse(const json_t *json, const char *where,
                           struct cllm_model_config *model, double *init_range);

#endif /* CLLM_FORMATS_CONFIG_JSON_H */
