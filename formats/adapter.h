/*
 * formats/adapter.h - low-rank adapters in files, as Hugging Face's peft has them, and
 * the frozen model beneath them.
 *
 *     RUN/base/model.safetensors, config.json      the model, f32: written once
 *     .../step-N/adapter_model.safetensors         A and B of every target
 *     .../step-N/adapter_config.json               rank, alpha, targets
 *
 * A checkpoint of adapters says in run.json by its hash which weights lie beneath it.
 */
#ifndef CLLM_FORMATS_ADAPTER_H
#define CLLM_FORMATS_ADAPTER_H

#include "base/lora.h"
#include "formats/hf.h"

#define CLLM_ADAPTER_MODEL  "adapter_model.safetensors"
#define CLLM_ADAPTER_CONFIG "adapter_config.json"
#define CLLM_ADAPTER_BASE   "base"       /* in the run's directory */
#define CLLM_ADAPTER_ABOVE  "../../base" /* the same from a checkpoint */

/* adapter_config.json into @dir, of adapters for @model. Returns 0 or a negative code
 * with text. */
int cllm_adapter_write_config(const char *dir, const struct cllm_lora *lora,
                              const struct cllm_model_config *model);

/* And out of it; what CLLM does not compute (dropout within adapters, DoRA and its like)
 * is refused. Returns 0; CLLM_EDATA or another negative code with text. */
int cllm_adapter_read_config(const char *dir, const struct cllm_model_config *model,
                             struct cllm_lora *lora);

/* What that does with the @bytes of the text; @name is for messages. */
int cllm_adapter_parse_config(const char *text, size_t bytes, const char *name,
                              const struct cllm_model_config *model,
                              struct cllm_lora *lora);

/*
 * Read all weights of the model in @dir, which must be of the table @parameters and have
 * the hash @expected; into @w, the vector, unless that is NULL. What lies between tensors
 * stays as it is. Returns 0; CLLM_EDATA with a text that names the directory and what is
 * to be done; another negative code with text.
 */
int cllm_adapter_read_base(const char *dir, const struct cllm_parameters *parameters,
                           uint64_t expected, float *w);

#endif /* CLLM_FORMATS_ADAPTER_H */
