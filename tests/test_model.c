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
#include "tests/gpt_double.h"
#include "tests/llama_double.h"
#include "tests/numbers.h"

#define LLAMA .arch = CLLM_ARCH_LLAMA

/* Two layers each: of GPT-2, of Llama with keys for every query, for groups of two, for
 * all; of both with the learned bias. */
static const struct cllm_model_config two_layers[] = {
    {.vocab = 29, .context = 70, .layers = 2, .heads = 2, .width = 20},
    {.vocab = 29,
     .context = 70,
     .layers = 2,
     .heads = 2,
     .width = 20,
     .norm_epsilon = 1e-3},
    {LLAMA, .vocab = 29, .context = 70, .layers = 2, .heads = 4, .width = 24,
     .kv_heads = 2, .hidden = 36, .untied = 1},
    {LLAMA, .vocab = 29, .context = 70, .layers = 2, .heads = 3, .width = 20,
     .kv_heads = 1, .head_size = 10, .norm_epsilon = 1e-3, .rope_theta = 500},
    {.vocab = 29,
     .context = 70,
     .layers = 2,
     .heads = 2,
     .width = 20,
     .crystalline_bias = 1},
    {LLAMA, .vocab = 29, .context = 70, .layers = 2, .heads = 4, .width = 24,
     .kv_heads = 2, .hidden = 36, .untied = 1, .crystalline_bias = 1},
};

#define FOR_EACH_MODEL(config)                                \
    for (const struct cllm_model_config *config = two_layers; \
         config < two_layers + CLLM_LEN(two_layers); config++)

static double exact_loss(const struct cllm_parameters *plan, const double *w, double *dw,
                         uint32_t B, uint32_t T, const uint32_t *tokens)
{
    return plan->config.arch == CLLM_ARCH_LLAMA
               ? llama_double_loss(plan, w, dw, B, T, tokens, NULL)
               : gpt_double_loss(plan, w, dw, B, T, tokens, NULL);
}

/* A model, a batch and memory for both directions. */
struct setup {
    struct cllm_parameters plan;
    struct cllm_model model;
    struct cllm_arena arena;
    float *w, *dw;
    uint32_t *tokens;
};

/* Weights far from the start of training: every tensor random, norms around 1, so that no
 * gradient is zero or hidden. @shift moves everything in memory by multiples of 64. */
static struct setup *setup_shaped(const struct cllm_model_config *config,
                                  const struct cllm_ops *ops,
                                  const struct cllm_model_shape *shape, size_t shift)
{
    uint32_t n_tokens = shape->B * (shape->T + 1);
    struct setup *s = calloc(1, sizeof *s);
    size_t bytes;

    assert_non_null(s);
    assert_int_equal(cllm_parameters_init(&s->plan, config), 0);
    bytes = cllm_model_arena_bytes(&s->plan, shape);
    assert_int_equal(cllm_arena_init(&s->arena, bytes + 64 * shift), 0);
    (void)cllm_arena_take(&s->arena, 64 * shift);
    assert_int_equal(cllm_model_init(&s->model, &s->plan, ops, shape, &s->arena), 0);
    assert_int_equal(s->arena.used, bytes + 64 * shift);
    s->w = numbers_weights(&s->plan);
    s->dw = numbers_zero(s->plan.n_elements);
    s->tokens = calloc(n_tokens, sizeof *s->tokens);
    assert_non_null(s->tokens);
    for (uint32_t i = 0; i < n_tokens; i++)
        s->tokens[i] =
            (uint32_t)(cllm_random_u64(6, CLLM_RANDOM_TEST, i) % config->vocab);
    return s;
}

static struct setup *setup_new(const struct cllm_model_config *config,
                               const struct cllm_ops *ops, uint32_t B, uint32_t T,
                               bool train, size_t shift)
{
    const struct cllm_model_shape shape = {.B = B, .T = T, .train = train};

    return setup_shaped(config, ops, &shape, shift);
}

