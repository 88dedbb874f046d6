/*
 * shm/frozen.h - the weights beneath adapters, which no step changes: one object for all
 * workers instead of two versions, gradients and moments.
 *
 * Node Zero makes it and fills it before READY; from then on nobody can write it, every
 * worker maps it read-only. Behind the vector stand hashes of its blocks, so that it can
 * be verified in shares.
 */
#ifndef CLLM_SHM_FROZEN_H
#define CLLM_SHM_FROZEN_H

#include "shm/region.h"

struct cllm_geometry;

/* Its name; bytes of the object, 0 for a run without adapters. */
void cllm_frozen_name(char out[CLLM_REGION_NAME_BYTES], const char *run_id);
uint64_t cllm_frozen_bytes(const struct cllm_geometry *geometry);

/* Make it, of zeros, and map it writable until it is closed. Returns 0 or a negative code
 * with text, as cllm_region_create(). */
int cllm_frozen_create(struct cllm_region *frozen, const char *run_id,
                       const struct cllm_geometry *geometry);

/* The vector of it, geometry->frozen_elements. */
float *cllm_frozen_weights(const struct cllm_region *frozen);

/* The vector is complete: write the hashes behind it. */
void cllm_frozen_seal(struct cllm_region *frozen, const struct cllm_geometry *geometry);

/* Is share @part of @n_parts what was sealed? All shares together are all of it. */
bool cllm_frozen_intact(const struct cllm_region *frozen,
                        const struct cllm_geometry *geometry, uint32_t part,
                        uint32_t n_parts);

#endif /* CLLM_SHM_FROZEN_H */
