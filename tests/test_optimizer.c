/*
 * tests/test_optimizer.c - updates of ranges of the parameter vector by each optimizer.
 */
#include "model/optimizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/parameters.h"
#include "tests/numbers.h"

static const struct cllm_model_config config = {
    .vocab = 17, .context = 11, .layers = 2, .heads = 1, .width = 9};

static const struct cllm_optimizer_settings settings = {.weight_decay = 0.1f,
                                                        .beta1 = 0.9f,
                                                        .beta2 = 0.95f,
                                                        .epsilon = 1e-8f,
                                                        .lion_beta1 = 0.9f,
                                                        .lion_beta2 = 0.99f,
                                                        .sgd_momentum = 0.9f,
                                                        .muon_momentum = 0.95f,
                                                        .muon_rate = 2.0f};

/* Weights, moments of two versions and a gradient; padding is zero, as in a run. */
struct vectors {
    struct cllm_parameters plan;
    struct cllm_optimizer optimizer;
    struct cllm_update update;
    struct cllm_arena arena;
    float *w0, *m0, *v0, *g, *w1, *m1, *v1;
};

static void clear_padding(const struct cllm_parameters *plan, float *x)
{
    uint64_t at = 0;

    for (uint32_t t = 0; t < plan->n_tensors; t++) {
        for (; at < plan->tensors[t].off; at++)
            x[at] = 0;
        at += plan->tensors[t].count;
    }
    for (; at < plan->n_elements; at++)
        x[at] = 0;
}

/* With the lines of @groups, which may be NULL. */
static void vectors_init(struct vectors *x, enum cllm_optimizer_kind kind,
                         const struct cllm_config_list *groups)
{
    struct cllm_optimizer_settings all = settings;
    uint64_t n;

    all.kind = kind;
    assert_int_equal(cllm_parameters_init(&x->plan, &config), 0);
    assert_int_equal(cllm_optimizer_init(&x->optimizer, &x->plan, &all, groups), 0);
    assert_int_equal(
        cllm_arena_init(&x->arena, cllm_optimizer_arena_bytes(&x->optimizer) + 1), 0);
    cllm_optimizer_take(&x->optimizer, &x->arena);
    n = x->plan.n_elements;
    x->w0 = numbers_new(n, 1, 1.0f);
    x->m0 = numbers_new(n, 2, 0.1f);
    x->v0 = numbers_new(n, 3, 0.1f);
    x->g = numbers_new(n, 4, 1.0f);
    for (uint64_t i = 0; i < n; i++)
        x->v0[i] = fabsf(x->v0[i]);
    clear_padding(&x->plan, x->w0);
    clear_padding(&x->plan, x->m0);
    clear_padding(&x->plan, x->v0);
    clear_padding(&x->plan, x->g);
    x->w1 = numbers_new(n, 5, 1.0f);
    x->m1 = numbers_new(n, 6, 1.0f);
    x->v1 = numbers_new(n, 7, 1.0f);
    x->update = (struct cllm_update){.ops = cllm_ops_select(),
                                     .w = x->w0,
                                     .m = x->m0,
                                     .v = x->v0,
                                     .whole = x->g,
                                     .learning_rate = 3e-3f,
                                     .grad_scale = 0.5f,
                                     .step = 1};
}

static void vectors_fini(struct vectors *x)
{
    free(x->w0);
    free(x->m0);
    free(x->v0);
    free(x->g);
    free(x->w1);
    free(x->m1);
    free(x->v1);
    cllm_arena_fini(&x->arena);
    cllm_optimizer_fini(&x->optimizer);
    cllm_parameters_fini(&x->plan);
}

static void update(struct vectors *x, uint64_t lo, uint64_t hi)
{
    struct cllm_optimizer_walk walk;

    cllm_optimizer_begin(&walk, &x->optimizer, &x->update);
    cllm_optimizer_range(&walk, lo, hi, x->g + lo, x->w1 + lo, x->m1 + lo, x->v1 + lo);
}

