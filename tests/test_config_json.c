/*
 * tests/test_config_json.c - config.json of both families: written and read back, what
 * may be missing, what is refused.
 */
#include "formats/config_json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

#define BASE_LLAMA                                                                 \
    .arch = CLLM_ARCH_LLAMA, .vocab = 320, .context = 64, .layers = 2, .heads = 8, \
    .width = 48

static const struct cllm_model_config models[] = {
    {.vocab = 256, .context = 8, .layers = 1, .heads = 1, .width = 4},
    {.vocab = 50257, .context = 8, .layers = 1, .heads = 1, .width = 4, .hidden = 7},
    {.vocab = 256, .context = 8, .layers = 1, .heads = 1, .width = 4, .untied = 1},
    {.vocab = 256,
     .context = 8,
     .layers = 1,
     .heads = 1,
     .width = 4,
     .norm_epsilon = 1e-6},
    {BASE_LLAMA},
    {BASE_LLAMA, .untied = 1, .kv_heads = 2, .head_size = 10, .hidden = 33},
    {BASE_LLAMA, .norm_epsilon = 1e-6, .rope_theta = 5e5},
    {BASE_LLAMA, .rope_scaling = CLLM_ROPE_LINEAR, .rope_factor = 2.5},
    {BASE_LLAMA, .rope_scaling = CLLM_ROPE_LLAMA3, .rope_factor = 8, .rope_low = 1.5,
     .rope_high = 4, .rope_original = 16},
    {BASE_LLAMA, .rope_scaling = CLLM_ROPE_YARN, .rope_factor = 4, .rope_low = 1,
     .rope_high = 32, .rope_original = 16},
    {.vocab = 256,
     .context = 8,
     .layers = 1,
     .heads = 1,
     .width = 4,
     .crystalline_bias = 1},
    {BASE_LLAMA, .crystalline_bias = 1},
};

static int parse(const char *text, struct cllm_model_config *model)
{
    double range;
    json_t *json = NULL;
    int rc = cllm_json_parse(text, strlen(text), "config.json", &json);

    assert_int_equal(rc, 0);
    rc = cllm_config_json_parse(json, "config.json", model, &range);
    json_decref(json);
    return rc;
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLLM_LEN(models); i++) {
        struct cllm_model_config model = models[i], again;
        double range = 0;
        json_t *json;

        cllm_model_config_complete(&model);
        assert_int_equal(cllm_model_config_check(&model), 0);
        json = cllm_config_json_pack(&model, 0.015625);
        assert_non_null(json);
        assert_int_equal(cllm_config_json_parse(json, "here", &again, &range), 0);
        assert_memory_equal(&model, &again, sizeof model);
        assert_true(range == 0.015625);
        json_decref(json);
    }
}

static void what_is_written_has_hugging_faces_words(void **state)
{
    static const char *const words[] = {
        "\"model_type\": \"llama\"",
        "\"LlamaForCausalLM\"",
        "\"hidden_act\": \"silu\"",
        "\"num_key_value_heads\": 2",
        "\"head_dim\": 10",
        "\"intermediate_size\": 33",
        "\"max_position_embeddings\": 64",
        "\"tie_word_embeddings\": false",
        "\"rope_scaling\": null",
        "\"rope_type\": \"default\"",
        "\"bos_token_id\": null",
        "\"rms_norm_eps\"",
    };
    struct cllm_model_config model = models[5];
    char *text;
    json_t *json;

    (void)state;
    cllm_model_config_complete(&model);
    json = cllm_config_json_pack(&model, 0.02);
    text = cllm_json_dump(json, NULL);
    assert_non_null(text);
    for (size_t i = 0; i < CLLM_LEN(words); i++)
        if (strstr(text, words[i]) == NULL)
            fail_msg("%s is not in %s", words[i], text);
    free(text);
    json_decref(json);
}

#define LLAMA(more)                                                                     \
    "{\"model_type\": \"llama\", \"hidden_act\": \"silu\", \"vocab_size\": 320, "       \
    "\"max_position_embeddings\": 64, \"hidden_size\": 48, \"intermediate_size\": 96, " \
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 8, \"rms_norm_eps\": 1e-6" more \
    "}"

static void what_is_missing_has_its_usual_value(void **state)
{
    struct cllm_model_config model;

    (void)state;
    assert_int_equal(parse(LLAMA(""), &model), 0);
    assert_int_equal(model.kv_heads, 8);
    assert_int_equal(model.head_size, 6);
    assert_int_equal(model.untied, 1);
    assert_true(model.rope_theta == 10000);
    assert_int_equal(
        parse(LLAMA(", \"rope_theta\": 500000, \"rope_scaling\": null"), &model), 0);
    assert_true(model.rope_theta == 500000);
    assert_int_equal(
        parse(LLAMA(", \"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 2, "
                    "\"rope_theta\": 20000}"),
              &model),
        0);
    assert_true(model.rope_theta == 20000 && model.rope_factor == 2);
    assert_int_equal(model.rope_scaling, CLLM_ROPE_LINEAR);
    assert_int_equal(
        parse(LLAMA(", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}"), &model),
        0);
    assert_true(model.rope_factor == 4);
    assert_int_equal(
        parse(LLAMA(", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0}"),
              &model),
        0);
    assert_true(model.rope_low == 1 && model.rope_high == 4);
    assert_int_equal(model.rope_original, 64);
}

static void what_cannot_be_computed_is_refused_by_name(void **state)
{
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"{\"model_type\": \"mamba\"}", "mamba"},
        {"{\"model_type\": 3}", "model_type"},
        {LLAMA(", \"attention_bias\": true"), "attention_bias"},
        {LLAMA(", \"mlp_bias\": true"), "mlp_bias"},
        {LLAMA(", \"num_key_value_heads\": 3"), "kv_heads 3"},
        {LLAMA(", \"num_key_value_heads\": 0"), "num_key_value_heads"},
        {LLAMA(", \"head_dim\": 5"), "a head of 5"},
        {LLAMA(", \"head_dim\": 65537"), "head_dim"},
        {LLAMA(", \"rope_theta\": -1"), "rope_theta"},
        {LLAMA(", \"rope_theta\": \"x\""), "rope_theta"},
        {LLAMA(", \"rope_scaling\": {}"), "type"},
        {LLAMA(", \"rope_scaling\": {\"type\": \"longrope\"}"), "longrope"},
        {LLAMA(", \"rope_scaling\": {\"type\": \"linear\"}"), "factor"},
        {LLAMA(", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 0.5}"),
         "rope_factor = 0.5"},
        {LLAMA(", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2, "
               "\"attention_factor\": 1.5}"),
         "attention_factor"},
        {LLAMA(", \"tie_word_embeddings\": 1"), "tie_word_embeddings"},
        {LLAMA(", \"initializer_range\": 0"), "initializer_range"},
    };
    struct cllm_model_config model;

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        assert_int_equal(parse(cases[i].text, &model), CLLM_EDATA);
        if (strstr(cllm_err_text(), cases[i].reason) == NULL)
            fail_msg("\"%s\" is not in \"%s\"", cases[i].reason, cllm_err_text());
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(what_is_written_has_hugging_faces_words),
        cmocka_unit_test(what_is_missing_has_its_usual_value),
        cmocka_unit_test(what_cannot_be_computed_is_refused_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
