/*
 * compute/vector.c - passes over vectors: copies, optimizers, fold, norm, finite check.
 */
#include "compute/kernels.h"

#include <string.h>

#include "compute/elementary.h"

#if defined(__x86_64__)
#    include <immintrin.h>
#endif

/* Elements that are computed at a time, and how far ahead of them memory is asked for
 * what follows: many arrays are read at once, each a little, which CPUs do not foresee
 * well. */
enum { STRIP = 64, AHEAD = 512 };

/* Behind the end it does no harm. */
static inline void ask_for(const float *x)
{
    enum { LINE = 16 };

    for (size_t i = 0; i < STRIP; i += LINE)
        __builtin_prefetch(x + AHEAD + i);
}

void CLLM_KERNEL(put)(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
}

void CLLM_KERNEL(zero)(float *x, size_t n)
{
    memset(x, 0, n * sizeof *x);
}

void CLLM_KERNEL(adamw)(float *restrict w1, float *restrict m1, float *restrict v1,
                        const float *restrict w0, const float *restrict m0,
                        const float *restrict v0, const float *restrict g, size_t n,
                        const struct cllm_adamw_terms *terms)
{
    const struct cllm_adamw_terms t = *terms;
    const float rest1 = 1.0f - t.beta1, rest2 = 1.0f - t.beta2;
    const float keep = 1.0f - t.learning_rate * t.weight_decay;

    for (size_t at = 0; at < n; at += STRIP) {
        size_t end = cllm_min_u64(at + STRIP, n);

        ask_for(w0 + at);
        ask_for(m0 + at);
        ask_for(v0 + at);
        ask_for(g + at);
        for (size_t i = at; i < end; i++) {
            float grad = g[i] * t.grad_scale;
            float m = t.beta1 * m0[i] + rest1 * grad;
            float v = t.beta2 * v0[i] + rest2 * (grad * grad);
            float step =
                (m * t.correction1) / (cllm_sqrtf(v * t.correction2) + t.epsilon);

            m1[i] = m;
            v1[i] = v;
            w1[i] = w0[i] * keep - t.learning_rate * step;
        }
    }
}

void CLLM_KERNEL(lion)(float *restrict w1, float *restrict m1, const float *restrict w0,
                       const float *restrict m0, const float *restrict g, size_t n,
                       const struct cllm_lion_terms *terms)
{
    const struct cllm_lion_terms t = *terms;
    const float rest1 = 1.0f - t.beta1, rest2 = 1.0f - t.beta2;
    const float keep = 1.0f - t.learning_rate * t.weight_decay;

    for (size_t i = 0; i < n; i++) {
        float grad = g[i] * t.grad_scale;
        float blend = t.beta1 * m0[i] + rest1 * grad;
        float up = blend > 0.0f ? 1.0f : 0.0f, down = blend < 0.0f ? 1.0f : 0.0f;

        m1[i] = t.beta2 * m0[i] + rest2 * grad;
        w1[i] = w0[i] * keep - t.learning_rate * (up - down);
    }
}

void CLLM_KERNEL(sgd)(float *restrict w1, float *restrict m1, const float *restrict w0,
                      const float *restrict m0, const float *restrict g, size_t n,
                      const struct cllm_sgd_terms *terms)
{
    const struct cllm_sgd_terms t = *terms;
    /* step = ahead grad + back m */
    const float ahead = t.nesterov ? 1.0f : 0.0f, back = t.nesterov ? t.momentum : 1.0f;

    for (size_t i = 0; i < n; i++) {
        float grad = g[i] * t.grad_scale + t.weight_decay * w0[i];
        float m = t.momentum * m0[i] + grad;

        m1[i] = m;
        w1[i] = w0[i] - t.learning_rate * (ahead * grad + back * m);
    }
}

/* By pieces, because out may be x or y, which would keep the compiler from vectors. */
void CLLM_KERNEL(mix)(float *out, const float *x, const float *y, float a, float b,
                      size_t n)
{
    enum { PIECE = 1024 };
    float sum[PIECE];

    for (size_t at = 0; at < n; at += PIECE) {
        size_t count = cllm_min_u64(PIECE, n - at);

        for (size_t i = 0; i < count; i++)
            sum[i] = a * x[at + i] + b * y[at + i];
        memcpy(out + at, sum, count * sizeof *sum);
    }
}

