/*
 * tests/bench_opencl.c - how long a device takes to begin, and where a step's time goes.
 *
 *   bench_opencl [LAYERS HEADS WIDTH CONTEXT VOCAB SEQUENCES [STEPS [DEVICE]]]
 *
 * Prints the time until the first step is done, with what was compiled for it and what
 * came from the cache: run it twice, the first time with an empty directory as
 * CLLM_CACHE_DIR. Then for each step its time, its traffic, and, with PROFILE=1 in the
 * environment (slower), what each queue took of it and both at once.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/random.h"
#include "compute/opencl/opencl.h"
#include "compute/opencl/table.h"
#include "model/model.h"

struct request {
    struct cllm_model_config config;
    uint32_t B, steps;
    const char *device;
};

struct bench {
    struct cllm_parameters plan;
    struct cllm_model model;
    struct cllm_arena arena;
    void *w, *dw, *arrays; /* of the device */
    float *weights, *gradient;
    uint32_t *tokens;
    size_t bytes;
};

static int fail(void)
{
    cllm_err_print("bench_opencl");
    return 1;
}

static double ms_since(uint64_t begun_ns)
{
    return (double)(cllm_now_ns() - begun_ns) / 1e6;
}

static uint32_t number(int argc, char **argv, int i, uint32_t otherwise)
{
    return argc > i ? (uint32_t)strtoul(argv[i], NULL, 10) : otherwise;
}

static struct request read_request(int argc, char **argv)
{
    return (struct request){
        .config = {.layers = number(argc, argv, 1, 4),
                   .heads = number(argc, argv, 2, 6),
                   .width = number(argc, argv, 3, 384),
                   .context = number(argc, argv, 4, 256),
                   .vocab = number(argc, argv, 5, 4096)},
        .B = number(argc, argv, 6, 1),
        .steps = number(argc, argv, 7, 3),
        .device = argc > 8 ? argv[8] : NULL,
    };
}

static int set_up(struct bench *bench, const struct request *request,
                  const struct cllm_ops *ops)
{
    uint32_t T = request->config.context;
    struct cllm_model_shape shape = {.B = request->B, .T = T, .train = true};
    size_t n_tokens = (size_t)request->B * (T + 1);
    int rc = cllm_parameters_init(&bench->plan, &request->config);

    if (rc != 0)
        return rc;
    bench->bytes = bench->plan.n_elements * sizeof(float);
    bench->weights = malloc(bench->bytes);
    bench->gradient = malloc(bench->bytes);
    bench->tokens = malloc(n_tokens * sizeof *bench->tokens);
    if (!bench->weights || !bench->gradient || !bench->tokens)
        return cllm_err(-12, "cannot keep the weights");
    cllm_model_initial_weights(&bench->plan, bench->weights, 0, bench->plan.n_elements,
                               1);
    for (size_t i = 0; i < n_tokens; i++)
        bench->tokens[i] =
            (uint32_t)(cllm_random_u64(1, CLLM_RANDOM_TEST, i) % request->config.vocab);
    rc = cllm_opencl_reserve(&bench->w, bench->bytes, NULL, 0);
    if (rc == 0)
        rc = cllm_opencl_reserve(&bench->dw, bench->bytes, NULL, 0);
    if (rc == 0)
        rc = cllm_opencl_reserve(&bench->arrays,
                                 cllm_model_array_bytes(&bench->plan, &shape), NULL, 0);
    shape.arrays = bench->arrays;
    if (rc == 0)
        rc = cllm_arena_init(&bench->arena, cllm_model_arena_bytes(&bench->plan, &shape));
    if (rc == 0)
        rc = cllm_model_init(&bench->model, &bench->plan, ops, &shape, &bench->arena);
    bench->model.progress = cllm_opencl_mark;
    return rc;
}

/* *@loss: the mean of the batch, in nats. */
static int step(struct bench *bench, uint64_t version, double *loss)
{
    int rc = cllm_opencl_put(bench->w, bench->weights, bench->bytes, version);

    if (rc != 0)
        return rc;
    bench->model.ops->zero(bench->dw, bench->plan.n_elements);
    *loss =
        cllm_model_forward_backward(&bench->model, bench->w, bench->dw, bench->tokens) /
        ((double)bench->model.B * bench->model.T);
    rc = cllm_opencl_get(bench->gradient, bench->dw, bench->bytes);
    return rc == 0 ? cllm_opencl_wait() : rc;
}

static void print_step(const struct cllm_opencl_counters *was, double ms, double loss)
{
    struct cllm_opencl_counters now;

    cllm_opencl_count(&now);
    (void)printf("step %10.1f ms  loss %.6f  up %" PRIu64 " bytes  down %" PRIu64
                 " bytes  %" PRIu64 " launches  %" PRIu64 " buffers made\n",
                 ms, loss, now.up_bytes - was->up_bytes, now.down_bytes - was->down_bytes,
                 now.launches - was->launches, now.creates - was->creates);
    if (now.kernel_ns > 0)
        (void)printf("     kernels %.1f ms, transfers %.1f ms, both at once %.1f ms\n",
                     (double)(now.kernel_ns - was->kernel_ns) / 1e6,
                     (double)(now.copy_ns - was->copy_ns) / 1e6,
                     (double)(now.overlap_ns - was->overlap_ns) / 1e6);
}

static int run(const struct request *request, const struct cllm_opencl_options *options)
{
    static struct bench bench;
    struct cllm_opencl_counters was;
    const struct cllm_ops *ops;
    uint64_t begun = cllm_now_ns(), step_begun;
    double loss = 0;
    int rc = cllm_opencl_open(options);

    if (rc == 0)
        rc = cllm_opencl_ops(&ops, CLLM_OPENCL_STYLE_AUTO,
                             request->config.width / request->config.heads);
    if (rc == 0)
        rc = set_up(&bench, request, ops);
    for (uint32_t i = 0; rc == 0 && i < request->steps; i++) {
        cllm_opencl_count(&was);
        step_begun = cllm_now_ns();
        rc = step(&bench, i + 1, &loss);
        if (rc == 0 && i == 0) {
            struct cllm_opencl_counters now;

            cllm_opencl_count(&now);
            (void)printf("start %9.1f ms until the first step is done, on %s: %" PRIu64
                         " programs compiled, %" PRIu64 " from the cache\n",
                         ms_since(begun), cllm_opencl_device()->name, now.builds,
                         now.loads);
        }
        if (rc == 0)
            print_step(&was, ms_since(step_begun), loss);
    }
    return rc;
}

int main(int argc, char **argv)
{
    const struct request request = read_request(argc, argv);
    const struct cllm_opencl_options options = {.device = request.device,
                                                .profile = getenv("PROFILE") != NULL};
    int rc = run(&request, &options);

    cllm_opencl_close();
    return rc == 0 ? 0 : fail();
}
