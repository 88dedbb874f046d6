/*
 * tests/bench_opencl_matmul.c - the matrix products of a device's table against
 * CLBlast's on the same device, for the shapes of models, in one run.
 *
 *   LD_PRELOAD=libclblast.so.1 bench_opencl_matmul [-d PLATFORM:DEVICE]
 *       [-s SECTION.KEY=VALUE]... CONFIG...
 *
 * The shapes are those of the configurations' models, of a micro-batch, both ways. Turn
 * about, the median of so many each; a ratio is the median of the rounds' ratios. Nothing
 * is linked against CLBlast: without it loaded before, its column is empty. On a device
 * that is a CPU the time is what this process has used, so that others on the machine do
 * not count; else it is the time that passes.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/config.h"
#include "base/err.h"
#include "compute/opencl/current.h"
#include "compute/opencl/opencl.h"
#include "compute/opencl/table.h"
#include "tools/bench_shapes.h"

enum { TIMES = 5, SETS = 8 };

/* A product shorter than this is repeated. */
#define LEAST_S 5e-3

/* Of clblast_c.h, if it is there; orders and transpositions are those of BLAS. */
extern int CLBlastSgemm(int layout, int trans_a, int trans_b, size_t m, size_t n,
                        size_t k, float alpha, cl_mem a, size_t a_at, size_t lda,
                        cl_mem b, size_t b_at, size_t ldb, float beta, cl_mem c,
                        size_t c_at, size_t ldc, cl_command_queue *queue, cl_event *event)
    __attribute__((weak));
enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };

static double now(void)
{
    bool cpu = cllm_opencl_device()->kind == CLLM_OPENCL_CPU;
    struct timespec t;

    (void)clock_gettime(cpu ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;

    return (a > b) - (a < b);
}

static double median(double *seconds)
{
    qsort(seconds, TIMES, sizeof *seconds, ascending);
    return seconds[TIMES / 2];
}

/* The operands on the device, and what CLBlast wants to know of them. */
struct operands {
    float *c, *a, *b;
    cl_mem mem[3];
    size_t at[3];
};

static double ours(const struct cllm_ops *ops, const struct operands *o,
                   const struct cllm_matmul *p, size_t times)
{
    double begun = now();

    for (size_t i = 0; i < times; i++)
        ops->matmul(o->c, o->a, o->b, p);
    (void)cllm_opencl_wait();
    return (now() - begun) / (double)times;
}

/* 0: it cannot. */
static double theirs(const struct operands *o, const struct cllm_matmul *p, size_t times)
{
    cl_command_queue queue = cllm_cl_current.device.compute;
    double begun = now();
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < times; i++)
        rc = CLBlastSgemm(ROW_MAJOR, p->trans_a ? TRANSPOSED : PLAIN,
                          p->trans_b ? TRANSPOSED : PLAIN, p->m, p->n, p->k, 1.0f,
                          o->mem[1], o->at[1], p->trans_a ? p->m : p->k, o->mem[2],
                          o->at[2], p->trans_b ? p->k : p->n, p->accumulate ? 1.0f : 0.0f,
                          o->mem[0], o->at[0], p->n, &queue, NULL);
    (void)cllm_cl.Finish(queue);
    return rc == 0 ? (now() - begun) / (double)times : 0;
}

static int operands_of(struct operands *o, void *region, const struct cllm_matmul *p)
{
    const size_t sizes[] = {p->m * p->n, p->m * p->k, p->k * p->n};
    float *at = region;
    float **to[] = {&o->c, &o->a, &o->b};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < 3; i++) {
        *to[i] = at;
        rc = cllm_cl_memory_use(&cllm_cl_current.memory, at, sizes[i] * sizeof *at,
                                CLLM_CL_INOUT, &o->mem[i], &o->at[i]);
        o->at[i] /= sizeof *at;
        at += cllm_align_up(sizes[i], 16);
    }
    return rc;
}

