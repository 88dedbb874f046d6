/*
 * tests/test_dropout.c - what is dropped: the random numbers' own, the right share, the
 * same again; and the gradient of a model that drops.
 */
#include "model/model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "compute/ops.h"
#include "tests/gpt_double.h"
#include "tests/llama_double.h"
#include "tests/numbers.h"

static struct cllm_dropout settings(float share, uint64_t first)
{
    return (struct cllm_dropout){.key = UINT64_C(0x123456789abcdef0),
                                 .threshold = (uint32_t)((double)share * 0x1p32),
                                 .scale = 1.0f / (1.0f - share),
                                 .first = first};
}

static void elements_are_dropped_by_their_random_word(void **state)
{
    enum { N = 128 * 5 + 37 };
    const struct cllm_ops *tables[] = {cllm_ops_reference(), cllm_ops_select()};
    const uint64_t firsts[] = {0, 128, (uint64_t)128 << 30};

    (void)state;
    for (size_t t = 0; t < CLLM_LEN(tables); t++)
        for (size_t f = 0; f < CLLM_LEN(firsts); f++) {
            const struct cllm_dropout drop = settings(0.25f, firsts[f]);
            float *x = numbers_new(N, 1, 1.0f), *add = numbers_new(N, 2, 1.0f);
            float *out = numbers_zero(N), *sum = numbers_zero(N);

            tables[t]->dropout(out, NULL, x, N, &drop);
            tables[t]->dropout(sum, add, x, N, &drop);
            for (size_t i = 0; i < N; i++) {
                uint64_t index = (firsts[f] + i) / 128 * 32 + i % 32;
                uint32_t word[4];
                float kept;

                cllm_random_block(word, drop.key, CLLM_RANDOM_DROPOUT, index);
                kept = word[i % 128 / 32] < drop.threshold ? 0.0f : x[i] * drop.scale;
                assert_true(out[i] == kept);
                assert_true(sum[i] == add[i] + kept);
            }
            tables[t]->dropout(x, NULL, x, N, &drop);
            for (size_t i = 0; i < N; i++)
                assert_true(x[i] == out[i]);
            free(x);
            free(add);
            free(out);
            free(sum);
        }
}

static void the_share_is_right_and_the_mean_stays(void **state)
{
    enum { N = 1 << 20 };
    static const float shares[] = {0.1f, 0.5f, 0.9f};

    (void)state;
    for (size_t s = 0; s < CLLM_LEN(shares); s++) {
        const struct cllm_dropout drop = settings(shares[s], 0);
        double sum = 0, dropped = 0, share = (double)shares[s];
        float *x = numbers_zero(N);

        for (size_t i = 0; i < N; i++)
            x[i] = 1.0f;
        cllm_ops_select()->dropout(x, NULL, x, N, &drop);
        for (size_t i = 0; i < N; i++) {
            sum += (double)x[i];
            dropped += x[i] == 0.0f;
        }
        assert_true(fabs(dropped / N - share) < 4 * sqrt(share * (1 - share) / N));
        assert_true(fabs(sum / N - 1) < 4 * sqrt(share / (1 - share) / N));
        free(x);
    }
}

static void what_is_not_finite_is_never_dropped(void **state)
{
    enum { N = 256 };
    const struct cllm_dropout drop = settings(0.9f, 0);
    float x[N], y[N];

    (void)state;
    for (size_t i = 0; i < N; i++) {
        x[i] = NAN;
        y[i] = -INFINITY;
    }
    cllm_ops_select()->dropout(x, NULL, x, N, &drop);
    cllm_ops_select()->dropout(y, NULL, y, N, &drop);
    for (size_t i = 0; i < N; i++)
        assert_true(isnan(x[i]) && !isfinite(y[i]));
}

/* ---- models ---- */

enum { B = 2, T = 33, VOCAB = 29 };

static const struct cllm_model_config configs[] = {
    {.vocab = VOCAB, .context = T, .layers = 3, .heads = 2, .width = 20},
    {.arch = CLLM_ARCH_LLAMA,
     .vocab = VOCAB,
     .context = T,
     .layers = 3,
     .heads = 4,
     .kv_heads = 2,
     .width = 24,
     .untied = 1},
};

struct setup {
    struct cllm_parameters plan;
    struct cllm_model model;
    struct cllm_arena arena;
    float *w, *dw;
    uint32_t tokens[B * (T + 1)];
};

/* What is dropped: activations, probabilities of attention, or both. */
static const struct shares {
    float dropout, attention;
} flavours[] = {{0.3f, 0}, {0, 0.3f}, {0.2f, 0.1f}}, none = {0, 0};

static struct setup *setup_new(const struct cllm_model_config *config,
                               enum cllm_model_recompute recompute,
                               const struct shares *shares)
{
    const struct cllm_model_shape shape = {
        .B = B, .T = T, .train = true, .recompute = recompute};
    struct setup *s = calloc(1, sizeof *s);

    assert_non_null(s);
    assert_int_equal(cllm_parameters_init(&s->plan, config), 0);
    assert_int_equal(cllm_arena_init(&s->arena, cllm_model_arena_bytes(&s->plan, &shape)),
                     0);
    assert_int_equal(
        cllm_model_init(&s->model, &s->plan, cllm_ops_select(), &shape, &s->arena), 0);
    s->model.dropout = shares->dropout;
    s->model.attention_dropout = shares->attention;
    s->model.dropout_key = 99;
    s->w = numbers_new(s->plan.n_elements, 5, 0.3f);
    s->dw = numbers_zero(s->plan.n_elements);
    for (uint32_t i = 0; i < CLLM_LEN(s->tokens); i++)
        s->tokens[i] = (uint32_t)(cllm_random_u64(6, CLLM_RANDOM_TEST, i) % VOCAB);
    return s;
}

