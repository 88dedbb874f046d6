/*
 * formats/shard.c - recognise, open and check a token shard, read ranges, scan for bad
 * tokens.
 */
#include "formats/shard.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/file.h"
#include "formats/megatron.h"

#define SCAN_BLOCK_BYTES (1u << 20)

static const char *const format_names[] = {"auto", "llmc", "nanogpt", "megatron"};
_Static_assert(CLLM_LEN(format_names) == CLLM_N_SHARD_FORMATS, "all of them");

const char *cllm_shard_format_name(enum cllm_shard_format format)
{
    CLLM_ASSERT(format < CLLM_N_SHARD_FORMATS);
    return format_names[format];
}

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
    {"MMIDIDX", 0, 7, "a Megatron index", "give the .bin beside it"},
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
    const char *hint = "make shards with cllm-prep; for headerless 16-bit tokens, "
                       "[data] format = nanogpt";
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
    shard->format = CLLM_SHARD_LLMC;
    shard->kind = magic == CLLM_SHARD_MAGIC_U16 ? CLLM_TOKEN_U16 : CLLM_TOKEN_U32;
    shard->token_bytes = cllm_token_bytes(shard->kind);
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

/* A file without a header: how many tokens, and whether it could be one. */
static int check_headerless(struct cllm_shard *shard, const char *path,
                            const uint8_t *bytes, size_t n)
{
    uint32_t magic = n >= 4 ? le32(bytes) : 0;
    int rc;

    if (magic == CLLM_SHARD_MAGIC_U16 || magic == CLLM_SHARD_MAGIC_U32) {
        rc = cllm_err(CLLM_EDATA, "%s has a header, so it is not nanoGPT's", path);
        cllm_err_detail("found llm.c's magic number %u at offset 0", magic);
        cllm_err_hint("[data] format = auto, or llmc");
        return rc;
    }
    if (shard->file_bytes == 0 || shard->file_bytes % 2 != 0) {
        rc = cllm_err(CLLM_EDATA, "%s does not hold whole 16-bit tokens", path);
        cllm_err_detail("expected an even number of bytes, at least 2, found %" PRIu64,
                        shard->file_bytes);
        return rc;
    }
    shard->format = CLLM_SHARD_NANOGPT;
    shard->kind = CLLM_TOKEN_U16;
    shard->token_bytes = 2;
    shard->data_off = 0;
    shard->n_tokens = shard->file_bytes / 2;
    return 0;
}

static int check_megatron(struct cllm_shard *shard, const char *path)
{
    struct cllm_megatron index;
    int rc = cllm_megatron_open(&index, path, shard->file_bytes);

    if (rc != 0)
        return rc;
    shard->format = CLLM_SHARD_MEGATRON;
    shard->kind = index.kind;
    shard->token_bytes = cllm_token_bytes(index.kind);
    shard->data_off = 0;
    shard->n_tokens = index.n_tokens;
    return 0;
}

/* No magic number, no index: are these bare tokens? A header with a flipped bit in its
 * magic number is not, so a beginning that is mostly zeros is refused. */
static bool looks_headerless(const char *path, const uint8_t *bytes, size_t n)
{
    size_t len = strlen(path), zeros = 0;

    if (len < 4 || strcmp(path + len - 4, ".bin") != 0 || n < CLLM_SHARD_HEADER_BYTES ||
        looks_like_text(bytes, n))
        return false;
    for (size_t i = 0; i < CLLM_LEN(lookalike); i++)
        if (memcmp(bytes + lookalike[i].off, lookalike[i].bytes, lookalike[i].n) == 0)
            return false;
    for (size_t i = 0; i < CLLM_LEN(relative); i++)
        if (le32(bytes) == relative[i].magic)
            return false;
    for (size_t i = 0; i + 1 < n; i += 2)
        zeros += bytes[i] == 0 && bytes[i + 1] == 0;
    return zeros < n / 4;
}

static int refuse_ambiguous(const char *path)
{
    int rc = cllm_err(CLLM_EDATA, "%s could be llm.c's or Megatron's", path);

    cllm_err_detail("it begins with llm.c's magic number, and a Megatron index lies "
                    "beside it");
    cllm_err_hint("say which: [data] format = llmc or megatron");
    return rc;
}

