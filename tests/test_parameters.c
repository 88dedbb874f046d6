/*
 * tests/test_parameters.c - the tables of tensors: known sizes, names and shapes of the
 * published files, no overlap.
 */
#include "base/parameters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

/* Counts of the public models; the last ones have widths that are no multiple of 16. */
static const struct size {
    struct cllm_model_config config;
    uint64_t params; /* 0: not known from elsewhere */
} sizes[] = {
    {{.vocab = 50257, .context = 1024, .layers = 12, .heads = 12, .width = 768},
     124439808},
    {{.vocab = 50257, .context = 1024, .layers = 24, .heads = 16, .width = 1024},
     354823168},
    {{.vocab = 50257, .context = 1024, .layers = 48, .heads = 25, .width = 1600},
     1557611200},
    {{.vocab = 256, .context = 128, .layers = 4, .heads = 8, .width = 256}, 0},
    {{.vocab = 700, .context = 17, .layers = 3, .heads = 2, .width = 36}, 0},
    {{.vocab = 17, .context = 3, .layers = 2, .heads = 2, .width = 6, .untied = 1}, 0},
    {{.vocab = 2, .context = 1, .layers = 1, .heads = 1, .width = 1, .hidden = 3}, 0},
    /* Llama 2 7B, Llama 3 8B, Llama 3.2 1B, stories260K. */
    {{.arch = CLLM_ARCH_LLAMA,
      .vocab = 32000,
      .context = 4096,
      .layers = 32,
      .heads = 32,
      .width = 4096,
      .hidden = 11008,
      .untied = 1},
     6738415616},
    {{.arch = CLLM_ARCH_LLAMA,
      .vocab = 128256,
      .context = 8192,
      .layers = 32,
      .heads = 32,
      .kv_heads = 8,
      .width = 4096,
      .hidden = 14336,
      .untied = 1},
     8030261248},
    {{.arch = CLLM_ARCH_LLAMA,
      .vocab = 128256,
      .context = 65536,
      .layers = 16,
      .heads = 32,
      .kv_heads = 8,
      .width = 2048,
      .hidden = 8192},
     1235814400},
    {{.arch = CLLM_ARCH_LLAMA,
      .vocab = 512,
      .context = 512,
      .layers = 5,
      .heads = 8,
      .kv_heads = 4,
      .width = 64,
      .hidden = 172},
     260032},
    {{.arch = CLLM_ARCH_LLAMA,
      .vocab = 17,
      .context = 5,
      .layers = 2,
      .heads = 3,
      .kv_heads = 1,
      .width = 7,
      .head_size = 6,
      .hidden = 5},
     0},
};

static void public_models_have_their_published_number_of_parameters(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(sizes); i++) {
        struct cllm_parameters plan;
        uint64_t sum = 0;

        assert_int_equal(cllm_parameters_init(&plan, &sizes[i].config), 0);
        for (uint32_t t = 0; t < plan.n_tensors; t++)
            sum += plan.tensors[t].count;
        assert_int_equal(plan.n_params, sum);
        if (sizes[i].params > 0)
            assert_int_equal(sum, sizes[i].params);
        cllm_parameters_fini(&plan);
    }
}

static void tensors_are_aligned_in_order_and_decay_only_when_matrices(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(sizes); i++) {
        struct cllm_parameters plan;
        uint64_t end = 0;

        assert_int_equal(cllm_parameters_init(&plan, &sizes[i].config), 0);
        for (uint32_t t = 0; t < plan.n_tensors; t++) {
            const struct cllm_tensor *tensor = &plan.tensors[t];

            assert_int_equal(tensor->off % 16, 0);
            assert_true(tensor->off >= end && tensor->off < end + 16);
            assert_int_equal(tensor->count, tensor->shape[0] * tensor->shape[1]);
            assert_true(tensor->rank == 2 || tensor->shape[1] == 1);
            assert_true(tensor->decay == (tensor->rank == 2));
            assert_ptr_equal(cllm_parameters_find(&plan, tensor->name), tensor);
            assert_ptr_equal(cllm_parameters_at(&plan, tensor->kind, tensor->layer),
                             tensor);
            end = tensor->off + tensor->count;
        }
        assert_int_equal(plan.n_elements % 1024, 0);
        assert_true(plan.n_elements >= end && plan.n_elements < end + 1024);
        cllm_parameters_fini(&plan);
    }
}

struct expected {
    const char *name;
    enum cllm_tensor_kind kind;
    uint32_t layer, rank;
    uint64_t shape[2];
};

