/*
 * formats/gguf_writer.h - GGUF files: first all that is said, then tensor after tensor.
 *
 *     cllm_gguf_writer_init -> put keys -> add tensors -> begin(path) -> write each
 * tensor
 *     -> finish, or abort at any time
 *
 * Memory runs out late: what is put is kept in one growing block, and begin says when
 * that failed. Data are encoded and written as they come; no tensor is held.
 */
#ifndef CLLM_FORMATS_GGUF_WRITER_H
#define CLLM_FORMATS_GGUF_WRITER_H

#include "formats/gguf.h"
#include "formats/output.h"

struct cllm_gguf_writer {
    uint8_t *header; /* heap */
    size_t used, room;
    bool out_of_memory;
    uint32_t n_values, n_tensors;
    struct cllm_gguf_tensor *tensor; /* [n_tensors]; heap */
    uint64_t data_bytes;             /* of tensors so far, padded */
    uint64_t data_off;               /* known from begin on */
    struct cllm_output output;
};

void cllm_gguf_writer_init(struct cllm_gguf_writer *writer);

/* A key and its value; every key once. */
void cllm_gguf_put_u32(struct cllm_gguf_writer *writer, const char *key, uint32_t value);
void cllm_gguf_put_f32(struct cllm_gguf_writer *writer, const char *key, float value);
void cllm_gguf_put_bool(struct cllm_gguf_writer *writer, const char *key, bool value);
void cllm_gguf_put_text(struct cllm_gguf_writer *writer, const char *key,
                        const char *text);
void cllm_gguf_put_i32s(struct cllm_gguf_writer *writer, const char *key,
                        const int32_t *values, uint32_t n);
void cllm_gguf_put_f32s(struct cllm_gguf_writer *writer, const char *key,
                        const float *values, uint32_t n);

/* An array of @n texts: this, then cllm_gguf_put_item() n times. */
void cllm_gguf_put_texts(struct cllm_gguf_writer *writer, const char *key, uint32_t n);
void cllm_gguf_put_item(struct cllm_gguf_writer *writer, const char *text, size_t bytes);

/* The next tensor: row-major @shape, the last number runs fastest. @name has at most 63
 * bytes; rows fill @type's blocks. */
void cllm_gguf_add_tensor(struct cllm_gguf_writer *writer, const char *name,
                          enum cllm_gguf_type type, const uint64_t *shape, uint32_t rank);

/* Create the file under its temporary name, with room for all of it, and write what was
 * put. See cllm_output_file() for @replace. */
int cllm_gguf_writer_begin(struct cllm_gguf_writer *writer, const char *path,
                           bool replace);

/* The data of tensor @index: all of them, encoded in the tensor's type. A number that the
 * type cannot hold is CLLM_EREFUSED with text. */
int cllm_gguf_writer_put(struct cllm_gguf_writer *writer, uint32_t index,
                         const float *data);

/* Durable, under its name. Frees the writer in any case. */
int cllm_gguf_writer_finish(struct cllm_gguf_writer *writer);

/* Drop it; for zeroed memory and after finish a no-op. */
void cllm_gguf_writer_abort(struct cllm_gguf_writer *writer);

#endif /* CLLM_FORMATS_GGUF_WRITER_H */
