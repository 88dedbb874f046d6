/*
 * tests/test_lora.c - adapters: which matrices words name, the table, the start, loss and
 * gradient against double precision by way of merged weights.
 */
#include "base/lora.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/config.h"
#include "base/err.h"
#include "compute/ops.h"
#include "model/model.h"
#include "tests/lora_double.h"
#include "tests/numbers.h"

#define LLAMA .arch = CLLM_ARCH_LLAMA

static const struct cllm_model_config models[] = {
    {.vocab = 29, .context = 40, .layers = 2, .heads = 2, .width = 20},
    {LLAMA, .vocab = 29, .context = 40, .layers = 2, .heads = 4, .width = 24,
     .kv_heads = 2, .hidden = 36, .untied = 1},
    {LLAMA, .vocab = 29, .context = 40, .layers = 2, .heads = 3, .width = 20,
     .kv_heads = 1, .head_size = 10, .norm_epsilon = 1e-3},
};

/* A frozen model, its adapters, a batch. */
struct setup {
    struct cllm_lora lora;
    struct cllm_parameters base, adapters;
    struct cllm_arena arena;
    struct cllm_model model;
    float *frozen, *w, *dw;
    uint32_t *tokens;
    uint32_t B, T;
};

static void begin(struct setup *s, const struct cllm_model_config *config,
                  const char *target, uint32_t rank, enum cllm_model_recompute recompute)
{
    struct cllm_model_shape shape = {
        .B = 3, .T = 33, .train = true, .recompute = recompute};
    size_t bytes;

    *s = (struct setup){.lora = {.rank = rank, .alpha = 2.0 * rank}, .B = 3, .T = 33};
    assert_int_equal(cllm_parameters_init(&s->base, config), 0);
    assert_int_equal(cllm_lora_target(&s->lora.targets, target, &s->base), 0);
    assert_int_equal(cllm_lora_parameters(&s->adapters, &s->base, &s->lora), 0);
    shape.adapters = &s->adapters;
    shape.adapter_scale = cllm_lora_scale(&s->lora);
    bytes = cllm_model_arena_bytes(&s->base, &shape);
    assert_int_equal(cllm_arena_init(&s->arena, bytes), 0);
    assert_int_equal(
        cllm_model_init(&s->model, &s->base, cllm_ops_select(), &shape, &s->arena), 0);
    assert_int_equal(s->arena.used, bytes);
    s->frozen = numbers_new(s->base.n_elements, 5, 0.3f);
    s->w = numbers_new(s->adapters.n_elements, 6, 0.3f);
    s->dw = numbers_zero(s->adapters.n_elements);
    s->model.frozen = s->frozen;
    s->tokens = numbers_tokens(3 * 34, config->vocab);
}

static void end(struct setup *s)
{
    cllm_arena_fini(&s->arena);
    cllm_parameters_fini(&s->base);
    cllm_parameters_fini(&s->adapters);
    free(s->frozen);
    free(s->w);
    free(s->dw);
    free(s->tokens);
}

/* ---- gradients ---- */

static void check_gradient(const struct cllm_model_config *config, const char *target,
                           uint32_t rank)
{
    struct setup s;
    double *dw, exact, loss;

    begin(&s, config, target, rank, CLLM_RECOMPUTE_NONE);
    dw = numbers_doubles(NULL, s.adapters.n_elements);
    exact = lora_double_loss(
        &(struct lora_double){&s.base, &s.adapters, &s.lora, s.frozen, s.w}, dw, s.B, s.T,
        s.tokens);
    loss = cllm_model_forward_backward(&s.model, s.w, s.dw, s.tokens);
    assert_true(fabs(loss - exact) < 1e-6 * exact);
    assert_true(numbers_error(s.dw, dw, s.adapters.n_elements) < 1e-5);
    assert_true(cllm_model_loss(&s.model, s.w, s.tokens) == loss);
    free(dw);
    end(&s);
}

static void gradients_of_adapters_agree_with_double_precision(void **state)
{
    static const char *const gpt2[] = {"all",         "attention",  "mlp",
                                       "attn.c_proj", "mlp.c_proj", "c_fc"};
    static const char *const llama[] = {"all",    "q_proj",    "v_proj",
                                        "o_proj", "gate_proj", "*_proj"};

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(gpt2); i++) {
        check_gradient(&models[0], gpt2[i], 1 + 3 * (uint32_t)i);
        check_gradient(&models[1], llama[i], 1 + 2 * (uint32_t)i);
        check_gradient(&models[2], llama[i], 10);
    }
}