static void check_names(const struct cllm_model_config *config,
                        const struct expected *expected, size_t n)
{
    struct cllm_parameters plan;

    assert_int_equal(cllm_parameters_init(&plan, config), 0);
    for (size_t i = 0; i < n; i++) {
        const struct cllm_tensor *found = cllm_parameters_find(&plan, expected[i].name);

        assert_non_null(found);
        assert_int_equal(found->kind, expected[i].kind);
        assert_int_equal(found->layer, expected[i].layer);
        assert_int_equal(found->rank, expected[i].rank);
        assert_int_equal(found->shape[0], expected[i].shape[0]);
        assert_int_equal(found->shape[1], expected[i].shape[1]);
        assert_int_equal(cllm_parameters_off(&plan, expected[i].kind, expected[i].layer),
                         found->off);
    }
    assert_true((cllm_parameters_find(&plan, "lm_head.weight") != NULL) ==
                (config->untied == 1));
    assert_true(cllm_parameters_have(&plan, CLLM_TENSOR_HEAD_W) == (config->untied == 1));
    cllm_parameters_fini(&plan);
}

static void names_and_shapes_of_gpt2_are_those_of_hugging_face(void **state)
{
    static const struct expected expected[] = {
        {"transformer.wte.weight", CLLM_TENSOR_EMBEDDING, CLLM_NO_LAYER, 2, {50257, 768}},
        {"transformer.wpe.weight", CLLM_TENSOR_POSITIONS, CLLM_NO_LAYER, 2, {1024, 768}},
        {"transformer.h.0.ln_1.weight", CLLM_TENSOR_NORM1_W, 0, 1, {768, 1}},
        {"transformer.h.0.ln_1.bias", CLLM_TENSOR_NORM1_B, 0, 1, {768, 1}},
        {"transformer.h.11.attn.c_attn.weight", CLLM_TENSOR_QKV_W, 11, 2, {768, 2304}},
        {"transformer.h.11.attn.c_attn.bias", CLLM_TENSOR_QKV_B, 11, 1, {2304, 1}},
        {"transformer.h.3.attn.c_proj.weight", CLLM_TENSOR_ATTN_W, 3, 2, {768, 768}},
        {"transformer.h.3.attn.c_proj.bias", CLLM_TENSOR_ATTN_B, 3, 1, {768, 1}},
        {"transformer.h.5.ln_2.weight", CLLM_TENSOR_NORM2_W, 5, 1, {768, 1}},
        {"transformer.h.5.ln_2.bias", CLLM_TENSOR_NORM2_B, 5, 1, {768, 1}},
        {"transformer.h.7.mlp.c_fc.weight", CLLM_TENSOR_FC_W, 7, 2, {768, 3072}},
        {"transformer.h.7.mlp.c_fc.bias", CLLM_TENSOR_FC_B, 7, 1, {3072, 1}},
        {"transformer.h.9.mlp.c_proj.weight", CLLM_TENSOR_PROJ_W, 9, 2, {3072, 768}},
        {"transformer.h.9.mlp.c_proj.bias", CLLM_TENSOR_PROJ_B, 9, 1, {768, 1}},
        {"transformer.ln_f.weight", CLLM_TENSOR_NORM_W, CLLM_NO_LAYER, 1, {768, 1}},
        {"transformer.ln_f.bias", CLLM_TENSOR_NORM_B, CLLM_NO_LAYER, 1, {768, 1}},
    };
    struct cllm_parameters plan;

    (void)state;
    check_names(&sizes[0].config, expected, CLLM_LEN(expected));
    assert_int_equal(cllm_parameters_init(&plan, &sizes[0].config), 0);
    assert_int_equal(plan.n_tensors, 148);
    assert_string_equal(plan.tensors[0].name, "transformer.wte.weight");
    assert_string_equal(plan.tensors[2 + 12 * 11 + 4].name,
                        "transformer.h.11.attn.c_proj.weight");
    assert_string_equal(plan.tensors[147].name, "transformer.ln_f.bias");
    cllm_parameters_fini(&plan);
}