/* All of it in one walk, @step elements at a time. */
static void walk_over(struct vectors *x, uint64_t step)
{
    uint64_t n = x->plan.n_elements;
    struct cllm_optimizer_walk walk;

    cllm_optimizer_begin(&walk, &x->optimizer, &x->update);
    for (uint64_t lo = 0; lo < n; lo += step)
        cllm_optimizer_range(&walk, lo, cllm_min_u64(lo + step, n), x->g + lo, x->w1 + lo,
                             x->m1 + lo, x->v1 + lo);
}

static const struct cllm_tensor *find(const struct vectors *x, const char *name)
{
    const struct cllm_tensor *tensor = cllm_parameters_find(&x->plan, name);

    assert_non_null(tensor);
    return tensor;
}

/* ---- any optimizer ---- */

static void weights_do_not_depend_on_the_ranges(void **state)
{
    static const uint64_t steps[] = {1, 7, 16, 100, 1024};

    (void)state;
    for (int kind = 0; kind < CLLM_N_OPTIMIZERS; kind++) {
        struct vectors whole, parts;
        uint64_t n, bytes;

        vectors_init(&whole, (enum cllm_optimizer_kind)kind, NULL);
        n = whole.plan.n_elements;
        bytes = n * sizeof(float);
        update(&whole, 0, n);
        for (size_t k = 0; k < CLLM_LEN(steps); k++) {
            vectors_init(&parts, (enum cllm_optimizer_kind)kind, NULL);
            for (uint64_t lo = 0; lo < n; lo += steps[k])
                update(&parts, lo, cllm_min_u64(lo + steps[k], n));
            assert_memory_equal(whole.w1, parts.w1, bytes);
            memset(parts.w1, 0, bytes);
            walk_over(&parts, steps[k]);
            assert_memory_equal(whole.w1, parts.w1, bytes);
            assert_memory_equal(whole.m1, parts.m1, bytes);
            assert_memory_equal(whole.v1, parts.v1, bytes);
            vectors_fini(&parts);
        }
        vectors_fini(&whole);
    }
}

static void nothing_outside_the_range_is_written(void **state)
{
    uint64_t n, lo = 101, hi = 533;

    (void)state;
    for (int kind = 0; kind < CLLM_N_OPTIMIZERS; kind++) {
        struct vectors x, old;

        vectors_init(&x, (enum cllm_optimizer_kind)kind, NULL);
        vectors_init(&old, (enum cllm_optimizer_kind)kind, NULL);
        n = x.plan.n_elements;
        update(&x, lo, hi);
        update(&x, lo, lo);
        assert_memory_equal(x.w1, old.w1, lo * sizeof(float));
        assert_memory_equal(x.v1, old.v1, lo * sizeof(float));
        assert_memory_equal(x.m1 + hi, old.m1 + hi, (n - hi) * sizeof(float));
        assert_memory_equal(x.w0, old.w0, n * sizeof(float));
        assert_memory_equal(x.m0, old.m0, n * sizeof(float));
        vectors_fini(&x);
        vectors_fini(&old);
    }
}

static void padding_becomes_zero(void **state)
{
    (void)state;
    for (int kind = 0; kind < CLLM_N_OPTIMIZERS; kind++) {
        struct vectors x;
        float *expected;
        uint64_t n;

        vectors_init(&x, (enum cllm_optimizer_kind)kind, NULL);
        n = x.plan.n_elements;
        update(&x, 0, n);
        expected = numbers_zero(n);
        memcpy(expected, x.w1, n * sizeof *expected);
        clear_padding(&x.plan, expected);
        assert_memory_equal(expected, x.w1, n * sizeof *expected);
        memcpy(expected, x.m1, n * sizeof *expected);
        clear_padding(&x.plan, expected);
        assert_memory_equal(expected, x.m1, n * sizeof *expected);
        free(expected);
        vectors_fini(&x);
    }
}

