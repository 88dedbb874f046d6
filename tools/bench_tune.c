/*
 * tools/bench_tune.c - see tools/bench_tune.h.
 */
#include "tools/bench_tune.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/units.h"
#include "compute/opencl/opencl.h"
#include "compute/opencl/table.h"
#include "compute/opencl/variant.h"
#include "tools/bench_choice.h"
#include "tools/bench_result.h"
#include "tools/bench_shapes.h"
#include "tools/spread.h"

#define LEAST_S  5e-3 /* of a measurement: shorter products are repeated */
#define TOO_SLOW 3.0  /* times the best: measured once and no more */

enum { VARIANTS = 32, REPEATS = 1000, DEVICES = 16, NAME_BYTES = 128 };

struct trial {
    bool built, measured;
    double once;                      /* seconds of the first look */
    double speed[CLLM_BENCH_REPEATS]; /* products a second */
};

struct product {
    const struct cllm_ops *ops;
    struct cllm_matmul shape;
    float *c, *a, *b; /* of the device */
    uint32_t rounds;
    size_t rule, chosen;
    struct trial trial[VARIANTS];
};

/* On a device that is the processor what this process has used, so that others on the
 * machine do not count; else the time that passes. */
static double now(void)
{
    bool cpu = cllm_opencl_device()->kind == CLLM_OPENCL_CPU;
    struct timespec t;

    (void)clock_gettime(cpu ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- one shape ---- */

/* Seconds of a product, by variant @v, the mean of @times. */
static double measure(const struct product *product, size_t v, size_t times)
{
    double begun;

    cllm_opencl_variant_fix(v);
    begun = now();
    for (size_t i = 0; i < times; i++)
        product->ops->matmul(product->c, product->a, product->b, &product->shape);
    (void)cllm_opencl_wait(); /* the error is kept */
    return (now() - begun) / (double)times;
}

/* Which variants there are, and how fast about; returns the best one's seconds. */
static double look(struct product *product)
{
    double best = 1e30, again;

    for (size_t v = 0; v < cllm_opencl_variants(); v++) {
        struct trial *trial = &product->trial[v];

        trial->built = cllm_opencl_variant_prepare(v) == 0;
        if (!trial->built)
            continue;
        (void)measure(product, v, 1); /* drivers compile once more for the first */
        trial->once = measure(product, v, 1);
        again = measure(product, v, 1);
        trial->once = again < trial->once ? again : trial->once;
        best = trial->once < best ? trial->once : best;
    }
    return best;
}

static void choose(struct product *product)
{
    double gain = 1.0;

    product->chosen = product->rule;
    for (size_t v = 0; v < cllm_opencl_variants(); v++) {
        struct cllm_bench_comparison c;

        if (!product->trial[v].measured || v == product->rule)
            continue;
        c = cllm_bench_choice_compare(product->trial[product->rule].speed,
                                      product->trial[v].speed, product->rounds);
        if (!cllm_bench_choice_is_better(&c) || c.ratio <= gain)
            continue;
        gain = c.ratio;
        product->chosen = v;
    }
}

static int compare(struct product *product)
{
    size_t n = cllm_opencl_variants(), times;
    double best;

    CLLM_ASSERT(n <= VARIANTS);
    product->rule = cllm_opencl_variant_rule(&product->shape);
    best = look(product);
    times = (size_t)(LEAST_S / (best > 1e-9 ? best : 1e-9)) + 1;
    times = times < REPEATS ? times : REPEATS;
    for (size_t v = 0; v < n; v++)
        product->trial[v].measured =
            product->trial[v].built &&
            (v == product->rule || product->trial[v].once < TOO_SLOW * best);
    for (uint32_t round = 0; round < product->rounds; round++)
        for (size_t v = 0; v < n; v++)
            if (product->trial[v].measured)
                product->trial[v].speed[round] = 1.0 / measure(product, v, times);
    cllm_opencl_variant_fix(CLLM_OPENCL_VARIANT_ANY);
    choose(product);
    return cllm_opencl_error();
}

/* ---- what is printed ---- */

static void print_trial(const struct product *product, size_t v)
{
    const struct trial *trial = &product->trial[v];
    const struct cllm_matmul *p = &product->shape;
    double flop = 2.0 * (double)p->m * (double)p->n * (double)p->k, speed;
    struct cllm_bench_comparison c;

    (void)printf("  %-12s", cllm_opencl_variant_name(v));
    if (!trial->built) {
        (void)printf("  this device cannot\n");
        return;
    }
    speed = trial->measured ? cllm_spread_of(trial->speed, product->rounds).median
                            : 1.0 / trial->once;
    (void)printf(" %10.3f ms %10.1f GFLOP/s", 1e3 / speed, 1e-9 * flop * speed);
    if (v == product->rule) {
        (void)printf("   the rule's%s\n", v == product->chosen ? ", chosen" : "");
        return;
    }
    if (trial->measured) {
        c = cllm_bench_choice_compare(product->trial[product->rule].speed, trial->speed,
                                      product->rounds);
        (void)printf("   %5.2fx%s", c.ratio, v == product->chosen ? ", chosen" : "");
    }
    (void)printf("%s\n", trial->measured ? "" : "   far too slow");
}

static void print_product(const struct product *product)
{
    const struct cllm_matmul *p = &product->shape;

    (void)printf("%zu x %zu x %zu%s%s\n", p->m, p->n, p->k, p->trans_a ? ", A^T" : "",
                 p->trans_b ? ", B^T" : "");
    for (size_t v = 0; v < cllm_opencl_variants(); v++)
        print_trial(product, v);
    (void)fflush(stdout);
}

/* ---- one device ---- */

/* Elements from the first of a matrix to behind its last. */
static size_t elements_of(size_t rows, size_t cols, size_t stride)
{
    return cllm_align_up((rows - 1) * (stride == 0 ? cols : stride) + cols, 16);
}

static int measure_shape(struct product *product)
{
    const struct cllm_matmul *p = &product->shape;
    const size_t n[] = {
        elements_of(p->m, p->n, p->ldc),
        elements_of(p->trans_a ? p->k : p->m, p->trans_a ? p->m : p->k, p->lda),
        elements_of(p->trans_b ? p->n : p->k, p->trans_b ? p->k : p->n, p->ldb)};
    float **to[] = {&product->c, &product->a, &product->b};
    void *at[CLLM_LEN(n)] = {NULL};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < CLLM_LEN(n); i++) {
        rc = cllm_opencl_reserve(&at[i], n[i] * sizeof(float), NULL, 0);
        *to[i] = at[i];
        if (rc == 0)
            product->ops->zero(at[i], n[i]);
    }
    if (rc == 0)
        rc = compare(product);
    for (size_t i = 0; i < CLLM_LEN(n); i++)
        if (at[i] != NULL)
            cllm_opencl_forget(at[i]);
    return rc;
}

/* Time that a micro-batch spends in products, by the rule and as chosen. */
struct total {
    double rule, chosen;
};

static void add_up(struct total *total, const struct product *product, size_t calls)
{
    const struct trial *trial = product->trial;
    uint32_t n = product->rounds;

    total->rule += (double)calls / cllm_spread_of(trial[product->rule].speed, n).median;
    total->chosen +=
        (double)calls / cllm_spread_of(trial[product->chosen].speed, n).median;
}

static int measure_all(const struct cllm_ops *ops, const struct cllm_bench_shapes *shapes,
                       uint32_t rounds, struct cllm_opencl_choice *choices)
{
    struct product *product = calloc(1, sizeof *product);
    struct total total = {0};
    int rc = product ? 0 : cllm_err(-ENOMEM, "cannot hold what is measured");

    for (size_t i = 0; rc == 0 && i < shapes->n; i++) {
        *product =
            (struct product){.ops = ops, .shape = shapes->shape[i], .rounds = rounds};
        rc = measure_shape(product);
        if (rc != 0)
            break;
        print_product(product);
        add_up(&total, product, shapes->calls[i]);
        choices[i] = (struct cllm_opencl_choice){.shape = product->shape,
                                                 .variant = product->chosen};
    }
    if (rc == 0)
        (void)printf("products of a micro-batch: %.2f ms by the rule, %.2f ms as chosen, "
                     "%.2fx\n",
                     1e3 * total.rule, 1e3 * total.chosen, total.rule / total.chosen);
    free(product);
    return rc;
}

static int tune(const struct cllm_config *config, uint32_t rounds, bool dry_run)
{
    struct cllm_opencl_choice choices[CLLM_BENCH_SHAPES];
    const struct cllm_opencl_device *device = cllm_opencl_device();
    struct cllm_bench_shapes shapes;
    char path[CLLM_CL_CACHE_FILE];
    const struct cllm_ops *ops;
    int rc = cllm_opencl_ops(&ops, CLLM_OPENCL_STYLE_AUTO, 0);

    if (rc == 0)
        rc = cllm_bench_shapes_find(&shapes, config, ops);
    if (rc != 0)
        return rc;
    (void)printf("%u:%u %s, driver %s; %s\nmatrix products of %u sequence%s of %u "
                 "tokens; medians of %u rounds\n\n",
                 device->platform, device->device, device->name, device->driver,
                 ops->name, shapes.B, cllm_plural(shapes.B), shapes.T, rounds);
    rc = measure_all(ops, &shapes, rounds, choices);
    if (rc != 0 || dry_run)
        return rc;
    rc = cllm_opencl_tune(choices, shapes.n, path);
    if (rc == 0)
        (void)printf("kept in %s: workers that open this device from now on use it\n",
                     path);
    return rc;
}

/* ---- the devices of a configuration ---- */

/* The next entry of @list, without blanks, to @name; returns what is behind it. */
static const char *next_entry(const char *list, char name[NAME_BYTES])
{
    size_t n = strcspn(list, ","), begin = strspn(list, " "), end = n;

    while (end > begin && list[end - 1] == ' ')
        end--;
    begin = begin < end ? begin : end;
    (void)snprintf(name, NAME_BYTES, "%.*s", (int)(end - begin), list + begin);
    if (strcmp(name, "auto") == 0)
        name[0] = '\0';
    return list[n] == ',' ? list + n + 1 : NULL;
}

int cllm_bench_tune(const struct cllm_config *config, uint32_t rounds, bool dry_run)
{
    char name[DEVICES][NAME_BYTES];
    size_t n = 0, seen;
    int rc = 0;

    for (const char *at = config->compute_device; rc == 0 && at && n < DEVICES;) {
        const struct cllm_opencl_options options = {
            .device = name[n], .bf16 = config->compute_precision == CLLM_PRECISION_BF16};

        at = next_entry(at, name[n]);
        for (seen = 0; seen < n && strcmp(name[seen], name[n]) != 0;)
            seen++;
        if (seen < n || strcmp(name[n], "cpu") == 0)
            continue;
        rc = cllm_opencl_open(&options);
        if (rc != 0)
            return rc;
        rc = tune(config, rounds, dry_run);
        cllm_opencl_close();
        n++;
    }
    if (rc == 0 && n == 0)
        rc = cllm_err(CLLM_ECONFIG, "compute.device = %s names no OpenCL device",
                      config->compute_device);
    return rc;
}
