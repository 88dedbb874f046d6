/*
 * compute/opencl/table_tensor.c - products on tensor cores, for devices that have them:
 * NVIDIA's from compute capability 8.0 on, with operands of bf16.
 *
 * Operands are rounded and packed by one kernel and multiplied by another. All products
 * go this way, or none: a worker decides when it starts, by compiling the kernels and by
 * multiplying matrices whose products the processor computes too. What does not compile,
 * does not run or computes something else is left for the kernels that any device can
 * run, with a line in the log.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "compute/opencl/current.h"
#include "compute/opencl/opencl.h"
#include "compute/opencl/table_inside.h"
#include "compute/product.h"

#define ENVIRONMENT "CLLM_OPENCL_TENSOR" /* off, emulated, untested */

enum {
    LINES = 128,        /* operands are filled up to whole tiles */
    BLOCK_LINES = 64,   /* a block of pack_bf16.cl */
    BLOCK_STEP = 32,    /* likewise, of k */
    BLOCK_PIECES = 256, /* of 16 bytes */
    PACK_ITEMS = 64,
    LEAST_CAPABILITY = 8
};

static struct cllm_cl_kernel pack_kernel = {.sources = "common.cl bf16.cl pack_bf16.cl",
                                            .name = "pack_bf16",
                                            .options = "-w -DVECTOR=1 -DGROUP=1"};

/* A packed operand: made larger when one needs more. */
struct packed {
    void *at;
    size_t bytes;
};

/* Of the device that is open. */
static struct {
    bool on, emulated;
    struct packed a, b;
} now;

bool cllm_cl_tensor(void)
{
    return now.on;
}

const char *cllm_cl_tensor_text(void)
{
    if (now.on)
        return now.emulated ? "bf16 on emulated cores" : "bf16 on tensor cores";
    return cllm_opencl_bf16() ? "bf16" : "f32";
}

/* ---- a product ---- */

static int make_room(struct packed *packed, size_t bytes)
{
    int rc;

    if (bytes <= packed->bytes)
        return 0;
    if (packed->at != NULL)
        cllm_opencl_forget(packed->at);
    *packed = (struct packed){0};
    rc = cllm_opencl_reserve(&packed->at, bytes, NULL, 0);
    packed->bytes = rc == 0 ? bytes : 0;
    return rc;
}

/* @lines of the operand @x, which is stored (lines,k) if @along_k, else (k,lines). */
static int pack(struct packed *packed, const float *x, size_t lines, size_t k, size_t ld,
                bool along_k)
{
    size_t steps = cllm_div_up(k, BLOCK_STEP);
    size_t blocks = cllm_align_up(lines, LINES) / BLOCK_LINES * steps;
    size_t bytes = blocks * BLOCK_PIECES * 16;
    struct cllm_cl_launch launch;
    int rc = make_room(packed, bytes);

    if (rc != 0)
        return rc;
    cllm_cl_begin(&launch, &pack_kernel);
    cllm_cl_out(&launch, packed->at, bytes);
    cllm_cl_in(&launch, x,
               along_k ? cllm_cl_matrix_bytes(lines, k, ld)
                       : cllm_cl_matrix_bytes(k, lines, ld));
    cllm_cl_sizes(&launch, (const size_t[]){lines, k, steps, ld, along_k}, 5);
    cllm_cl_run(&launch, 1, (const size_t[]){blocks * BLOCK_PIECES},
                (const size_t[]){PACK_ITEMS});
    return 0;
}

void cllm_cl_tensor_product(const struct cllm_cl_product *p, size_t chosen)
{
    const struct cllm_cl_variant *variant = cllm_cl_variant(chosen);
    const struct cllm_matmul *s = &p->shape;
    size_t bytes_c = cllm_cl_matrix_bytes(s->m, s->n, s->ldc);
    struct cllm_cl_launch launch;

    /* A failure is kept, and makes launches no-ops. */
    if (cllm_cl_keep_error(pack(&now.a, p->a, s->m, s->k, s->lda, !s->trans_a)) != 0 ||
        cllm_cl_keep_error(pack(&now.b, p->b, s->n, s->k, s->ldb, s->trans_b)) != 0)
        return;
    cllm_cl_begin(&launch, cllm_cl_variant_kernel(chosen));
    if (s->ldc == s->n && s->add != p->c)
        cllm_cl_out(&launch, p->c, bytes_c);
    else
        cllm_cl_inout(&launch, p->c, bytes_c);
    cllm_cl_in(&launch, now.a.at, now.a.bytes);
    cllm_cl_in(&launch, now.b.at, now.b.bytes);
    cllm_cl_in(&launch, s->add, s->add == NULL ? 0 : bytes_c);
    cllm_cl_in(&launch, s->bias, s->bias == NULL ? 0 : s->n * sizeof *s->bias);
    cllm_cl_sizes(&launch,
                  (const size_t[]){s->m, s->n, cllm_div_up(s->k, BLOCK_STEP), s->ldc}, 4);
    cllm_cl_u32(&launch, (uint32_t)p->form);
    cllm_cl_run(&launch, 2,
                (const size_t[]){cllm_div_up(s->n, variant->n) * variant->items[0],
                                 cllm_div_up(s->m, variant->m)},
                variant->items);
}

/* ---- is it right? ---- */

/* Sizes that are multiples of nothing, more than a tile either way. */
enum { TEST_M = 139, TEST_N = 147, TEST_K = 101 };

struct trial {
    float *host[3];  /* a, b, c */
    void *device[3]; /* likewise */
    size_t elements[3];
};

static float rounded(float x)
{
    return cllm_f32_from_bits(round_bf16(x));
}

