/*
 * tests/test_checkpoint_json.c - the texts of a checkpoint, taken from memory: what is
 * accepted, and the values that are refused although they are JSON.
 */
#include "tests/formats_temp.h"

#include "formats/checkpoint_json.h"
#include "formats/json.h"

#define HASHES "\"fingerprint\": \"0f\", \"root_hash\": \"1f\", \"data_hash\": \"2f\", "
#define LOSSES \
    "\"train_loss\": {\"hex\": \"0x1.4p+1\"}, \"valid_loss\": null, \"best_loss\": null"
#define RUN(format, version, step)                                                      \
    "{\"format\": \"" format "\", \"version\": " version ", \"step\": " step            \
    ", \"data_cursor\": 9, \"tokens\": 8, \"valid_step\": 0, \"best_step\": 0, " HASHES \
        LOSSES "}"
#define CONFIG(width, heads, epsilon)                                             \
    "{\"model_type\": \"gpt2\", \"activation_function\": \"gelu_new\", "          \
    "\"vocab_size\": 256, \"n_positions\": 8, \"n_layer\": 1, \"n_head\": " heads \
    ", \"n_embd\": " width ", \"layer_norm_epsilon\": " epsilon                   \
    ", \"initializer_range\": 0.02, \"tie_word_embeddings\": true, \"n_inner\": null}"

static int parse_run(const char *text, struct cllm_checkpoint_info *info)
{
    return cllm_checkpoint_parse_run(text, strlen(text), "run.json", info);
}

static int parse_config(const char *text, struct cllm_checkpoint_info *info)
{
    return cllm_checkpoint_parse_config(text, strlen(text), "config.json", info);
}

static void a_sound_run_is_taken(void **state)
{
    struct cllm_checkpoint_info info = {0};

    (void)state;
    assert_int_equal(parse_run(RUN("cllm-run", "1", "9999999999"), &info), 0);
    assert_int_equal(info.step, CLLM_CHECKPOINT_STEP_MAX);
    assert_true(info.train_loss == 2.5);
    assert_string_equal(info.data, "2f");
}

/* A sound run.json with @more before its last brace. */
static int parse_run_with(const char *more, struct cllm_checkpoint_info *info)
{
    static const char sound[] = RUN("cllm-run", "1", "7");
    char text[2048];

    (void)snprintf(text, sizeof text, "%.*s, %s}", (int)sizeof sound - 2, sound, more);
    return parse_run(text, info);
}

static void a_mixture_is_written_and_read(void **state)
{
    struct cllm_checkpoint_info info = {
        .fingerprint = "0f",
        .root = "1f",
        .data = "2f",
        .n_parts = 2,
        .part = {{"web", 1000, 2500}, {"books-1.b", UINT64_C(1) << 40, 1}}};
    struct cllm_checkpoint_info again = {0};

    assert_int_equal(cllm_checkpoint_write_run(*state, &info), 0);
    assert_int_equal(cllm_checkpoint_read_run(*state, &again), 0);
    assert_int_equal(again.n_parts, 2);
    assert_memory_equal(again.part, info.part, sizeof info.part);
}

#define LONG_NAME "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" /* one byte too many */

static void a_mixture_that_cannot_be_ours_is_refused(void **state)
{
    static const char *const bad[] = {
        "\"mixture\": {}",
        "\"mixture\": []",
        "\"mixture\": [1]",
        "\"mixture\": [{\"name\": \"\", \"windows\": 1, \"sequences\": 1}]",
        "\"mixture\": [{\"name\": \"a\", \"windows\": -1, \"sequences\": 1}]",
        "\"mixture\": [{\"name\": \"a\", \"windows\": 1}]",
        ("\"mixture\": [{\"name\": \"" LONG_NAME
         "\", \"windows\": 1, \"sequences\": 1}]"),
    };
    struct cllm_checkpoint_info info;

    (void)state;
    assert_int_equal(parse_run_with("\"other\": 1", &info), 0);
    assert_int_equal(info.n_parts, 0);
    for (size_t i = 0; i < CLLM_LEN(bad); i++)
        assert_int_equal(parse_run_with(bad[i], &info), CLLM_EDATA);
}

