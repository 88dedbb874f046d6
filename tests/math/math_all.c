/*
 * tests/math/math_all.c - proves the bounds stated in compute/elementary.h over all 2^32
 * floats, and that every instruction set gives the same bits.
 *
 *   math_all [--every N] [--bounds FACTOR] [FUNCTION...]
 *
 * The true value is libm's in double, taken as right within 2 of its own last places,
 * which are 2^-28 of ours: what is measured plus that much must meet the bound. The true
 * value of -x follows from that of x where the function is odd or even; ours is computed
 * for both. The hash is that of all results, to compare compilers and machines by.
 * --every N tries one block of 4096 floats in N, and the table says so; with
 * --bounds 0.5 one sees the proof fail. The exit code is 1 when a bound is broken or bits
 * differ.
 */
#include <gnu/libc-version.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/hash.h"
#include "compute/elementary.h"
#include "tests/math/loops.h"

/* A block holds magnitudes, and is tried with both signs; in the one that a sample never
 * leaves out infinity begins, and NaN follows. */
enum { BLOCK = 4096, BLOCKS = 0x80000000u / BLOCK, INFINITY_BLOCK = 0x7f800000 / BLOCK };
enum { RUN = 64, THREADS_MAX = 64 }; /* blocks that a thread takes at a time */

#define ORACLE_ERROR 0x1p-28 /* in our last places */

enum symmetry { NEITHER, ODD, EVEN };

struct function {
    const char *name;
    double (*exact)(double x);
    enum symmetry symmetry;
    double bound;  /* ulp; absolute: units of 2^-24 */
    bool absolute; /* and for |x| <= limit alone */
    float limit;
};

static double exact_logistic2(double x)
{
    return x <= -127.5 ? 0 : 1 / (1 + exp2(-x));
}

static double exact_rsqrt(double x)
{
    return 1 / sqrt(x);
}

static double exact_sin(double x)
{
    return fabs(x) <= 0x1p27 ? sin(x) : (double)NAN;
}

static double exact_cos(double x)
{
    return fabs(x) <= 0x1p27 ? cos(x) : (double)NAN;
}

/* Whole turns are taken off first, which is exact. */
static double exact_sin_turn(double x)
{
    return sin(6.283185307179586476925 * (x - nearbyint(x)));
}

static double exact_cos_turn(double x)
{
    return cos(6.283185307179586476925 * (x - nearbyint(x)));
}

static const struct function functions[MATH_N_FUNCTIONS] = {
    [MATH_exp] = {"exp", exp, NEITHER, 1.0, false, 0},
    [MATH_exp_below] = {"exp_below", exp, NEITHER, 1.0, false, 0},
    [MATH_log] = {"log", log, NEITHER, 1.0, false, 0},
    [MATH_tanh] = {"tanh", tanh, ODD, 2.0, false, 0},
    [MATH_erf] = {"erf", erf, ODD, 1.5, false, 0},
    [MATH_logistic2] = {"logistic2", exact_logistic2, NEITHER, 4.0, false, 0},
    [MATH_sqrt] = {"sqrt", sqrt, NEITHER, 0.5, false, 0},
    [MATH_rsqrt] = {"rsqrt", exact_rsqrt, NEITHER, 1.5, false, 0},
    [MATH_sin] = {"sin", exact_sin, ODD, 0.51, false, 0},
    [MATH_cos] = {"cos", exact_cos, EVEN, 0.51, false, 0},
    [MATH_sin_turn] = {"sin_turn", exact_sin_turn, ODD, 2.0, true, 0x1.fffffep18f},
    [MATH_cos_turn] = {"cos_turn", exact_cos_turn, EVEN, 2.0, true, 0x1.fffffep18f},
};

static const struct isa {
    const char *name;
    const math_loop_fn *loops;
} isas[] = {
    {"scalar", math_loops_scalar},
    {"ref", math_loops_ref},
    {"avx2", math_loops_avx2},
    {"avx512", math_loops_avx512},
};

enum { ISAS = CLLM_LEN(isas) };

