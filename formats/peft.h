/*
 * formats/peft.h - an adapter as Hugging Face's peft saves it, read.
 *
 *     DIR/adapter_config.json          rank, alpha, targets, what the model beneath was
 *     DIR/adapter_model.safetensors    A and B of every target: F32, F16 or BF16
 *
 * Taken is what CLLM computes itself (base/lora.h): the same rank and the same matrices
 * in every block, nothing but A and B. Anything else in either file that changes the
 * results is refused by its name. lora_dropout is how the adapter was trained, not what
 * it is: it is not looked at.
 */
#ifndef CLLM_FORMATS_PEFT_H
#define CLLM_FORMATS_PEFT_H

#include "base/lora.h"
#include "formats/file.h"

/* Is @dir such a directory, by the names in it? */
bool cllm_peft_is(const char *dir);

/*
 * The directory of the model beneath the adapter, as its configuration names it: an
 * absolute path, or one below @dir or the current directory. CLLM_EDATA with text when
 * there is none: peft writes down whatever name its user gave the model.
 */
int cllm_peft_base(const char *dir, char base[CLLM_FILE_PATH_BYTES]);

/*
 * Read the adapter in @dir, which must be one for the model @base: its numbers, the table
 * of its tensors, and their vector, zero between them. @tensors and @w may both be NULL:
 * then the configuration alone. The caller frees @w and ends @tensors. Returns 0;
 * CLLM_EDATA with text (file, what was expected and found); a negative errno with text;
 * on failure there is nothing to free.
 */
int cllm_peft_read(const char *dir, const struct cllm_parameters *base,
                   struct cllm_lora *lora, struct cllm_parameters *tensors, float **w);

#endif /* CLLM_FORMATS_PEFT_H */
