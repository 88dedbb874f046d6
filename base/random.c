/*
 * base/random.c - Philox4x32-10, checked against the published vectors in
 * tests/test_random.c.
 */
#include "base/random.h"

static void round_once(uint32_t c[4], const uint32_t k[2])
{
    uint64_t p0 = (uint64_t)c[0] * UINT64_C(0xD2511F53);
    uint64_t p1 = (uint64_t)c[2] * UINT64_C(0xCD9E8D57);
    uint32_t c1 = c[1], c3 = c[3];

    c[0] = (uint32_t)(p1 >> 32) ^ c1 ^ k[0];
    c[1] = (uint32_t)p1;
    c[2] = (uint32_t)(p0 >> 32) ^ c3 ^ k[1];
    c[3] = (uint32_t)p0;
}

void cllm_random_block(uint32_t out[4], uint64_t key, uint32_t stream, uint64_t index)
{
    uint32_t k[2] = {(uint32_t)key, (uint32_t)(key >> 32)};

    out[0] = (uint32_t)index;
    out[1] = (uint32_t)(index >> 32);
    out[2] = stream;
    out[3] = 0;
    for (int i = 0; i < 10; i++) {
        round_once(out, k);
        k[0] += UINT32_C(0x9E3779B9);
        k[1] += UINT32_C(0xBB67AE85);
    }
}

uint64_t cllm_random_u64(uint64_t key, uint32_t stream, uint64_t index)
{
    uint32_t r[4];

    cllm_random_block(r, key, stream, index);
    return (uint64_t)r[1] << 32 | r[0];
}

float cllm_random_f32(uint64_t key, uint32_t stream, uint64_t index)
{
    uint32_t r[4];

    cllm_random_block(r, key, stream, index);
    return (float)(r[0] >> 8) * 0x1p-24f;
}
