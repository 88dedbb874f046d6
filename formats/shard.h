/*
 * formats/shard.h - files of tokens: llm.c's, which cllm-prep writes, nanoGPT's,
 * Megatron's.
 *
 *     llm.c     int32[256] little-endian: [0] magic, [1] version, [2] tokens, rest 0;
 *               magic 20240520 version 1: uint16 tokens, 20240801 version 7: uint32
 *     nanogpt   uint16 tokens and nothing else
 *     megatron  tokens of the kind that X.idx beside X.bin names (formats/megatron.h)
 *
 * An llm.c shard is refused unless its size is exactly 1024 + tokens x bytes of a token,
 * and a Megatron one unless its index fills it exactly, so a truncated copy is found
 * before training, not in the middle of it. nanoGPT's files cannot tell.
 */
#ifndef CLLM_FORMATS_SHARD_H
#define CLLM_FORMATS_SHARD_H

#include "base/base.h"
#include "formats/token.h"

#define CLLM_SHARD_HEADER_BYTES 1024
#define CLLM_SHARD_MAGIC_U16    20240520
#define CLLM_SHARD_VERSION_U16  1
#define CLLM_SHARD_MAGIC_U32    20240801
#define CLLM_SHARD_VERSION_U32  7
#define CLLM_SHARD_TOKENS_MAX   INT32_MAX /* the header counts in int32 */

#define CLLM_SHARD_TEXT 96

/* In the order of [data] format. */
enum cllm_shard_format {
    CLLM_SHARD_AUTO = 0, /* recognise it; never the format of an open shard */
    CLLM_SHARD_LLMC,
    CLLM_SHARD_NANOGPT,
    CLLM_SHARD_MEGATRON,
    CLLM_N_SHARD_FORMATS
};

struct cllm_shard {
    char *path; /* as given; heap */
    int fd;     /* open for reading; -1 when closed */
    enum cllm_shard_format format;
    enum cllm_token_kind kind;
    uint32_t token_bytes; /* of that kind: 1, 2, 4 or 8 */
    uint64_t n_tokens;    /* at least 1 */
    uint64_t data_off;    /* of token 0 in the file */
    uint64_t file_bytes;  /* data_off + n_tokens * token_bytes */
};

/* "auto", "llmc", "nanogpt", "megatron". */
const char *cllm_shard_format_name(enum cllm_shard_format format);

/*
 * Open and check a shard of @format. CLLM_SHARD_AUTO takes llm.c's magic number for
 * llm.c, an index beside the file for Megatron; and what is named *.bin, looks like
 * nothing else and does not begin with zeros, as a damaged header would, for nanoGPT. A
 * file that could be two of them is refused. Whoever uses it says what was recognised
 * (cllm_shard_describe()). Returns 0; CLLM_EDATA with text when it is no sound shard; a
 * negative errno with text otherwise. On failure there is nothing to close.
 */
int cllm_shard_open_as(struct cllm_shard *shard, const char *path,
                       enum cllm_shard_format format);

/* The same with CLLM_SHARD_AUTO. */
int cllm_shard_open(struct cllm_shard *shard, const char *path);

/* "nanoGPT's, without a header: u16 tokens" into @out; returns it. */
const char *cllm_shard_describe(char out[CLLM_SHARD_TEXT],
                                const struct cllm_shard *shard);
void cllm_shard_close(struct cllm_shard *shard);

/* What open does with llm.c's bytes: check the first min(@file_bytes,
 * CLLM_SHARD_HEADER_BYTES) of a file, which are at @header, and fill the sizes of @shard.
 * @name is for messages. Returns 0, or CLLM_EDATA with text. */
int cllm_shard_parse(struct cllm_shard *shard, const void *header, uint64_t file_bytes,
                     const char *name);

/* Tokens [@first, @first + @count) as uint32, UINT32_MAX for a number that no token can
 * be. Returns 0 or a negative code with text; the
 * range must lie in the shard. */
int cllm_shard_read(const struct cllm_shard *shard, uint64_t first, uint64_t count,
                    uint32_t *tokens);

/* Read tokens [0, @limit) (all when @limit is 0 or larger than the shard) and refuse the
 * first one >= @vocab with CLLM_EDATA: file, index, byte offset, value, allowed range. */
int cllm_shard_check_tokens(const struct cllm_shard *shard, uint32_t vocab,
                            uint64_t limit);

/* ---- writing ---- */

struct cllm_shard_writer {
    char *path; /* final name; heap */
    char *temp; /* "@path.tmp" until finish; heap */
    int fd;
    uint32_t token_bytes;
    uint64_t n_tokens; /* put so far */
    uint8_t *buffer;   /* heap */
    size_t used;       /* bytes in buffer */
};

/* Begin a shard of @token_bytes 2 or 4 under a temporary name. An existing temporary file
 * is overwritten; @path itself is replaced only by finish. */
int cllm_shard_writer_begin(struct cllm_shard_writer *writer, const char *path,
                            uint32_t token_bytes);

/* Append tokens; each must fit into token_bytes. */
int cllm_shard_writer_put(struct cllm_shard_writer *writer, const uint32_t *tokens,
                          size_t count);

/* Append @count bytes as tokens 0-255. */
int cllm_shard_writer_put_bytes(struct cllm_shard_writer *writer, const uint8_t *bytes,
                                size_t count);

/* Write the header, fsync, rename, fsync the directory; frees the writer in any case. On
 * failure the temporary file is removed. A shard without tokens is CLLM_EDATA. */
int cllm_shard_writer_finish(struct cllm_shard_writer *writer);

/* Drop it: the temporary file is removed, @path is as it was. For zeroed memory a no-op.
 */
void cllm_shard_writer_abort(struct cllm_shard_writer *writer);

#endif /* CLLM_FORMATS_SHARD_H */
