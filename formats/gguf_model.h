/*
 * formats/gguf_model.h - a model's numbers and tensors as GGUF names and stores them.
 *
 * Architectures "gpt2" and "llama". Matrices are (out,in), so those of GPT-2 are turned;
 * Llama's queries and keys are interleaved (formats/relayout.h). What llama.cpp can do
 * and CLLM cannot is refused by name.
 */
#ifndef CLLM_FORMATS_GGUF_MODEL_H
#define CLLM_FORMATS_GGUF_MODEL_H

#include "base/parameters.h"
#include "formats/gguf.h"
#include "formats/gguf_writer.h"

/* ---- reading ---- */

/* The model that @gguf describes: @config completed. CLLM_EDATA with text when a key is
 * missing or says what cannot be. */
int cllm_gguf_model_config(const struct cllm_gguf *gguf,
                           struct cllm_model_config *config);

/* Are all tensors of @parameters there, with their shapes and readable, and no others? */
int cllm_gguf_model_check(const struct cllm_gguf *gguf,
                          const struct cllm_parameters *parameters);

/* @tensor of @parameters, in Hugging Face's layout, into @out; @room is as large and
 * overwritten. */
int cllm_gguf_model_read(const struct cllm_gguf *gguf,
                         const struct cllm_parameters *parameters,
                         const struct cllm_tensor *tensor, float *out, float *room);

/* ---- writing ---- */

/* The type in which @tensor is stored when the user asks for @type: vectors and positions
 * are f32 always; f16 in place of q8_0 where rows do not fill its blocks. */
enum cllm_gguf_type cllm_gguf_model_type(const struct cllm_parameters *parameters,
                                         const struct cllm_tensor *tensor,
                                         enum cllm_gguf_type type);

/* Put what is to be said of the model but for its tokenizer; @name is general.name. */
void cllm_gguf_model_put(struct cllm_gguf_writer *writer,
                         const struct cllm_parameters *parameters,
                         enum cllm_gguf_type type, const char *name);

/* Add all tensors of @parameters, in order: index i of the writer is tensor i. With
 * llama3's scaling one more follows, the divisors of its angles. */
void cllm_gguf_model_add(struct cllm_gguf_writer *writer,
                         const struct cllm_parameters *parameters,
                         enum cllm_gguf_type type);

/* Write the data of tensor @index; @data and @room (as large) are overwritten. */
int cllm_gguf_model_write(struct cllm_gguf_writer *writer,
                          const struct cllm_parameters *parameters, uint32_t index,
                          float *data, float *room);

/* The one more, after all others; does nothing where there is none. */
int cllm_gguf_model_write_last(struct cllm_gguf_writer *writer,
                               const struct cllm_parameters *parameters);

#endif /* CLLM_FORMATS_GGUF_MODEL_H */