static void what_is_computed_again_changes_no_bit(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(models); i++)
        for (uint32_t dropping = 0; dropping < 2; dropping++) {
            struct setup kept, again;
            double loss;

            begin(&kept, &models[i], "all", 8, CLLM_RECOMPUTE_NONE);
            kept.model.dropout = dropping ? 0.3f : 0;
            kept.model.dropout_key = 7;
            loss = cllm_model_forward_backward(&kept.model, kept.w, kept.dw, kept.tokens);
            for (uint32_t r = CLLM_RECOMPUTE_ATTENTION; r <= CLLM_RECOMPUTE_BLOCK; r++) {
                begin(&again, &models[i], "all", 8, (enum cllm_model_recompute)r);
                again.model.dropout = kept.model.dropout;
                again.model.dropout_key = 7;
                assert_true(cllm_model_forward_backward(&again.model, again.w, again.dw,
                                                        again.tokens) == loss);
                assert_memory_equal(again.dw, kept.dw,
                                    kept.adapters.n_elements * sizeof *kept.dw);
                end(&again);
            }
            end(&kept);
        }
}

/* ---- beginning, merging ---- */

/* The same batch without adapters, with the weights @w. */
static double plain_loss(const struct setup *s, const float *w)
{
    const struct cllm_model_shape shape = {.B = s->B, .T = s->T};
    struct cllm_arena arena;
    struct cllm_model model;
    double loss;

    assert_int_equal(cllm_arena_init(&arena, cllm_model_arena_bytes(&s->base, &shape)),
                     0);
    assert_int_equal(cllm_model_init(&model, &s->base, cllm_ops_select(), &shape, &arena),
                     0);
    loss = cllm_model_loss(&model, w, s->tokens);
    cllm_arena_fini(&arena);
    return loss;
}

static void the_start_is_the_frozen_model(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(models); i++) {
        struct setup s;
        double squares[2] = {0, 0};

        begin(&s, &models[i], "all", 4, CLLM_RECOMPUTE_NONE);
        memset(s.w, 0x7f, s.adapters.n_elements * sizeof *s.w);
        cllm_model_initial_weights(&s.adapters, s.w, 0, 1001, 9);
        cllm_model_initial_weights(&s.adapters, s.w + 1001, 1001, s.adapters.n_elements,
                                   9);
        for (uint32_t t = 0; t < s.adapters.n_tensors; t++) {
            const struct cllm_tensor *tensor = &s.adapters.tensors[t];

            for (uint64_t j = 0; j < tensor->count; j++) {
                double x = (double)s.w[tensor->off + j];

                squares[t % 2] += x * x;
                assert_true(x * x * (double)tensor->shape[1] <= 1);
            }
        }
        assert_true(squares[0] > 1);
        assert_true(squares[1] == 0);
        assert_true(cllm_model_loss(&s.model, s.w, s.tokens) == plain_loss(&s, s.frozen));
        cllm_model_initial_weights(&s.adapters, s.dw, 0, s.adapters.n_elements, 9);
        assert_memory_equal(s.w, s.dw, s.adapters.n_elements * sizeof *s.w);
        end(&s);
    }
}

static void merged_weights_give_the_same_loss(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(models); i++) {
        struct setup s;
        double loss, merged;

        begin(&s, &models[i], i == 0 ? "mlp" : "all", 6, CLLM_RECOMPUTE_NONE);
        loss = cllm_model_loss(&s.model, s.w, s.tokens);
        for (uint32_t t = 0; t < s.base.n_tensors; t++)
            cllm_lora_merge(s.frozen + s.base.tensors[t].off, &s.base.tensors[t],
                            &s.adapters, s.w, &s.lora);
        merged = plain_loss(&s, s.frozen);
        assert_true(fabs(merged - loss) < 1e-6 * loss);
        end(&s);
    }
}

/* ---- words and tables ---- */

#define BIT(kind) (UINT32_C(1) << (CLLM_TENSOR_##kind))

