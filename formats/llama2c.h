/*
 * formats/llama2c.h - llama2.c's model files (version 0, f32): read.
 *
 *     int32[7]: width, hidden, layers, heads, kv heads, vocabulary (negative: the output
 *     matrix is one of its own), context; then f32: embedding, all norms before
 *     attention, all wq, wk, wv, wo, all norms before the MLP, all w1, w2, w3, the last
 *     norm, two tables of rotations that nobody uses, [output matrix]
 *
 * There is no magic number: the seven numbers are those of a sound model whose size is
 * exactly the file's, or it is another file. Queries and keys are interleaved, see
 * formats/relayout.h.
 */
#ifndef CLLM_FORMATS_LLAMA2C_H
#define CLLM_FORMATS_LLAMA2C_H

#include "base/parameters.h"
#include "formats/file.h"

#define CLLM_LLAMA2C_HEADER_BYTES 28

struct cllm_llama2c {
    char path[CLLM_FILE_PATH_BYTES];
    int fd; /* -1: parsed from memory */
    uint64_t file_bytes;
    struct cllm_model_config config;
};

/* Open and check a file. Returns 0; CLLM_EDATA with text; a negative errno with text. On
 * failure nothing is left to close. */
int cllm_llama2c_open(struct cllm_llama2c *file, const char *path);
void cllm_llama2c_close(struct cllm_llama2c *file);

/* What open does with the first min(@file_bytes, 28) bytes of a file. */
int cllm_llama2c_parse(struct cllm_llama2c *file, const void *header, uint64_t file_bytes,
                       const char *name);

/* @tensor of @parameters (those of file->config), in Hugging Face's layout, into @out;
 * @room is as large and overwritten. */
int cllm_llama2c_read(const struct cllm_llama2c *file,
                      const struct cllm_parameters *parameters,
                      const struct cllm_tensor *tensor, float *out, float *room);

#endif /* CLLM_FORMATS_LLAMA2C_H */
