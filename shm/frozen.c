/*
 * shm/frozen.c - the object beneath adapters: a vector and the hashes of its blocks.
 */
#include "shm/frozen.h"

#include "base/hash.h"
#include "base/pulse.h"
#include "shm/layout.h"

#define BLOCK CLLM_HUGE_ELEMENTS

static uint64_t n_blocks(const struct cllm_geometry *geometry)
{
    return cllm_div_up(geometry->frozen_elements, BLOCK);
}

static uint64_t vector_bytes(const struct cllm_geometry *geometry)
{
    return cllm_align_up(geometry->frozen_elements * sizeof(float), CLLM_PAGE);
}

void cllm_frozen_name(char out[CLLM_REGION_NAME_BYTES], const char *run_id)
{
    cllm_region_name(out, run_id, "base");
}

uint64_t cllm_frozen_bytes(const struct cllm_geometry *geometry)
{
    return geometry->frozen_elements == 0
               ? 0
               : vector_bytes(geometry) +
                     cllm_align_up(n_blocks(geometry) * sizeof(uint64_t), CLLM_PAGE);
}

int cllm_frozen_create(struct cllm_region *frozen, const char *run_id,
                       const struct cllm_geometry *geometry)
{
    char name[CLLM_REGION_NAME_BYTES];

    cllm_frozen_name(name, run_id);
    return cllm_region_create(frozen, name, cllm_frozen_bytes(geometry));
}

float *cllm_frozen_weights(const struct cllm_region *frozen)
{
    return (float *)(void *)frozen->base;
}

static uint64_t sum_of(const struct cllm_region *frozen,
                       const struct cllm_geometry *geometry, uint64_t block)
{
    uint64_t lo = block * BLOCK;
    uint64_t n = cllm_min_u64(BLOCK, geometry->frozen_elements - lo);

    return cllm_hash(cllm_frozen_weights(frozen) + lo, n * sizeof(float), block);
}

static uint64_t *sums_of(const struct cllm_region *frozen,
                         const struct cllm_geometry *geometry)
{
    return (uint64_t *)(void *)(frozen->base + vector_bytes(geometry));
}

void cllm_frozen_seal(struct cllm_region *frozen, const struct cllm_geometry *geometry)
{
    uint64_t *sums = sums_of(frozen, geometry);

    for (uint64_t block = 0; block < n_blocks(geometry); block++) {
        sums[block] = sum_of(frozen, geometry, block);
        cllm_pulse();
    }
}

bool cllm_frozen_intact(const struct cllm_region *frozen,
                        const struct cllm_geometry *geometry, uint32_t part,
                        uint32_t n_parts)
{
    const uint64_t *sums = sums_of(frozen, geometry);
    uint64_t end = n_blocks(geometry) * (part + 1) / n_parts;

    CLLM_ASSERT(part < n_parts);
    for (uint64_t block = n_blocks(geometry) * part / n_parts; block < end; block++)
        if (sums[block] != sum_of(frozen, geometry, block))
            return false;
    return true;
}