static void setup_free(struct setup *s)
{
    cllm_arena_fini(&s->arena);
    cllm_parameters_fini(&s->plan);
    free(s->w);
    free(s->dw);
    free(s->tokens);
    free(s);
}

static double *doubles(const float *x, size_t n)
{
    double *d = calloc(n, sizeof *d);

    assert_non_null(d);
    for (size_t i = 0; x != NULL && i < n; i++)
        d[i] = (double)x[i];
    return d;
}

static void check_gradient(const struct cllm_model_config *config,
                           const struct cllm_ops *ops, uint32_t B, uint32_t T)
{
    struct setup *s = setup_new(config, ops, B, T, true, 0);
    double *w = doubles(s->w, s->plan.n_elements),
           *dw = doubles(NULL, s->plan.n_elements);
    double exact = exact_loss(&s->plan, w, dw, B, T, s->tokens);
    double loss = cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);

    assert_true(fabs(loss - exact) < 1e-6 * exact);
    assert_true(numbers_error(s->dw, dw, s->plan.n_elements) < 1e-5);
    assert_true(cllm_model_loss(&s->model, s->w, s->tokens) == loss);
    free(w);
    free(dw);
    setup_free(s);
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
    .vocab = 700001, .context = 10, .layers = 1, .heads = 2, .width = 4};

static void the_loss_in_chunks_agrees_with_double_precision(void **state)
{
    struct setup *s = setup_new(&chunky, cllm_ops_select(), 5, 10, true, 0);

    (void)state;
    assert_true(s->model.chunk_rows < 50 && 50 % s->model.chunk_rows != 0);
    setup_free(s);
    check_gradient(&chunky, cllm_ops_select(), 5, 10);
}

static void check_differences(const struct cllm_model_config *config)
{
    enum { ENTRIES = 200 };
    struct setup *s = setup_new(config, cllm_ops_select(), 2, 15, true, 0);
    double *w = doubles(s->w, s->plan.n_elements);
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
        up = exact_loss(&s->plan, w, NULL, 2, 15, s->tokens);
        w[pick] = kept - h;
        slope = (up - exact_loss(&s->plan, w, NULL, 2, 15, s->tokens)) / (2 * h);
        w[pick] = kept;
        assert_true(fabs((double)s->dw[pick] - slope) < 1e-3 * fabs(slope) + 1e-4);
        difference += ((double)s->dw[pick] - slope) * ((double)s->dw[pick] - slope);
        length += slope * slope;
    }
    assert_true(sqrt(difference / length) < 1e-3);
    free(w);
    setup_free(s);
}

static void gradients_agree_with_central_differences(void **state)
{
    (void)state;
    FOR_EACH_MODEL(config)
    check_differences(config);
}