static void a_moment_without_use_is_zero(void **state)
{
    (void)state;
    for (int kind = 0; kind < CLLM_N_OPTIMIZERS; kind++) {
        struct vectors x;

        vectors_init(&x, (enum cllm_optimizer_kind)kind, NULL);
        update(&x, 0, x.plan.n_elements);
        for (uint32_t t = 0; t < x.plan.n_tensors; t++) {
            bool second = cllm_optimizer_has_second(cllm_optimizer_of(&x.optimizer, t));

            for (uint64_t i = 0; i < x.plan.tensors[t].count; i++)
                assert_true((x.v1[x.plan.tensors[t].off + i] > 0) == second);
        }
        vectors_fini(&x);
    }
}

/* ---- formulas, in double ---- */

/* One element's new weight by @kind, from its first step on. */
static double exact_weight(enum cllm_optimizer_kind kind, double w, double m, double v,
                           double g, double decay)
{
    double blend;

    switch (kind) {
    case CLLM_OPTIMIZER_ADAMW:
        m = 0.9 * m + 0.1 * g;
        v = 0.95 * v + 0.05 * g * g;
        return w - 3e-3 * (m / 0.1 / (sqrt(v / 0.05) + 1e-8) + decay * w);
    case CLLM_OPTIMIZER_LION:
        blend = 0.9 * m + 0.1 * g;
        return w - 3e-3 * ((blend > 0 ? 1 : -1) + decay * w);
    case CLLM_OPTIMIZER_SGD:
    default:
        return w - 3e-3 * (0.9 * m + g + decay * w);
    }
}

static void weights_follow_the_formulas(void **state)
{
    (void)state;
    for (int kind = 0; kind < CLLM_OPTIMIZER_MUON; kind++) {
        struct vectors x;

        vectors_init(&x, (enum cllm_optimizer_kind)kind, NULL);
        update(&x, 0, x.plan.n_elements);
        for (uint32_t t = 0; t < x.plan.n_tensors; t++) {
            const struct cllm_tensor *tensor = &x.plan.tensors[t];
            double decay = tensor->rank == 2 ? 0.1 : 0;

            for (uint64_t i = tensor->off; i < tensor->off + tensor->count; i++) {
                double w = exact_weight((enum cllm_optimizer_kind)kind, (double)x.w0[i],
                                        (double)x.m0[i], (double)x.v0[i],
                                        (double)x.g[i] / 2, decay);

                assert_true(fabs((double)x.w1[i] - w) < 2e-7);
            }
        }
        vectors_fini(&x);
    }
}

/* Tensor @name is what another optimizer would make of it. */
static void assert_as_by(struct vectors *x, enum cllm_optimizer_kind kind,
                         const char *name)
{
    const struct cllm_tensor *tensor = find(x, name);
    uint64_t bytes = tensor->count * sizeof(float);
    struct vectors other;

    vectors_init(&other, kind, NULL);
    update(&other, 0, other.plan.n_elements);
    assert_memory_equal(x->w1 + tensor->off, other.w1 + tensor->off, bytes);
    assert_memory_equal(x->m1 + tensor->off, other.m1 + tensor->off, bytes);
    assert_memory_equal(x->v1 + tensor->off, other.v1 + tensor->off, bytes);
    vectors_fini(&other);
}