static bool runs_here(size_t isa)
{
    __builtin_cpu_init();
    if (isas[isa].loops == math_loops_avx2)
        return __builtin_cpu_supports("avx2");
    if (isas[isa].loops == math_loops_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return true;
}

/* What one thread found, and then all of them. */
struct found {
    uint64_t tried, outside; /* inputs; outside: beyond the limit */
    double worst;
    uint32_t worst_at; /* bits of the input */
    uint64_t hash;     /* of all results; a sum, so that the order of blocks is none */
    uint64_t differ[ISAS];
    uint32_t differ_at[ISAS];
};

struct work {
    enum math_function which;
    uint32_t every;
    bool here[ISAS];
    _Atomic uint32_t *next; /* block, counted in runs of RUN */
    struct found found;
};

/*
 * Distance of @got from @exact in units of the last place of a float of @exact's size;
 * infinity counts as 2^128. HUGE_VAL where no distance helps: a NaN or infinity that
 * should be none or is missing, and a result, zero too, with the wrong sign.
 */
static double ulps(float got, double exact)
{
    uint64_t bits, unit;
    int64_t exponent;
    double scale;

    if (isnan(exact) || isnan(got))
        return isnan(exact) && isnan(got) ? 0 : HUGE_VAL;
    if (!signbit(got) != !signbit(exact))
        return HUGE_VAL;
    if (fabs(exact) >= 0x1p128)
        return isinf(got) ? 0 : HUGE_VAL;
    memcpy(&bits, &exact, sizeof bits);
    exponent = (int64_t)(bits >> 52 & 0x7ff) - 1023 - 23;
    exponent = exponent < -149 ? -149 : exponent;
    unit = (uint64_t)(1023 - exponent) << 52;
    memcpy(&scale, &unit, sizeof scale);
    return fabs((isinf(got) ? copysign(0x1p128, exact) : (double)got) - exact) * scale;
}

static double distance(const struct function *f, float got, double exact)
{
    if (!f->absolute)
        return ulps(got, exact);
    if (isnan(exact) || isnan(got))
        return isnan(exact) && isnan(got) ? 0 : HUGE_VAL;
    return fabs((double)got - exact) * 0x1p24;
}

static void compare_with_exact(struct found *found, const struct function *f,
                               const float *in, const float *got, const double *exact)
{
    for (size_t i = 0; i < BLOCK; i++) {
        double d;

        if (f->absolute && fabsf(in[i]) > f->limit && isfinite(in[i])) {
            found->outside++;
            continue;
        }
        found->tried++;
        d = distance(f, got[i], exact[i]);
        if (d > found->worst) {
            found->worst = d;
            found->worst_at = cllm_f32_bits(in[i]);
        }
    }
}

static void compare_bits(struct found *found, size_t isa, const float *in,
                         const float *want, const float *got)
{
    if (memcmp(want, got, BLOCK * sizeof *want) == 0)
        return;
    for (size_t i = 0; i < BLOCK; i++) {
        if (cllm_f32_bits(want[i]) == cllm_f32_bits(got[i]))
            continue;
        if (found->differ[isa]++ == 0)
            found->differ_at[isa] = cllm_f32_bits(in[i]);
    }
}

/* The block of magnitudes and the same with the sign set. */
static void try_block(struct work *work, uint32_t block)
{
    const struct function *f = &functions[work->which];
    alignas(64) float in[BLOCK], want[BLOCK], got[BLOCK];
    double exact[BLOCK];

    for (uint32_t sign = 0; sign < 2; sign++) {
        for (uint32_t i = 0; i < BLOCK; i++)
            in[i] = cllm_f32_from_bits(sign << 31 | (block * BLOCK + i));
        for (uint32_t i = 0; i < BLOCK; i++) {
            if (sign == 0 || f->symmetry == NEITHER)
                exact[i] = f->exact((double)in[i]);
            else
                exact[i] = f->symmetry == ODD ? -exact[i] : exact[i];
        }
        isas[0].loops[work->which](want, in, BLOCK);
        compare_with_exact(&work->found, f, in, want, exact);
        work->found.hash += cllm_hash(want, sizeof want, cllm_f32_bits(in[0]));
        for (size_t isa = 1; isa < ISAS; isa++) {
            if (!work->here[isa])
                continue;
            isas[isa].loops[work->which](got, in, BLOCK);
            compare_bits(&work->found, isa, in, want, got);
        }
    }
}

static void *thread(void *arg)
{
    struct work *work = arg;

    for (;;) {
        uint32_t block = atomic_fetch_add(work->next, 1) * RUN;

        if (block >= BLOCKS)
            return NULL;
        for (uint32_t end = block + RUN; block < end; block++)
            if (block % work->every == 0 || block == INFINITY_BLOCK)
                try_block(work, block);
    }
}

static void merge(struct found *all, const struct found *one)
{
    all->tried += one->tried;
    all->outside += one->outside;
    all->hash += one->hash;
    if (one->worst > all->worst) {
        all->worst = one->worst;
        all->worst_at = one->worst_at;
    }
    for (size_t isa = 0; isa < ISAS; isa++) {
        if (all->differ[isa] == 0)
            all->differ_at[isa] = one->differ_at[isa];
        all->differ[isa] += one->differ[isa];
    }
}

/* All floats, on every core. */
static struct found try_all(enum math_function which, uint32_t every)
{
    static struct work works[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    _Atomic uint32_t next = 0;
    struct found all = {0};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t n = cores < 1 ? 1 : cores > THREADS_MAX ? THREADS_MAX : (size_t)cores;

    for (size_t i = 0; i < n; i++) {
        works[i] = (struct work){.which = which, .every = every, .next = &next};
        for (size_t isa = 0; isa < ISAS; isa++)
            works[i].here[isa] = runs_here(isa);
        CLLM_ASSERT(pthread_create(&threads[i], NULL, thread, &works[i]) == 0);
    }
    for (size_t i = 0; i < n; i++) {
        CLLM_ASSERT(pthread_join(threads[i], NULL) == 0);
        merge(&all, &works[i].found);
    }
    return all;
}

/* A row of the table; whether everything holds. */
static bool prove(enum math_function which, uint32_t every, double factor)
{
    const struct function *f = &functions[which];
    uint64_t start = cllm_now_ns();
    struct found all = try_all(which, every);
    double bound = f->bound * factor;
    bool good = all.worst + ORACLE_ERROR <= bound;
    float at = cllm_f32_from_bits(all.worst_at);

    printf("%-10s %5.3g %-7s %8.5f %15.9g %08" PRIx32 " %10" PRIu64 " %10" PRIu64
           " %016" PRIx64 " %5.0f s  %s\n",
           f->name, bound, f->absolute ? "x 2^-24" : "ulp", all.worst, (double)at,
           all.worst_at, all.tried, all.outside, all.hash,
           (double)(cllm_now_ns() - start) / (double)CLLM_NS_PER_S,
           good ? "holds" : "BROKEN");
    for (size_t isa = 1; isa < ISAS; isa++) {
        if (all.differ[isa] == 0)
            continue;
        good = false;
        printf("%-10s %s differs from %s for %" PRIu64 " inputs, one is %08" PRIx32 "\n",
               f->name, isas[isa].name, isas[0].name, all.differ[isa],
               all.differ_at[isa]);
    }
    (void)fflush(stdout);
    return good;
}

static void say_what_runs(uint32_t every)
{
    printf("true values: libm of glibc %s in double; inputs: %s\n",
           gnu_get_libc_version(),
           every == 1 ? "all 2^32 floats" : "a SAMPLE, by --every");
    for (size_t isa = 0; isa < ISAS; isa++)
        printf("%-7s %s\n", isas[isa].name,
               runs_here(isa) ? "run, bits compared" : "NOT RUN: this CPU has it not");
    printf("%-10s %-13s %8s %24s %10s %10s %-16s %7s\n", "function", "bound", "worst",
           "at", "tried", "undefined", "hash of the bits", "time");
    (void)fflush(stdout);
}

static int usage(void)
{
    (void)fprintf(stderr,
                  "usage: math_all [--every N] [--bounds FACTOR] [FUNCTION...]\n");
    return 2;
}

/* Which functions @names (ending with NULL) pick, into @wanted. */
static bool pick(char **names, bool wanted[MATH_N_FUNCTIONS])
{
    for (size_t i = 0; i < MATH_N_FUNCTIONS; i++)
        wanted[i] = !*names;
    for (; *names; names++) {
        size_t i = 0;

        while (i < MATH_N_FUNCTIONS && strcmp(functions[i].name, *names) != 0)
            i++;
        if (i == MATH_N_FUNCTIONS)
            return false;
        wanted[i] = true;
    }
    return true;
}

int main(int argc, char **argv)
{
    bool wanted[MATH_N_FUNCTIONS], good = true;
    uint32_t every = 1;
    double factor = 1;
    int i = 1;

    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        if (strcmp(argv[i], "--every") == 0)
            every = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--bounds") == 0)
            factor = strtod(argv[i + 1], NULL);
        else
            return usage();
    }
    if (every == 0 || !pick(argv + i, wanted))
        return usage();
    say_what_runs(every);
    for (size_t which = 0; which < MATH_N_FUNCTIONS; which++)
        if (wanted[which])
            good &= prove((enum math_function)which, every, factor);
    printf("%s\n",
           good ? "every bound holds, and the bits are the same" : "BROKEN: see above");
    return good ? 0 : 1;
}