/* Fill @shard from a file of whatever format it is; @n bytes of it are at @bytes. */
static int recognise(struct cllm_shard *shard, const char *path, const uint8_t *bytes,
                     size_t n)
{
    uint32_t magic = n >= 4 ? le32(bytes) : 0;
    bool llmc = magic == CLLM_SHARD_MAGIC_U16 || magic == CLLM_SHARD_MAGIC_U32;
    bool indexed = cllm_megatron_is_beside(path);

    if (llmc && indexed)
        return refuse_ambiguous(path);
    if (indexed)
        return check_megatron(shard, path);
    if (!llmc && looks_headerless(path, bytes, n))
        return check_headerless(shard, path, bytes, n);
    return cllm_shard_parse(shard, bytes, shard->file_bytes, path);
}

/* Everything after open(2). */
static int check_file(struct cllm_shard *shard, const char *path,
                      enum cllm_shard_format format)
{
    uint8_t header[CLLM_SHARD_HEADER_BYTES];
    struct stat st;
    size_t n;
    int rc;

    if (fstat(shard->fd, &st) != 0)
        return cllm_err(-errno, "cannot open the shard %s", path);
    if (!S_ISREG(st.st_mode)) {
        rc = cllm_err(CLLM_EDATA, "the shard %s is not a regular file", path);
        if (S_ISDIR(st.st_mode))
            cllm_err_hint("to take all shards in it, write %s/*.bin", path);
        return rc;
    }
    shard->file_bytes = (uint64_t)st.st_size;
    n = (size_t)cllm_min_u64(shard->file_bytes, sizeof header);
    rc = cllm_file_pread_all(shard->fd, header, n, 0, path);
    if (rc != 0)
        return rc;
    switch (format) {
    case CLLM_SHARD_LLMC:
        return cllm_shard_parse(shard, header, shard->file_bytes, path);
    case CLLM_SHARD_NANOGPT:
        return check_headerless(shard, path, header, n);
    case CLLM_SHARD_MEGATRON:
        return check_megatron(shard, path);
    case CLLM_SHARD_AUTO:
    case CLLM_N_SHARD_FORMATS:
    default:
        return recognise(shard, path, header, n);
    }
}

int cllm_shard_open_as(struct cllm_shard *shard, const char *path,
                       enum cllm_shard_format format)
{
    memset(shard, 0, sizeof *shard);
    /* O_NONBLOCK: a pipe in the place of a shard must be refused, not waited for. */
    shard->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (shard->fd < 0)
        return cllm_err(-errno, "cannot open the shard %s", path);
    int rc = check_file(shard, path, format);
    if (rc == 0) {
        shard->path = strdup(path);
        if (shard->path == NULL)
            rc = cllm_err(-ENOMEM, "cannot open the shard %s", path);
    }
    if (rc < 0)
        cllm_shard_close(shard);
    return rc;
}

int cllm_shard_open(struct cllm_shard *shard, const char *path)
{
    return cllm_shard_open_as(shard, path, CLLM_SHARD_AUTO);
}

const char *cllm_shard_describe(char out[CLLM_SHARD_TEXT], const struct cllm_shard *shard)
{
    static const char *const what[] = {"unknown", "llm.c's",
                                       "nanoGPT's, without a header",
                                       "Megatron's, with an index beside it"};

    CLLM_ASSERT(shard->format < CLLM_LEN(what));
    (void)snprintf(out, CLLM_SHARD_TEXT, "%s: %s tokens", what[shard->format],
                   cllm_token_name(shard->kind));
    return out;
}

void cllm_shard_close(struct cllm_shard *shard)
{
    if (shard->fd >= 0)
        (void)close(shard->fd);
    shard->fd = -1;
    free(shard->path);
    shard->path = NULL;
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
        (void)cllm_token_widen(tokens + done, raw, shard->kind, n);
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

    if (token == UINT32_MAX) {
        cllm_err_detail("token %" PRIu64 " at offset %" PRIu64
                        ": expected 0 to %u, found a number below zero or beyond 32 bits",
                        index, off, vocab - 1);
        return rc;
    }
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
    if ((shard->kind == CLLM_TOKEN_U16 && vocab > UINT16_MAX) ||
        (shard->kind == CLLM_TOKEN_U8 && vocab > UINT8_MAX))
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
            (void)cllm_token_widen(&token, raw + i * shard->token_bytes, shard->kind, 1);
            if (token >= vocab)
                rc = refuse_token(shard, done + i, token, vocab);
        }
    }
    free(raw);
    return rc;
}