static void muon_moves_the_matrices_of_blocks_and_adamw_the_rest(void **state)
{
    const struct cllm_tensor *fc;
    struct cllm_muon_source source;
    const float *direction;
    struct vectors x;

    (void)state;
    vectors_init(&x, CLLM_OPTIMIZER_MUON, NULL);
    update(&x, 0, x.plan.n_elements);
    assert_as_by(&x, CLLM_OPTIMIZER_ADAMW, "transformer.wte.weight");
    assert_as_by(&x, CLLM_OPTIMIZER_ADAMW, "transformer.wpe.weight");
    assert_as_by(&x, CLLM_OPTIMIZER_ADAMW, "transformer.h.1.ln_2.weight");
    assert_as_by(&x, CLLM_OPTIMIZER_ADAMW, "transformer.h.1.mlp.c_fc.bias");
    assert_as_by(&x, CLLM_OPTIMIZER_ADAMW, "transformer.ln_f.bias");

    fc = find(&x, "transformer.h.1.mlp.c_fc.weight");
    source = (struct cllm_muon_source){.rows = fc->shape[0],
                                       .cols = fc->shape[1],
                                       .m = x.m0 + fc->off,
                                       .g = x.g + fc->off,
                                       .momentum = 0.95f,
                                       .grad_scale = 0.5f};
    direction = cllm_muon_direction(&x.optimizer.muon, cllm_ops_select(), &source);
    for (uint64_t i = 0; i < fc->count; i++) {
        double w = (double)x.w0[fc->off + i];
        double m = 0.95 * (double)x.m0[fc->off + i] + 0.05 * (double)x.g[fc->off + i] / 2;

        /* twice the rate, 36 columns */
        w -= 6e-3 * (0.2 * 6 * (double)direction[i] + 0.1 * w);
        assert_true(fabs((double)x.w1[fc->off + i] - w) < 2e-7);
        assert_true(fabs((double)x.m1[fc->off + i] - m) < 2e-8);
    }
    vectors_fini(&x);
}

static void only_ranges_with_matrices_of_muon_are_whole(void **state)
{
    const struct cllm_tensor *qkv;
    struct vectors x;

    (void)state;
    vectors_init(&x, CLLM_OPTIMIZER_ADAMW, NULL);
    assert_false(cllm_optimizer_is_whole(&x.optimizer, 0, x.plan.n_elements));
    assert_int_equal(cllm_optimizer_arena_bytes(&x.optimizer), 0);
    vectors_fini(&x);
    vectors_init(&x, CLLM_OPTIMIZER_MUON, NULL);
    qkv = find(&x, "transformer.h.0.attn.c_attn.weight");
    assert_false(cllm_optimizer_is_whole(&x.optimizer, 0, qkv->off));
    assert_true(cllm_optimizer_is_whole(&x.optimizer, 0, qkv->off + 1));
    assert_true(cllm_optimizer_is_whole(&x.optimizer, qkv->off + qkv->count - 1,
                                        qkv->off + qkv->count));
    assert_false(cllm_optimizer_is_whole(&x.optimizer, qkv->off + qkv->count,
                                         qkv->off + qkv->count + 16));
    vectors_fini(&x);
}

static void the_bias_correction_follows_the_step(void **state)
{
    static const uint64_t steps[] = {1, 2, 3, 10, 1000, 1000000, UINT64_MAX};
    struct vectors x;

    (void)state;
    vectors_init(&x, CLLM_OPTIMIZER_ADAMW, NULL);
    for (size_t k = 0; k < CLLM_LEN(steps); k++) {
        double step = (double)steps[k], b1 = (double)0.9f, b2 = (double)0.95f;

        x.update.step = steps[k];
        update(&x, 0, 100);
        for (size_t i = 0; i < 100; i++) {
            double g = (double)x.g[i] / 2, w = (double)x.w0[i];
            double m = b1 * (double)x.m0[i] + (1 - b1) * g;
            double v = b2 * (double)x.v0[i] + (1 - b2) * g * g;
            double move =
                m / (1 - pow(b1, step)) / (sqrt(v / (1 - pow(b2, step))) + 1e-8);

            w -= 3e-3 * (move + 0.1 * w);
            assert_true(fabs((double)x.w1[i] - w) < 3e-7);
        }
    }
    vectors_fini(&x);
}

/* ---- groups ---- */

