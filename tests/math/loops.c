/*
 * tests/math/loops.c - one source, compiled by tests/math/math.mk with -DCLLM_ISA=scalar,
 * ref, avx2 and avx512, with the flags of the kernels in compute/.
 */
#include "tests/math/loops.h"

#include "compute/elementary.h"

#ifndef CLLM_ISA
#    define CLLM_ISA ref
#endif
#define MATH_LOOPS_OF_(isa) math_loops_##isa
#define MATH_LOOPS_OF(isa)  MATH_LOOPS_OF_(isa)

/* Where the other function does not reach, the one with its bits elsewhere. */
static inline float exp_below(float x)
{
    return x > 43.0f ? cllm_expf(x) : cllm_expf_below(x);
}

static inline float sin_turn(float x)
{
    float sine, cosine;

    cllm_sincos_turn(x, &sine, &cosine);
    return sine;
}

static inline float cos_turn(float x)
{
    float sine, cosine;

    cllm_sincos_turn(x, &sine, &cosine);
    return cosine;
}

#define MATH_LOOP_(name, expression)                                                 \
    static void name##_loop(float *restrict out, const float *restrict in, size_t n) \
    {                                                                                \
        for (size_t i = 0; i < n; i++) {                                             \
            float x = in[i];                                                         \
                                                                                     \
            out[i] = expression;                                                     \
        }                                                                            \
    }
MATH_FUNCTIONS(MATH_LOOP_)

#define MATH_ENTRY_(name, expression) name##_loop,
const math_loop_fn MATH_LOOPS_OF(CLLM_ISA)[MATH_N_FUNCTIONS] = {
    MATH_FUNCTIONS(MATH_ENTRY_)};
