/*
 * tests/fuzz/fuzz_shard.c - a token shard: header, size, tokens.
 *
 * Input: flags, vocabulary (u16), then the file. FIX_HEADER writes a magic number and the
 * count that the size asks for; FILL_HEADER inserts the zeros that a header has behind
 * its three numbers, so that inputs stay short.
 */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "base/err.h"
#include "formats/shard.h"

enum { FIX_HEADER = 1, WIDE = 2, FILL_HEADER = 4 };

#define HEAD_BYTES 12   /* magic, version, count */
#define MOST_BYTES 8192 /* of a file */

static uint8_t file[MOST_BYTES];

/* The file into file[]; returns its length. */
static size_t make_file(struct fuzz_reader *in, uint8_t flags)
{
    size_t bytes = cllm_min_u64((uint64_t)(in->end - in->at), MOST_BYTES - 2048);
    size_t filled = 0;

    memcpy(file, in->at, bytes);
    if (flags & FILL_HEADER && bytes >= HEAD_BYTES) {
        filled = CLLM_SHARD_HEADER_BYTES - HEAD_BYTES;
        memmove(file + CLLM_SHARD_HEADER_BYTES, file + HEAD_BYTES, bytes - HEAD_BYTES);
        memset(file + HEAD_BYTES, 0, filled);
    }
    bytes += filled;
    if (flags & FIX_HEADER && bytes > CLLM_SHARD_HEADER_BYTES) {
        uint32_t n = (uint32_t)(bytes - CLLM_SHARD_HEADER_BYTES) / (flags & WIDE ? 4 : 2);
        uint32_t head[3] = {
            flags & WIDE ? CLLM_SHARD_MAGIC_U32 : CLLM_SHARD_MAGIC_U16,
            flags & WIDE ? CLLM_SHARD_VERSION_U32 : CLLM_SHARD_VERSION_U16, n};
        memcpy(file, head, sizeof head);
        bytes = CLLM_SHARD_HEADER_BYTES + (size_t)n * (flags & WIDE ? 4 : 2);
    }
    return bytes;
}

/* A shard that the header lets through: opened as a file, read and scanned. */
static void use(const struct cllm_shard *parsed, size_t bytes, uint32_t vocab)
{
    uint32_t tokens[MOST_BYTES / 2];
    struct cllm_shard shard;
    uint32_t largest = 0;

    CLLM_ASSERT(parsed->data_off + parsed->n_tokens * parsed->token_bytes == bytes);
    CLLM_ASSERT(cllm_shard_open(&shard, fuzz_file(0, file, bytes, bytes)) == 0);
    CLLM_ASSERT(shard.n_tokens == parsed->n_tokens);
    CLLM_ASSERT(shard.token_bytes == parsed->token_bytes);
    CLLM_ASSERT(cllm_shard_read(&shard, 0, shard.n_tokens, tokens) == 0);
    for (uint64_t i = 0; i < shard.n_tokens; i++)
        largest = tokens[i] > largest ? tokens[i] : largest;
    CLLM_ASSERT((cllm_shard_check_tokens(&shard, vocab, 0) == 0) == (largest < vocab));
    cllm_shard_close(&shard);
}

int fuzz_shard(const uint8_t *data, size_t size)
{
    struct fuzz_reader in = {data, data + size};
    struct cllm_shard shard = {.fd = -1};
    uint8_t flags = fuzz_u8(&in);
    uint32_t vocab = (uint32_t)fuzz_u16(&in) + 1;
    size_t bytes = make_file(&in, flags);
    int rc = cllm_shard_parse(&shard, file, bytes, "fuzz.bin");

    CLLM_ASSERT(rc == 0 || cllm_err_text()[0] != '\0');
    if (rc == 0) {
        fuzz_n_accepted++;
        use(&shard, bytes, vocab);
    }
    return 0;
}