/* The elements of C that are not the product, within rounding of sums. */
static size_t count_wrong(const struct trial *trial, const struct cllm_matmul *s)
{
    const float *a = trial->host[0], *b = trial->host[1], *c = trial->host[2];
    size_t wrong = 0;

    for (size_t i = 0; i < s->m; i++)
        for (size_t j = 0; j < s->n; j++) {
            double sum = 0, size = 0, error;

            for (size_t p = 0; p < s->k; p++) {
                float x = a[s->trans_a ? p * s->m + i : i * s->k + p];
                float y = b[s->trans_b ? j * s->k + p : p * s->n + j];
                double product = (double)rounded(x) * (double)rounded(y);

                sum += product;
                size += product < 0 ? -product : product;
            }
            error = (double)c[i * s->n + j] - sum;
            wrong += !(error <= 1e-5 * size && error >= -1e-5 * size); /* NaN is */
        }
    return wrong;
}

static int try_form(struct trial *trial, const struct cllm_matmul *shape, size_t *wrong)
{
    size_t bytes = trial->elements[2] * sizeof(float);
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < 2; i++)
        rc = cllm_opencl_put(trial->device[i], trial->host[i],
                             trial->elements[i] * sizeof(float), 1);
    for (size_t v = 0; rc == 0 && v < cllm_opencl_variants(); v++) {
        if (cllm_opencl_variant_prepare(v) != 0)
            continue; /* and nobody can choose it */
        cllm_opencl_variant_fix(v);
        cllm_opencl_matmul(trial->device[2], trial->device[0], trial->device[1], shape);
        rc = cllm_opencl_get(trial->host[2], trial->device[2], bytes);
        *wrong += rc == 0 ? count_wrong(trial, shape) : 0;
    }
    cllm_opencl_variant_fix(CLLM_OPENCL_VARIANT_ANY);
    return rc;
}

static int begin_trial(struct trial *trial)
{
    const size_t elements[] = {(size_t)TEST_M * TEST_K, (size_t)TEST_K * TEST_N,
                               (size_t)TEST_M * TEST_N};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < 3; i++) {
        trial->elements[i] = elements[i];
        trial->host[i] = calloc(elements[i], sizeof(float));
        if (trial->host[i] == NULL)
            return cllm_err(-ENOMEM, "cannot test products");
        for (size_t j = 0; i < 2 && j < elements[i]; j++)
            trial->host[i][j] = cllm_random_f32(i + 1, CLLM_RANDOM_SELF_TEST, j) - 0.5f;
        rc = cllm_opencl_reserve(&trial->device[i], elements[i] * sizeof(float), NULL, 0);
    }
    return rc;
}

static void end_trial(const struct trial *trial)
{
    for (size_t i = 0; i < 3; i++) {
        free(trial->host[i]);
        if (trial->device[i] != NULL)
            cllm_opencl_forget(trial->device[i]);
    }
}

/* Products of all forms beside the processor's. Returns 0 with the elements that are
 * wrong, or the failure of the device, which stays until it is opened again. */
static int test(size_t *wrong)
{
    struct trial trial = {{NULL}, {NULL}, {0}};
    int rc = begin_trial(&trial);

    *wrong = 0;
    for (unsigned form = 0; rc == 0 && form < 4; form++) {
        const struct cllm_matmul shape = {.m = TEST_M,
                                          .n = TEST_N,
                                          .k = TEST_K,
                                          .trans_a = form % 2 != 0,
                                          .trans_b = form / 2 != 0};

        rc = try_form(&trial, &shape, wrong);
    }
    end_trial(&trial);
    return rc;
}

/* ---- the beginning ---- */

static bool is_set(const char *value)
{
    const char *text = getenv(ENVIRONMENT);

    return text != NULL && strcmp(text, value) == 0;
}

/* Whether tensor cores are wanted and, as far as the driver says, there. */
static bool may_be(void)
{
    if (!cllm_opencl_bf16() || is_set("off"))
        return false;
    return now.emulated || cllm_opencl_device()->nvidia_major >= LEAST_CAPABILITY;
}

/* Not with them. */
static void forget_cores(void)
{
    if (now.a.at != NULL)
        cllm_opencl_forget(now.a.at);
    if (now.b.at != NULL)
        cllm_opencl_forget(now.b.at);
    memset(&now, 0, sizeof now);
}

int cllm_cl_tensor_begin(void)
{
    enum cllm_cl_family plain = (enum cllm_cl_family)cllm_opencl_style();
    size_t wrong;
    int rc;

    memset(&now, 0, sizeof now); /* addresses are of another device */
    now.emulated = is_set("emulated") || is_set("untested");
    if (!may_be())
        return cllm_cl_variants_begin(plain);
    rc = cllm_cl_prepare(&pack_kernel, NULL);
    if (rc == 0)
        rc = cllm_cl_variants_begin(now.emulated ? CLLM_CL_FAMILY_EMULATED
                                                 : CLLM_CL_FAMILY_TENSOR);
    if (rc != 0) {
        cllm_warn("products are computed without tensor cores: %s", cllm_err_text());
        return cllm_cl_variants_begin(plain);
    }
    now.on = true;
    if (is_set("untested"))
        return 0;
    rc = test(&wrong);
    if (rc == 0 && wrong == 0)
        return 0;
    if (rc != 0)
        cllm_warn("products are computed without tensor cores: %s", cllm_err_text());
    else
        cllm_warn("products are computed without tensor cores: %zu elements of a product "
                  "that was tried were wrong",
                  wrong);
    forget_cores();
    if (rc != 0)
        rc = cllm_opencl_reopen(); /* nothing else is on it yet */
    return rc != 0 ? rc : cllm_cl_variants_begin(plain);
}