static double train(struct setup *s)
{
    memset(s->dw, 0, s->plan.n_elements * sizeof *s->dw);
    return cllm_model_forward_backward(&s->model, s->w, s->dw, s->tokens);
}

static void setup_free(struct setup *s)
{
    cllm_arena_fini(&s->arena);
    cllm_parameters_fini(&s->plan);
    free(s->w);
    free(s->dw);
    free(s);
}

/* The loss a little further along the gradient, and a little back, of each tensor alone:
 * what is dropped on the way back must be what was on the way there. */
static void check_slopes(struct setup *s)
{
    size_t bytes = s->plan.n_elements * sizeof(float);
    float *w = numbers_zero(s->plan.n_elements), *dw = numbers_zero(s->plan.n_elements);

    (void)train(s);
    memcpy(w, s->w, bytes);
    memcpy(dw, s->dw, bytes);
    for (uint32_t t = 0; t < s->plan.n_tensors; t++) {
        const struct cllm_tensor *tensor = &s->plan.tensors[t];
        double square = 0, length, slope;
        const double step = 0.02;

        for (uint64_t i = tensor->off; i < tensor->off + tensor->count; i++)
            square += (double)dw[i] * (double)dw[i];
        length = sqrt(square);
        for (uint64_t i = tensor->off; i < tensor->off + tensor->count; i++)
            s->w[i] = w[i] + (float)(step * (double)dw[i] / length);
        slope = train(s);
        for (uint64_t i = tensor->off; i < tensor->off + tensor->count; i++)
            s->w[i] = w[i] - (float)(step * (double)dw[i] / length);
        slope = (slope - train(s)) / (2 * step);
        memcpy(s->w, w, bytes);
        if (fabs(slope - length) > 0.01 * length + 1e-3)
            fail_msg("%s: %g along the gradient, expected %g", tensor->name, slope,
                     length);
    }
    free(w);
    free(dw);
}

static void gradients_of_what_is_dropped_agree_with_differences(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(configs) * CLLM_LEN(flavours); i++) {
        struct setup *s = setup_new(&configs[i / CLLM_LEN(flavours)], CLLM_RECOMPUTE_NONE,
                                    &flavours[i % CLLM_LEN(flavours)]);

        check_slopes(s);
        setup_free(s);
    }
}

static double exact_loss(const struct setup *s, const double *w, double *dw)
{
    return s->plan.config.arch == CLLM_ARCH_LLAMA
               ? llama_double_loss(&s->plan, w, dw, B, T, s->tokens, NULL)
               : gpt_double_loss(&s->plan, w, dw, B, T, s->tokens, NULL);
}

static void dropped_probabilities_agree_with_double_precision(void **state)
{
    static const struct shares shares = {0, 0.3f};

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(configs); i++) {
        struct setup *s = setup_new(&configs[i], CLLM_RECOMPUTE_NONE, &shares);
        size_t n = s->plan.n_elements;
        double *w = calloc(n, sizeof *w), *dw = calloc(n, sizeof *dw);
        double loss = train(s), exact;

        assert_true(w != NULL && dw != NULL);
        for (size_t j = 0; j < n; j++)
            w[j] = (double)s->w[j];
        gpt_double_dropout = shares.attention;
        gpt_double_key = s->model.dropout_key;
        exact = exact_loss(s, w, dw);
        gpt_double_dropout = 0;
        assert_true(fabs(loss - exact) < 1e-6 * exact);
        assert_true(numbers_error(s->dw, dw, n) < 1e-5);
        free(w);
        free(dw);
        setup_free(s);
    }
}

static void what_is_computed_again_drops_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(configs) * CLLM_LEN(flavours); i++) {
        const struct cllm_model_config *config = &configs[i / CLLM_LEN(flavours)];
        const struct shares *shares = &flavours[i % CLLM_LEN(flavours)];
        struct setup *kept = setup_new(config, CLLM_RECOMPUTE_NONE, shares);
        double loss = train(kept);

        for (uint32_t r = CLLM_RECOMPUTE_ATTENTION; r <= CLLM_RECOMPUTE_BLOCK; r++) {
            struct setup *s = setup_new(config, (enum cllm_model_recompute)r, shares);

            assert_true(train(s) == loss);
            assert_memory_equal(s->dw, kept->dw, s->plan.n_elements * sizeof *s->dw);
            setup_free(s);
        }
        setup_free(kept);
    }
}

static void another_key_drops_others_and_validation_none(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(configs) * CLLM_LEN(flavours); i++) {
        const struct cllm_model_config *config = &configs[i / CLLM_LEN(flavours)];
        struct setup *s =
            setup_new(config, CLLM_RECOMPUTE_NONE, &flavours[i % CLLM_LEN(flavours)]);
        struct setup *plain = setup_new(config, CLLM_RECOMPUTE_NONE, &none);
        double loss = train(s), without = train(plain);

        assert_true(loss != without);
        assert_true(cllm_model_loss(&s->model, s->w, s->tokens) == without);
        assert_true(train(s) == loss);
        s->model.dropout_key++;
        assert_true(train(s) != loss);
        plain->model.dropout_key++;
        assert_true(train(plain) == without);
        setup_free(s);
        setup_free(plain);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_are_dropped_by_their_random_word),
        cmocka_unit_test(the_share_is_right_and_the_mean_stays),
        cmocka_unit_test(what_is_not_finite_is_never_dropped),
        cmocka_unit_test(gradients_of_what_is_dropped_agree_with_differences),
        cmocka_unit_test(dropped_probabilities_agree_with_double_precision),
        cmocka_unit_test(what_is_computed_again_drops_the_same),
        cmocka_unit_test(another_key_drops_others_and_validation_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