/* A few lines of each lane, whose sum stays in registers: memory is slow, and so many
 * lanes are read at once; one after the other, each would wait alone. */
void CLLM_KERNEL(fold)(float *restrict dst, const float *acc, const float *const *lanes,
                       uint32_t n_lanes, size_t n)
{
    const float *from = acc == NULL ? lanes[0] : acc;
    uint32_t first = acc == NULL ? 1 : 0;
    size_t at = 0;

    if (first == n_lanes) {
        memcpy(dst, from, n * sizeof *dst);
        return;
    }
    for (; at + STRIP <= n; at += STRIP) {
        float sum[STRIP];

        ask_for(from + at);
        ask_for(lanes[first] + at);
        for (size_t i = 0; i < STRIP; i++)
            sum[i] = from[at + i] + lanes[first][at + i];
        for (uint32_t lane = first + 1; lane < n_lanes; lane++) {
            ask_for(lanes[lane] + at);
            for (size_t i = 0; i < STRIP; i++)
                sum[i] += lanes[lane][at + i];
        }
        memcpy(dst + at, sum, sizeof sum);
    }
    for (; at < n; at++) {
        float sum = from[at];

        for (uint32_t lane = first; lane < n_lanes; lane++)
            sum += lanes[lane][at];
        dst[at] = sum;
    }
}

/* A store that goes past the caches. */
#if defined(__AVX512F__)
enum { STREAMED = 16 };
#    define stream_vector(to, from) _mm512_stream_ps(to, _mm512_loadu_ps(from))
#elif defined(__AVX__)
enum { STREAMED = 8 };
#    define stream_vector(to, from) _mm256_stream_ps(to, _mm256_loadu_ps(from))
#elif defined(__x86_64__)
enum { STREAMED = 4 };
#    define stream_vector(to, from) _mm_stream_ps(to, _mm_loadu_ps(from))
#endif

/* Intrinsics, because C has no other word for it. A line of the cache is written whole,
 * so that it is not read first. x86 orders such stores only by a fence, and that waits
 * for the memory: once for many pieces, by who calls this. */
void CLLM_KERNEL(stream)(float *restrict to, const float *restrict from, size_t n)
{
#if defined(__x86_64__)
    enum { BYTES = STREAMED * sizeof(float) };
    size_t i = 0;

    for (; i < n && (uintptr_t)(to + i) % BYTES != 0; i++)
        to[i] = from[i];
    for (; i + STREAMED <= n; i += STREAMED)
        stream_vector(to + i, from + i);
    for (; i < n; i++)
        to[i] = from[i];
#else
    memcpy(to, from, n * sizeof *to);
#endif
}

/* Element i goes to partial sum i mod 16, then a tree; in double, so that the square of
 * no f32 overflows. */
double CLLM_KERNEL(sumsq)(const float *x, size_t n)
{
    enum { LANES = 16 };
    double lane[LANES] = {0};
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lane[j] += (double)x[i + j] * (double)x[i + j];
    for (size_t j = 0; i + j < n; j++)
        lane[j] += (double)x[i + j] * (double)x[i + j];
    for (size_t width = LANES / 2; width > 0; width /= 2)
        for (size_t j = 0; j < width; j++)
            lane[j] += lane[j + width];
    return lane[0];
}

/* Infinities and NaNs are the values with all exponent bits set: adding one to the
 * exponent then carries into the sign bit. */
bool CLLM_KERNEL(is_finite)(const float *x, size_t n)
{
    uint32_t carried = 0;

    for (size_t at = 0; at < n; at += STRIP) {
        size_t end = cllm_min_u64(at + STRIP, n);

        ask_for(x + at);
        for (size_t i = at; i < end; i++)
            carried |= (cllm_f32_bits(x[i]) & 0x7fffffffu) + 0x00800000u;
    }
    return (carried & 0x80000000u) == 0;
}
