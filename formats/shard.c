/*
 * formats/shard.c - open and check a token shard, read ranges, scan for bad tokens.
 */
#include "formats/shard.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/file.h"

#define SCAN_BLOCK_BYTES (1u << 20)

static uint32_t le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
}

/* Files that people mistake for shards, by their first bytes. */
static const struct {
    const char *bytes;
    uint32_t off, n;
    const char *what, *hint;
} lookalike[] = {
    {"\x1f\x8b", 0, 2, "a gzip file", "unpack it, then make shards with cllm-prep"},
    {"\x28\xb5\x2f\xfd", 0, 4, "a zstd file",
     "unpack it, then make shards with cllm-prep"},
    {"PK\x03\x04", 0, 4, "a zip file", "unpack it, then make shards with cllm-prep"},
    {"GGUF", 0, 4, "a GGUF model", "give token shards, not a model"},
    {"{\"", 8, 2, "a safetensors model", "give token shards, not a model"},
    {"MMIDIDX", 0, 7, "a Megatron index", "make shards from the text with cllm-prep"},
    {"PAR1", 0, 4, "a Parquet file", "write its text out, then run cllm-prep"},
};

/* llm.c's other files share the place and the style of the magic. */
static const struct {
    uint32_t magic;
    const char *what;
} relative[] = {
    {20240326, "an llm.c model"},     {20240327, "an llm.c debug state"},
    {20240328, "an llm.c tokenizer"}, {20240522, "an llm.c evaluation file"},
    {20240527, "an llm.c optimizer"}, {20240803, "an llm.c Llama model"},
};

static bool looks_like_text(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] < 0x20 && (bytes[i] < '\t' || bytes[i] > '\r'))
            return false;
    }
    return n > 0;
}

/* The magic number is wrong: say what the file seems to be. @n bytes are at @bytes. */
static int refuse_magic(const char *path, const uint8_t *bytes, size_t n)
{
    const char *what = NULL;
    const char *hint = "make shards with cllm-prep, or with llm.c's scripts";
    uint32_t magic = n >= 4 ? le32(bytes) : 0;
    int rc;

    for (size_t i = 0; i < CLLM_LEN(lookalike); i++) {
        size_t off = lookalike[i].off;
        if (n >= off + lookalike[i].n &&
            memcmp(bytes + off, lookalike[i].bytes, lookalike[i].n) == 0) {
            what = lookalike[i].what;
            hint = lookalike[i].hint;
        }
    }
    for (size_t i = 0; i < CLLM_LEN(relative); i++) {
        if (magic == relative[i].magic)
            what = relative[i].what;
    }
    if (what == NULL && looks_like_text(bytes, n)) {
        what = "a text file";
        hint = "make shards from it with cllm-prep";
    }
    if (what != NULL)
        rc =
            cllm_err(CLLM_EDATA, "%s is not a token shard; it looks like %s", path, what);
    else
        rc = cllm_err(CLLM_EDATA, "%s is not a token shard", path);
    cllm_err_detail("magic at offset 0: expected %d or %d, found %u",
                    CLLM_SHARD_MAGIC_U16, CLLM_SHARD_MAGIC_U32, magic);
    cllm_err_hint("%s", hint);
    return rc;
}

/* Header fields against each other and against the size of the file. */
static int check_header(struct cllm_shard *shard, const char *path, const uint8_t *header)
{
    uint32_t magic = le32(header);
    uint32_t version = le32(header + 4);
    int32_t count = (int32_t)le32(header + 8);
    uint32_t expected =
        magic == CLLM_SHARD_MAGIC_U16 ? CLLM_SHARD_VERSION_U16 : CLLM_SHARD_VERSION_U32;
    int rc;

    if (version != expected) {
        rc = cllm_err(CLLM_EDATA, "%s: unknown version of a token shard", path);
        cllm_err_detail("version at offset 4: expected %u for magic %u, found %u",
                        expected, magic, version);
        return rc;
    }
    if (count <= 0) {
        rc = cllm_err(CLLM_EDATA, "%s: a token shard must hold tokens", path);
        cllm_err_detail("tokens at offset 8: expected 1 to %d, found %d",
                        CLLM_SHARD_TOKENS_MAX, count);
        return rc;
    }
    shard->token_bytes = magic == CLLM_SHARD_MAGIC_U16 ? 2 : 4;
    shard->n_tokens = (uint64_t)count;
    shard->data_off = CLLM_SHARD_HEADER_BYTES;
    uint64_t size = shard->data_off + shard->n_tokens * shard->token_bytes;
    if (shard->file_bytes == size)
        return 0;
    rc = cllm_err(CLLM_EDATA, "%s is %s", path,
                  shard->file_bytes < size ? "truncated" : "too long");
    cllm_err_detail("header at offset 8: %llu tokens of %u bytes make %llu bytes; "
                    "expected end at offset %llu, found %llu",
                    (unsigned long long)shard->n_tokens, shard->token_bytes,
                    (unsigned long long)size, (unsigned long long)size,
                    (unsigned long long)shard->file_bytes);
    cllm_err_hint("copy the file again, or make it again with cllm-prep");
    return rc;
}