static void names_and_shapes_of_llama_are_those_of_hugging_face(void **state)
{
    static const struct cllm_model_config config = {.arch = CLLM_ARCH_LLAMA,
                                                    .vocab = 1000,
                                                    .context = 64,
                                                    .layers = 11,
                                                    .heads = 8,
                                                    .kv_heads = 2,
                                                    .width = 96,
                                                    .head_size = 16,
                                                    .hidden = 200,
                                                    .untied = 1};
    static const struct expected expected[] = {
        {"model.embed_tokens.weight",
         CLLM_TENSOR_EMBEDDING,
         CLLM_NO_LAYER,
         2,
         {1000, 96}},
        {"model.layers.0.self_attn.q_proj.weight", CLLM_TENSOR_Q_W, 0, 2, {128, 96}},
        {"model.layers.9.self_attn.k_proj.weight", CLLM_TENSOR_K_W, 9, 2, {32, 96}},
        {"model.layers.10.self_attn.v_proj.weight", CLLM_TENSOR_V_W, 10, 2, {32, 96}},
        {"model.layers.10.self_attn.o_proj.weight", CLLM_TENSOR_ATTN_W, 10, 2, {96, 128}},
        {"model.layers.1.mlp.gate_proj.weight", CLLM_TENSOR_GATE_W, 1, 2, {200, 96}},
        {"model.layers.2.mlp.up_proj.weight", CLLM_TENSOR_FC_W, 2, 2, {200, 96}},
        {"model.layers.3.mlp.down_proj.weight", CLLM_TENSOR_PROJ_W, 3, 2, {96, 200}},
        {"model.layers.4.input_layernorm.weight", CLLM_TENSOR_NORM1_W, 4, 1, {96, 1}},
        {"model.layers.5.post_attention_layernorm.weight",
         CLLM_TENSOR_NORM2_W,
         5,
         1,
         {96, 1}},
        {"model.norm.weight", CLLM_TENSOR_NORM_W, CLLM_NO_LAYER, 1, {96, 1}},
        {"lm_head.weight", CLLM_TENSOR_HEAD_W, CLLM_NO_LAYER, 2, {1000, 96}},
    };
    struct cllm_parameters plan;

    (void)state;
    check_names(&config, expected, CLLM_LEN(expected));
    assert_int_equal(cllm_parameters_init(&plan, &config), 0);
    assert_int_equal(plan.n_tensors, 3 + 9 * 11);
    for (uint32_t t = 0; t < plan.n_tensors; t++)
        assert_true(plan.tensors[t].rank == 2 || plan.tensors[t].init == CLLM_INIT_ONE);
    cllm_parameters_fini(&plan);
}

/* Every other tensor lies, and begins, where it does without: a run can be compared. */
static void the_crystalline_bias_is_the_last_tensor(void **state)
{
    static const struct cllm_model_config configs[] = {
        {.vocab = 100, .context = 16, .layers = 3, .heads = 2, .width = 10},
        {.vocab = 100, .context = 16, .layers = 3, .heads = 2, .width = 10, .untied = 1},
        {.arch = CLLM_ARCH_LLAMA,
         .vocab = 100,
         .context = 8192,
         .layers = 3,
         .heads = 2,
         .width = 12,
         .untied = 1},
    };

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(configs); i++) {
        struct cllm_model_config config = configs[i];
        struct cllm_parameters without, with;
        const struct cllm_tensor *last;

        assert_int_equal(cllm_parameters_init(&without, &config), 0);
        assert_false(cllm_parameters_have(&without, CLLM_TENSOR_CRYSTALLINE));
        config.crystalline_bias = 1;
        assert_int_equal(cllm_parameters_init(&with, &config), 0);
        assert_int_equal(with.n_tensors, without.n_tensors + 1);
        assert_memory_equal(with.tensors, without.tensors,
                            without.n_tensors * sizeof *with.tensors);
        last = cllm_parameters_at(&with, CLLM_TENSOR_CRYSTALLINE, 0);
        assert_ptr_equal(last, &with.tensors[without.n_tensors]);
        assert_string_equal(last->name, config.arch == CLLM_ARCH_LLAMA
                                            ? "model.crystalline_bias"
                                            : "transformer.crystalline_bias");
        assert_int_equal(last->shape[0], 3);
        assert_int_equal(last->shape[1], 2);
        assert_true(!last->decay && last->init == CLLM_INIT_ZERO);
        assert_int_equal(with.n_params, without.n_params + 6);
        cllm_parameters_fini(&without);
        cllm_parameters_fini(&with);
    }
}

struct impossible {
    struct cllm_model_config config;
    const char *reason;
};

static void check_refused(const struct impossible *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct cllm_parameters plan;

        assert_int_equal(cllm_parameters_init(&plan, &cases[i].config), CLLM_ECONFIG);
        if (strstr(cllm_err_text(), cases[i].reason) == NULL)
            fail_msg("\"%s\" is not in \"%s\"", cases[i].reason, cllm_err_text());
        cllm_parameters_fini(&plan);
    }
}