static void words_name_matrices_as_peft_does(void **state)
{
    static const struct {
        const char *word;
        uint32_t model;
        uint32_t targets; /* 0: refused */
    } cases[] = {
        {"attention", 0, BIT(QKV_W) | BIT(ATTN_W)},
        {"mlp", 0, BIT(FC_W) | BIT(PROJ_W)},
        {"all", 0, BIT(QKV_W) | BIT(ATTN_W) | BIT(FC_W) | BIT(PROJ_W)},
        {"c_attn", 0, BIT(QKV_W)},
        {"c_proj", 0, BIT(ATTN_W) | BIT(PROJ_W)},
        {"mlp.c_proj", 0, BIT(PROJ_W)},
        {"mlp.*", 0, BIT(FC_W) | BIT(PROJ_W)},
        {"q_proj", 0, 0},
        {"proj", 0, 0},
        {"wte", 0, 0},
        {"ln_1", 0, 0},
        {"", 0, 0},
        {"attention", 1, BIT(Q_W) | BIT(K_W) | BIT(V_W) | BIT(ATTN_W)},
        {"mlp", 1, BIT(GATE_W) | BIT(FC_W) | BIT(PROJ_W)},
        {"q_proj", 1, BIT(Q_W)},
        {"self_attn.[qv]_proj", 1, BIT(Q_W) | BIT(V_W)},
        {"up_proj", 1, BIT(FC_W)},
        {"c_attn", 1, 0},
        {"lm_head", 1, 0},
        {"*norm*", 1, 0},
    };
    struct cllm_parameters base;

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        uint32_t targets = 0;
        int rc;

        assert_int_equal(cllm_parameters_init(&base, &models[cases[i].model]), 0);
        rc = cllm_lora_target(&targets, cases[i].word, &base);
        assert_int_equal(rc, cases[i].targets == 0 ? CLLM_ECONFIG : 0);
        assert_int_equal(targets, cases[i].targets);
        if (rc != 0)
            assert_non_null(strstr(cllm_err_text(), "names no matrix"));
        cllm_parameters_fini(&base);
    }
}

static void tables_have_the_names_and_shapes_of_peft(void **state)
{
    static const struct {
        uint32_t model;
        const char *word, *name;
        uint64_t shape[2];
    } cases[] = {
        {0,
         "c_attn",
         "base_model.model.transformer.h.1.attn.c_attn.lora_A.weight",
         {4, 20}},
        {0,
         "c_attn",
         "base_model.model.transformer.h.1.attn.c_attn.lora_B.weight",
         {60, 4}},
        {0, "all", "base_model.model.transformer.h.0.mlp.c_proj.lora_A.weight", {4, 80}},
        {0, "all", "base_model.model.transformer.h.0.mlp.c_proj.lora_B.weight", {20, 4}},
        {1,
         "k_proj",
         "base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight",
         {12, 4}},
        {1,
         "mlp",
         "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight",
         {4, 36}},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        const struct cllm_tensor *tensor;
        struct setup s;
        uint64_t behind = 0;

        begin(&s, &models[cases[i].model], cases[i].word, 4, CLLM_RECOMPUTE_NONE);
        tensor = cllm_parameters_find(&s.adapters, cases[i].name);
        assert_non_null(tensor);
        assert_int_equal(tensor->shape[0], cases[i].shape[0]);
        assert_int_equal(tensor->shape[1], cases[i].shape[1]);
        for (uint32_t t = 0; t < s.adapters.n_tensors; t++) {
            assert_true(s.adapters.tensors[t].off >= behind);
            behind = s.adapters.tensors[t].off + s.adapters.tensors[t].count;
        }
        assert_true(behind <= s.adapters.n_elements);
        end(&s);
    }
}

static void what_cannot_be_is_refused(void **state)
{
    static const struct {
        const char *set[2], *words;
    } cases[] = {
        {{"lora.rank=21", "lora.targets=attention"}, "rank 21 is more than"},
        {{"lora.rank=4", "lora.targets=attention, wpe"}, "'wpe' names no matrix"},
        {{"lora.rank=4", "lora.targets=,"}, "no word"},
    };
    struct cllm_parameters base;

    (void)state;
    assert_int_equal(cllm_parameters_init(&base, &models[0]), 0);
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        struct cllm_config config;
        struct cllm_lora lora;

        cllm_config_init(&config);
        for (size_t j = 0; j < 2; j++)
            assert_int_equal(cllm_config_set(&config, cases[i].set[j]), 0);
        assert_int_equal(cllm_lora_from(&lora, &config, &base), CLLM_ECONFIG);
        assert_non_null(strstr(cllm_err_text(), cases[i].words));
        assert_non_null(strstr(cllm_err_text(), "[lora]"));
        cllm_config_fini(&config);
    }
    cllm_parameters_fini(&base);
}

static void longest_names_have_room(void **state)
{
    const struct cllm_model_config config = {LLAMA,         .vocab = 2, .context = 1,
                                             .layers = 512, .heads = 1, .width = 2};
    const struct cllm_lora lora = {.rank = 1, .targets = BIT(GATE_W), .alpha = 1};
    struct cllm_parameters trained;

    (void)state;
    assert_int_equal(cllm_lora_trained(&trained, &config, &lora), 0);
    assert_int_equal(trained.n_tensors, 1024);
    cllm_parameters_fini(&trained);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_adapters_agree_with_double_precision),
        cmocka_unit_test(what_is_computed_again_changes_no_bit),
        cmocka_unit_test(the_start_is_the_frozen_model),
        cmocka_unit_test(merged_weights_give_the_same_loss),
        cmocka_unit_test(words_name_matrices_as_peft_does),
        cmocka_unit_test(tables_have_the_names_and_shapes_of_peft),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(longest_names_have_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
