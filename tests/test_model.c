/*
 * tests/test_model.c - loss and gradient of whole models of both families against double
 * precision and against central differences; memory, determinism, refusals.
 */
#include "model/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "compute/ops.h"
#include "tests/model_batch.h"
#include "tests/model_double.h"
#include "tests/numbers.h"

#define LLAMA .arch = CLLM_ARCH_LLAMA

static void check_gradient(const struct cllm_model_config *config,
                           const struct cllm_ops *ops, uint32_t B, uint32_t T)
{
    struct model_batch *s = model_batch_new(config, ops, B, T, true, 0);
    double *w = numbers_doubles(s->w, s->plan.n_elements),
           *dw = numbers_doubles(NULL, s->plan.n_elements);
    double exact = model_double_loss(&s->plan, w, dw, B, T, s->tokens, NULL);
    double loss = cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);

    assert_true(fabs(loss - exact) < 1e-6 * exact);
    assert_true(numbers_error(s->dw, dw, s->plan.n_elements) < 1e-5);
    assert_true(cllm_model_loss(&s->model, s->w, s->tokens) == loss);
    free(w);
    free(dw);
    model_batch_free(s);
}

static void gradients_of_two_layers_agree_with_double_precision(void **state)
{
    (void)state;
    FOR_EACH_MODEL(config)
    {
        check_gradient(config, cllm_ops_reference(), 3, 70);
        check_gradient(config, cllm_ops_select(), 3, 70);
    }
}

static void gradients_of_odd_shapes_agree_with_double_precision(void **state)
{
    static const struct {
        struct cllm_model_config config;
        uint32_t B, T;
    } cases[] = {
        {{.vocab = 2, .context = 1, .layers = 1, .heads = 1, .width = 2}, 1, 1},
        {{.vocab = 5, .context = 9, .layers = 1, .heads = 3, .width = 3}, 2, 7},
        {{.vocab = 257, .context = 17, .layers = 3, .heads = 1, .width = 17}, 5, 17},
        {{.vocab = 11, .context = 131, .layers = 1, .heads = 5, .width = 65}, 1, 130},
        {{.vocab = 7, .context = 9, .layers = 1, .heads = 1, .width = 5, .hidden = 3},
         2,
         9},
        {{.vocab = 7, .context = 9, .layers = 2, .heads = 1, .width = 5, .untied = 1},
         2,
         9},
        {{.vocab = 90001,
          .context = 131,
          .layers = 2,
          .heads = 3,
          .width = 6,
          .crystalline_bias = 1},
         2,
         131},
        {{LLAMA, .vocab = 2, .context = 1, .layers = 1, .heads = 1, .width = 2,
          .crystalline_bias = 1},
         1,
         1},
        {{LLAMA, .vocab = 2, .context = 1, .layers = 1, .heads = 1, .width = 2}, 1, 1},
        {{LLAMA, .vocab = 5, .context = 9, .layers = 1, .heads = 3, .width = 6}, 2, 7},
        {{LLAMA, .vocab = 257, .context = 17, .layers = 3, .heads = 6, .kv_heads = 2,
          .width = 17, .head_size = 4, .hidden = 5, .rope_scaling = CLLM_ROPE_LINEAR,
          .rope_factor = 3},
         5,
         17},
        {{LLAMA, .vocab = 11, .context = 131, .layers = 1, .heads = 5, .kv_heads = 1,
          .width = 130, .hidden = 7, .untied = 1},
         1,
         130},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++)
        check_gradient(&cases[i].config, cllm_ops_select(), cases[i].B, cases[i].T);
}

/* A vocabulary so large that the rows do not fit into one chunk of logits. */
static const struct cllm_model_config chunky = {
    .vocab = 1040001, .context = 10, .layers = 1, .heads = 2, .width = 4};

static void the_loss_in_chunks_agrees_with_double_precision(void **state)
{
    struct model_batch *s = model_batch_new(&chunky, cllm_ops_select(), 5, 10, true, 0);

    (void)state;
    assert_true(s->model.chunk_rows < 50 && 50 % s->model.chunk_rows != 0);
    model_batch_free(s);
    check_gradient(&chunky, cllm_ops_select(), 5, 10);
}

static void check_differences(const struct cllm_model_config *config)
{
    enum { ENTRIES = 200 };
    struct model_batch *s = model_batch_new(config, cllm_ops_select(), 2, 15, true, 0);
    double *w = numbers_doubles(s->w, s->plan.n_elements);
    double difference = 0, length = 0;
    const double h = 1e-5;

    (void)cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
    for (uint64_t i = 0; i < ENTRIES; i++) {
        uint64_t pick = cllm_random_u64(8, CLLM_RANDOM_TEST, i) % s->plan.n_params;
        uint32_t t = 0;
        double kept, up, slope;

        while (pick >= s->plan.tensors[t].count)
            pick -= s->plan.tensors[t++].count;
        pick += s->plan.tensors[t].off;
        kept = w[pick];
        w[pick] = kept + h;
        up = model_double_loss(&s->plan, w, NULL, 2, 15, s->tokens, NULL);
        w[pick] = kept - h;
        slope =
            (up - model_double_loss(&s->plan, w, NULL, 2, 15, s->tokens, NULL)) / (2 * h);
        w[pick] = kept;
        assert_true(fabs((double)s->dw[pick] - slope) < 1e-3 * fabs(slope) + 1e-4);
        difference += ((double)s->dw[pick] - slope) * ((double)s->dw[pick] - slope);
        length += slope * slope;
    }
    assert_true(sqrt(difference / length) < 1e-3);
    free(w);
    model_batch_free(s);
}

