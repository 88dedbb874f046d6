/*
 * tests/test_opencl_flavours.c - what a model on a device may do beyond the usual:
 * attention's learned bias, its dropout, smoothed targets, adapters on a frozen model.
 * Loss and gradient against double precision, the same bits on repetition, and what goes
 * up and down: frozen weights once, adapters once a step, their gradient once a lane.
 * Skipped, with the reason, where there is no OpenCL.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "compute/opencl/table.h"
#include "model/model.h"
#include "tests/gpt_double.h"
#include "tests/llama_double.h"
#include "tests/lora_double.h"
#include "tests/numbers.h"
#include "tests/opencl_run.h"

enum { B = 3, T = 70, TOKENS = B * (T + 1), RANK = 3, WORDS = 64, KEY = 77 };

/* Heads of one size: kernels for each take seconds to compile. */
#define GPT .vocab = 29, .context = T, .layers = 2, .heads = 2, .width = 20
#define LLAMA                                                                    \
    .arch = CLLM_ARCH_LLAMA, .vocab = 29, .context = T, .layers = 2, .heads = 4, \
    .width = 24, .kv_heads = 2, .head_size = 10, .hidden = 36, .untied = 1

static const struct flavour {
    const char *name, *target; /* of adapters; NULL: none */
    struct cllm_model_config config;
    float epsilon, dropout; /* of targets; of attention's probabilities */
} flavours[] = {
    {"gpt2, bias", NULL, {GPT, .crystalline_bias = 1}, 0, 0},
    {"llama, bias and smoothed targets", NULL, {LLAMA, .crystalline_bias = 1}, 0.3f, 0},
    {"gpt2, smoothed targets", NULL, {GPT}, 0.6f, 0},
    {"gpt2, adapters", "all", {GPT}, 0, 0},
    {"llama, adapters and smoothed targets", "*_proj", {LLAMA}, 0.1f, 0},
    {"gpt2, attention's dropout", NULL, {GPT}, 0, 0.3f},
    {"llama, bias and attention's dropout",
     NULL,
     {LLAMA, .crystalline_bias = 1},
     0,
     0.2f},
    {"llama, adapters and attention's dropout", "*_proj", {LLAMA}, 0, 0.2f},
};

/* Of these weights @w learns: all of them, or adapters. */
struct setup {
    const struct flavour *flavour;
    struct cllm_parameters base, adapters;
    const struct cllm_parameters *learns;
    struct cllm_lora lora;
    struct cllm_model model;
    struct cllm_arena arena;
    void *w, *dw, *frozen, *arrays; /* of the device */
    float *weights, *base_weights, *gradient;
    uint32_t tokens[TOKENS];
};

static struct cllm_opencl_run run;

static void reserve(void **address, size_t bytes)
{
    assert_int_equal(cllm_opencl_reserve(address, bytes, NULL, 0), 0);
}

static struct setup *setup_new(const struct flavour *flavour, const struct cllm_ops *ops)
{
    struct cllm_model_shape shape = {
        .B = B, .T = T, .train = true, .epsilon = flavour->epsilon};
    struct setup *s = calloc(1, sizeof *s);

    assert_non_null(s);
    s->flavour = flavour;
    assert_int_equal(cllm_parameters_init(&s->base, &flavour->config), 0);
    s->learns = &s->base;
    if (flavour->target != NULL) {
        s->lora = (struct cllm_lora){.rank = RANK, .alpha = 2 * RANK};
        assert_int_equal(cllm_lora_target(&s->lora.targets, flavour->target, &s->base),
                         0);
        assert_int_equal(cllm_lora_parameters(&s->adapters, &s->base, &s->lora), 0);
        s->learns = shape.adapters = &s->adapters;
        shape.adapter_scale = cllm_lora_scale(&s->lora);
        reserve(&s->frozen, s->base.n_elements * sizeof(float));
    }
    reserve(&s->w, s->learns->n_elements * sizeof(float));
    reserve(&s->dw, s->learns->n_elements * sizeof(float));
    reserve(&s->arrays, cllm_model_array_bytes(&s->base, &shape));
    shape.arrays = s->arrays;
    assert_int_equal(cllm_arena_init(&s->arena, cllm_model_arena_bytes(&s->base, &shape)),
                     0);
    assert_int_equal(cllm_model_init(&s->model, &s->base, ops, &shape, &s->arena), 0);
    s->model.attention_dropout = flavour->dropout;
    s->model.dropout_key = KEY;
    s->weights = numbers_weights(s->learns);
    s->gradient = numbers_zero(s->learns->n_elements);
    if (flavour->target != NULL) {
        s->base_weights = numbers_weights(&s->base);
        s->model.frozen = s->frozen;
        assert_int_equal(cllm_opencl_put(s->frozen, s->base_weights,
                                         s->base.n_elements * sizeof(float), 1),
                         0);
    }
    for (uint32_t i = 0; i < TOKENS; i++)
        s->tokens[i] =
            (uint32_t)(cllm_random_u64(6, CLLM_RANDOM_TEST, i) % flavour->config.vocab);
    return s;
}

