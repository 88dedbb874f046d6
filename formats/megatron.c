/*
 * formats/megatron.c - read an index block by block, in bounded memory, and believe none
 * of it.
 */
#include "formats/megatron.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

#define MAGIC       "MMIDIDX\0" /* and the NUL that C adds: 9 bytes */
#define MAGIC_BYTES 9
#define HEAD_BYTES  34
#define BLOCK       2048 /* sequences, or documents, looked at at once */

struct index {
    int fd;
    const char *name;
    uint64_t n_sequences, n_documents;
    uint64_t bin_bytes;
    uint32_t token_bytes;
};

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t value;

    memcpy(&value, p, sizeof value);
    return value;
}

static int read_at(const struct index *index, void *out, uint64_t bytes, uint64_t off)
{
    return cllm_file_pread_all(index->fd, out, (size_t)bytes, off, index->name);
}

/* "NAME: WHAT", with where and what was expected. */
static int refuse(const struct index *index, const char *what, uint64_t off,
                  uint64_t expected, int64_t found)
{
    int rc = cllm_err(CLLM_EDATA, "%s: %s", index->name, what);

    cllm_err_detail("at offset %" PRIu64 ": expected %" PRIu64 ", found %" PRId64, off,
                    expected, found);
    cllm_err_hint("make the pair of .bin and .idx again with Megatron's tools, or copy "
                  "both again");
    return rc;
}

static int read_kind(struct cllm_megatron *out, const struct index *index, uint8_t code)
{
    static const enum cllm_token_kind kinds[] = {
        [1] = CLLM_TOKEN_U8,  [2] = CLLM_TOKEN_I8,  [3] = CLLM_TOKEN_I16,
        [4] = CLLM_TOKEN_I32, [5] = CLLM_TOKEN_I64, [8] = CLLM_TOKEN_U16,
    };
    int rc;

    if (code >= 1 && code < CLLM_LEN(kinds) && code != 6 && code != 7) {
        out->kind = kinds[code];
        return 0;
    }
    rc = cllm_err(CLLM_EDATA, "%s: %s", index->name,
                  code == 6 || code == 7 ? "its numbers are no tokens, but floating point"
                                         : "unknown kind of token");
    cllm_err_detail("at offset 17: expected 1 to 5 or 8, found %u", code);
    return rc;
}

/* Magic, version, kind; the counts against the size of the index. */
static int read_head(struct cllm_megatron *out, struct index *index, uint64_t idx_bytes)
{
    uint8_t head[HEAD_BYTES];
    uint64_t left;
    int rc;

    if (idx_bytes < sizeof head)
        return refuse(index, "a Megatron index is truncated", idx_bytes, HEAD_BYTES,
                      (int64_t)idx_bytes);
    rc = read_at(index, head, sizeof head, 0);
    if (rc != 0)
        return rc;
    if (memcmp(head, MAGIC, MAGIC_BYTES) != 0)
        return cllm_err(CLLM_EDATA,
                        "%s is not a Megatron index: it does not begin with MMIDIDX",
                        index->name);
    if (get_u64(head + 9) != 1)
        return refuse(index, "unknown version of a Megatron index", 9, 1,
                      (int64_t)get_u64(head + 9));
    rc = read_kind(out, index, head[17]);
    if (rc != 0)
        return rc;
    index->token_bytes = cllm_token_bytes(out->kind);
    index->n_sequences = get_u64(head + 18);
    index->n_documents = get_u64(head + 26);
    left = idx_bytes - HEAD_BYTES;
    if (index->n_sequences == 0 || index->n_sequences > left / 12)
        return refuse(index, "the number of sequences does not fit the size of the index",
                      18, left / 12, (int64_t)index->n_sequences);
    left -= index->n_sequences * 12;
    if (index->n_documents == 0 || index->n_documents > left / 8)
        return refuse(index, "the number of documents does not fit the size of the index",
                      26, left / 8, (int64_t)index->n_documents);
    left -= index->n_documents * 8;
    if (left != 0 && left != index->n_sequences) /* the optional modes */
        return refuse(index, "bytes behind the arrays of a Megatron index",
                      idx_bytes - left, 0, (int64_t)left);
    return 0;
}

/* Sequences in order, each where the one before ends, filling the .bin. */
static int check_sequences(const struct index *index)
{
    uint8_t lengths[BLOCK * 4], offsets[BLOCK * 8];
    uint64_t at = 0, lengths_off = HEAD_BYTES;
    uint64_t offsets_off = HEAD_BYTES + index->n_sequences * 4;

    for (uint64_t done = 0; done < index->n_sequences; done += BLOCK) {
        uint64_t n = cllm_min_u64(BLOCK, index->n_sequences - done);
        int rc = read_at(index, lengths, n * 4, lengths_off + done * 4);

        if (rc == 0)
            rc = read_at(index, offsets, n * 8, offsets_off + done * 8);
        if (rc != 0)
            return rc;
        for (uint64_t i = 0; i < n; i++) {
            int64_t offset = (int64_t)get_u64(offsets + i * 8);
            int32_t length;

            memcpy(&length, lengths + i * 4, sizeof length);
            if (offset < 0 || (uint64_t)offset != at)
                return refuse(index,
                              "a sequence does not begin where the one before ends",
                              offsets_off + (done + i) * 8, at, offset);
            if (length < 0 ||
                (uint64_t)length > (index->bin_bytes - at) / index->token_bytes)
                return refuse(index, "a sequence is longer than what is left of the .bin",
                              lengths_off + (done + i) * 4,
                              (index->bin_bytes - at) / index->token_bytes, length);
            at += (uint64_t)length * index->token_bytes;
        }
    }
    if (at != index->bin_bytes || at == 0)
        return refuse(index, "the sequences do not fill the .bin beside it",
                      offsets_off + index->n_sequences * 8, at,
                      (int64_t)index->bin_bytes);
    return 0;
}

