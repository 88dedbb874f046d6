/*
 * tests/test_opencl_model.c - whole models on a device: loss and gradient against double
 * precision, the same bits on repetition, losses of some steps beside the CPU's. Skipped,
 * with the reason, where there is no OpenCL.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "compute/opencl/table.h"
#include "model/model.h"
#include "tests/model_double.h"
#include "tests/numbers.h"
#include "tests/opencl_run.h"

#define LLAMA .arch = CLLM_ARCH_LLAMA

/* Two layers each: of Llama with keys for every query, for groups of two, for all. */
static const struct cllm_model_config two_layers[] = {
    {.vocab = 29, .context = 70, .layers = 2, .heads = 2, .width = 20},
    {LLAMA, .vocab = 29, .context = 70, .layers = 2, .heads = 4, .width = 24,
     .kv_heads = 2, .hidden = 36, .untied = 1},
    {LLAMA, .vocab = 29, .context = 70, .layers = 2, .heads = 3, .width = 20,
     .kv_heads = 1, .head_size = 10, .norm_epsilon = 1e-3, .rope_theta = 500},
};

static const enum cllm_opencl_style styles[] = {CLLM_OPENCL_STYLE_ITEMS,
                                                CLLM_OPENCL_STYLE_GROUPS};

/* A model on the device: its weights, its gradient, its arrays. */
struct setup {
    struct cllm_parameters plan;
    struct cllm_model model;
    struct cllm_arena arena;
    void *w, *dw, *arrays; /* of the device */
    float *weights, *gradient;
    uint32_t *tokens;
};

static struct setup *setup_new(const struct cllm_model_config *config,
                               const struct cllm_ops *ops, struct cllm_model_shape shape)
{
    uint32_t n_tokens = shape.B * (shape.T + 1);
    struct setup *s = calloc(1, sizeof *s);
    size_t bytes;

    assert_non_null(s);
    assert_int_equal(cllm_parameters_init(&s->plan, config), 0);
    bytes = s->plan.n_elements * sizeof(float);
    assert_int_equal(cllm_opencl_reserve(&s->w, bytes, NULL, 0), 0);
    assert_int_equal(cllm_opencl_reserve(&s->dw, bytes, NULL, 0), 0);
    assert_int_equal(cllm_opencl_reserve(
                         &s->arrays, cllm_model_array_bytes(&s->plan, &shape), NULL, 0),
                     0);
    shape.arrays = s->arrays;
    assert_int_equal(cllm_arena_init(&s->arena, cllm_model_arena_bytes(&s->plan, &shape)),
                     0);
    assert_int_equal(cllm_model_init(&s->model, &s->plan, ops, &shape, &s->arena), 0);
    s->weights = numbers_weights(&s->plan);
    s->gradient = numbers_zero(s->plan.n_elements);
    assert_int_equal(cllm_opencl_put(s->w, s->weights, bytes, 1), 0);
    s->tokens = numbers_tokens(n_tokens, config->vocab);
    return s;
}

static void setup_free(struct setup *s)
{
    cllm_opencl_forget(s->arrays);
    cllm_opencl_forget(s->dw);
    cllm_opencl_forget(s->w);
    cllm_arena_fini(&s->arena);
    cllm_parameters_fini(&s->plan);
    free(s->weights);
    free(s->gradient);
    free(s->tokens);
    free(s);
}

/* Loss of the batch; the gradient comes back to s->gradient. */
static double run(struct setup *s)
{
    size_t bytes = s->plan.n_elements * sizeof(float);
    double loss;

    s->model.ops->zero(s->dw, s->plan.n_elements);
    loss = cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
    assert_int_equal(cllm_opencl_get(s->gradient, s->dw, bytes), 0);
    assert_int_equal(cllm_opencl_error(), 0);
    return loss;
}

static double exact_loss(const struct setup *s, double *dw)
{
    double *w = numbers_doubles(s->weights, s->plan.n_elements);
    double loss =
        model_double_loss(&s->plan, w, dw, s->model.B, s->model.T, s->tokens, NULL);

    free(w);
    return loss;
}

static void check_gradient(const struct cllm_model_config *config,
                           const struct cllm_ops *ops, uint32_t B, uint32_t T)
{
    struct setup *s =
        setup_new(config, ops, (struct cllm_model_shape){.B = B, .T = T, .train = true});
    double *dw = numbers_doubles(NULL, s->plan.n_elements);
    double exact, loss = run(s), error;

    exact = exact_loss(s, dw);
    error = numbers_error(s->gradient, dw, s->plan.n_elements);
    print_message("%s, B %u T %u: loss within %.1e, gradient within %.1e\n",
                  config->arch == CLLM_ARCH_LLAMA ? "llama" : "gpt2", B, T,
                  fabs(loss - exact) / exact, error);
    assert_true(fabs(loss - exact) < 1e-6 * exact);
    assert_true(error < 1e-5);
    assert_true(cllm_model_loss(&s->model, s->w, s->tokens) == loss);
    free(dw);
    setup_free(s);
}