static void setup_free(struct setup *s)
{
    cllm_opencl_forget(s->arrays);
    cllm_opencl_forget(s->dw);
    cllm_opencl_forget(s->w);
    if (s->frozen != NULL)
        cllm_opencl_forget(s->frozen);
    cllm_arena_fini(&s->arena);
    cllm_parameters_fini(&s->base);
    cllm_parameters_fini(&s->adapters);
    free(s->weights);
    free(s->base_weights);
    free(s->gradient);
    free(s);
}

/* A lane of one batch under the weights' @version: its loss; the gradient comes back. */
static double lane(struct setup *s, uint64_t version)
{
    size_t bytes = s->learns->n_elements * sizeof(float);
    double loss;

    assert_int_equal(cllm_opencl_put(s->w, s->weights, bytes, version), 0);
    s->model.ops->zero(s->dw, s->learns->n_elements);
    loss = cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
    assert_int_equal(cllm_opencl_get(s->gradient, s->dw, bytes), 0);
    assert_int_equal(cllm_opencl_error(), 0);
    return loss;
}

/* ---- numbers ---- */

static double exact_loss(const struct setup *s, double *dw)
{
    const struct cllm_parameters *plan = &s->base;
    double *w, loss;

    if (s->flavour->target != NULL)
        return lora_double_loss(&(struct lora_double){plan, &s->adapters, &s->lora,
                                                      s->base_weights, s->weights},
                                dw, B, T, s->tokens);
    w = calloc(plan->n_elements, sizeof *w);
    assert_non_null(w);
    for (size_t i = 0; i < plan->n_elements; i++)
        w[i] = (double)s->weights[i];
    loss = plan->config.arch == CLLM_ARCH_LLAMA
               ? llama_double_loss(plan, w, dw, B, T, s->tokens, NULL)
               : gpt_double_loss(plan, w, dw, B, T, s->tokens, NULL);
    free(w);
    return loss;
}

/* Each head's bias of each layer has a gradient of its own, hidden among larger ones. */
static double error_of_biases(const struct setup *s, const double *dw)
{
    const struct cllm_model_config *config = &s->base.config;
    uint64_t at = cllm_parameters_off(&s->base, CLLM_TENSOR_CRYSTALLINE, 0);

    return numbers_error(s->gradient + at, dw + at, config->layers * config->heads);
}

static void check_gradient(const struct flavour *flavour, const struct cllm_ops *ops)
{
    struct setup *s = setup_new(flavour, ops);
    size_t n = s->learns->n_elements;
    double *dw = calloc(n, sizeof *dw);
    double exact, loss = lane(s, 1), error, again;
    float *first = numbers_zero(n);

    assert_non_null(dw);
    gpt_double_smoothing = (double)flavour->epsilon;
    gpt_double_dropout = flavour->dropout;
    gpt_double_key = KEY;
    exact = exact_loss(s, dw);
    error = numbers_error(s->gradient, dw, n);
    print_message("%s: loss within %.1e, gradient within %.1e\n", flavour->name,
                  fabs(loss - exact) / exact, error);
    assert_true(fabs(loss - exact) < 1e-6 * exact);
    assert_true(error < 1e-5);
    if (flavour->config.crystalline_bias && flavour->target == NULL)
        assert_true(error_of_biases(s, dw) < 1e-5);
    memcpy(first, s->gradient, n * sizeof *first);
    again = lane(s, 2);
    assert_memory_equal(&loss, &again, sizeof loss);
    assert_memory_equal(first, s->gradient, n * sizeof *first);
    free(first);
    free(dw);
    setup_free(s);
}

