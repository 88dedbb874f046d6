/*
 * tests/math/loops.h - a loop around each function of compute/elementary.h, compiled once
 * for each instruction set, so that their bits can be compared.
 */
#ifndef CLLM_TESTS_MATH_LOOPS_H
#define CLLM_TESTS_MATH_LOOPS_H

#include <stddef.h>

/* X(name, expression of x) */
#define MATH_FUNCTIONS(X)            \
    X(exp, cllm_expf(x))             \
    X(exp_below, exp_below(x))       \
    X(log, cllm_logf(x))             \
    X(tanh, cllm_tanhf(x))           \
    X(erf, cllm_erff(x))             \
    X(logistic2, cllm_logistic2f(x)) \
    X(sqrt, cllm_sqrtf(x))           \
    X(rsqrt, cllm_rsqrtf(x))         \
    X(sin, cllm_sinf(x))             \
    X(cos, cllm_cosf(x))             \
    X(sin_turn, sin_turn(x))         \
    X(cos_turn, cos_turn(x))

#define MATH_ENUM_(name, expression) MATH_##name,
enum math_function { MATH_FUNCTIONS(MATH_ENUM_) MATH_N_FUNCTIONS };
#undef MATH_ENUM_

/* out[i] = f(in[i]) for i < n; the arrays are apart. */
typedef void (*math_loop_fn)(float *restrict out, const float *restrict in, size_t n);

/* The loops as tests/math/math.mk compiles them: one number at a time, with the vectors
 * that every x86-64 has, and with those of the instruction sets. */
extern const math_loop_fn math_loops_scalar[MATH_N_FUNCTIONS];
extern const math_loop_fn math_loops_ref[MATH_N_FUNCTIONS];
extern const math_loop_fn math_loops_avx2[MATH_N_FUNCTIONS];
extern const math_loop_fn math_loops_avx512[MATH_N_FUNCTIONS];

#endif /* CLLM_TESTS_MATH_LOOPS_H */
