/*
 * tools/bench_peak.c - see tools/bench_peak.h.
 *
 * The vectors are the compiler's own, as wide as the instruction set that the Makefile
 * compiles this for; it may fuse a multiplication and an addition here (-ffp-contract).
 * An empty asm statement that claims to change the sums after each pass keeps passes
 * apart; sums and factors fit into the registers together. A sum tends to ADDEND / (1 -
 * FACTOR), so no number ever becomes large or denormal.
 */
#include "tools/bench_peak.h"

#include <string.h>

#if defined(__AVX512BF16__)
#    include <immintrin.h>
#endif

#if defined(__AMX_BF16__)

/* Tiles full of zeros take as long as others. */
static double run(uint64_t rounds, float *sink)
{
    enum { TILE = 16, SUMS = 4, FLOP = 2 * TILE * TILE * 32 };
    static const struct {
        uint8_t palette, start_row, zero[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } configuration = {.palette = 1,
                       .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                       .rows = {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE}};
    float tile[TILE * TILE];

    _tile_loadconfig(&configuration);
    for (uint64_t r = 0; r < rounds; r++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, tile, TILE * sizeof *tile);
    _tile_release();
    *sink = tile[0];
    return (double)rounds * SUMS * FLOP;
}

/* Of split numbers six products of pieces count as one. */
static double run_split(uint64_t rounds, float *sink)
{
    return run(rounds, sink) / 6;
}

const struct cllm_bench_peak cllm_bench_peak_amx = {"bf16 amx", run};
const struct cllm_bench_peak cllm_bench_peak_split = {"f32 amx", run_split};

#else

#    define FACTOR         0.5f
#    define ADDEND         0.5f

/* EACH(DO): DO(i) for every sum. Written out, because compilers that loop over an array
 * of sums keep it in memory. */
#    define EACH_TO_9(DO)  DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9)
#    define EACH_TO_11(DO) EACH_TO_9(DO) DO(10) DO(11)
#    define EACH_TO_23(DO) \
        EACH_TO_11(DO)     \
        DO(12)             \
        DO(13) DO(14) DO(15) DO(16) DO(17) DO(18) DO(19) DO(20) DO(21) DO(22) DO(23)
#    if defined(__AVX512F__)
enum { WIDTH = 16, SUMS = 24 }; /* of 32 registers */
#        define EACH EACH_TO_23
#    elif defined(__AVX2__)
enum { WIDTH = 8, SUMS = 12 }; /* of 16 */
#        define EACH EACH_TO_11
#    else
enum { WIDTH = 4, SUMS = 10 }; /* a multiplication needs a register besides */
#        define EACH EACH_TO_9
#    endif

typedef float vector __attribute__((vector_size(4 * WIDTH)));

#    if defined(__AVX512BF16__)
enum { FLOP = 4 }; /* an element of a sum takes up two products */
#    else
enum { FLOP = 2 };
#    endif

/* A register that holds a float vector, as asm statements call it. */
#    if defined(__x86_64__)
#        define REGISTER "+v"
#    else
#        define REGISTER "+w"
#    endif

static inline vector multiply_add(vector sum, vector factor, vector addend)
{
#    if defined(__AVX512BF16__)
    /* Zeros in the lower halves of the factors: the upper ones are bf16 as they are. */
    return (vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)factor, (__m512bh)addend);
#    else
    return sum * factor + addend;
#    endif
}

static double run(uint64_t rounds, float *sink)
{
    vector factor = {0}, addend = {0}, total;

    for (size_t i = 0; i < WIDTH; i++) {
        factor[i] = FACTOR;
        addend[i] = ADDEND;
    }
#    define BEGIN(i) vector sum##i = addend;
    EACH(BEGIN)
    for (uint64_t r = 0; r < rounds; r++) {
#    define PASS(i)                                    \
        sum##i = multiply_add(sum##i, factor, addend); \
        __asm volatile("" : REGISTER(sum##i));
        EACH(PASS)
    }
    total = addend;
#    define END(i) total += sum##i;
    EACH(END)
    memcpy(sink, &total, sizeof *sink);
    return (double)rounds * SUMS * WIDTH * FLOP;
}

#    if defined(__AVX512BF16__)
const struct cllm_bench_peak cllm_bench_peak_bf16 = {"bf16 avx512", run};
#    elif defined(__AVX512F__)
const struct cllm_bench_peak cllm_bench_peak_avx512 = {"f32 avx512", run};
#    elif defined(__AVX2__)
const struct cllm_bench_peak cllm_bench_peak_avx2 = {"f32 avx2", run};
#    else
const struct cllm_bench_peak cllm_bench_peak_ref = {"f32 plain", run};

static const struct cllm_bench_peak *peak_of_f32(void)
{
#        if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f"))
        return &cllm_bench_peak_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &cllm_bench_peak_avx2;
#        endif
    return &cllm_bench_peak_ref;
}

const struct cllm_bench_peak *cllm_bench_peak_of(enum cllm_precision precision)
{
#        if defined(__x86_64__)
    enum cllm_isa best = cllm_isa_best();

    if (precision == CLLM_PRECISION_BF16 && best == CLLM_ISA_AVX512BF16)
        return &cllm_bench_peak_bf16;
    if (precision == CLLM_PRECISION_BF16_AMX && best == CLLM_ISA_AMX)
        return &cllm_bench_peak_amx;
    if (precision == CLLM_PRECISION_F32_AMX && best == CLLM_ISA_AMX)
        return &cllm_bench_peak_split;
#        endif
    return peak_of_f32();
}
#    endif

#endif
