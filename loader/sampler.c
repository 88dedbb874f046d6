/*
 * loader/sampler.c - a Feistel network over the least power of two that holds all
 * windows; results outside walk on along their cycle until they are inside.
 *
 * A Feistel network is a bijection whatever its round function is, and cycle walking
 * keeps that: the cycle of an inside position comes back inside. The power of two is less
 * than twice the number of windows (except for tiny data), so a walk takes less than two
 * steps on average.
 */
#include "loader/sampler.h"

#include "base/random.h"

#define ROUNDS 8

/* Below 2^8 windows the halves would be too narrow to mix. */
#define BITS_MIN 8

/* Finaliser of MurmurHash3: every input bit reaches every output bit. */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= UINT64_C(0xFF51AFD7ED558CCD);
    x ^= x >> 33;
    x *= UINT64_C(0xC4CEB9FE1A85EC53);
    x ^= x >> 33;
    return x;
}

static uint32_t bits_for(uint64_t n)
{
    uint32_t bits = BITS_MIN;

    while (bits < 63 && (UINT64_C(1) << bits) < n)
        bits++;
    return bits;
}

/* A permutation of [0, 2^@bits). The halves may differ by one bit, so they never swap:
 * even rounds change the left one, odd rounds the right one. */
static uint64_t feistel(uint64_t key, uint32_t bits, uint64_t x)
{
    uint32_t right_bits = bits / 2;
    uint64_t left_mask = (UINT64_C(1) << (bits - right_bits)) - 1;
    uint64_t right_mask = (UINT64_C(1) << right_bits) - 1;
    uint64_t left = x >> right_bits, right = x & right_mask;

    for (uint64_t i = 1; i <= ROUNDS; i++) {
        uint64_t round_key = key + i * UINT64_C(0x9E3779B97F4A7C15);

        if (i % 2 == 0)
            right ^= mix(left ^ mix(round_key)) & right_mask;
        else
            left ^= mix(right ^ mix(round_key)) & left_mask;
    }
    return left << right_bits | right;
}

uint64_t cllm_sampler_permute(uint64_t seed, uint64_t epoch, uint64_t n_windows,
                              uint64_t position)
{
    uint64_t key = cllm_random_u64(seed, CLLM_RANDOM_SHUFFLE, epoch);
    uint32_t bits = bits_for(n_windows);
    uint64_t x = position;

    CLLM_ASSERT(position < n_windows);
    CLLM_ASSERT(n_windows <= UINT64_C(1) << 62);
    do {
        x = feistel(key, bits, x);
    } while (x >= n_windows);
    return x;
}

uint64_t cllm_sampler_window(uint64_t seed, uint64_t n_windows, uint64_t sequence)
{
    CLLM_ASSERT(n_windows >= 1);
    return cllm_sampler_permute(seed, sequence / n_windows, n_windows,
                                sequence % n_windows);
}

uint64_t cllm_sampler_seed(uint64_t seed, uint64_t key)
{
    return key == 0 ? seed : cllm_random_u64(seed, CLLM_RANDOM_MIX, key);
}

uint64_t cllm_sampler_sequence(uint64_t batch, uint32_t sequences, uint32_t row)
{
    CLLM_ASSERT(row < sequences);
    return batch * sequences + row;
}

uint64_t cllm_sampler_eval_window(uint64_t n_windows, uint64_t n_rows, uint64_t row)
{
    CLLM_ASSERT(row < n_rows);
    CLLM_ASSERT(n_rows <= UINT32_MAX);
    /* floor(row * n_windows / n_rows) without the product, which may not fit. */
    return row * (n_windows / n_rows) + row * (n_windows % n_rows) / n_rows;
}