static void an_impossible_gpt2_is_refused_with_a_reason(void **state)
{
#define GPT2(v, t, l, h, c) \
    .vocab = (v), .context = (t), .layers = (l), .heads = (h), .width = (c)
    static const struct impossible cases[] = {
        {{GPT2(1, 8, 1, 1, 8)}, "vocab = 1"},
        {{GPT2(1048577, 8, 1, 1, 8)}, "vocab = 1048577"},
        {{GPT2(256, 0, 1, 1, 8)}, "context = 0"},
        {{GPT2(256, 8, 0, 1, 8)}, "layers = 0"},
        {{GPT2(256, 8, 513, 1, 8)}, "layers = 513"},
        {{GPT2(256, 8, 1, 0, 8)}, "heads = 0"},
        {{GPT2(256, 8, 1, 1, 0)}, "width = 0"},
        {{GPT2(256, 8, 1, 1, 65537)}, "width = 65537"},
        {{GPT2(256, 8, 1, 3, 8)}, "width 8 is not a multiple of heads 3"},
        {{GPT2(256, 8, 1, 9, 8)}, "width 8 is not a multiple of heads 9"},
        {{GPT2(256, 8, 1, 1, 8), .arch = 2}, "arch 2"},
        {{GPT2(256, 8, 1, 2, 8), .kv_heads = 1}, "kv_heads = 1 and heads = 2 of gpt2"},
        {{GPT2(256, 8, 1, 2, 8), .head_size = 8}, "head_size = 8"},
        {{GPT2(256, 8, 1, 1, 8), .rope_scaling = 1}, "no rotated positions"},
        {{GPT2(256, 8193, 1, 1, 8), .crystalline_bias = 1},
         "crystalline_bias with context = 8193"},
    };
#undef GPT2

    (void)state;
    check_refused(cases, CLLM_LEN(cases));
}

static void an_impossible_llama_is_refused_with_a_reason(void **state)
{
#define LLAMA(h, kv, c)                                                             \
    .arch = CLLM_ARCH_LLAMA, .vocab = 256, .context = 8, .layers = 1, .heads = (h), \
    .kv_heads = (kv), .width = (c)
    static const struct impossible cases[] = {
        {{LLAMA(4, 3, 16)}, "heads 4 is not a multiple of kv_heads 3"},
        {{LLAMA(4, 8, 16)}, "heads 4 is not a multiple of kv_heads 8"},
        {{LLAMA(4, 2, 20)}, "a head of 5 elements"},
        {{LLAMA(4, 2, 18)}, "width 18 is not a multiple of heads 4"},
        {{LLAMA(4, 2, 16), .hidden = 262145}, "hidden = 262145"},
        {{LLAMA(4, 2, 16), .rope_scaling = CLLM_N_ROPE_SCALINGS}, "rope_scaling 4"},
        {{LLAMA(4, 2, 16), .rope_factor = 2}, "rope_factor = 2 without rope_scaling"},
        {{LLAMA(4, 2, 16), .rope_scaling = CLLM_ROPE_LINEAR, .rope_factor = 0.5},
         "rope_factor = 0.5 is less than 1"},
        {{LLAMA(4, 2, 16), .rope_scaling = CLLM_ROPE_YARN, .rope_low = 4, .rope_high = 4},
         "rope_low = 4 is not below rope_high = 4"},
        {{LLAMA(4, 2, 16), .rope_theta = 1}, "rope_theta = 1 is too small"},
    };
#undef LLAMA

    (void)state;
    check_refused(cases, CLLM_LEN(cases));
}

static void what_is_not_given_has_its_usual_value(void **state)
{
    struct cllm_model_config gpt2 = {
        .vocab = 256, .context = 8, .layers = 1, .heads = 4, .width = 64};
    struct cllm_model_config llama = gpt2;

    (void)state;
    llama.arch = CLLM_ARCH_LLAMA;
    cllm_model_config_complete(&gpt2);
    assert_int_equal(gpt2.hidden, 256);
    assert_int_equal(gpt2.kv_heads, 4);
    assert_int_equal(gpt2.head_size, 16);
    assert_true(gpt2.norm_epsilon == 1e-5);
    cllm_model_config_complete(&llama);
    assert_int_equal(llama.hidden, 192); /* 170.7 up to a multiple of 32 */
    assert_int_equal(llama.rope_original, 8);
    assert_true(llama.rope_theta == 10000 && llama.rope_factor == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(public_models_have_their_published_number_of_parameters),
        cmocka_unit_test(tensors_are_aligned_in_order_and_decay_only_when_matrices),
        cmocka_unit_test(names_and_shapes_of_gpt2_are_those_of_hugging_face),
        cmocka_unit_test(names_and_shapes_of_llama_are_those_of_hugging_face),
        cmocka_unit_test(the_crystalline_bias_is_the_last_tensor),
        cmocka_unit_test(an_impossible_gpt2_is_refused_with_a_reason),
        cmocka_unit_test(an_impossible_llama_is_refused_with_a_reason),
        cmocka_unit_test(what_is_not_given_has_its_usual_value),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
