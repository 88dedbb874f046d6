/*
 * tests/test_opencl_traffic.c - what a step moves between host and device: the weights
 * once, token ids for each batch, the gradient once, and a few words. Nothing is made
 * after the first step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"
#include "compute/opencl/table.h"
#include "model/model.h"
#include "tests/opencl_run.h"

enum { B = 2, T = 33, BATCHES = 2, WORDS = 64 /* bytes of the few words */ };

static const struct cllm_model_config configs[] = {
    {.vocab = 211, .context = T, .layers = 2, .heads = 3, .width = 48},
    {.arch = CLLM_ARCH_LLAMA,
     .vocab = 211,
     .context = T,
     .layers = 2,
     .heads = 4,
     .kv_heads = 2,
     .width = 48,
     .hidden = 80,
     .untied = 1},
};

static struct cllm_opencl_run run;

struct setup {
    struct cllm_parameters plan;
    struct cllm_model model;
    struct cllm_arena arena;
    void *w, *dw, *arrays; /* of the device */
    float *weights, *gradient;
    size_t bytes; /* of each */
};

static int begin(void **state)
{
    (void)state;
    cllm_opencl_run_begin(&run, NULL);
    return 0;
}

static int end(void **state)
{
    (void)state;
    cllm_opencl_close();
    cllm_opencl_run_end(&run);
    return 0;
}

static void set_up(struct setup *s, const struct cllm_model_config *config,
                   const struct cllm_ops *ops)
{
    struct cllm_model_shape shape = {.B = B, .T = T, .train = true};

    *s = (struct setup){0};
    assert_int_equal(cllm_parameters_init(&s->plan, config), 0);
    s->bytes = s->plan.n_elements * sizeof(float);
    s->weights = malloc(s->bytes);
    s->gradient = malloc(s->bytes);
    assert_non_null(s->weights);
    assert_non_null(s->gradient);
    cllm_model_initial_weights(&s->plan, s->weights, 0, s->plan.n_elements, 1);
    assert_int_equal(cllm_opencl_reserve(&s->w, s->bytes, NULL, 0), 0);
    assert_int_equal(cllm_opencl_reserve(&s->dw, s->bytes, NULL, 0), 0);
    assert_int_equal(cllm_opencl_reserve(
                         &s->arrays, cllm_model_array_bytes(&s->plan, &shape), NULL, 0),
                     0);
    shape.arrays = s->arrays;
    assert_int_equal(cllm_arena_init(&s->arena, cllm_model_arena_bytes(&s->plan, &shape)),
                     0);
    assert_int_equal(cllm_model_init(&s->model, &s->plan, ops, &shape, &s->arena), 0);
    s->model.progress = cllm_opencl_mark;
}

static void tear_down(struct setup *s)
{
    cllm_opencl_forget(s->arrays);
    cllm_opencl_forget(s->dw);
    cllm_opencl_forget(s->w);
    cllm_arena_fini(&s->arena);
    cllm_parameters_fini(&s->plan);
    free(s->weights);
    free(s->gradient);
}

/* A lane under the weights' @version. */
static void lane(struct setup *s, uint64_t version)
{
    uint32_t tokens[B * (T + 1)];

    assert_int_equal(cllm_opencl_put(s->w, s->weights, s->bytes, version), 0);
    s->model.ops->zero(s->dw, s->plan.n_elements);
    for (uint32_t m = 0; m < BATCHES; m++) {
        for (uint32_t i = 0; i < CLLM_LEN(tokens); i++)
            tokens[i] = (uint32_t)(cllm_random_u64(m, CLLM_RANDOM_TEST, i) %
                                   s->plan.config.vocab);
        assert_true(cllm_model_forward_backward(&s->model, s->w, (float *)s->dw, tokens) >
                    0);
    }
    assert_int_equal(cllm_opencl_get(s->gradient, s->dw, s->bytes), 0);
    assert_int_equal(cllm_opencl_wait(), 0);
}

static struct cllm_opencl_counters moved(const struct cllm_opencl_counters *was)
{
    struct cllm_opencl_counters now;

    cllm_opencl_count(&now);
    now.creates -= was->creates;
    now.up_bytes -= was->up_bytes;
    now.down_bytes -= was->down_bytes;
    now.builds -= was->builds;
    now.loads -= was->loads;
    return now;
}

static void check_traffic(const struct cllm_model_config *config,
                          const struct cllm_ops *ops)
{
    const size_t token_bytes = (size_t)BATCHES * B * (T + 1) * sizeof(uint32_t);
    struct setup s;

    set_up(&s, config, ops);
    lane(&s, 1);
    for (uint64_t version = 2; version < 5; version++) {
        struct cllm_opencl_counters was, now;

        cllm_opencl_count(&was);
        lane(&s, version);
        lane(&s, version); /* another lane of the step */
        now = moved(&was);
        print_message("%s: two lanes of a step: %zu bytes up (weights %zu, token ids "
                      "%zu), %zu bytes down (gradients %zu), %zu buffers made\n",
                      config->arch == CLLM_ARCH_LLAMA ? "llama" : "gpt2",
                      (size_t)now.up_bytes, s.bytes, 2 * token_bytes,
                      (size_t)now.down_bytes, 2 * s.bytes, (size_t)now.creates);
        assert_in_range(now.up_bytes, s.bytes, s.bytes + 2 * token_bytes);
        assert_in_range(now.down_bytes, 2 * s.bytes, 2 * (s.bytes + BATCHES * WORDS));
        assert_int_equal(now.creates, 0);
        assert_int_equal(now.builds + now.loads, 0);
    }
    tear_down(&s);
}

static void a_step_moves_weights_once_token_ids_and_gradients(void **state)
{
    const struct cllm_ops *ops;

    (void)state;
    cllm_opencl_run_open(0);
    assert_int_equal(cllm_opencl_ops(&ops, CLLM_OPENCL_STYLE_AUTO, 0), 0);
    for (size_t i = 0; i < CLLM_LEN(configs); i++)
        check_traffic(&configs[i], ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_moves_weights_once_token_ids_and_gradients),
    };

    return cmocka_run_group_tests_name("opencl_traffic", tests, begin, end);
}
