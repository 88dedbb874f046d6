/*
 * base/hash.h - XXH3: the integrity checksum of records, chunks, batches and shards (64
 * bits) and of the large files of checkpoints (128).
 *
 * It finds accidents (torn records, wild stores, flipped bits), not attacks. Identity
 * (data sets, tokenizers, configurations) is SHA-256, formats/sha256.h.
 */
#ifndef CLLM_BASE_HASH_H
#define CLLM_BASE_HASH_H

#include "base/base.h"

/* Hash of @bytes bytes at @data under @seed. Stable across machines of one endianness. */
uint64_t cllm_hash(const void *data, size_t bytes, uint64_t seed);

/* Same value as cllm_hash() over the concatenation, fed in pieces. */
struct cllm_hasher;                        /* opaque, heap */
struct cllm_hasher *cllm_hasher_new(void); /* NULL when memory is out */
void cllm_hasher_free(struct cllm_hasher **hasher);
void cllm_hasher_begin(struct cllm_hasher *hasher, uint64_t seed);
void cllm_hasher_add(struct cllm_hasher *hasher, const void *data, size_t bytes);
uint64_t cllm_hasher_end(const struct cllm_hasher *hasher);

/* XXH3-128 of large files, on the same kind of hasher: these three go together. @hex is
 * what xxhsum -H2 prints. */
#define CLLM_HASH128_HEX_BYTES 33
void cllm_hasher_begin128(struct cllm_hasher *hasher);
void cllm_hasher_add128(struct cllm_hasher *hasher, const void *data, size_t bytes);
void cllm_hasher_end128(const struct cllm_hasher *hasher,
                        char hex[CLLM_HASH128_HEX_BYTES]);

#endif /* CLLM_BASE_HASH_H */
