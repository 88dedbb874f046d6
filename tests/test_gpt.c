/*
 * tests/test_gpt.c - loss and gradient of whole models against double precision and
 * against central differences; memory, determinism, refusals.
 */
#include "model/gpt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "compute/ops.h"
#include "tests/gpt_double.h"
#include "tests/numbers.h"

static const struct cllm_model_config two_layers = {
    .vocab = 29, .context = 70, .layers = 2, .heads = 2, .width = 20};

/* A model, a batch and memory for both directions. */
struct setup {
    struct cllm_parameters plan;
    struct cllm_gpt gpt;
    struct cllm_arena arena;
    float *w, *dw;
    uint32_t *tokens;
};

/* Weights far from the start of training: every tensor random, norms around 1, so that no
 * gradient is zero or hidden. @shift moves everything in memory by multiples of 64. */
static struct setup *setup_shaped(const struct cllm_model_config *config,
                                  const struct cllm_ops *ops,
                                  const struct cllm_gpt_shape *shape, size_t shift)
{
    uint32_t n_tokens = shape->B * (shape->T + 1);
    struct setup *s = calloc(1, sizeof *s);
    size_t bytes;

    assert_non_null(s);
    assert_int_equal(cllm_parameters_init(&s->plan, config), 0);
    bytes = cllm_gpt_arena_bytes(&s->plan, shape);
    assert_int_equal(cllm_arena_init(&s->arena, bytes + 64 * shift), 0);
    (void)cllm_arena_take(&s->arena, 64 * shift);
    assert_int_equal(cllm_gpt_init(&s->gpt, &s->plan, ops, shape, &s->arena), 0);
    assert_int_equal(s->arena.used, bytes + 64 * shift);
    s->w = numbers_new(s->plan.n_elements, 5, 0.3f);
    for (uint32_t i = 0; i < s->plan.n_tensors; i++) {
        const struct cllm_tensor *tensor = &s->plan.tensors[i];

        for (uint64_t j = 0; tensor->init == CLLM_INIT_ONE && j < tensor->count; j++)
            s->w[tensor->off + j] += 1.0f;
    }
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
    const struct cllm_gpt_shape shape = {.B = B, .T = T, .train = train};

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
    double exact = gpt_double_loss(&s->plan, w, dw, B, T, s->tokens, NULL);
    double loss = cllm_gpt_forward_backward(&s->gpt, s->w, s->dw, s->tokens);

    assert_true(fabs(loss - exact) < 1e-6 * exact);
    assert_true(numbers_error(s->dw, dw, s->plan.n_elements) < 1e-5);
    assert_true(cllm_gpt_loss(&s->gpt, s->w, s->tokens) == loss);
    free(w);
    free(dw);
    setup_free(s);
}

static void gradients_of_two_layers_agree_with_double_precision(void **state)
{
    (void)state;
    check_gradient(&two_layers, cllm_ops_reference(), 3, 70);
    check_gradient(&two_layers, cllm_ops_select(), 3, 70);
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
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++)
        check_gradient(&cases[i].config, cllm_ops_select(), cases[i].B, cases[i].T);
}

/* A vocabulary so large that the rows do not fit into one chunk of logits. */
static void the_loss_in_chunks_agrees_with_double_precision(void **state)
{
    const struct cllm_model_config config = {
        .vocab = 300007, .context = 10, .layers = 1, .heads = 2, .width = 4};
    struct setup *s = setup_new(&config, cllm_ops_select(), 5, 10, true, 0);

    (void)state;
    assert_true(s->gpt.chunk_rows < 50 && 50 % s->gpt.chunk_rows != 0);
    setup_free(s);
    check_gradient(&config, cllm_ops_select(), 5, 10);
}