/* Documents are runs of sequences: 0, rising, the number of sequences. */
static int check_documents(const struct index *index)
{
    uint8_t documents[BLOCK * 8];
    uint64_t off = HEAD_BYTES + index->n_sequences * 12;
    uint64_t before = 0;

    for (uint64_t done = 0; done < index->n_documents; done += BLOCK) {
        uint64_t n = cllm_min_u64(BLOCK, index->n_documents - done);
        int rc = read_at(index, documents, n * 8, off + done * 8);

        if (rc != 0)
            return rc;
        for (uint64_t i = 0; i < n; i++) {
            uint64_t document = get_u64(documents + i * 8);
            uint64_t place = off + (done + i) * 8;

            if (done + i == 0 && document != 0)
                return refuse(index, "the first document does not begin at sequence 0",
                              place, 0, (int64_t)document);
            if (document < before || document > index->n_sequences)
                return refuse(index, "documents do not rise, or go beyond the sequences",
                              place, index->n_sequences, (int64_t)document);
            before = document;
        }
    }
    if (before != index->n_sequences)
        return refuse(index, "the documents do not end with the last sequence",
                      off + (index->n_documents - 1) * 8, index->n_sequences,
                      (int64_t)before);
    return 0;
}

int cllm_megatron_check(struct cllm_megatron *out, int fd, uint64_t idx_bytes,
                        uint64_t bin_bytes, const char *name)
{
    struct index index = {.fd = fd, .name = name, .bin_bytes = bin_bytes};
    int rc = read_head(out, &index, idx_bytes);

    if (rc == 0)
        rc = check_sequences(&index);
    if (rc == 0)
        rc = check_documents(&index);
    if (rc != 0)
        return rc;
    out->n_tokens = bin_bytes / index.token_bytes;
    out->n_sequences = index.n_sequences;
    out->n_documents = index.n_documents;
    return 0;
}

int cllm_megatron_index_path(char out[CLLM_FILE_PATH_BYTES], const char *bin)
{
    size_t len = strlen(bin);
    int n;

    if (len > 4 && strcmp(bin + len - 4, ".bin") == 0)
        len -= 4;
    n = snprintf(out, CLLM_FILE_PATH_BYTES, "%.*s.idx", (int)len, bin);
    if (n < 0 || n >= CLLM_FILE_PATH_BYTES)
        return cllm_err(-ENAMETOOLONG, "cannot look for the index of %s", bin);
    return 0;
}

/* O_NONBLOCK: a pipe in its place must be refused, not waited for. */
static int open_index(const char *path)
{
    return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

bool cllm_megatron_is_beside(const char *bin)
{
    char path[CLLM_FILE_PATH_BYTES], magic[MAGIC_BYTES];
    bool is = false;
    int fd;

    if (cllm_megatron_index_path(path, bin) != 0)
        return false;
    fd = open_index(path);
    if (fd < 0)
        return false;
    is = pread(fd, magic, sizeof magic, 0) == (ssize_t)sizeof magic &&
         memcmp(magic, MAGIC, sizeof magic) == 0;
    (void)close(fd);
    return is;
}

int cllm_megatron_open(struct cllm_megatron *out, const char *bin, uint64_t bin_bytes)
{
    char path[CLLM_FILE_PATH_BYTES];
    struct stat st;
    int rc = cllm_megatron_index_path(path, bin);
    int fd;

    if (rc != 0)
        return rc;
    fd = open_index(path);
    if (fd < 0) {
        rc = cllm_err(errno == ENOENT ? CLLM_EDATA : -errno,
                      "cannot open the index %s of %s", path, bin);
        cllm_err_hint("Megatron's X.bin says nothing of its tokens without X.idx; for "
                      "headerless 16-bit tokens, [data] format = nanogpt");
        return rc;
    }
    if (fstat(fd, &st) != 0)
        rc = cllm_err(-errno, "cannot open the index %s", path);
    else if (!S_ISREG(st.st_mode))
        rc = cllm_err(CLLM_EDATA, "the index %s is not a regular file", path);
    else
        rc = cllm_megatron_check(out, fd, (uint64_t)st.st_size, bin_bytes, path);
    (void)close(fd);
    return rc;
}