static void check_adding(const struct cllm_model_config *config)
{
    struct setup *s = setup_new(config, cllm_ops_select(), 3, 21, true, 0);
    double *once;

    (void)cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
    once = doubles(s->dw, s->plan.n_elements);
    (void)cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
    for (size_t i = 0; i < s->plan.n_elements; i++)
        once[i] *= 2;
    assert_true(numbers_error(s->dw, once, s->plan.n_elements) < 1e-6);
    free(once);
    setup_free(s);
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
    struct setup *s = setup_new(config, cllm_ops_select(), B, T, true, 0);
    float *added = numbers_zero(s->plan.n_elements);

    (void)cllm_model_forward_backward(&s->model, s->w, added, s->tokens);
    for (size_t i = 0; i < s->plan.n_elements; i++)
        s->dw[i] = NAN;
    s->model.overwrite = true;
    (void)cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
    for (size_t i = 0; i < s->plan.n_elements; i++)
        assert_true(s->dw[i] == added[i]);
    free(added);
    setup_free(s);
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
    struct setup *s = setup_new(config, cllm_ops_select(), 2, 9, true, 0);
    uint64_t at = 0;

    (void)cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
    for (uint32_t t = 0; t <= s->plan.n_tensors; t++) {
        bool last = t == s->plan.n_tensors;

        for (; at < (last ? s->plan.n_elements : s->plan.tensors[t].off); at++)
            assert_true(s->dw[at] == 0.0f);
        at = last ? at : at + s->plan.tensors[t].count;
    }
    setup_free(s);
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
    struct setup *train = setup_new(config, cllm_ops_select(), 3, 33, true, 0);
    struct setup *eval = setup_new(config, cllm_ops_select(), 3, 33, false, 0);

    assert_true(cllm_model_loss(&eval->model, eval->w, eval->tokens) ==
                cllm_model_loss(&train->model, train->w, train->tokens));
    assert_true(eval->arena.used < train->arena.used / 4 * 3);
    setup_free(train);
    setup_free(eval);
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
    struct setup *first = setup_new(config, cllm_ops_select(), 3, 67, true, 0);
    double loss =
        cllm_model_forward_backward(&first->model, first->w, first->dw, first->tokens);

    for (size_t shift = 1; shift < 70; shift += 17) {
        struct setup *s = setup_new(config, cllm_ops_select(), 3, 67, true, shift);

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
        setup_free(s);
    }
    setup_free(first);
}

static void a_batch_done_again_elsewhere_has_the_same_bits(void **state)
{
    (void)state;
    FOR_EACH_MODEL(config)
    check_elsewhere(config);
}

static const enum cllm_model_recompute again[] = {CLLM_RECOMPUTE_ATTENTION,
                                                  CLLM_RECOMPUTE_BLOCK};

/* The loss moves along its own gradient as fast as the gradient is long, which that of
 * another loss would not do; and validation knows nothing of the smoothing. */
static void the_smoothed_loss_has_its_own_gradient(void **state)
{
    (void)state;
    FOR_EACH_MODEL(config)
    {
        const struct cllm_model_shape shape = {
            .B = 2, .T = 33, .train = true, .epsilon = 0.6f};
        struct setup *s = setup_shaped(config, cllm_ops_select(), &shape, 0);
        struct setup *plain = setup_new(config, cllm_ops_select(), 2, 33, true, 0);
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
        setup_free(s);
        setup_free(plain);
    }
}

/* The same weights in the plan of @to: tensors by name, what has no counterpart stays. */
static void copy_tensors(const struct setup *from, struct setup *to, const float *of,
                         float *into)
{
    for (uint32_t i = 0; i < from->plan.n_tensors; i++) {
        const struct cllm_tensor *one = &from->plan.tensors[i];
        const struct cllm_tensor *other = cllm_parameters_find(&to->plan, one->name);

        if (other != NULL)
            memcpy(into + other->off, of + one->off, one->count * sizeof *into);
    }
}

/* As a run begins: loss and gradient of all else have the bits of a model without. */
static void a_bias_of_zero_changes_no_bit(void **state)
{
    (void)state;
    FOR_EACH_MODEL(config)
    {
        struct cllm_model_config with = *config, without = *config;
        struct setup *a, *b;
        float *expected;

        with.crystalline_bias = 1;
        without.crystalline_bias = 0;
        a = setup_new(&without, cllm_ops_select(), 3, 70, true, 0);
        b = setup_new(&with, cllm_ops_select(), 3, 70, true, 0);
        memset(b->w, 0, b->plan.n_elements * sizeof *b->w);
        copy_tensors(a, b, a->w, b->w);
        assert_true(cllm_model_forward_backward(&a->model, a->w, a->dw, a->tokens) ==
                    cllm_model_forward_backward(&b->model, b->w, b->dw, b->tokens));
        expected = numbers_zero(b->plan.n_elements);
        copy_tensors(a, b, a->dw, expected);
        for (uint32_t i = 0; i < b->plan.n_tensors; i++) {
            const struct cllm_tensor *tensor = &b->plan.tensors[i];
            bool bias = tensor->kind == CLLM_TENSOR_CRYSTALLINE;

            if (!bias)
                assert_memory_equal(b->dw + tensor->off, expected + tensor->off,
                                    tensor->count * sizeof *expected);
            for (uint64_t j = 0; bias && j < tensor->count; j++)
                assert_true(b->dw[tensor->off + j] != 0.0f);
        }
        free(expected);
        setup_free(a);
        setup_free(b);
    }
}