static void gradients_agree_with_central_differences(void **state)
{
    enum { ENTRIES = 200 };
    struct setup *s = setup_new(&two_layers, cllm_ops_select(), 2, 15, true, 0);
    double *w = doubles(s->w, s->plan.n_elements);
    double difference = 0, length = 0;
    const double h = 1e-5;

    (void)state;
    (void)cllm_gpt_forward_backward(&s->gpt, s->w, s->dw, s->tokens);
    for (uint64_t i = 0; i < ENTRIES; i++) {
        uint64_t pick = cllm_random_u64(8, CLLM_RANDOM_TEST, i) % s->plan.n_params;
        uint32_t t = 0;
        double kept, up, slope;

        while (pick >= s->plan.tensors[t].count)
            pick -= s->plan.tensors[t++].count;
        pick += s->plan.tensors[t].off;
        kept = w[pick];
        w[pick] = kept + h;
        up = gpt_double_loss(&s->plan, w, NULL, 2, 15, s->tokens, NULL);
        w[pick] = kept - h;
        slope =
            (up - gpt_double_loss(&s->plan, w, NULL, 2, 15, s->tokens, NULL)) / (2 * h);
        w[pick] = kept;
        assert_true(fabs((double)s->dw[pick] - slope) < 1e-3 * fabs(slope) + 1e-4);
        difference += ((double)s->dw[pick] - slope) * ((double)s->dw[pick] - slope);
        length += slope * slope;
    }
    assert_true(sqrt(difference / length) < 1e-3);
    free(w);
    setup_free(s);
}

static void gradients_are_added_to_what_is_there(void **state)
{
    struct setup *s = setup_new(&two_layers, cllm_ops_select(), 3, 21, true, 0);
    double *once;

    (void)state;
    (void)cllm_gpt_forward_backward(&s->gpt, s->w, s->dw, s->tokens);
    once = doubles(s->dw, s->plan.n_elements);
    (void)cllm_gpt_forward_backward(&s->gpt, s->w, s->dw, s->tokens);
    for (size_t i = 0; i < s->plan.n_elements; i++)
        once[i] *= 2;
    assert_true(numbers_error(s->dw, once, s->plan.n_elements) < 1e-6);
    free(once);
    setup_free(s);
}

static void padding_gets_no_gradient(void **state)
{
    const struct cllm_model_config config = {
        .vocab = 7, .context = 9, .layers = 2, .heads = 1, .width = 5};
    struct setup *s = setup_new(&config, cllm_ops_select(), 2, 9, true, 0);
    uint64_t at = 0;

    (void)state;
    (void)cllm_gpt_forward_backward(&s->gpt, s->w, s->dw, s->tokens);
    for (uint32_t t = 0; t <= s->plan.n_tensors; t++) {
        bool last = t == s->plan.n_tensors;

        for (; at < (last ? s->plan.n_elements : s->plan.tensors[t].off); at++)
            assert_true(s->dw[at] == 0.0f);
        at = last ? at : at + s->plan.tensors[t].count;
    }
    setup_free(s);
}

static void loss_needs_no_memory_for_the_gradient(void **state)
{
    struct setup *train = setup_new(&two_layers, cllm_ops_select(), 3, 33, true, 0);
    struct setup *eval = setup_new(&two_layers, cllm_ops_select(), 3, 33, false, 0);

    (void)state;
    assert_true(cllm_gpt_loss(&eval->gpt, eval->w, eval->tokens) ==
                cllm_gpt_loss(&train->gpt, train->w, train->tokens));
    assert_true(eval->arena.used < train->arena.used / 4 * 3);
    setup_free(train);
    setup_free(eval);
}

