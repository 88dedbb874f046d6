/*
 * shm/chunk.h - where a chunk lies and what its hash is.
 *
 * A chunk is elements [index * chunk_elements, ...) of the parameter vector, the last one
 * shorter. The hash goes with the bytes from the worker that wrote them to the disk:
 * updater, saver and loader of a checkpoint compute it the same way.
 */
#ifndef CLLM_SHM_CHUNK_H
#define CLLM_SHM_CHUNK_H

#include "shm/layout.h"

/* First element of chunk @chunk, and one past its last. */
uint64_t cllm_chunk_lo(const struct cllm_geometry *geometry, uint32_t chunk);
uint64_t cllm_chunk_hi(const struct cllm_geometry *geometry, uint32_t chunk);

/*
 * Hash of a chunk's parameters: @n elements each of weights, first and second moments,
 * all pointing at the first. @sum is the chunk's index, so that chunks that are swapped
 * do not match; or it goes on from that of the elements before, whole pieces of them.
 */
uint64_t cllm_chunk_sum(const float *w, const float *m, const float *v, uint64_t n,
                        uint64_t sum);

/*
 * The same for one piece: @n elements, CLLM_CHUNK_PIECE in all pieces but the last. Who
 * makes a chunk hashes it while it is in the first-level cache.
 */
#define CLLM_CHUNK_PIECE 2048

uint64_t cllm_chunk_sum_piece(const float *w, const float *m, const float *v, uint64_t n,
                              uint64_t sum);

/* Root of a version: hash of its chunk hashes in order. */
uint64_t cllm_chunk_root(const struct cllm_chunk *chunks, uint32_t n_chunks,
                         uint32_t version);

#endif /* CLLM_SHM_CHUNK_H */