static void gradients_agree_with_central_differences(void **state)
{
    (void)state;
    FOR_EACH_MODEL(config)
    check_differences(config);
}

static void check_adding(const struct cllm_model_config *config)
{
    struct model_batch *s = model_batch_new(config, cllm_ops_select(), 3, 21, true, 0);
    double *once;

    (void)cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
    once = numbers_doubles(s->dw, s->plan.n_elements);
    (void)cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
    for (size_t i = 0; i < s->plan.n_elements; i++)
        once[i] *= 2;
    assert_true(numbers_error(s->dw, once, s->plan.n_elements) < 1e-6);
    free(once);
    model_batch_free(s);
}

static void gradients_are_added_to_what_is_there(void **state)
{
    (void)state;
    FOR_EACH_MODEL(config)
    check_adding(config);
}

/* NaN stays if it is added to. */
static void check_overwriting(const struct cllm_model_config *config, uint32_t B,
                              uint32_t T)
{
    struct model_batch *s = model_batch_new(config, cllm_ops_select(), B, T, true, 0);
    float *added = numbers_zero(s->plan.n_elements);

    (void)cllm_model_forward_backward(&s->model, s->w, added, s->tokens);
    for (size_t i = 0; i < s->plan.n_elements; i++)
        s->dw[i] = NAN;
    s->model.overwrite = true;
    (void)cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
    for (size_t i = 0; i < s->plan.n_elements; i++)
        assert_true(s->dw[i] == added[i]);
    free(added);
    model_batch_free(s);
}

static void what_holds_nothing_yet_is_overwritten(void **state)
{
    (void)state;
    FOR_EACH_MODEL(config)
    check_overwriting(config, 3, 21);
    check_overwriting(&chunky, 5, 10);
}

static void check_padding(const struct cllm_model_config *config)
{
    struct model_batch *s = model_batch_new(config, cllm_ops_select(), 2, 9, true, 0);
    uint64_t at = 0;

    (void)cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
    for (uint32_t t = 0; t <= s->plan.n_tensors; t++) {
        bool last = t == s->plan.n_tensors;

        for (; at < (last ? s->plan.n_elements : s->plan.tensors[t].off); at++)
            assert_true(s->dw[at] == 0.0f);
        at = last ? at : at + s->plan.tensors[t].count;
    }
    model_batch_free(s);
}

static void padding_gets_no_gradient(void **state)
{
    static const struct cllm_model_config configs[] = {
        {.vocab = 7, .context = 9, .layers = 2, .heads = 1, .width = 5},
        {LLAMA, .vocab = 7, .context = 9, .layers = 2, .heads = 3, .width = 5,
         .head_size = 2, .kv_heads = 1, .hidden = 3, .untied = 1},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(configs); i++)
        check_padding(&configs[i]);
}

static void check_loss_alone(const struct cllm_model_config *config)
{
    struct model_batch *train =
        model_batch_new(config, cllm_ops_select(), 3, 33, true, 0);
    struct model_batch *eval =
        model_batch_new(config, cllm_ops_select(), 3, 33, false, 0);

    assert_true(cllm_model_loss(&eval->model, eval->w, eval->tokens) ==
                cllm_model_loss(&train->model, train->w, train->tokens));
    assert_true(eval->arena.used < train->arena.used / 4 * 3);
    model_batch_free(train);
    model_batch_free(eval);
}

static void loss_needs_no_memory_for_the_gradient(void **state)
{
    (void)state;
    FOR_EACH_MODEL(config)
    check_loss_alone(config);
}

/* Same inputs at other places in memory, over the leavings of other batches. */
static void check_elsewhere(const struct cllm_model_config *config)
{
    struct model_batch *first =
        model_batch_new(config, cllm_ops_select(), 3, 67, true, 0);
    double loss =
        cllm_model_forward_backward(&first->model, first->w, first->dw, first->tokens);

    for (size_t shift = 1; shift < 70; shift += 17) {
        struct model_batch *s =
            model_batch_new(config, cllm_ops_select(), 3, 67, true, shift);

        memset(s->arena.base + 64 * shift + config->layers * sizeof *s->model.blocks + 64,
               0xff, 64 * 100);
        assert_true(cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens) ==
                    loss);
        assert_memory_equal(s->dw, first->dw, s->plan.n_elements * sizeof *s->dw);
        s->tokens[3] ^= 1;
        (void)cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
        s->tokens[3] ^= 1;
        memset(s->dw, 0, s->plan.n_elements * sizeof *s->dw);
        assert_true(cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens) ==
                    loss);
        assert_memory_equal(s->dw, first->dw, s->plan.n_elements * sizeof *s->dw);
        model_batch_free(s);
    }
    model_batch_free(first);
}