static void a_run_that_cannot_be_ours_is_refused(void **state)
{
    static const char *const bad[] = {
        RUN("cllm-walk", "1", "7"),
        RUN("cllm-run", "2", "7"),
        RUN("cllm-run", "1", "-1"),
        RUN("cllm-run", "1", "7.0"),
        RUN("cllm-run", "1", "\"7\""),
        RUN("cllm-run", "1", "10000000000"),
        RUN("cllm-run", "1", "1e999"),
        RUN("cllm-run", "1", "7") "x",
        "{\"format\": \"cllm-run\"}",
        "[]",
        "",
    };
    struct cllm_checkpoint_info info;

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(bad); i++)
        if (parse_run(bad[i], &info) != CLLM_EDATA)
            fail_msg("accepted: %s", bad[i]);
}

static void a_model_that_cannot_be_computed_is_refused(void **state)
{
    static const char *const bad[] = {
        CONFIG("16", "3", "1e-5"),     CONFIG("0", "1", "1e-5"),
        CONFIG("16", "0", "1e-5"),     CONFIG("65537", "1", "1e-5"),
        CONFIG("16", "2", "-1e-5"),    CONFIG("16", "2", "0"),
        CONFIG("16", "2", "\"1e-5\""),
    };
    struct cllm_checkpoint_info info = {0};

    (void)state;
    assert_int_equal(parse_config(CONFIG("16", "2", "1e-5"), &info), 0);
    assert_int_equal(info.model.width, 16);
    for (size_t i = 0; i < CLLM_LEN(bad); i++)
        if (parse_config(bad[i], &info) != CLLM_EDATA)
            fail_msg("accepted: %s", bad[i]);
}

static void a_manifest_names_whole_hashes(void **state)
{
    struct cllm_checkpoint_file file[CLLM_CHECKPOINT_FILES];
    struct cllm_checkpoint_info info = {.fingerprint = "0f",
                                        .root = "1f",
                                        .data = "2f",
                                        .model = {.vocab = 256,
                                                  .context = 8,
                                                  .layers = 1,
                                                  .heads = 1,
                                                  .kv_heads = 1,
                                                  .head_size = 4,
                                                  .hidden = 16,
                                                  .width = 4,
                                                  .norm_epsilon = 1e-5},
                                        .init_range = 0.02};
    static const char *const keys[] = {"\"sha256\": \"", "\"xxh3_128\": \""};
    char *text, *hash;
    json_t *json;
    size_t bytes;

    assert_int_equal(cllm_file_replace(in(*state, CLLM_CHECKPOINT_MODEL), "m", 1), 0);
    assert_int_equal(cllm_file_replace(in(*state, CLLM_CHECKPOINT_OPTIMIZER), "o", 1), 0);
    assert_int_equal(cllm_checkpoint_describe(*state, &info, NULL, 0), 0);
    assert_int_equal(
        cllm_file_read(in(*state, CLLM_CHECKPOINT_MANIFEST), 1 << 20, &text, &bytes), 0);
    assert_int_equal(cllm_checkpoint_parse_manifest(text, bytes, "m", file), 0);
    assert_int_equal(file[1].bytes, 1);
    assert_int_equal(strlen(file[3].hash), 64);
    assert_int_equal(strlen(file[1].hash), 32);
    assert_int_equal(strlen(file[2].hash), 32);
    /* one digit less, the form kept */
    for (size_t i = 0; i < CLLM_LEN(keys); i++) {
        char *less = strdup(text);

        assert_non_null(less);
        hash = strstr(less, keys[i]) + strlen(keys[i]);
        memmove(hash, hash + 1, strlen(hash));
        assert_int_equal(cllm_checkpoint_parse_manifest(less, bytes - 1, "m", file),
                         CLLM_EDATA);
        free(less);
    }
    /* a second hash, which nobody would look at */
    assert_int_equal(cllm_json_parse(text, bytes, "m", &json), 0);
    assert_int_equal(json_object_set_new(json_object_get(json_object_get(json, "files"),
                                                         CLLM_CHECKPOINT_MODEL),
                                         "sha256", json_string(file[3].hash)),
                     0);
    free(text);
    text = cllm_json_dump(json, &bytes);
    assert_non_null(text);
    assert_int_equal(cllm_checkpoint_parse_manifest(text, bytes, "m", file), CLLM_EDATA);
    assert_error_says("alone");
    json_decref(json);
    free(text);
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_sound_run_is_taken),
        T(a_mixture_is_written_and_read),
        T(a_mixture_that_cannot_be_ours_is_refused),
        T(a_run_that_cannot_be_ours_is_refused),
        T(a_model_that_cannot_be_computed_is_refused),
        T(a_manifest_names_whole_hashes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
