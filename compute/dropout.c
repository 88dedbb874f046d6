/*
 * compute/dropout.c - random elements become zero, the others grow, so that the mean
 * stays.
 *
 * The same random numbers as base/random.c's, 32 blocks side by side: whoever computes
 * an element, at whatever time, drops it or does not. 32, because compilers unroll 16
 * before they try to vectorise.
 */
#include "compute/kernels.h"

#include "base/random.h"

enum { BLOCKS = 32, WORDS = 4, GROUP = CLLM_DROPOUT_GROUP };
_Static_assert(BLOCKS *WORDS == GROUP, "blocks give a word to each element");

/* A round of Philox. */
static void round_once(uint32_t *restrict w0, uint32_t *restrict w1,
                       uint32_t *restrict w2, uint32_t *restrict w3, uint32_t k0,
                       uint32_t k1)
{
    for (size_t j = 0; j < BLOCKS; j++) {
        uint64_t p0 = (uint64_t)w0[j] * UINT64_C(0xD2511F53);
        uint64_t p1 = (uint64_t)w2[j] * UINT64_C(0xCD9E8D57);

        w0[j] = (uint32_t)(p1 >> 32) ^ w1[j] ^ k0;
        w1[j] = (uint32_t)p1;
        w2[j] = (uint32_t)(p0 >> 32) ^ w3[j] ^ k1;
        w3[j] = (uint32_t)p0;
    }
}

/* Words of the blocks with indices @index and after; those of word 0 first. */
static void random_words(uint32_t word[GROUP], uint64_t key, uint64_t index)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);

    for (size_t j = 0; j < BLOCKS; j++) {
        word[j] = (uint32_t)(index + j);
        word[BLOCKS + j] = (uint32_t)((index + j) >> 32);
        word[2 * BLOCKS + j] = CLLM_RANDOM_DROPOUT;
        word[3 * BLOCKS + j] = 0;
    }
    for (int i = 0; i < 10; i++) {
        round_once(word, word + BLOCKS, word + 2 * BLOCKS, word + 3 * BLOCKS, k0, k1);
        k0 += UINT32_C(0x9E3779B9);
        k1 += UINT32_C(0xBB67AE85);
    }
}

void CLLM_KERNEL(dropout_factors)(float *factor, const struct cllm_dropout *dropout)
{
    const uint32_t threshold = dropout->threshold;
    const float scale = dropout->scale;
    uint32_t word[GROUP];

    random_words(word, dropout->key, dropout->first / WORDS);
    for (size_t i = 0; i < GROUP; i++)
        factor[i] = word[i] < threshold ? 0.0f : scale;
}

void CLLM_KERNEL(dropout)(float *out, const float *add, const float *x, size_t n,
                          const struct cllm_dropout *dropout)
{
    struct cllm_dropout here = *dropout;
    float factor[GROUP];

    CLLM_ASSERT(dropout->first % GROUP == 0);
    for (size_t at = 0; at < n; at += GROUP, here.first += GROUP) {
        size_t count = cllm_min_u64(GROUP, n - at);

        CLLM_KERNEL(dropout_factors)(factor, &here);
        if (add == NULL)
            for (size_t i = 0; i < count; i++)
                out[at + i] = x[at + i] * factor[i];
        else
            for (size_t i = 0; i < count; i++)
                out[at + i] = add[at + i] + x[at + i] * factor[i];
    }
}