/* A device's operations may lack it: said, not met while computing. */
static void operations_without_similarities_are_refused(void **state)
{
    const struct cllm_model_config config = {.vocab = 7,
                                             .context = 9,
                                             .layers = 1,
                                             .heads = 1,
                                             .width = 4,
                                             .crystalline_bias = 1};
    const struct cllm_model_shape shape = {.B = 1, .T = 9};
    struct cllm_ops ops = *cllm_ops_select();
    struct cllm_parameters plan;
    struct cllm_arena arena;
    struct cllm_model model;

    (void)state;
    ops.crystal_pairs = NULL;
    assert_int_equal(cllm_parameters_init(&plan, &config), 0);
    assert_int_equal(cllm_arena_init(&arena, cllm_model_arena_bytes(&plan, &shape)), 0);
    assert_int_equal(cllm_model_init(&model, &plan, &ops, &shape, &arena), CLLM_ECONFIG);
    assert_non_null(strstr(cllm_err_text(), "crystalline bias of attention"));
    assert_int_equal(arena.used, 0);
    cllm_arena_fini(&arena);
    cllm_parameters_fini(&plan);
}

/* Each head's bias of each layer, against the exact loss at both sides of it. */
static void gradients_of_biases_agree_with_central_differences(void **state)
{
    const double h = 1e-5;

    (void)state;
    FOR_EACH_MODEL(config)
    {
        struct setup *s = setup_new(config, cllm_ops_select(), 2, 67, true, 0);
        double *w = doubles(s->w, s->plan.n_elements);

        (void)cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
        for (uint32_t layer = 0; config->crystalline_bias && layer < config->layers;
             layer++)
            for (uint32_t head = 0; head < config->heads; head++) {
                uint64_t at = cllm_parameters_off(&s->plan, CLLM_TENSOR_CRYSTALLINE, 0) +
                              layer * (uint64_t)config->heads + head;
                double kept = w[at], slope;

                w[at] = kept + h;
                slope = exact_loss(&s->plan, w, NULL, 2, 67, s->tokens);
                w[at] = kept - h;
                slope -= exact_loss(&s->plan, w, NULL, 2, 67, s->tokens);
                slope /= 2 * h;
                w[at] = kept;
                assert_true(fabs((double)s->dw[at] - slope) < 1e-4 * fabs(slope) + 1e-4);
                assert_true(fabs(slope) > 1e-3);
            }
        free(w);
        setup_free(s);
    }
}

/* Loss and gradient of two batches, one after the other in the same memory, with a
 * validation between them. */
static void train_twice(struct setup *s, double loss[2])
{
    loss[0] = cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
    s->tokens[0] = s->plan.config.vocab - 1 - s->tokens[0];
    (void)cllm_model_loss(&s->model, s->w, s->tokens);
    s->tokens[1] = s->plan.config.vocab - 1 - s->tokens[1];
    loss[1] = cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
}

static void check_recompute(const struct cllm_model_config *config,
                            const struct cllm_ops *ops, uint32_t B, uint32_t T)
{
    struct cllm_model_shape shape = {.B = B, .T = T, .train = true};
    struct setup *kept = setup_shaped(config, ops, &shape, 0);
    size_t used = kept->arena.used;
    double expected[2], loss[2];

    train_twice(kept, expected);
    for (size_t i = 0; i < CLLM_LEN(again); i++) {
        struct setup *s;

        shape.recompute = again[i];
        s = setup_shaped(config, ops, &shape, i);
        train_twice(s, loss);
        assert_memory_equal(loss, expected, sizeof loss);
        assert_memory_equal(s->dw, kept->dw, s->plan.n_elements * sizeof *s->dw);
        assert_true(config->layers == 1 || s->arena.used - 64 * i < used);
        used = s->arena.used - 64 * i;
        setup_free(s);
    }
    setup_free(kept);
}

