/*
 * compute/opencl/common.cl - what all kernels share; comes before each of them.
 *
 * Options of the build, by the kind of device:
 *
 *   VECTOR  elements, or rows, that an item computes side by side: 16 or 1
 *   GROUP   items that share a row; a power of two, 1 on a CPU: no barriers there
 *   PARTS   items that share a column; likewise
 *
 * Results depend on these and on the inputs: the order of every sum is in the source.
 *
 * An array is a buffer and the place of its first element: no part of a buffer then has
 * to be aligned to more than an element.
 */
#define IN(type, name)  global const type *name##_buffer, const ulong name##_first
#define OUT(type, name) global type *name##_buffer, const ulong name##_first
#define AT(name)        (name##_buffer + name##_first)

#if VECTOR == 16
typedef float16 vec;
typedef int16 ivec;
#    define LOAD(from)      vload16(0, from)
#    define STORE(to, x)    vstore16(x, 0, to)
#    define AS_INT(x)       as_int16(x)
#    define AS_FLOAT(x)     as_float16(x)
#    define LANES           ((ivec)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
#elif VECTOR == 1
typedef float vec;
typedef int ivec;
#    define LOAD(from)      (*(from))
#    define STORE(to, x)    (*(to) = (x))
#    define AS_INT(x)       as_int(x)
#    define AS_FLOAT(x)     as_float(x)
#    define LANES           0
#else
#    error "VECTOR is 16 or 1"
#endif

/* e^x in about one ulp; NaN stays. Written out, because libraries differ, and few of them
 * have vectors. In the manner of Cody and Waite: x = n ln 2 + r. */
#define DEFINE_EXP(name, T, as_int_, as_float_)                                    \
    static T name(T x)                                                             \
    {                                                                              \
        const float magic = 12582912.0f; /* 1.5 2^23: adding it rounds */          \
        T shifted, k, r, p;                                                        \
                                                                                   \
        x = x > (T)(89.0f) ? (T)(89.0f) : x;                                       \
        x = x < (T)(-104.0f) ? (T)(-104.0f) : x;                                   \
        shifted = x * 1.44269504f + magic;                            \
        k = shifted - magic;                                                       \
        r = x - k * 0.693115234f;                                         \
        r = r - k * 3.19461833e-05f;                                      \
        p = r * 0.000199089045f + 0.00139345438f;                     \
        p = p * r + 0.00833328441f;                                        \
        p = p * r + 0.0416664556f;                                         \
        p = p * r + 0.166666672f;                                          \
        p = p * r + 0.5f;                                                  \
        p = 1.0f + (r + r * r * p);                                               \
        /* 2^n in two factors: n reaches from -150 to 128 */                       \
        return p *                                                                 \
               as_float_((((as_int_(shifted) - 0x4b400000) >> 1) + 127) << 23) *   \
               as_float_(((as_int_(shifted) - 0x4b400000) -                        \
                          ((as_int_(shifted) - 0x4b400000) >> 1) + 127)            \
                         << 23);                                                   \
    }

DEFINE_EXP(exp_one, float, as_int, as_float)
DEFINE_EXP(exp_vec, vec, AS_INT, AS_FLOAT)

/* The sum, the greatest of the lanes, as a tree: the first half with the second. A NaN may
 * be passed over by the latter: who takes it meets the NaN again in a sum. */
static float sum_of_lanes(vec x)
{
    float lanes[VECTOR];

    STORE(lanes, x);
    for (uint width = VECTOR / 2; width > 0; width /= 2)
        for (uint i = 0; i < width; i++)
            lanes[i] += lanes[i + width];
    return lanes[0];
}

static float greatest_of_lanes(vec x)
{
    float lanes[VECTOR];

    STORE(lanes, x);
    for (uint width = VECTOR / 2; width > 0; width /= 2)
        for (uint i = 0; i < width; i++)
            lanes[i] = lanes[i] > lanes[i + width] ? lanes[i] : lanes[i + width];
    return lanes[0];
}

/* The group's sum, the group's greatest, to all of its items. scratch (GROUP). */
static float sum_of_group(float x, local float *scratch)
{
#if GROUP > 1
    const uint item = get_local_id(0);

    scratch[item] = x;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint width = GROUP / 2; width > 0; width /= 2) {
        if (item < width)
            scratch[item] += scratch[item + width];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    x = scratch[0];
    barrier(CLK_LOCAL_MEM_FENCE);
#endif
    return x;
}

static float greatest_of_group(float x, local float *scratch)
{
#if GROUP > 1
    const uint item = get_local_id(0);

    scratch[item] = x;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint width = GROUP / 2; width > 0; width /= 2) {
        if (item < width && scratch[item + width] > scratch[item])
            scratch[item] = scratch[item + width];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    x = scratch[0];
    barrier(CLK_LOCAL_MEM_FENCE);
#endif
    return x;
}

/* A row of @cols elements among the items of a group: vectors in turn, then what is left,
 * an element each. */
#define FOR_VECTORS(c, cols) \
    for (uint c = get_local_id(0) * VECTOR; c + VECTOR <= (cols); c += GROUP * VECTOR)
#define FOR_REST(c, cols)                                                   \
    for (uint c = (cols) / VECTOR * VECTOR + get_local_id(0); c < (cols);   \
         c += GROUP)

#define ROW_KERNEL kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))

/* Before loops over an item's own arrays, which then are registers on a GPU. With COMPACT
 * not: a CPU gains nothing and compiles for long. */
#if VECTOR == 1 && !defined(COMPACT)
#    define UNROLL _Pragma("unroll")
#else
#    define UNROLL
#endif