/* Same inputs at other places in memory, over the leavings of other batches. */
static void a_batch_done_again_elsewhere_has_the_same_bits(void **state)
{
    struct setup *first = setup_new(&two_layers, cllm_ops_select(), 3, 67, true, 0);
    double loss =
        cllm_gpt_forward_backward(&first->gpt, first->w, first->dw, first->tokens);

    (void)state;
    for (size_t shift = 1; shift < 70; shift += 17) {
        struct setup *s = setup_new(&two_layers, cllm_ops_select(), 3, 67, true, shift);

        memset(s->arena.base + 64 * shift + two_layers.layers * sizeof *s->gpt.blocks +
                   64,
               0xff, 64 * 100);
        assert_true(cllm_gpt_forward_backward(&s->gpt, s->w, s->dw, s->tokens) == loss);
        assert_memory_equal(s->dw, first->dw, s->plan.n_elements * sizeof *s->dw);
        s->tokens[3] ^= 1;
        (void)cllm_gpt_forward_backward(&s->gpt, s->w, s->dw, s->tokens);
        s->tokens[3] ^= 1;
        memset(s->dw, 0, s->plan.n_elements * sizeof *s->dw);
        assert_true(cllm_gpt_forward_backward(&s->gpt, s->w, s->dw, s->tokens) == loss);
        assert_memory_equal(s->dw, first->dw, s->plan.n_elements * sizeof *s->dw);
        setup_free(s);
    }
    setup_free(first);
}

static const enum cllm_gpt_recompute again[] = {CLLM_GPT_RECOMPUTE_ATTENTION,
                                                CLLM_GPT_RECOMPUTE_BLOCK};

/* Loss and gradient of two batches, one after the other in the same memory, with a
 * validation between them. */
static void train_twice(struct setup *s, double loss[2])
{
    loss[0] = cllm_gpt_forward_backward(&s->gpt, s->w, s->dw, s->tokens);
    s->tokens[0] = s->plan.config.vocab - 1 - s->tokens[0];
    (void)cllm_gpt_loss(&s->gpt, s->w, s->tokens);
    s->tokens[1] = s->plan.config.vocab - 1 - s->tokens[1];
    loss[1] = cllm_gpt_forward_backward(&s->gpt, s->w, s->dw, s->tokens);
}

static void check_recompute(const struct cllm_model_config *config,
                            const struct cllm_ops *ops, uint32_t B, uint32_t T)
{
    struct cllm_gpt_shape shape = {.B = B, .T = T, .train = true};
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
    };
    const struct cllm_ops *bf16;

    (void)state;
    assert_int_equal(cllm_ops_pick(&bf16, CLLM_ISA_AUTO, CLLM_PRECISION_BF16), 0);
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        check_recompute(&cases[i].config, cllm_ops_select(), cases[i].B, cases[i].T);
        check_recompute(&cases[i].config, bf16, cases[i].B, cases[i].T);
    }
}

/* Sizes at which every buffer ends at a cache line. */
static void what_is_computed_again_takes_memory_once(void **state)
{
    const struct cllm_model_config config = {
        .vocab = 29, .context = 48, .layers = 7, .heads = 2, .width = 20};
    struct cllm_gpt_shape shape = {.B = 3, .T = 48, .train = true};
    size_t N = 3 * 48, C = 20, H = 2, others = 7 - 1, bytes, loss_only;
    struct cllm_parameters plan;

    (void)state;
    assert_int_equal(cllm_parameters_init(&plan, &config), 0);
    bytes = cllm_gpt_arena_bytes(&plan, &shape);
    shape.recompute = CLLM_GPT_RECOMPUTE_ATTENTION;
    assert_int_equal(bytes - cllm_gpt_arena_bytes(&plan, &shape),
                     others * N * (3 * C + 2) * sizeof(float));
    shape.recompute = CLLM_GPT_RECOMPUTE_BLOCK;
    assert_int_equal(bytes - cllm_gpt_arena_bytes(&plan, &shape),
                     others * N * (9 * C + H + 4) * sizeof(float));
    shape.train = false;
    loss_only = cllm_gpt_arena_bytes(&plan, &shape);
    shape.recompute = CLLM_GPT_RECOMPUTE_NONE;
    assert_int_equal(cllm_gpt_arena_bytes(&plan, &shape), loss_only);
    cllm_parameters_fini(&plan);
}

static uint32_t products;

