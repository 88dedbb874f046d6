/*
 * formats/manifest.h - dataset.json of a prepared data set: what its shards must be.
 *
 * cllm-prep writes it last. A shard that lies beside one is held against it before it is
 * trained on: its size, its number of tokens, and a hash of both ends of its tokens,
 * which takes microseconds where the SHA-256 that the file has too would take minutes.
 */
#ifndef CLLM_FORMATS_MANIFEST_H
#define CLLM_FORMATS_MANIFEST_H

#include "base/base.h"
#include "formats/json.h"
#include "formats/sha256.h"
#include "formats/shard.h"

#define CLLM_MANIFEST_NAME       "dataset.json"
#define CLLM_MANIFEST_UNFINISHED ".partial" /* beside it: cllm-prep is not done */
#define CLLM_MANIFEST_CAP        ((size_t)256 << 20)
#define CLLM_MANIFEST_EDGE_BYTES 4096 /* of each end of a shard's tokens */
#define CLLM_MANIFEST_NAME_BYTES 64

/* What dataset.json says about a shard. */
struct cllm_manifest_shard {
    char name[CLLM_MANIFEST_NAME_BYTES];
    uint64_t n_tokens, file_bytes;
    uint64_t edges; /* cllm_manifest_edges() */
    bool has_edges; /* version 1 of dataset.json had none */
    char sha256[CLLM_SHA256_HEX_BYTES];
};

/* XXH3-64 over the first and the last 4 KiB of an open shard's tokens (all of them twice
 * when they are fewer). Returns 0 or a negative code with text. */
int cllm_manifest_edges(const struct cllm_shard *shard, uint64_t *hash);

/* A shard as JSON, and back; @where is for messages. NULL when memory is out;
 * CLLM_EDATA with text. */
json_t *cllm_manifest_pack(const struct cllm_manifest_shard *shard);
int cllm_manifest_unpack(struct cllm_manifest_shard *out, const json_t *json,
                         const char *where);

/*
 * Hold @n open shards against the dataset.json that lies beside each. One without is
 * fine: it comes from elsewhere. Returns 0; CLLM_EDATA with text when dataset.json is no
 * sound one, when it does not list the shard, when size, tokens or ends differ, or when
 * the set is not finished; a negative errno with text.
 */
int cllm_manifest_check(const struct cllm_shard *shard, uint32_t n);

#endif /* CLLM_FORMATS_MANIFEST_H */
