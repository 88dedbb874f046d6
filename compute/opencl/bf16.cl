/*
 * compute/opencl/bf16.cl - f32 to bf16, as f32: to the nearest, ties to even; NaN stays
 * NaN, what is denormal becomes 0. The same as round_bf16() of compute/product.h.
 */
#define DEFINE_ROUND(name, T, U, as_u, as_t)                                             \
    static T name(T x)                                                                   \
    {                                                                                    \
        const U bits = as_u(x);                                                          \
        U rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;                \
                                                                                         \
        rounded = (bits & 0x7fffffffu) > 0x7f800000u ? (bits | 0x00400000u) & 0xffff0000u \
                                                     : rounded;                          \
        rounded = (bits & 0x7f800000u) == 0u ? bits & 0x80000000u : rounded;             \
        return as_t(rounded);                                                            \
    }

DEFINE_ROUND(round_bf16, float, uint, as_uint, as_float)
#if VECTOR == 16
DEFINE_ROUND(round_bf16_vec, float16, uint16, as_uint16, as_float16)
#endif