static void count_product(float *c, const float *a, const float *b,
                          const struct cllm_matmul *shape)
{
    products++;
    cllm_ops_reference()->matmul(c, a, b, shape);
}

static uint32_t products_of(uint32_t layers, enum cllm_gpt_recompute recompute)
{
    const struct cllm_model_config config = {
        .vocab = 5, .context = 7, .layers = layers, .heads = 1, .width = 4};
    const struct cllm_gpt_shape shape = {
        .B = 1, .T = 7, .train = true, .recompute = recompute};
    struct cllm_ops counting = *cllm_ops_reference();
    struct setup *s;

    counting.matmul = count_product;
    s = setup_shaped(&config, &counting, &shape, 0);
    products = 0;
    (void)cllm_gpt_forward_backward(&s->gpt, s->w, s->dw, s->tokens);
    setup_free(s);
    return products;
}

/* qkv is one product; a block up to fc has qkv, two in attention, its projection, fc. */
static void only_what_was_lost_is_computed_again(void **state)
{
    (void)state;
    for (uint32_t layers = 1; layers < 5; layers++) {
        uint32_t n = products_of(layers, CLLM_GPT_RECOMPUTE_NONE), others = layers - 1;

        assert_int_equal(products_of(layers, CLLM_GPT_RECOMPUTE_ATTENTION), n + others);
        assert_int_equal(products_of(layers, CLLM_GPT_RECOMPUTE_BLOCK), n + 5 * others);
    }
}

static void a_nan_in_the_weights_reaches_the_loss(void **state)
{
    struct setup *s = setup_new(&two_layers, cllm_ops_select(), 2, 9, true, 0);

    (void)state;
    s->w[cllm_parameters_off(&s->plan, CLLM_TENSOR_FC_W, 0)] = NAN;
    assert_true(isnan(cllm_gpt_forward_backward(&s->gpt, s->w, s->dw, s->tokens)));
    assert_false(cllm_ops_select()->is_finite(s->dw, s->plan.n_elements));
    setup_free(s);
}

static void count_calls(void *ctx)
{
    ++*(uint32_t *)ctx;
}

static void every_block_and_direction_shows_progress(void **state)
{
    struct setup *s = setup_new(&two_layers, cllm_ops_select(), 2, 9, true, 0);
    uint32_t calls = 0;

    (void)state;
    s->gpt.progress = count_calls;
    s->gpt.progress_ctx = &calls;
    (void)cllm_gpt_forward_backward(&s->gpt, s->w, s->dw, s->tokens);
    assert_true(calls >= 2 * two_layers.layers);
    setup_free(s);
}

static void sequences_that_do_not_fit_are_refused(void **state)
{
    static const struct cllm_gpt_shape cases[] = {
        {.B = 0, .T = 1, .train = true},
        {.B = 1, .T = 0, .train = true},
        {.B = 1, .T = 71, .train = true},
    };
    struct cllm_arena arena;
    struct cllm_parameters plan;
    struct cllm_gpt gpt;

    (void)state;
    assert_int_equal(cllm_parameters_init(&plan, &two_layers), 0);
    assert_int_equal(cllm_arena_init(&arena, 1 << 20), 0);
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        assert_int_equal(cllm_gpt_init(&gpt, &plan, cllm_ops_select(), &cases[i], &arena),
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
        cmocka_unit_test(padding_gets_no_gradient),
        cmocka_unit_test(loss_needs_no_memory_for_the_gradient),
        cmocka_unit_test(a_batch_done_again_elsewhere_has_the_same_bits),
        cmocka_unit_test(what_is_computed_again_has_the_same_bits),
        cmocka_unit_test(what_is_computed_again_takes_memory_once),
        cmocka_unit_test(only_what_was_lost_is_computed_again),
        cmocka_unit_test(a_nan_in_the_weights_reaches_the_loss),
        cmocka_unit_test(every_block_and_direction_shows_progress),
        cmocka_unit_test(sequences_that_do_not_fit_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