static void groups_scale_rate_and_decay(void **state)
{
    char *lines[] = {strdup("*.wte.* rate=0.5 decay=3"), strdup("*ln_1.bias decay=2")};
    struct cllm_config_list groups = {.n = 2, .item = {lines[0], lines[1]}};

    (void)state;
    for (int kind = 0; kind < CLLM_N_OPTIMIZERS; kind++) {
        const struct cllm_tensor *tensor;
        struct vectors x, plain;

        vectors_init(&x, (enum cllm_optimizer_kind)kind, &groups);
        vectors_init(&plain, (enum cllm_optimizer_kind)kind, NULL);
        plain.optimizer.settings.weight_decay = 0.3f;
        plain.update.learning_rate = 1.5e-3f;
        update(&x, 0, x.plan.n_elements);
        update(&plain, 0, x.plan.n_elements);
        tensor = find(&x, "transformer.wte.weight");
        for (uint64_t i = 0; i < tensor->count; i++)
            assert_true(fabs((double)x.w1[i] - (double)plain.w1[i]) < 1e-7);
        tensor = find(&x, "transformer.h.1.ln_1.bias");
        if (kind == CLLM_OPTIMIZER_SGD)
            for (uint64_t i = tensor->off; i < tensor->off + tensor->count; i++)
                assert_true(fabs((double)x.w1[i] -
                                 exact_weight(CLLM_OPTIMIZER_SGD, (double)x.w0[i],
                                              (double)x.m0[i], 0, (double)x.g[i] / 2,
                                              0.2)) < 2e-7);
        vectors_fini(&x);
        vectors_fini(&plain);
    }
    free(lines[0]);
    free(lines[1]);
}

/* To the last bit, moments too; and their gradient is no part of the norm. */
static void a_frozen_tensor_stays(void **state)
{
    char *line = strdup("*.h.1.* rate=0");
    struct cllm_config_list groups = {.n = 1, .item = {line}};

    (void)state;
    for (int kind = 0; kind < CLLM_N_OPTIMIZERS; kind++) {
        const struct cllm_tensor *first, *last;
        struct vectors x;
        double squares = 0;
        uint64_t n;

        vectors_init(&x, (enum cllm_optimizer_kind)kind, &groups);
        n = x.plan.n_elements;
        first = find(&x, "transformer.h.1.ln_1.weight");
        last = find(&x, "transformer.ln_f.weight");
        x.w0[first->off] = -0.0f;
        update(&x, 0, n);
        assert_memory_equal(x.w0 + first->off, x.w1 + first->off,
                            (last->off - first->off) * sizeof(float));
        assert_memory_equal(x.m0 + first->off, x.m1 + first->off,
                            (last->off - first->off) * sizeof(float));
        assert_memory_equal(x.v0 + first->off, x.v1 + first->off,
                            (last->off - first->off) * sizeof(float));
        assert_memory_not_equal(x.w0, x.w1, first->off * sizeof(float));
        assert_false(cllm_optimizer_is_whole(&x.optimizer, first->off, last->off));
        for (uint64_t i = 0; i < n; i++)
            if (i < first->off || i >= last->off)
                squares += (double)x.g[i] * (double)x.g[i];
        assert_true(
            fabs(cllm_optimizer_sumsq(&x.optimizer, cllm_ops_select(), x.g, 0, n) -
                 squares) < 1e-9);
        for (uint64_t at = first->off - 2; at < first->off + 2; at++)
            assert_true(cllm_optimizer_sumsq(&x.optimizer, cllm_ops_select(), x.g + at,
                                             at, first->off + 10) ==
                        cllm_ops_select()->sumsq(
                            x.g + at, first->off - cllm_min_u64(at, first->off)));
        vectors_fini(&x);
    }
    free(line);
}

static void without_frozen_tensors_the_norm_is_that_of_all(void **state)
{
    struct vectors x;

    (void)state;
    vectors_init(&x, CLLM_OPTIMIZER_ADAMW, NULL);
    for (uint64_t lo = 0; lo < 1000; lo += 177)
        assert_true(cllm_optimizer_sumsq(&x.optimizer, cllm_ops_select(), x.g + lo, lo,
                                         lo + 900) ==
                    cllm_ops_select()->sumsq(x.g + lo, 900));
    vectors_fini(&x);
}

