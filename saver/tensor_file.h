/*
 * saver/tensor_file.h - a safetensors file that is written once, then read back.
 *
 * The header comes first, then one or two parts: the weights; or the first moments, then
 * the second. Each part is written from its begin to its end, the parts side by side, and
 * hashed on its way. Reading back goes from the file's first byte to its last, once: it
 * must give the same hashes, and gives the file's hash.
 *
 * Both ways go past the page cache (formats/direct.h): to write and to read gigabytes
 * there costs seconds of a processor that the workers want, and what is read back shall
 * come from the disk.
 *
 *     create -> put ... -> sync -> read_back -> close
 */
#ifndef CLLM_SAVER_TENSOR_FILE_H
#define CLLM_SAVER_TENSOR_FILE_H

#include "base/hash.h"
#include "formats/checkpoint.h"
#include "formats/direct.h"
#include "formats/safetensors.h"

#define CLLM_TENSOR_FILE_PARTS 2

struct cllm_tensor_part {
    uint64_t begin, end; /* in the file */
    uint64_t at;         /* what is put next; end: whole */
    uint8_t *window;     /* the file around @at, not yet written; heap */
    struct cllm_hasher *hasher;
};

struct cllm_tensor_file {
    bool is_open;
    const char *name; /* the caller's */
    char path[CLLM_FILE_PATH_BYTES];
    int fd;
    struct cllm_direct direct;
    struct cllm_safetensors_plan plan;
    uint32_t n_parts;
    struct cllm_tensor_part part[CLLM_TENSOR_FILE_PARTS];
};

/*
 * Create @name in @temp as @plan, which passes to the file, says: room for all of it and
 * the header. Its tensors are cut into @n_parts parts of equally many. Returns 0 or a
 * negative code with text, with nothing left to close.
 */
int cllm_tensor_file_create(struct cllm_tensor_file *file, const char *temp,
                            const char *name, struct cllm_safetensors_plan *plan,
                            uint32_t n_parts);

/* The next @bytes of part @part, which belong at @off. 0 or a negative code with text. */
int cllm_tensor_file_put(struct cllm_tensor_file *file, uint32_t part, const void *data,
                         size_t bytes, uint64_t off);

/* All parts are whole: make them durable. 0 or a negative code with text; a failure is
 * for good. */
int cllm_tensor_file_sync(struct cllm_tensor_file *file);

/* Read it from the disk: 0 and what the manifest says of it when all is there that was
 * put; -EIO or another negative code with text. */
int cllm_tensor_file_read_back(struct cllm_tensor_file *file,
                               struct cllm_checkpoint_digest *digest);

/* 0, or a negative code with text when the file system complains. Nothing to do for one
 * that is zeroed or closed. */
int cllm_tensor_file_close(struct cllm_tensor_file *file);

#endif /* CLLM_SAVER_TENSOR_FILE_H */
