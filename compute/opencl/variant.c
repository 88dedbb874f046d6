/*
 * compute/opencl/variant.c - see compute/opencl/variant.h.
 */
#include "compute/opencl/variant.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "compute/opencl/program.h"
#include "compute/opencl/table_inside.h"

#define SOURCES_CPU      "common.cl bf16.cl matmul_form.cl matmul_cpu.cl"
#define SOURCES_TILED    "common.cl bf16.cl matmul_form.cl matmul.cl"
#define SOURCES_TENSOR   "common.cl matmul_form.cl ptx.cl matmul_mma.cl"
#define SOURCES_EMULATED "common.cl matmul_form.cl ptx_emulated.cl matmul_mma.cl"

/* BLOCK_K is part of the bits: the same for all. */
#define CPU(name, usual, m, n)                                                          \
    {                                                                                   \
        CLLM_CL_FAMILY_ITEMS, name, usual, m, n, {1, 1}, SOURCES_CPU, "matmul",         \
        {                                                                               \
            "-w -DVECTOR=16 -DGROUP=1 -DBLOCK_K=256 -DBLOCK_M=" #m " -DBLOCK_N=" #n,    \
                "-w -DVECTOR=16 -DGROUP=1 -DBLOCK_K=256 -DBLOCK_M=" #m " -DBLOCK_N=" #n \
                " -DBF16"                                                               \
        }                                                                               \
    }
#define TILED_OPTIONS(m, n, k, each_m, each_n)                             \
    "-w -DVECTOR=1 -DGROUP=1 -DTILE_M=" #m " -DTILE_N=" #n " -DTILE_K=" #k \
    " -DITEM_M=" #each_m " -DITEM_N=" #each_n
#define TILED(name, usual, m, n, k, each_m, each_n)                                 \
    {                                                                               \
        CLLM_CL_FAMILY_GROUPS, name, usual, m, n, {(n) / (each_n), (m) / (each_m)}, \
            SOURCES_TILED, "matmul",                                                \
        {                                                                           \
            TILED_OPTIONS(m, n, k, each_m, each_n),                                 \
                TILED_OPTIONS(m, n, k, each_m, each_n) " -DBF16"                    \
        }                                                                           \
    }
/* PENDING is STAGES - 2. */
#define TENSOR_OPTIONS(m, n, warp_m, warp_n, stages, pending)                   \
    "-w -DVECTOR=1 -DGROUP=1 -DTILE_M=" #m " -DTILE_N=" #n " -DWARP_M=" #warp_m \
    " -DWARP_N=" #warp_n " -DSTAGES=" #stages " -DPENDING=" #pending
#define TENSOR(name, usual, m, n, warp_m, warp_n, stages, pending)                   \
    {CLLM_CL_FAMILY_TENSOR,                                                          \
     name,                                                                           \
     usual,                                                                          \
     m,                                                                              \
     n,                                                                              \
     {32 * ((m) / (warp_m)) * ((n) / (warp_n)), 1},                                  \
     SOURCES_TENSOR,                                                                 \
     "matmul_mma",                                                                   \
     {NULL, TENSOR_OPTIONS(m, n, warp_m, warp_n, stages, pending)}},                 \
    {                                                                                \
        CLLM_CL_FAMILY_EMULATED, name, usual, m, n,                                  \
            {32 * ((m) / (warp_m)) * ((n) / (warp_n)), 1}, SOURCES_EMULATED,         \
            "matmul_mma",                                                            \
        {                                                                            \
            NULL, TENSOR_OPTIONS(m, n, warp_m, warp_n, stages, pending) " -DCOMPACT" \
        }                                                                            \
    }

/* Of a family the usual ones, which the rule knows, from small to large. The others are
 * for a device on which they were measured. */
