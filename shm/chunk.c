/*
 * shm/chunk.c - chunk ranges and hashes.
 */
#include "shm/chunk.h"

#include "base/hash.h"

uint64_t cllm_chunk_lo(const struct cllm_geometry *geometry, uint32_t chunk)
{
    CLLM_ASSERT(chunk < geometry->n_chunks);
    return chunk * geometry->chunk_elements;
}

uint64_t cllm_chunk_hi(const struct cllm_geometry *geometry, uint32_t chunk)
{
    return cllm_min_u64(cllm_chunk_lo(geometry, chunk) + geometry->chunk_elements,
                        geometry->n_elements);
}

uint64_t cllm_chunk_sum_piece(const float *w, const float *m, const float *v, uint64_t n,
                              uint64_t sum)
{
    uint64_t bytes = n * sizeof *w;

    sum = cllm_hash(w, bytes, sum);
    sum = cllm_hash(m, bytes, sum);
    return cllm_hash(v, bytes, sum);
}

uint64_t cllm_chunk_sum(const float *w, const float *m, const float *v, uint64_t n,
                        uint64_t sum)
{
    for (uint64_t at = 0; at < n; at += CLLM_CHUNK_PIECE)
        sum = cllm_chunk_sum_piece(w + at, m + at, v + at,
                                   cllm_min_u64(CLLM_CHUNK_PIECE, n - at), sum);
    return sum;
}

uint64_t cllm_chunk_root(const struct cllm_chunk *chunks, uint32_t n_chunks,
                         uint32_t version)
{
    uint64_t root = n_chunks;

    CLLM_ASSERT(version < 2);
    for (uint32_t c = 0; c < n_chunks; c++)
        root = cllm_hash(&chunks[c].sum[version], sizeof chunks[c].sum[version], root);
    return root;
}