int cllm_shard_parse(struct cllm_shard *shard, const void *header, uint64_t file_bytes,
                     const char *name)
{
    size_t n = (size_t)cllm_min_u64(file_bytes, CLLM_SHARD_HEADER_BYTES);
    uint32_t magic = n >= 4 ? le32(header) : 0;
    int rc;

    shard->file_bytes = file_bytes;
    if (magic == CLLM_SHARD_MAGIC_U16 || magic == CLLM_SHARD_MAGIC_U32) {
        if (n == CLLM_SHARD_HEADER_BYTES)
            return check_header(shard, name, header);
        rc = cllm_err(CLLM_EDATA, "%s is truncated", name);
        cllm_err_detail("header: expected %d bytes, found %zu", CLLM_SHARD_HEADER_BYTES,
                        n);
        cllm_err_hint("copy the file again, or make it again with cllm-prep");
        return rc;
    }
    if (n == 0)
        return cllm_err(CLLM_EDATA, "%s is empty, not a token shard", name);
    return refuse_magic(name, header, n);
}

/* Everything after open(2). */
static int check_file(struct cllm_shard *shard, const char *path)
{
    uint8_t header[CLLM_SHARD_HEADER_BYTES];
    struct stat st;
    int rc;

    if (fstat(shard->fd, &st) != 0)
        return cllm_err(-errno, "cannot open the shard %s", path);
    if (!S_ISREG(st.st_mode)) {
        rc = cllm_err(CLLM_EDATA, "the shard %s is not a regular file", path);
        if (S_ISDIR(st.st_mode))
            cllm_err_hint("to take all shards in it, write %s/*.bin", path);
        return rc;
    }
    uint64_t file_bytes = (uint64_t)st.st_size;
    rc = cllm_file_pread_all(shard->fd, header,
                             (size_t)cllm_min_u64(file_bytes, sizeof header), 0, path);
    return rc < 0 ? rc : cllm_shard_parse(shard, header, file_bytes, path);
}

int cllm_shard_open(struct cllm_shard *shard, const char *path)
{
    memset(shard, 0, sizeof *shard);
    /* O_NONBLOCK: a pipe in the place of a shard must be refused, not waited for. */
    shard->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (shard->fd < 0)
        return cllm_err(-errno, "cannot open the shard %s", path);
    int rc = check_file(shard, path);
    if (rc == 0) {
        shard->path = strdup(path);
        if (shard->path == NULL)
            rc = cllm_err(-ENOMEM, "cannot open the shard %s", path);
    }
    if (rc < 0)
        cllm_shard_close(shard);
    return rc;
}

void cllm_shard_close(struct cllm_shard *shard)
{
    if (shard->fd >= 0)
        (void)close(shard->fd);
    shard->fd = -1;
    free(shard->path);
    shard->path = NULL;
}

/* @count tokens of @token_bytes at @raw, widened. */
static void widen(uint32_t *tokens, const uint8_t *raw, uint32_t token_bytes,
                  size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *p = raw + i * token_bytes;
        tokens[i] = token_bytes == 2 ? (uint32_t)p[0] | (uint32_t)p[1] << 8 : le32(p);
    }
}

int cllm_shard_read(const struct cllm_shard *shard, uint64_t first, uint64_t count,
                    uint32_t *tokens)
{
    uint8_t raw[16384];
    uint64_t block = sizeof raw / shard->token_bytes;

    CLLM_ASSERT(first <= shard->n_tokens && count <= shard->n_tokens - first);
    for (uint64_t done = 0; done < count;) {
        size_t n = (size_t)cllm_min_u64(block, count - done);
        int rc = cllm_file_pread_all(
            shard->fd, raw, n * shard->token_bytes,
            shard->data_off + (first + done) * shard->token_bytes, shard->path);
        if (rc < 0)
            return rc;
        widen(tokens + done, raw, shard->token_bytes, n);
        done += n;
    }
    return 0;
}

static int refuse_token(const struct cllm_shard *shard, uint64_t index, uint32_t token,
                        uint32_t vocab)
{
    uint64_t off = shard->data_off + index * shard->token_bytes;
    int rc = cllm_err(CLLM_EDATA, "%s: token %" PRIu64 " is outside the vocabulary",
                      shard->path, index);

    cllm_err_detail("token %" PRIu64 " at offset %" PRIu64 ": expected 0 to %u, found %u",
                    index, off, vocab - 1, token);
    cllm_err_hint(
        "set [model] vocab to the vocabulary that the shard was made with (%u or "
        "more)",
        token + 1);
    return rc;
}

int cllm_shard_check_tokens(const struct cllm_shard *shard, uint32_t vocab,
                            uint64_t limit)
{
    uint64_t n_tokens =
        limit > 0 ? cllm_min_u64(shard->n_tokens, limit) : shard->n_tokens;
    uint64_t block = cllm_min_u64(SCAN_BLOCK_BYTES / shard->token_bytes, shard->n_tokens);
    int rc = 0;

    CLLM_ASSERT(vocab > 0);
    if (shard->token_bytes == 2 && vocab > UINT16_MAX)
        return 0; /* whatever is in there fits */
    uint8_t *raw = malloc((size_t)(block * shard->token_bytes));
    if (raw == NULL)
        return cllm_err(-ENOMEM, "cannot check the tokens of %s", shard->path);
    for (uint64_t done = 0; rc == 0 && done < n_tokens; done += block) {
        size_t n = (size_t)cllm_min_u64(block, n_tokens - done);
        rc =
            cllm_file_pread_all(shard->fd, raw, n * shard->token_bytes,
                                shard->data_off + done * shard->token_bytes, shard->path);
        for (size_t i = 0; rc == 0 && i < n; i++) {
            uint32_t token;
            widen(&token, raw + i * shard->token_bytes, shard->token_bytes, 1);
            if (token >= vocab)
                rc = refuse_token(shard, done + i, token, vocab);
        }
    }
    free(raw);
    return rc;
}