static void a_batch_done_again_elsewhere_has_the_same_bits(void **state)
{
    (void)state;
    FOR_EACH_MODEL(config)
    check_elsewhere(config);
}

/* The loss moves along its own gradient as fast as the gradient is long, which that of
 * another loss would not do; and validation knows nothing of the smoothing. */
static void the_smoothed_loss_has_its_own_gradient(void **state)
{
    (void)state;
    FOR_EACH_MODEL(config)
    {
        const struct cllm_model_shape shape = {
            .B = 2, .T = 33, .train = true, .epsilon = 0.6f};
        struct model_batch *s = model_batch_shaped(config, cllm_ops_select(), &shape, 0);
        struct model_batch *plain =
            model_batch_new(config, cllm_ops_select(), 2, 33, true, 0);
        size_t n = s->plan.n_elements;
        float *rest = numbers_zero(n), *w = numbers_zero(n);
        double slope = 0, side[2];

        assert_true(cllm_model_loss(&s->model, s->w, s->tokens) ==
                    cllm_model_loss(&plain->model, s->w, s->tokens));
        (void)cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
        for (size_t i = 0; i < n; i++)
            slope += (double)s->dw[i] * (double)s->dw[i];
        for (int i = 0; i < 2; i++) {
            double h = (i == 0 ? 0.05 : -0.05) / slope;

            for (size_t j = 0; j < n; j++)
                w[j] = (float)((double)s->w[j] + h * (double)s->dw[j]);
            side[i] = cllm_model_forward_backward(&s->model, w, rest, s->tokens);
        }
        assert_true(fabs((side[0] - side[1]) / 0.1 - 1) < 1e-2);
        free(rest);
        free(w);
        model_batch_free(s);
        model_batch_free(plain);
    }
}

static void check_nan(const struct cllm_model_config *config)
{
    struct model_batch *s = model_batch_new(config, cllm_ops_select(), 2, 9, true, 0);

    s->w[cllm_parameters_off(&s->plan, CLLM_TENSOR_FC_W, 0)] = NAN;
    assert_true(isnan(cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens)));
    assert_false(cllm_ops_select()->is_finite(s->dw, s->plan.n_elements));
    model_batch_free(s);
}

static void a_nan_in_the_weights_reaches_the_loss(void **state)
{
    (void)state;
    FOR_EACH_MODEL(config)
    check_nan(config);
}

static void count_calls(void *ctx)
{
    ++*(uint32_t *)ctx;
}

static void check_progress(const struct cllm_model_config *config)
{
    struct model_batch *s = model_batch_new(config, cllm_ops_select(), 2, 9, true, 0);
    uint32_t calls = 0;

    s->model.progress = count_calls;
    s->model.progress_ctx = &calls;
    (void)cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
    assert_true(calls >= 2 * config->layers);
    model_batch_free(s);
}

static void every_block_and_direction_shows_progress(void **state)
{
    (void)state;
    FOR_EACH_MODEL(config)
    check_progress(config);
}

static void sequences_that_do_not_fit_are_refused(void **state)
{
    static const struct cllm_model_shape cases[] = {
        {.B = 0, .T = 1, .train = true},
        {.B = 1, .T = 0, .train = true},
        {.B = 1, .T = 71, .train = true},
    };
    struct cllm_arena arena;
    struct cllm_parameters plan;
    struct cllm_model model;

    (void)state;
    assert_int_equal(cllm_parameters_init(&plan, &model_two_layers[1]), 0);
    assert_int_equal(cllm_arena_init(&arena, 1 << 20), 0);
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        assert_int_equal(
            cllm_model_init(&model, &plan, cllm_ops_select(), &cases[i], &arena),
            CLLM_ECONFIG);
        assert_true(cllm_err_text()[0] != '\0');
    }
    cllm_arena_fini(&arena);
    cllm_parameters_fini(&plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_two_layers_agree_with_double_precision),
        cmocka_unit_test(gradients_of_odd_shapes_agree_with_double_precision),
        cmocka_unit_test(the_loss_in_chunks_agrees_with_double_precision),
        cmocka_unit_test(gradients_agree_with_central_differences),
        cmocka_unit_test(gradients_are_added_to_what_is_there),
        cmocka_unit_test(what_holds_nothing_yet_is_overwritten),
        cmocka_unit_test(padding_gets_no_gradient),
        cmocka_unit_test(loss_needs_no_memory_for_the_gradient),
        cmocka_unit_test(a_batch_done_again_elsewhere_has_the_same_bits),
        cmocka_unit_test(the_smoothed_loss_has_its_own_gradient),
        cmocka_unit_test(a_nan_in_the_weights_reaches_the_loss),
        cmocka_unit_test(every_block_and_direction_shows_progress),
        cmocka_unit_test(sequences_that_do_not_fit_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