static void what_is_computed_again_has_the_same_bits(void **state)
{
    static const struct {
        struct cllm_model_config config;
        uint32_t B, T;
    } cases[] = {
        {{.vocab = 31, .context = 70, .layers = 4, .heads = 2, .width = 20}, 1, 67},
        {{.vocab = 31, .context = 70, .layers = 4, .heads = 2, .width = 20}, 3, 67},
        {{.vocab = 257, .context = 131, .layers = 3, .heads = 5, .width = 65}, 3, 130},
        {{.vocab = 11, .context = 9, .layers = 5, .heads = 3, .width = 3}, 1, 7},
        {{.vocab = 2, .context = 1, .layers = 2, .heads = 1, .width = 2}, 3, 1},
        {{.vocab = 29, .context = 70, .layers = 1, .heads = 2, .width = 20}, 3, 70},
        {{.vocab = 31,
          .context = 131,
          .layers = 4,
          .heads = 2,
          .width = 20,
          .crystalline_bias = 1},
         3,
         130},
        {{LLAMA, .vocab = 31, .context = 70, .layers = 3, .heads = 4, .width = 24,
          .kv_heads = 2, .crystalline_bias = 1},
         2,
         67},
        {{LLAMA, .vocab = 31, .context = 70, .layers = 4, .heads = 4, .width = 24,
          .kv_heads = 2},
         3,
         67},
        {{LLAMA, .vocab = 257, .context = 131, .layers = 3, .heads = 5, .width = 70,
          .kv_heads = 1, .hidden = 33, .untied = 1},
         3,
         130},
        {{LLAMA, .vocab = 2, .context = 1, .layers = 2, .heads = 1, .width = 2}, 3, 1},
    };
    const struct cllm_ops *bf16;

    (void)state;
    assert_int_equal(cllm_ops_pick(&bf16, CLLM_ISA_AUTO, CLLM_PRECISION_BF16), 0);
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        check_recompute(&cases[i].config, cllm_ops_select(), cases[i].B, cases[i].T);
        check_recompute(&cases[i].config, bf16, cases[i].B, cases[i].T);
    }
}

/* Sizes at which every buffer ends at a cache line. @attention and @block: floats a token
 * that are computed again. */
static void check_memory(const struct cllm_model_config *config, size_t attention,
                         size_t block)
{
    struct cllm_model_shape shape = {.B = 3, .T = 48, .train = true};
    size_t N = 3 * 48, others = config->layers - 1, bytes, loss_only;
    struct cllm_parameters plan;

    assert_int_equal(cllm_parameters_init(&plan, config), 0);
    bytes = cllm_model_arena_bytes(&plan, &shape);
    shape.recompute = CLLM_RECOMPUTE_ATTENTION;
    assert_int_equal(bytes - cllm_model_arena_bytes(&plan, &shape),
                     others * N * attention * sizeof(float));
    shape.recompute = CLLM_RECOMPUTE_BLOCK;
    assert_int_equal(bytes - cllm_model_arena_bytes(&plan, &shape),
                     others * N * block * sizeof(float));
    shape.train = false;
    loss_only = cllm_model_arena_bytes(&plan, &shape);
    shape.recompute = CLLM_RECOMPUTE_NONE;
    assert_int_equal(cllm_model_arena_bytes(&plan, &shape), loss_only);
    cllm_parameters_fini(&plan);
}