/* A row of the table. */
static int measure(const struct cllm_ops *ops, const struct cllm_matmul *p)
{
    size_t bytes = (p->m * p->n + p->m * p->k + p->k * p->n + 64) * sizeof(float);
    double flop = 2.0 * (double)p->m * (double)p->n * (double)p->k, once;
    double mine[TIMES], other[TIMES], ratio[TIMES];
    bool both = CLBlastSgemm != NULL;
    struct operands operands;
    void *region = NULL;
    size_t times;
    int rc = cllm_opencl_reserve(&region, bytes, NULL, 0);

    if (rc == 0)
        rc = operands_of(&operands, region, p);
    if (rc != 0)
        return rc;
    both = both && theirs(&operands, p, 1) > 0; /* drivers compile */
    (void)ours(ops, &operands, p, 1);
    once = ours(ops, &operands, p, 1);
    times = once < LEAST_S ? (size_t)(LEAST_S / once) + 1 : 1;
    for (int i = 0; i < TIMES; i++) {
        mine[i] = ours(ops, &operands, p, times);
        other[i] = both ? theirs(&operands, p, times) : 0;
        ratio[i] = other[i] / mine[i];
    }
    (void)printf("| %zu x %zu x %zu%s%s | %.1f |", p->m, p->n, p->k,
                 p->trans_a ? ", A^T" : "", p->trans_b ? ", B^T" : "",
                 1e-9 * flop / median(mine));
    if (both)
        (void)printf(" %.1f | %.2fx |", 1e-9 * flop / median(other), median(ratio));
    (void)printf("\n");
    (void)fflush(stdout);
    cllm_opencl_forget(region);
    return cllm_opencl_error();
}

/* The products of a block of @path's model, and of its logits. */
static int measure_config(const struct cllm_ops *ops, const char *path,
                          const char *const *sets, size_t n_sets)
{
    struct cllm_bench_shapes shapes;
    struct cllm_config config;
    int rc;

    cllm_config_init(&config);
    rc = cllm_config_read(&config, path);

    for (size_t i = 0; rc == 0 && i < n_sets; i++)
        rc = cllm_config_set(&config, sets[i]);
    config.model_layers = 1; /* all have the same shapes */
    if (rc == 0)
        rc = cllm_bench_shapes_find(&shapes, &config, ops);
    if (rc == 0)
        (void)printf("| %s, %u x %u tokens | | | |\n", path, shapes.B, shapes.T);
    for (size_t i = 0; rc == 0 && i < shapes.n; i++)
        rc = measure(ops, &shapes.shape[i]);
    cllm_config_fini(&config);
    return rc;
}

int main(int argc, char **argv)
{
    struct cllm_opencl_options options = {0};
    const char *sets[SETS];
    const struct cllm_ops *ops;
    size_t n_sets = 0;
    int option, rc;

    while ((option = getopt(argc, argv, "d:s:")) != -1) {
        if (option == 'd')
            options.device = optarg;
        else if (option == 's' && n_sets < SETS)
            sets[n_sets++] = optarg;
        else
            return CLLM_EXIT_USAGE;
    }
    rc = cllm_opencl_open(&options);
    if (rc == 0)
        rc = cllm_opencl_ops(&ops, CLLM_OPENCL_STYLE_AUTO, 0);
    if (rc == 0)
        (void)printf("%s, %s\n\n| m x n x k | CLLM, GFLOP/s | CLBlast%s | ratio |\n"
                     "| --- | --- | --- | --- |\n",
                     cllm_opencl_device()->name, ops->name,
                     CLBlastSgemm ? "" : " (not loaded)");
    for (int i = optind; rc == 0 && i < argc; i++)
        rc = measure_config(ops, argv[i], sets, n_sets);
    if (rc != 0)
        cllm_err_print("bench_opencl_matmul");
    cllm_opencl_close();
    return rc != 0;
}
