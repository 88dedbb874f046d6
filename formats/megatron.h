/*
 * formats/megatron.h - Megatron's token files: X.bin with tokens, X.idx that says what
 * they are.
 *
 *     X.idx: "MMIDIDX" 0 0 | u64 version 1 | u8 kind | u64 sequences S | u64 documents D
 *            | i32 length[S] | i64 offset[S] in X.bin | i64 document[D] | i8 mode[S]?
 *
 * Arrays begin at byte 34 and are aligned to nothing. Here the .bin is one stream of
 * tokens, its sequences one after the other in the order of the index; so they must lie
 * in the file in that order, without gaps, and fill it, as Megatron's own tools write
 * them. Everything that the index says is checked against its size and that of the .bin.
 */
#ifndef CLLM_FORMATS_MEGATRON_H
#define CLLM_FORMATS_MEGATRON_H

#include "base/base.h"
#include "formats/file.h"
#include "formats/token.h"

struct cllm_megatron {
    enum cllm_token_kind kind;
    uint64_t n_tokens;    /* of the .bin, at least 1 */
    uint64_t n_sequences; /* at least 1 */
    uint64_t n_documents;
};

/* The path of the index that belongs to @bin: its ".bin" replaced, or ".idx" appended.
 * Returns 0 or -ENAMETOOLONG with text. */
int cllm_megatron_index_path(char out[CLLM_FILE_PATH_BYTES], const char *bin);

/* Does an index lie beside @bin? Only its first bytes are looked at. */
bool cllm_megatron_is_beside(const char *bin);

/* Check the index of @idx_bytes open at @fd against a .bin of @bin_bytes; @name is for
 * messages. Returns 0; CLLM_EDATA with offset, expected and found; or a negative errno
 * with text. */
int cllm_megatron_check(struct cllm_megatron *out, int fd, uint64_t idx_bytes,
                        uint64_t bin_bytes, const char *name);

/* The same for the index beside @bin, which has @bin_bytes. */
int cllm_megatron_open(struct cllm_megatron *out, const char *bin, uint64_t bin_bytes);

#endif /* CLLM_FORMATS_MEGATRON_H */