static void open_style(const struct cllm_ops **ops, enum cllm_opencl_style style)
{
    cllm_opencl_run_open(0);
    assert_int_equal(cllm_opencl_ops(ops, style, 0), 0);
}

static void gradients_of_two_layers_agree_with_double_precision(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(styles); i++) {
        const struct cllm_ops *ops;

        open_style(&ops, styles[i]);
        /* Kernels for each size of a head: a minute of compiling in this style. */
        if (styles[i] == CLLM_OPENCL_STYLE_GROUPS)
            check_gradient(&two_layers[1], ops, 3, 70);
        else
            for (size_t j = 0; j < CLLM_LEN(two_layers); j++)
                check_gradient(&two_layers[j], ops, 3, 70);
        cllm_opencl_close();
    }
}

static void gradients_of_odd_shapes_agree_with_double_precision(void **state)
{
    /* Heads of 1, 6, 10 and 17: kernels for each size take seconds to compile. */
    static const struct {
        struct cllm_model_config config;
        uint32_t B, T;
    } cases[] = {
        {{.vocab = 2, .context = 1, .layers = 1, .heads = 2, .width = 2}, 1, 1},
        {{.vocab = 5, .context = 9, .layers = 1, .heads = 3, .width = 3}, 2, 7},
        {{.vocab = 257, .context = 17, .layers = 3, .heads = 1, .width = 17}, 5, 17},
        {{.vocab = 11, .context = 131, .layers = 1, .heads = 5, .width = 50}, 1, 130},
        {{LLAMA, .vocab = 257, .context = 17, .layers = 3, .heads = 6, .kv_heads = 2,
          .width = 17, .head_size = 6, .hidden = 5, .rope_scaling = CLLM_ROPE_LINEAR,
          .rope_factor = 3},
         5,
         17},
    };
    const struct cllm_ops *ops;

    (void)state;
    open_style(&ops, CLLM_OPENCL_STYLE_AUTO);
    for (size_t i = 0; i < CLLM_LEN(cases); i++)
        check_gradient(&cases[i].config, ops, cases[i].B, cases[i].T);
    cllm_opencl_close();
}

/* With dropout and what is computed again, too: nothing but inputs counts. */
static void a_step_gives_the_same_bits_again(void **state)
{
    static const struct cllm_model_shape shapes[] = {
        {.B = 3, .T = 70, .train = true},
        {.B = 3, .T = 70, .train = true, .recompute = CLLM_RECOMPUTE_BLOCK}};

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(styles); i++) {
        const struct cllm_ops *ops;
        float *first = NULL;
        double loss = 0;

        open_style(&ops, styles[i]);
        for (size_t j = 0; j < 4; j++) {
            struct setup *s = setup_new(&two_layers[1], ops, shapes[j / 2]);
            double again;

            s->model.dropout = s->model.attention_dropout = 0.25f;
            s->model.dropout_key = 77;
            again = run(s);
            if (first == NULL) {
                first = numbers_zero(s->plan.n_elements);
                memcpy(first, s->gradient, s->plan.n_elements * sizeof *first);
                loss = again;
            }
            assert_memory_equal(&loss, &again, sizeof loss);
            assert_memory_equal(first, s->gradient, s->plan.n_elements * sizeof *first);
            setup_free(s);
        }
        free(first);
        cllm_opencl_close();
    }
}

static void a_NaN_in_the_weights_is_seen_in_the_loss(void **state)
{
    const struct cllm_ops *ops;

    (void)state;
    open_style(&ops, CLLM_OPENCL_STYLE_AUTO);
    for (size_t j = 0; j < CLLM_LEN(two_layers); j++) {
        struct setup *s =
            setup_new(&two_layers[j], ops,
                      (struct cllm_model_shape){.B = 1, .T = 5, .train = true});

        s->weights[cllm_parameters_off(&s->plan, CLLM_TENSOR_ATTN_W, 1)] = NAN;
        assert_true(isnan(run(s)));
        setup_free(s);
    }
    cllm_opencl_close();
}

static int begin(void **state)
{
    static struct cllm_opencl_run directory;

    cllm_opencl_run_begin(&directory, NULL);
    cllm_opencl_run_keep_none();
    *state = &directory;
    return 0;
}

static int end(void **state)
{
    cllm_opencl_run_end(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_two_layers_agree_with_double_precision),
        cmocka_unit_test(gradients_of_odd_shapes_agree_with_double_precision),
        cmocka_unit_test(a_step_gives_the_same_bits_again),
        cmocka_unit_test(a_NaN_in_the_weights_is_seen_in_the_loss),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