static const struct cllm_cl_variant variants[] = {
    CPU("24x64", true, 24, 64),
    CPU("96x192", true, 96, 192),
    CPU("48x128", false, 48, 128),
    CPU("96x64", false, 96, 64),
    CPU("192x192", false, 192, 192),
    CPU("96x320", false, 96, 320),
    TILED("8x8-8", true, 8, 8, 8, 1, 1),
    TILED("16x16-16", true, 16, 16, 16, 1, 1),
    TILED("64x64-16", true, 64, 64, 16, 4, 4),
    TILED("128x128-16", true, 128, 128, 16, 8, 8),
    TILED("32x32-16", false, 32, 32, 16, 4, 4),
    TILED("64x64-8", false, 64, 64, 8, 4, 4),
    TILED("64x64-32", false, 64, 64, 32, 4, 4),
    TILED("128x64-16", false, 128, 64, 16, 8, 4),
    TILED("128x128-8", false, 128, 128, 8, 8, 8),
    TENSOR("tensor-64x64", true, 64, 64, 32, 32, 4, 2),
    TENSOR("tensor-128x128", true, 128, 128, 64, 32, 3, 1),
    TENSOR("tensor-128x64", false, 128, 64, 32, 32, 3, 1),
};

enum { VARIANTS = CLLM_LEN(variants) };

static struct cllm_cl_kernel kernels[VARIANTS];

/* What was measured, as the file has it, with a variant's number for its name. */
struct tuned {
    struct cllm_cl_tuned shape;
    size_t variant;
};

/* Of the device that is open. */
static struct {
    size_t index[VARIANTS], n; /* those of its family */
    size_t fixed;
    uint64_t key; /* of the tuning's file */
    struct tuned tuned[CLLM_CL_TUNED];
    size_t n_tuned;
} now;

/* ---- those there are ---- */

size_t cllm_opencl_variants(void)
{
    return now.n;
}

const struct cllm_cl_variant *cllm_cl_variant(size_t variant)
{
    CLLM_ASSERT(variant < now.n);
    return &variants[now.index[variant]];
}

struct cllm_cl_kernel *cllm_cl_variant_kernel(size_t variant)
{
    CLLM_ASSERT(variant < now.n);
    return &kernels[now.index[variant]];
}

const char *cllm_opencl_variant_name(size_t variant)
{
    return cllm_cl_variant(variant)->name;
}

int cllm_opencl_variant_prepare(size_t variant)
{
    const size_t *items = cllm_cl_variant(variant)->items;
    size_t most;
    int rc = cllm_cl_prepare(cllm_cl_variant_kernel(variant), &most);

    if (rc == 0 && most < items[0] * items[1])
        rc = cllm_err(CLLM_EDEVICE,
                      "cannot launch products by %s: groups of %zu items are too large",
                      cllm_opencl_variant_name(variant), items[0] * items[1]);
    return rc;
}

/* ---- which one ---- */

void cllm_opencl_variant_fix(size_t variant)
{
    CLLM_ASSERT(variant < now.n || variant == CLLM_OPENCL_VARIANT_ANY);
    now.fixed = variant;
}

static size_t groups_of(const struct cllm_cl_variant *variant,
                        const struct cllm_matmul *shape)
{
    return cllm_div_up(shape->m, variant->m) * cllm_div_up(shape->n, variant->n);
}

/* The largest blocks that C fills, and that leave every unit of the device something. */
size_t cllm_opencl_variant_rule(const struct cllm_matmul *shape)
{
    size_t least = now.n;

    for (size_t v = now.n; v-- > 0;) {
        const struct cllm_cl_variant *variant = cllm_cl_variant(v);

        if (!variant->usual)
            continue;
        least = v;
        if (2 * shape->m > variant->m && 2 * shape->n > variant->n &&
            groups_of(variant, shape) >= cllm_opencl_device()->units)
            break;
    }
    CLLM_ASSERT(least < now.n);
    return least;
}

static struct cllm_cl_tuned entry_of(const struct cllm_matmul *shape)
{
    return (struct cllm_cl_tuned){.m = cllm_cl_size(shape->m),
                                  .n = cllm_cl_size(shape->n),
                                  .k = cllm_cl_size(shape->k),
                                  .form = (shape->trans_a ? 1u : 0u) |
                                          (shape->trans_b ? 2u : 0u)};
}

