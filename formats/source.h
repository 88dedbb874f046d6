/*
 * formats/source.h - a model in files of any kind that CLLM reads.
 *
 *     hf          a directory of Hugging Face
 *     checkpoint  one of CLLM's, or a run: its last
 *     gguf        llama.cpp's file
 *     llmc        llm.c's model file
 *     llama2c     llama2.c's model file
 *     peft        a directory with an adapter of peft's, and somewhere the model beneath
 *
 * Which it is shows in its content. Adapters are the model that they make of the weights
 * beneath them, which are merged while reading: of a checkpoint they are looked for in
 * its run, of peft's where its configuration says, unless the caller knows better.
 * Tensors are read one at a time, as f32, in the names and layouts of base/parameters.h,
 * whatever the files have.
 */
#ifndef CLLM_FORMATS_SOURCE_H
#define CLLM_FORMATS_SOURCE_H

#include "base/lora.h"
#include "formats/gguf.h"
#include "formats/hf.h"
#include "formats/llama2c.h"
#include "formats/llmc.h"

enum cllm_source_kind {
    CLLM_SOURCE_NONE = 0, /* not open */
    CLLM_SOURCE_HF,
    CLLM_SOURCE_CHECKPOINT,
    CLLM_SOURCE_GGUF,
    CLLM_SOURCE_LLMC,
    CLLM_SOURCE_LLAMA2C,
    CLLM_SOURCE_PEFT,
    CLLM_N_SOURCE_KINDS
};

struct cllm_source {
    enum cllm_source_kind kind;
    char path[CLLM_FILE_PATH_BYTES]; /* of the file, or the directory that holds it */
    struct cllm_parameters parameters;
    double init_range;
    const char *dtype;     /* of the embedding: "f32", "q8_0" */
    uint64_t step;         /* of a checkpoint, else 0 */
    struct cllm_hf hf;     /* also of a checkpoint, or of what lies beneath adapters */
    struct cllm_lora lora; /* of adapters; rank 0: none */
    struct cllm_parameters adapters; /* with adapters, as is: */
    float *adapted;                  /* their vector; heap */
    struct cllm_gguf gguf;
    struct cllm_llmc llmc;
    struct cllm_llama2c llama2c;
};

/* Open @path and check all that can be known without the tensors' data; of a checkpoint,
 * hashes too. Returns 0; CLLM_EDATA with text; a negative errno with text. On failure
 * nothing is left to close. */
int cllm_source_open(struct cllm_source *source, const char *path);

/* The same, @base being the model beneath if @path is an adapter of peft's: a directory
 * of Hugging Face, a checkpoint or a run. For anything else, CLLM_ECONFIG with text. */
int cllm_source_open_over(struct cllm_source *source, const char *path, const char *base);

/* For zeroed memory a no-op. */
void cllm_source_close(struct cllm_source *source);

/* Tensor @index of source->parameters into @out; @room is as large and overwritten. */
int cllm_source_read(const struct cllm_source *source, uint32_t index, float *out,
                     float *room);

/* Elements of the largest tensor: how large @out and @room must be for any. */
uint64_t cllm_source_room(const struct cllm_source *source);

/* "Hugging Face", "llm.c": for messages. */
const char *cllm_source_kind_name(enum cllm_source_kind kind);

#endif /* CLLM_FORMATS_SOURCE_H */
