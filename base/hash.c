/*
 * base/hash.c - the only file that knows xxHash.
 */
#include "base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <xxhash.h>
#if defined(__x86_64__)
#    include <xxh_x86dispatch.h> /* the same values with the widest vectors of this CPU */
#endif

uint64_t cllm_hash(const void *data, size_t bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, bytes, seed);
}

struct cllm_hasher *cllm_hasher_new(void)
{
    /* XXH3 state wants 64-byte alignment, which its own allocator gives. */
    return (struct cllm_hasher *)XXH3_createState();
}

void cllm_hasher_free(struct cllm_hasher **hasher)
{
    (void)XXH3_freeState((XXH3_state_t *)*hasher);
    *hasher = NULL;
}

void cllm_hasher_begin(struct cllm_hasher *hasher, uint64_t seed)
{
    XXH_errorcode rc = XXH3_64bits_reset_withSeed((XXH3_state_t *)hasher, seed);

    CLLM_ASSERT(rc == XXH_OK);
}

void cllm_hasher_add(struct cllm_hasher *hasher, const void *data, size_t bytes)
{
    XXH_errorcode rc = XXH3_64bits_update((XXH3_state_t *)hasher, data, bytes);

    CLLM_ASSERT(rc == XXH_OK);
}

uint64_t cllm_hasher_end(const struct cllm_hasher *hasher)
{
    return XXH3_64bits_digest((const XXH3_state_t *)hasher);
}

void cllm_hasher_begin128(struct cllm_hasher *hasher)
{
    XXH_errorcode rc = XXH3_128bits_reset((XXH3_state_t *)hasher);

    CLLM_ASSERT(rc == XXH_OK);
}

void cllm_hasher_add128(struct cllm_hasher *hasher, const void *data, size_t bytes)
{
    XXH_errorcode rc = XXH3_128bits_update((XXH3_state_t *)hasher, data, bytes);

    CLLM_ASSERT(rc == XXH_OK);
}

void cllm_hasher_end128(const struct cllm_hasher *hasher,
                        char hex[CLLM_HASH128_HEX_BYTES])
{
    XXH128_hash_t hash = XXH3_128bits_digest((const XXH3_state_t *)hasher);

    (void)snprintf(hex, CLLM_HASH128_HEX_BYTES, "%016" PRIx64 "%016" PRIx64,
                   (uint64_t)hash.high64, (uint64_t)hash.low64);
}