size_t cllm_opencl_variant_choose(const struct cllm_matmul *shape)
{
    struct cllm_cl_tuned want;

    if (now.fixed != CLLM_OPENCL_VARIANT_ANY)
        return now.fixed;
    want = entry_of(shape);
    for (size_t i = 0; i < now.n_tuned; i++) {
        const struct cllm_cl_tuned *have = &now.tuned[i].shape;

        if (have->m == want.m && have->n == want.n && have->k == want.k &&
            have->form == want.form)
            return now.tuned[i].variant;
    }
    return cllm_opencl_variant_rule(shape);
}

/* ---- what was measured ---- */

size_t cllm_opencl_tuned(void)
{
    return now.n_tuned;
}

/* Of the device, its driver, and all that the variants are made from. */
static int find_key(void)
{
    const struct cllm_opencl_device *device = cllm_opencl_device();
    int rc = 0;

    now.key = 1;
    for (size_t v = 0; rc == 0 && v < now.n; v++) {
        const struct cllm_cl_kernel *kernel = cllm_cl_variant_kernel(v);
        const char *name = cllm_opencl_variant_name(v);
        uint64_t one;

        rc = cllm_cl_sources_key(device, kernel->sources, kernel->options, &one);
        now.key = cllm_hash(&one, sizeof one, now.key);
        now.key = cllm_hash(name, strlen(name), now.key);
    }
    return rc;
}

/* The variant of that name, which is built; now.n: there is none, or it cannot be. */
static size_t find_variant(const char *name)
{
    size_t v = 0;

    while (v < now.n && strcmp(cllm_opencl_variant_name(v), name) != 0)
        v++;
    return v < now.n && cllm_opencl_variant_prepare(v) == 0 ? v : now.n;
}

static bool take_tuning(const struct cllm_cl_tuned *entries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t v = find_variant(entries[i].variant);

        if (v == now.n)
            return false;
        now.tuned[i] = (struct tuned){.shape = entries[i], .variant = v};
    }
    now.n_tuned = n;
    return true;
}

static void load_tuning(void)
{
    static struct cllm_cl_tuned entries[CLLM_CL_TUNED];
    char path[CLLM_CL_CACHE_FILE];
    size_t n;
    enum cllm_cl_tuning state = cllm_cl_tuning_load(now.key, entries, &n);

    if (state == CLLM_CL_TUNING_NONE ||
        (state == CLLM_CL_TUNING_GOOD && take_tuning(entries, n)))
        return;
    if (cllm_cl_tuning_path(path, now.key))
        cllm_warn("%s is not used: it is damaged or of another CLLM; products go by the "
                  "rule, cllm-bench --tune-opencl measures again",
                  path);
}

int cllm_opencl_tune(const struct cllm_opencl_choice *choices, size_t n,
                     char path[CLLM_CL_CACHE_FILE])
{
    struct cllm_cl_tuned entries[CLLM_CL_TUNED];

    CLLM_ASSERT(n <= CLLM_CL_TUNED);
    for (size_t i = 0; i < n; i++) {
        const char *name = cllm_opencl_variant_name(choices[i].variant);

        entries[i] = entry_of(&choices[i].shape);
        (void)snprintf(entries[i].variant, sizeof entries[i].variant, "%s", name);
    }
    path[0] = '\0';
    (void)cllm_cl_tuning_path(path, now.key); /* or the store says why not */
    return cllm_cl_tuning_store(now.key, entries, n);
}

/* ---- the beginning ---- */

int cllm_cl_variants_begin(enum cllm_cl_family family)
{
    bool bf16 = cllm_opencl_bf16();
    int rc = 0;

    now.n = now.n_tuned = 0;
    now.fixed = CLLM_OPENCL_VARIANT_ANY;
    for (size_t v = 0; v < VARIANTS; v++) {
        kernels[v].sources = variants[v].sources;
        kernels[v].name = variants[v].kernel;
        kernels[v].options = variants[v].options[bf16];
        if (variants[v].family == family)
            now.index[now.n++] = v;
    }
    for (size_t v = 0; rc == 0 && v < now.n; v++)
        if (cllm_cl_variant(v)->usual)
            rc = cllm_opencl_variant_prepare(v);
    if (rc == 0)
        rc = find_key();
    if (rc == 0)
        load_tuning();
    return rc;
}