/* ---- identity ---- */

static uint64_t hash_with(const char *const *assignments)
{
    struct cllm_optimizer_settings all;
    struct cllm_optimizer optimizer;
    struct cllm_config options;
    struct cllm_parameters plan;
    uint64_t sum;

    cllm_config_init(&options);
    for (; *assignments; assignments++)
        assert_int_equal(cllm_config_set(&options, *assignments), 0);
    all = cllm_optimizer_settings(&options);
    assert_int_equal(cllm_parameters_init(&plan, &config), 0);
    assert_int_equal(cllm_optimizer_init(&optimizer, &plan, &all, &options.train_group),
                     0);
    sum = cllm_optimizer_hash(&optimizer, 42);
    cllm_optimizer_fini(&optimizer);
    cllm_parameters_fini(&plan);
    cllm_config_fini(&options);
    return sum;
}

static void the_hash_is_of_what_changes_the_bits(void **state)
{
    static const char *const cases[][3] = {
        {NULL},
        {"train.optimizer=lion", NULL},
        {"train.optimizer=lion", "train.lion_beta1=0.8", NULL},
        {"train.optimizer=lion", "train.lion_beta2=0.9", NULL},
        {"train.optimizer=sgd", NULL},
        {"train.optimizer=sgd", "train.sgd_momentum=0", NULL},
        {"train.optimizer=sgd", "train.sgd_nesterov=yes", NULL},
        {"train.optimizer=muon", NULL},
        {"train.optimizer=muon", "train.muon_momentum=0.9", NULL},
        {"train.optimizer=muon", "train.muon_rate=2", NULL},
        {"train.optimizer=muon", "train.group=*.bias rate=0", NULL},
        {"train.group=*.bias rate=0", NULL},
    };
    static const char *const none[][3] = {
        {"train.optimizer=adamw", NULL},
        {"train.lion_beta1=0.8", "train.sgd_momentum=0.5", NULL},
        {"train.muon_rate=3", "train.sgd_nesterov=yes", NULL},
    };

    (void)state;
    assert_true(hash_with(cases[0]) == 42);
    for (size_t i = 0; i < CLLM_LEN(none); i++)
        assert_true(hash_with(none[i]) == 42);
    for (size_t i = 0; i < CLLM_LEN(cases); i++)
        for (size_t j = 0; j < i; j++)
            assert_true(hash_with(cases[i]) != hash_with(cases[j]));
}

static void names_are_those_of_the_option(void **state)
{
    (void)state;
    for (int kind = 0; kind < CLLM_N_OPTIMIZERS; kind++) {
        struct cllm_config options;
        char text[64];

        cllm_config_init(&options);
        (void)snprintf(text, sizeof text, "train.optimizer=%s",
                       cllm_optimizer_name((enum cllm_optimizer_kind)kind));
        assert_int_equal(cllm_config_set(&options, text), 0);
        assert_int_equal(cllm_optimizer_settings(&options).kind, kind);
        cllm_config_fini(&options);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_do_not_depend_on_the_ranges),
        cmocka_unit_test(nothing_outside_the_range_is_written),
        cmocka_unit_test(padding_becomes_zero),
        cmocka_unit_test(a_moment_without_use_is_zero),
        cmocka_unit_test(weights_follow_the_formulas),
        cmocka_unit_test(muon_moves_the_matrices_of_blocks_and_adamw_the_rest),
        cmocka_unit_test(only_ranges_with_matrices_of_muon_are_whole),
        cmocka_unit_test(the_bias_correction_follows_the_step),
        cmocka_unit_test(groups_scale_rate_and_decay),
        cmocka_unit_test(a_frozen_tensor_stays),
        cmocka_unit_test(without_frozen_tensors_the_norm_is_that_of_all),
        cmocka_unit_test(the_hash_is_of_what_changes_the_bits),
        cmocka_unit_test(names_are_those_of_the_option),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
