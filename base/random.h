/*
 * base/random.h - counter-based random numbers: value = f(key, stream, index), no state.
 *
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2,
 * 3", SC'11). Any element can be computed by any process at any time, so nothing is saved
 * and nothing is lost. Streams keep purposes apart; never reuse a stream number.
 */
#ifndef CLLM_BASE_RANDOM_H
#define CLLM_BASE_RANDOM_H

#include <stdint.h>

enum cllm_random_stream {
    CLLM_RANDOM_INIT = 1,  /* weight initialisation: index = element in the tensor */
    CLLM_RANDOM_SHUFFLE,   /* epoch permutations: index = epoch */
    CLLM_RANDOM_SAMPLE,    /* text generation: index = token position */
    CLLM_RANDOM_SELF_TEST, /* the tiny lane a starting worker proves itself with */
    CLLM_RANDOM_AUDIT,     /* lanes computed twice: index = step * lanes + lane */
    CLLM_RANDOM_TEST,      /* tests */
    CLLM_RANDOM_DROPOUT,   /* which activations are dropped: compute/ops.h */
    CLLM_RANDOM_MIX = 32   /* seed of each data set of a mixture: index = its key */
};

/* Four independent 32-bit words for (@key, @stream, @index). */
void cllm_random_block(uint32_t out[4], uint64_t key, uint32_t stream, uint64_t index);

/* 64 uniform bits. */
uint64_t cllm_random_u64(uint64_t key, uint32_t stream, uint64_t index);

/* Uniform in [0, 1), 24 bits. */
float cllm_random_f32(uint64_t key, uint32_t stream, uint64_t index);

#endif /* CLLM_BASE_RANDOM_H */