static void open_style(const struct cllm_ops **ops, enum cllm_opencl_style style)
{
    cllm_opencl_run_open(0);
    assert_int_equal(cllm_opencl_ops(ops, style, 0), 0);
}

static void gradients_agree_with_double_precision(void **state)
{
    const struct cllm_ops *ops;

    (void)state;
    open_style(&ops, CLLM_OPENCL_STYLE_ITEMS);
    for (size_t i = 0; i < CLLM_LEN(flavours); i++)
        check_gradient(&flavours[i], ops);
    cllm_opencl_close();
}

/* Which compiles longer: the one that has everything. */
static void gradients_agree_with_groups_of_items(void **state)
{
    const struct cllm_ops *ops;

    (void)state;
    open_style(&ops, CLLM_OPENCL_STYLE_GROUPS);
    check_gradient(&flavours[1], ops);
    check_gradient(&flavours[4], ops);
    check_gradient(&flavours[6], ops);
    cllm_opencl_close();
}

/* ---- traffic ---- */

static struct cllm_opencl_counters moved(const struct cllm_opencl_counters *was)
{
    struct cllm_opencl_counters now;

    cllm_opencl_count(&now);
    now.creates -= was->creates;
    now.up_bytes -= was->up_bytes;
    now.down_bytes -= was->down_bytes;
    return now;
}

static void check_traffic(const struct flavour *flavour, const struct cllm_ops *ops)
{
    const size_t token_bytes = TOKENS * sizeof(uint32_t);
    struct setup *s = setup_new(flavour, ops);
    size_t bytes = s->learns->n_elements * sizeof(float);
    size_t frozen = s->base.n_elements * sizeof(float);
    struct cllm_opencl_counters was, now;

    cllm_opencl_count(&was);
    (void)lane(s, 1);
    now = moved(&was);
    assert_in_range(now.up_bytes, frozen + bytes + token_bytes,
                    frozen + bytes + token_bytes + WORDS);
    (void)lane(s, 2); /* the second of the buffers that take turns */
    for (uint64_t version = 3; version < 6; version++) {
        cllm_opencl_count(&was);
        (void)lane(s, version);
        (void)lane(s, version); /* another lane of the step */
        now = moved(&was);
        print_message("%s: two lanes of a step: %zu bytes up (adapters %zu, token ids "
                      "%zu; frozen, once, %zu), %zu bytes down (gradients %zu), %zu "
                      "buffers made\n",
                      flavour->name, (size_t)now.up_bytes, bytes, 2 * token_bytes, frozen,
                      (size_t)now.down_bytes, 2 * bytes, (size_t)now.creates);
        assert_in_range(now.up_bytes, bytes + token_bytes, bytes + 2 * token_bytes);
        assert_in_range(now.down_bytes, 2 * bytes, 2 * (bytes + WORDS));
        assert_int_equal(now.creates, 0);
    }
    setup_free(s);
}

static void frozen_weights_go_up_once_and_adapters_once_a_step(void **state)
{
    const struct cllm_ops *ops;

    (void)state;
    open_style(&ops, CLLM_OPENCL_STYLE_ITEMS);
    check_traffic(&flavours[3], ops);
    check_traffic(&flavours[4], ops);
    cllm_opencl_close();
}

static int begin(void **state)
{
    (void)state;
    cllm_opencl_run_begin(&run, NULL);
    cllm_opencl_run_keep_none();
    return 0;
}

static int end(void **state)
{
    (void)state;
    cllm_opencl_close();
    cllm_opencl_run_end(&run);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_agree_with_double_precision),
        cmocka_unit_test(gradients_agree_with_groups_of_items),
        cmocka_unit_test(frozen_weights_go_up_once_and_adapters_once_a_step),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
