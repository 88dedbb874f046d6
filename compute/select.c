/*
 * compute/select.c - which table serves this machine.
 *
 * The choice must come out the same in all processes of a run, so it depends on the
 * configuration and on the machine alone.
 */
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#    include <asm/prctl.h>
#    include <cpuid.h>
#    include <sys/syscall.h>
#    include <unistd.h>
#endif

#include "base/err.h"
#include "compute/elementary.h"
#include "compute/kernels.h"

const char *const cllm_isa_names[CLLM_N_ISAS] = {"auto",   "ref",        "avx2",
                                                 "avx512", "avx512bf16", "amx"};

#if defined(__x86_64__)

/*
 * Do this CPU's instructions for bf16, which @ops multiplies with, give the bits that
 * compute/product.h promises? Manuals say little about denormals and signs; who finds
 * another one goes without.
 */
static bool keeps_promise(const struct cllm_ops *ops, const struct cllm_ops *reference)
{
    enum { M = 13, N = 33, K = 37 };
    const struct cllm_matmul shape = {.m = M, .n = N, .k = K};
    float a[M * K], b[K * N], got[M * N], want[M * N];

    for (uint32_t i = 0; i < M * K; i++) /* all exponents, both signs */
        a[i] = cllm_f32_from_bits(i * 0x9e3779b1u & 0xbfffffffu);
    for (uint32_t i = 0; i < K * N; i++)
        b[i] = cllm_f32_from_bits((i * 0x85ebca6bu & 0x8fffffffu) | 0x38000000u);
    ops->matmul(got, a, b, &shape);
    reference->matmul(want, a, b, &shape);
    return memcmp(got, want, sizeof got) == 0;
}

/* The state of tiles is so large that a process has to ask for it: for all of its
 * threads, once and for ever. clang 14 has no name for tiles, so CPUID is asked. */
static bool gets_tiles(void)
{
    enum { FEATURES = 7, AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 }; /* leaf; bits of edx */
    enum { TILE_DATA = 18 }; /* the state component */
    const uint32_t wanted = AMX_BF16 | AMX_TILE;
    uint32_t eax, ebx, ecx, edx;

    return __get_cpuid_count(FEATURES, 0, &eax, &ebx, &ecx, &edx) != 0 &&
           (edx & wanted) == wanted &&
           syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0;
}

#endif

/* What the CPU and the operating system offer, as the compiler's run-time library sees
 * it. */
static bool offers(enum cllm_isa isa)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (isa == CLLM_ISA_AVX2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (isa == CLLM_ISA_AVX512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (isa == CLLM_ISA_AVX512BF16)
        return offers(CLLM_ISA_AVX512) && __builtin_cpu_supports("avx512bf16") &&
               keeps_promise(&cllm_avx512bf16_bf16, &cllm_ref_bf16);
    if (isa == CLLM_ISA_AMX)
        return offers(CLLM_ISA_AVX512BF16) && gets_tiles() &&
               keeps_promise(&cllm_amx_tiles, &cllm_ref_tiles) &&
               keeps_promise(&cllm_amx_split, &cllm_ref_split);
#endif
    return isa == CLLM_ISA_REF;
}

enum cllm_isa cllm_isa_best(void)
{
    enum cllm_isa isa = CLLM_N_ISAS - 1;

    while (!offers(isa))
        isa--;
    return isa;
}

static const struct cllm_ops *table_of(enum cllm_isa isa, enum cllm_precision precision)
{
    static const struct cllm_ops *const table[CLLM_N_ISAS][CLLM_N_PRECISIONS] =
    { [CLLM_ISA_REF] = {&cllm_ref_f32, &cllm_ref_bf16, &cllm_ref_tiles, &cllm_ref_split},
#if defined(__x86_64__)
      [CLLM_ISA_AVX2] = {&cllm_avx2_f32, &cllm_avx2_bf16, &cllm_avx2_tiles,
                         &cllm_avx2_split},
      [CLLM_ISA_AVX512] = {&cllm_avx512_f32, &cllm_avx512_bf16, &cllm_avx512_tiles,
                           &cllm_avx512_split},
      [CLLM_ISA_AVX512BF16] = {&cllm_avx512bf16_f32, &cllm_avx512bf16_bf16,
                               &cllm_avx512bf16_tiles, &cllm_avx512bf16_split},
      [CLLM_ISA_AMX] = {&cllm_amx_f32, &cllm_amx_bf16, &cllm_amx_tiles, &cllm_amx_split},
#endif
    };

    CLLM_ASSERT(table[isa][precision] != NULL);
    return table[isa][precision];
}

/* What AUTO is: $CLLM_ISA or the best. */
static int choose(enum cllm_isa *isa)
{
    const char *name = getenv("CLLM_ISA");
    uint32_t i = 0;
    int rc;

    *isa = cllm_isa_best();
    if (!name || name[0] == '\0' || strcmp(name, "auto") == 0)
        return 0;
    while (i < CLLM_N_ISAS && strcmp(name, cllm_isa_names[i]) != 0)
        i++;
    if (i < CLLM_N_ISAS) {
        *isa = (enum cllm_isa)i;
        return 0;
    }
    rc = cllm_err(CLLM_ECONFIG, "cannot compute with CLLM_ISA=%s", name);
    cllm_err_hint("one of auto, ref, avx2, avx512, avx512bf16, amx");
    return rc;
}

int cllm_ops_pick(const struct cllm_ops **ops, enum cllm_isa isa,
                  enum cllm_precision precision)
{
    int rc = isa == CLLM_ISA_AUTO ? choose(&isa) : 0;

    if (rc != 0)
        return rc;
    if (!offers(isa)) {
        rc = cllm_err(CLLM_ECONFIG, "cannot compute with %s: this CPU has it not",
                      cllm_isa_names[isa]);
        cllm_err_hint("[compute] isa = auto; the best of this machine is %s",
                      cllm_isa_names[cllm_isa_best()]);
        return rc;
    }
    *ops = table_of(isa, precision);
    return 0;
}

const struct cllm_ops *cllm_ops_select(void)
{
    return table_of(cllm_isa_best(), CLLM_PRECISION_F32);
}

const struct cllm_ops *cllm_ops_reference(void)
{
    return &cllm_ref_f32;
}