static void what_is_computed_again_takes_memory_once(void **state)
{
    const struct cllm_model_config gpt = {
        .vocab = 29, .context = 48, .layers = 7, .heads = 2, .width = 20};
    const struct cllm_model_config llama = {LLAMA,       .vocab = 29,    .context = 48,
                                            .layers = 7, .heads = 4,     .kv_heads = 2,
                                            .width = 20, .head_size = 6, .hidden = 13};
    enum { C = 20, H = 4, A = 4 * 6, Q = 8 * 6, F = 13 };

    (void)state;
    check_memory(&gpt, 3 * C + 2, 9 * C + 2 + 4);
    check_memory(&llama, Q + 1, Q + 1 + A + C + 2 * F + H + 1);
}

static uint32_t products;

static void count_product(float *c, const float *a, const float *b,
                          const struct cllm_matmul *shape)
{
    products++;
    cllm_ops_reference()->matmul(c, a, b, shape);
}

static uint32_t products_of(uint32_t arch, uint32_t layers,
                            enum cllm_model_recompute recompute)
{
    const struct cllm_model_config config = {
        .arch = arch, .vocab = 5, .context = 7, .layers = layers, .heads = 1, .width = 4};
    const struct cllm_model_shape shape = {
        .B = 1, .T = 7, .train = true, .recompute = recompute};
    struct cllm_ops counting = *cllm_ops_reference();
    struct setup *s;

    counting.matmul = count_product;
    s = setup_shaped(&config, &counting, &shape, 0);
    products = 0;
    (void)cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
    setup_free(s);
    return products;
}

/* qkv is one product (gpt2), or three; a block up to its middle has those, two in
 * attention, its projection, and fc, or gate and up. */
static void only_what_was_lost_is_computed_again(void **state)
{
    static const uint32_t qkv[CLLM_N_ARCHS] = {1, 3}, block[CLLM_N_ARCHS] = {5, 8};

    (void)state;
    for (uint32_t arch = 0; arch < CLLM_N_ARCHS; arch++)
        for (uint32_t layers = 1; layers < 5; layers++) {
            uint32_t n = products_of(arch, layers, CLLM_RECOMPUTE_NONE);
            uint32_t others = layers - 1;

            assert_int_equal(products_of(arch, layers, CLLM_RECOMPUTE_ATTENTION),
                             n + qkv[arch] * others);
            assert_int_equal(products_of(arch, layers, CLLM_RECOMPUTE_BLOCK),
                             n + block[arch] * others);
        }
}

static void check_nan(const struct cllm_model_config *config)
{
    struct setup *s = setup_new(config, cllm_ops_select(), 2, 9, true, 0);

    s->w[cllm_parameters_off(&s->plan, CLLM_TENSOR_FC_W, 0)] = NAN;
    assert_true(isnan(cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens)));
    assert_false(cllm_ops_select()->is_finite(s->dw, s->plan.n_elements));
    setup_free(s);
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
    struct setup *s = setup_new(config, cllm_ops_select(), 2, 9, true, 0);
    uint32_t calls = 0;

    s->model.progress = count_calls;
    s->model.progress_ctx = &calls;
    (void)cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
    assert_true(calls >= 2 * config->layers);
    setup_free(s);
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
    assert_int_equal(cllm_parameters_init(&plan, &two_layers[1]), 0);
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
        cmocka_unit_test(a_bias_of_zero_changes_no_bit),
        cmocka_unit_test(operations_without_similarities_are_refused),
        cmocka_unit_test(gradients_of_biases_agree_with_central_differences),
        cmocka_unit_test(what_is_computed_again_has_the_same_bits),
        cmocka_unit_test(what_is_computed_again_takes_memory_once),
        cmocka_unit_test(only_what_was_lost_is_computed_again),
        cmocka_unit_test(a_nan_in_the_weights_reaches_the_loss),
        cmocka_unit_test(every_block_and_direction_shows_progress),
        cmocka_unit_test(sequences_that_do_not_fit_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
