/*
 * tests/test_checkpoint.c - write, verify, damage, choose, prune.
 */
#include "tests/formats_temp.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>

#include "base/log.h"
#include "formats/checkpoint.h"
#include "formats/sha256.h"

static const char *const file_names[] = {
    CLLM_CHECKPOINT_CONFIG, CLLM_CHECKPOINT_MODEL,    CLLM_CHECKPOINT_OPTIMIZER,
    CLLM_CHECKPOINT_RUN,    CLLM_CHECKPOINT_MANIFEST,
};

static struct cllm_checkpoint_info tiny(uint64_t step)
{
    struct cllm_checkpoint_info info = {
        .step = step,
        .cursor = step * 96,
        .tokens = step * 96 * 3,
        .fingerprint = "00112233445566778899aabbccddeeff",
        .root = "0123456789abcdef",
        .data = "fedcba9876543210",
        .train_loss = 2.0 / 3.0,
        .valid_loss = (double)NAN,
        .best_loss = 1.25,
        .best_step = 1,
        .model = {.vocab = 5, .context = 3, .layers = 1, .heads = 1, .width = 2},
        .init_range = 0.02,
    };

    cllm_model_config_complete(&info.model);
    return info;
}

/* Fill one tensor file: element k of tensor i is i + k / 100. */
static void write_tensors(const char *temp, const char *name,
                          struct cllm_safetensors_plan *plan,
                          const struct cllm_tensor *tensors, uint32_t n)
{
    int fd = cllm_checkpoint_create(temp, name, plan);

    assert_true(fd >= 0);
    for (uint32_t i = 0; i < plan->n_tensors; i++) {
        for (uint64_t k = 0; k < tensors[i % n].count; k++) {
            float value = (float)i + (float)k / 100;
            assert_int_equal(
                cllm_file_pwrite_all(fd, &value, 4, plan->data_off[i] + 4 * k, name), 0);
        }
    }
    assert_int_equal(close(fd), 0);
    cllm_safetensors_plan_fini(plan);
}

/* Everything up to the commit. */
static void write_temp(const char *dir, const struct cllm_checkpoint_info *info)
{
    char temp[CLLM_FILE_PATH_BYTES];
    struct cllm_safetensors_plan plan;
    struct cllm_parameters parameters;
    const struct cllm_tensor *tensors;
    uint32_t n;

    assert_int_equal(cllm_parameters_init(&parameters, &info->model), 0);
    tensors = parameters.tensors;
    n = parameters.n_tensors;
    assert_int_equal(cllm_checkpoint_begin(dir, info->step, temp), 0);
    assert_int_equal(cllm_safetensors_plan_init(&plan, "", tensors, n, NULL, 0), 0);
    write_tensors(temp, CLLM_CHECKPOINT_MODEL, &plan, tensors, n);
    assert_int_equal(cllm_safetensors_plan_moments(&plan, tensors, n), 0);
    write_tensors(temp, CLLM_CHECKPOINT_OPTIMIZER, &plan, tensors, n);
    assert_int_equal(cllm_checkpoint_describe(temp, info, NULL, 0), 0);
    cllm_parameters_fini(&parameters);
}

static void write_step(const char *dir, uint64_t step)
{
    struct cllm_checkpoint_info info = tiny(step);

    write_temp(dir, &info);
    assert_int_equal(cllm_checkpoint_commit(dir, step), 0);
}

/* Change byte @at of @path by @mask. */
static void flip(const char *path, size_t at, uint8_t mask)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= mask;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    assert_int_equal(close(fd), 0);
}

static void what_is_written_verifies_and_reads_back(void **state)
{
    struct cllm_checkpoint_info info;
    struct cllm_checkpoint checkpoint;
    float wte[10], bias[2];

    write_step(*state, 1000);
    assert_int_equal(cllm_checkpoint_verify(in(*state, "step-0000001000"), true, &info),
                     0);
    assert_int_equal(info.step, 1000);
    assert_int_equal(info.cursor, 96000);
    assert_int_equal(info.tokens, 288000);
    assert_string_equal(info.fingerprint, "00112233445566778899aabbccddeeff");
    assert_string_equal(info.root, "0123456789abcdef");
    assert_string_equal(info.data, "fedcba9876543210");
    assert_true(memcmp(&info.train_loss, &(double){2.0 / 3.0}, sizeof(double)) == 0);
    assert_true(isnan(info.valid_loss));
    assert_int_equal(info.model.vocab, 5);
    assert_int_equal(info.model.context, 3);
    assert_int_equal(info.model.width, 2);
    assert_true(memcmp(&info.model.norm_epsilon, &(double){1e-5}, sizeof(double)) == 0);

    assert_int_equal(cllm_checkpoint_open(&checkpoint, in(*state, "step-0000001000")), 0);
    assert_int_equal(checkpoint.info.step, 1000);
    assert_int_equal(cllm_checkpoint_read(&checkpoint, "transformer.wte.weight", wte, 10),
                     0);
    for (int k = 0; k < 10; k++)
        assert_true(fabsf(wte[k] - (float)k / 100) < 1e-6f);
    assert_int_equal(
        cllm_checkpoint_read(&checkpoint, "v.transformer.ln_f.bias", bias, 2), 0);
    assert_true(fabsf(bias[1] - 31.01f) < 1e-5f); /* 16 tensors twice, the last one */
    assert_int_equal(cllm_checkpoint_read(&checkpoint, "transformer.wte.weight", wte, 9),
                     CLLM_EDATA);
    assert_int_equal(cllm_checkpoint_read(&checkpoint, "lm_head.weight", wte, 10),
                     CLLM_EDATA);
    assert_error_says("no tensor \"lm_head.weight\"");
    cllm_checkpoint_close(&checkpoint);
}

static void the_same_training_gives_the_same_bytes(void **state)
{
    assert_int_equal(mkdir(in(*state, "x"), 0777), 0);
    write_step(in(*state, "x"), 20);
    write_step(in(*state, "y/deeper"), 20);
    for (size_t i = 0; i < CLLM_LEN(file_names); i++) {
        char one[CLLM_FILE_PATH_BYTES], other[CLLM_FILE_PATH_BYTES];
        size_t n = 0, m = 0;
        assert_int_equal(
            cllm_file_join(one, in(*state, "x/step-0000000020"), file_names[i]), 0);
        assert_int_equal(
            cllm_file_join(other, in(*state, "y/deeper/step-0000000020"), file_names[i]),
            0);
        char *a = get_file(one, &n);
        char *b = get_file(other, &m);
        assert_int_equal(n, m);
        assert_memory_equal(a, b, n);
        assert_null(strstr(a, "cllm-formats")); /* no paths */
        free(a);
        free(b);
    }
}

static void every_changed_byte_of_the_texts_is_refused(void **state)
{
    static const char *const texts[] = {CLLM_CHECKPOINT_CONFIG, CLLM_CHECKPOINT_RUN,
                                        CLLM_CHECKPOINT_MANIFEST};
    static const uint8_t masks[] = {0x01, 0x20, 0x2a, 0xff};
    const char *dir = in(*state, "step-0000000007");

    write_step(*state, 7);
    for (size_t i = 0; i < CLLM_LEN(texts); i++) {
        char path[CLLM_FILE_PATH_BYTES];
        size_t n = 0;
        assert_int_equal(cllm_file_join(path, dir, texts[i]), 0);
        free(get_file(path, &n));
        assert_true(n > 100);
        for (size_t at = 0; at < n; at++) {
            uint8_t mask = masks[at % 4];
            flip(path, at, mask);
            int rc = cllm_checkpoint_verify(dir, true, NULL);
            if (rc != CLLM_EDATA)
                fail_msg("%s: byte %zu ^ %#x gave %d", texts[i], at, mask, rc);
            flip(path, at, mask);
        }
    }
    assert_int_equal(cllm_checkpoint_verify(dir, true, NULL), 0);
}

static void changed_tensor_bytes_are_refused_by_a_deep_look(void **state)
{
    const char *dir = in(*state, "step-0000000007");

    write_step(*state, 7);
    for (size_t i = 1; i <= 2; i++) {
        char path[CLLM_FILE_PATH_BYTES];
        size_t n = 0;
        assert_int_equal(cllm_file_join(path, dir, file_names[i]), 0);
        free(get_file(path, &n));
        for (size_t at = 0; at < n; at += 97) {
            flip(path, at, 0x10);
            assert_int_equal(cllm_checkpoint_verify(dir, true, NULL), CLLM_EDATA);
            assert_error_says(file_names[i]);
            flip(path, at, 0x10);
        }
        flip(path, n - 1, 1);
        assert_int_equal(cllm_checkpoint_verify(dir, true, NULL), CLLM_EDATA);
        assert_error_says("XXH3-128");
        flip(path, n - 1, 1);
    }
    assert_int_equal(cllm_checkpoint_verify(dir, true, NULL), 0);
}

static void torn_and_missing_files_are_refused(void **state)
{
    const char *dir = in(*state, "step-0000000007");

    for (size_t i = 0; i < CLLM_LEN(file_names); i++) {
        char path[CLLM_FILE_PATH_BYTES];
        size_t n = 0;
        write_step(*state, 7);
        assert_int_equal(cllm_file_join(path, dir, file_names[i]), 0);
        char *bytes = get_file(path, &n);
        assert_int_equal(truncate(path, (off_t)n - 1), 0);
        assert_int_equal(cllm_checkpoint_verify(dir, false, NULL), CLLM_EDATA);
        assert_error_says(file_names[i]);
        assert_int_equal(truncate(path, 0), 0);
        assert_int_equal(cllm_checkpoint_verify(dir, false, NULL), CLLM_EDATA);
        put_file(path, bytes, n);
        assert_int_equal(cllm_checkpoint_verify(dir, true, NULL), 0);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(cllm_checkpoint_verify(dir, false, NULL), CLLM_EDATA);
        assert_error_says("is missing");
        free(bytes);
    }
    assert_int_equal(cllm_checkpoint_verify(in(*state, "absent"), true, NULL), -ENOENT);
}

/* A consistent manifest over wrong contents: the last check is the model itself. */
static void the_vocabulary_is_part_of_it_when_there_is_one(void **state)
{
    const char *dir = in(*state, "step-0000000007");
    char path[CLLM_FILE_PATH_BYTES];
    struct cllm_checkpoint_info info = tiny(7);

    write_temp(*state, &info);
    put_file(in(*state, "step-0000000007.tmp/vocab.json"), "{}", 2);
    put_file(in(*state, "step-0000000007.tmp/notes.txt"), "mine", 4);
    assert_int_equal(
        cllm_checkpoint_describe(in(*state, "step-0000000007.tmp"), &info, NULL, 0), 0);
    assert_int_equal(cllm_checkpoint_commit(*state, 7), 0);
    assert_int_equal(cllm_checkpoint_verify(dir, true, NULL), 0);
    assert_int_equal(cllm_file_join(path, dir, "notes.txt"), 0);
    assert_int_equal(unlink(path), 0); /* nobody has listed it */
    assert_int_equal(cllm_checkpoint_verify(dir, true, NULL), 0);
    assert_int_equal(cllm_file_join(path, dir, "vocab.json"), 0);
    put_file(path, "[]", 2);
    assert_int_equal(cllm_checkpoint_verify(dir, false, NULL), 0);
    assert_int_equal(cllm_checkpoint_verify(dir, true, NULL), CLLM_EDATA);
    assert_error_says("vocab.json: its SHA-256");
    put_file(path, "{} ", 3);
    assert_int_equal(cllm_checkpoint_verify(dir, false, NULL), CLLM_EDATA);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(cllm_checkpoint_verify(dir, false, NULL), CLLM_EDATA);
    assert_error_says("vocab.json is missing");
}

/* config.json of @dir, with what @text says of begin and end. */
static char *config_with(const char *dir, const char *text)
{
    const struct cllm_checkpoint_info info = tiny(7);
    char *config = NULL;

    put_file(in(dir, "generation_config.json"), text, strlen(text));
    assert_int_equal(cllm_checkpoint_write_config(dir, &info), 0);
    assert_int_equal(
        cllm_file_read(in(dir, CLLM_CHECKPOINT_CONFIG), 1u << 20, &config, NULL), 0);
    assert_non_null(config);
    return config;
}

/* The model has five tokens. */
static void the_vocabulary_says_how_texts_begin_and_end(void **state)
{
    static const struct {
        const char *text, *bos, *eos;
    } cases[] = {
        {"{\"bos_token_id\": 1, \"eos_token_id\": 4}", "1", "4"},
        {"{\"bos_token_id\": 5, \"eos_token_id\": -1}", "null", "null"},
        {"{\"eos_token_id\": [2, 3]}", "null", "[\n    2,\n    3\n  ]"},
        {"{\"eos_token_id\": [2, 5]}", "null", "null"},
        {"{\"eos_token_id\": []}", "null", "null"},
        {"{\"bos_token_id\": \"1\"}", "null", "null"},
        {"{}", "null", "null"},
        {"nonsense", "null", "null"}, /* is warned of */
    };

    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        char *config = config_with(*state, cases[i].text);
        char expected[64];

        (void)snprintf(expected, sizeof expected, "\"bos_token_id\": %s,", cases[i].bos);
        if (strstr(config, expected) == NULL)
            fail_msg("%s is not in %s", expected, config);
        (void)snprintf(expected, sizeof expected, "\"eos_token_id\": %s,", cases[i].eos);
        if (strstr(config, expected) == NULL)
            fail_msg("%s is not in %s", expected, config);
        free(config);
    }
}

/* Those of versions that had SHA-256 of everything. */
static void older_hashes_of_tensors_still_count(void **state)
{
    const char *dir = in(*state, "step-0000000007"), *model;
    struct cllm_checkpoint_digest old[] = {{.name = CLLM_CHECKPOINT_MODEL},
                                           {.name = CLLM_CHECKPOINT_OPTIMIZER}};
    char path[CLLM_FILE_PATH_BYTES];

    write_step(*state, 7);
    for (size_t i = 0; i < CLLM_LEN(old); i++) {
        assert_int_equal(cllm_file_join(path, dir, old[i].name), 0);
        assert_int_equal(cllm_sha256_file(path, old[i].hash, &old[i].bytes), 0);
    }
    assert_int_equal(cllm_checkpoint_write_manifest(dir, old, CLLM_LEN(old)), 0);
    assert_int_equal(cllm_checkpoint_verify(dir, true, NULL), 0);
    model = in(*state, "step-0000000007/" CLLM_CHECKPOINT_MODEL);
    flip(model, 4096, 1);
    assert_int_equal(cllm_checkpoint_verify(dir, true, NULL), CLLM_EDATA);
    assert_error_says("its SHA-256 is not that of the manifest");
}

static void tensors_must_fit_the_configuration(void **state)
{
    struct cllm_checkpoint_info info = tiny(7);
    const char *dir = in(*state, "step-0000000007");

    write_step(*state, 7);
    info.model.width = 4;
    assert_int_equal(cllm_checkpoint_write_config(dir, &info), 0);
    assert_int_equal(cllm_checkpoint_write_manifest(dir, NULL, 0), 0);
    assert_int_equal(cllm_checkpoint_verify(dir, true, NULL), CLLM_EDATA);
    assert_error_says("its shape is not that of config.json");
    info.model.width = 2;
    info.model.layers = 2;
    assert_int_equal(cllm_checkpoint_write_config(dir, &info), 0);
    assert_int_equal(cllm_checkpoint_write_manifest(dir, NULL, 0), 0);
    assert_int_equal(cllm_checkpoint_verify(dir, true, NULL), CLLM_EDATA);
    assert_error_says("expected 28 tensors, found 16");
    info.model.layers = 1000000;
    assert_int_equal(cllm_checkpoint_write_config(dir, &info), 0);
    assert_int_equal(cllm_checkpoint_write_manifest(dir, NULL, 0), 0);
    assert_int_equal(cllm_checkpoint_verify(dir, true, NULL), CLLM_EDATA);
    assert_error_says("\"n_layer\": expected 1 to 512");
    info = tiny(8);
    assert_int_equal(cllm_checkpoint_write_config(dir, &info), 0);
    assert_int_equal(cllm_checkpoint_write_run(dir, &info), 0);
    assert_int_equal(cllm_checkpoint_write_manifest(dir, NULL, 0), 0);
    assert_int_equal(cllm_checkpoint_verify(dir, true, NULL), CLLM_EDATA);
    assert_error_says("run.json is of step 8");
}

static void the_newest_sound_one_is_taken(void **state)
{
    char dir[CLLM_FILE_PATH_BYTES];

    assert_int_equal(cllm_checkpoint_newest(*state, dir), -ENOENT);
    assert_error_says("no checkpoint");
    write_step(*state, 5);
    flip(in(*state, "step-0000000005/model.safetensors"), 4200, 1);
    assert_int_equal(cllm_checkpoint_newest(*state, dir), CLLM_EDATA);
    assert_error_says("the only checkpoint");
    flip(in(*state, "step-0000000005/model.safetensors"), 4200, 1);
    write_step(*state, 100);
    write_step(*state, 20);
    struct cllm_checkpoint_info info = tiny(200);
    write_temp(*state, &info); /* never committed */
    assert_int_equal(cllm_checkpoint_newest(*state, dir), 0);
    assert_string_equal(dir, in(*state, "step-0000000100"));
    flip(in(*state, "step-0000000100/model.safetensors"), 4200, 1);
    assert_int_equal(cllm_checkpoint_newest(*state, dir), 0);
    assert_string_equal(dir, in(*state, "step-0000000020"));
    assert_int_equal(unlink(in(*state, "step-0000000020/manifest.json")), 0);
    assert_int_equal(cllm_checkpoint_newest(*state, dir), 0);
    assert_string_equal(dir, in(*state, "step-0000000005"));
    assert_int_equal(truncate(in(*state, "step-0000000005/run.json"), 3), 0);
    assert_int_equal(cllm_checkpoint_newest(*state, dir), CLLM_EDATA);
    assert_error_says("none of the 3 checkpoints");
}

static void a_run_directory_leads_to_its_checkpoint(void **state)
{
    struct cllm_checkpoint checkpoint;
    const char *inner = in(*state, "checkpoints");

    write_step(inner, 10);
    write_step(inner, 20);
    assert_int_equal(cllm_checkpoint_open(&checkpoint, *state), 0);
    assert_int_equal(checkpoint.info.step, 20); /* no link yet: the newest */
    cllm_checkpoint_close(&checkpoint);
    assert_int_equal(cllm_checkpoint_link(inner, "last", 10), 0);
    assert_int_equal(cllm_checkpoint_open(&checkpoint, *state), 0);
    assert_int_equal(checkpoint.info.step, 10);
    cllm_checkpoint_close(&checkpoint);
    assert_int_equal(cllm_checkpoint_open(&checkpoint, inner), 0);
    assert_int_equal(checkpoint.info.step, 10);
    cllm_checkpoint_close(&checkpoint);
    assert_int_equal(cllm_checkpoint_open(&checkpoint, in(inner, "last")), 0);
    assert_int_equal(checkpoint.info.step, 10);
    cllm_checkpoint_close(&checkpoint);
    assert_int_equal(unlink(in(inner, "step-0000000010/config.json")), 0);
    assert_int_equal(cllm_checkpoint_open(&checkpoint, *state), 0);
    assert_int_equal(checkpoint.info.step, 20);
    cllm_checkpoint_close(&checkpoint);
    assert_int_equal(cllm_checkpoint_open(&checkpoint, in(*state, "absent")), -ENOENT);
    put_file(in(*state, "file"), "x", 1);
    assert_int_equal(cllm_checkpoint_open(&checkpoint, in(*state, "file")), -ENOTDIR);
}

static void a_step_can_be_written_again(void **state)
{
    char temp[CLLM_FILE_PATH_BYTES];

    write_step(*state, 7);
    flip(in(*state, "step-0000000007/model.safetensors"), 4200, 1);
    write_step(*state, 7);
    assert_int_equal(cllm_checkpoint_verify(in(*state, "step-0000000007"), true, NULL),
                     0);
    assert_int_equal(access(in(*state, "step-0000000007.tmp"), F_OK), -1);
    /* What a dead saver left is removed by the next begin. */
    assert_int_equal(cllm_checkpoint_begin(*state, 8, temp), 0);
    put_file(in(temp, "junk"), "x", 1);
    assert_int_equal(cllm_checkpoint_commit(*state, 8), CLLM_EDATA);
    assert_int_equal(cllm_checkpoint_begin(*state, 8, temp), 0);
    assert_int_equal(access(in(temp, "junk"), F_OK), -1);
}

static void prune_keeps_the_newest_the_best_and_the_last(void **state)
{
    static const struct {
        const char *name;
        bool there;
    } expected[] = {
        {"step-0000000010", true}, /* best */
        {"step-0000000020", false},     {"step-0000000030", false},
        {"step-0000000040", true},      {"step-0000000050", true}, /* last */
        {"step-0000000060", true}, /* newer: passed over by the resume */
        {"step-0000000070.tmp", false}, {"notes.txt", true},
    };
    struct cllm_checkpoint_info info = tiny(70);
    uint32_t removed = 0;

    for (uint64_t step = 10; step <= 60; step += 10)
        write_step(*state, step);
    write_temp(*state, &info);
    put_file(in(*state, "notes.txt"), "x", 1);
    assert_int_equal(cllm_checkpoint_link(*state, "best", 10), 0);
    assert_int_equal(cllm_checkpoint_link(*state, "last", 50), 0);
    assert_int_equal(cllm_checkpoint_prune(*state, 2, &removed), 0);
    assert_int_equal(removed, 2);
    for (size_t i = 0; i < CLLM_LEN(expected); i++) {
        bool there = access(in(*state, expected[i].name), F_OK) == 0;
        if (there != expected[i].there)
            fail_msg("%s is %s", expected[i].name, there ? "there" : "gone");
    }
    assert_int_equal(cllm_checkpoint_prune(*state, 2, &removed), 0);
    assert_int_equal(removed, 0);
}

static void the_configuration_is_what_transformers_reads(void **state)
{
    struct cllm_checkpoint_info info = tiny(1);
    char *text;

    assert_int_equal(cllm_checkpoint_write_config(*state, &info), 0);
    text = get_file(in(*state, "config.json"), NULL);
    assert_non_null(strstr(text, "\"model_type\": \"gpt2\""));
    assert_non_null(strstr(text, "\"n_ctx\": 3"));
    assert_non_null(strstr(text, "\"n_positions\": 3"));
    assert_non_null(strstr(text, "\"layer_norm_epsilon\": 1e-5"));
    assert_non_null(strstr(text, "\"bos_token_id\": null"));
    free(text);
    info.model.vocab = 50257;
    assert_int_equal(cllm_checkpoint_write_config(*state, &info), 0);
    text = get_file(in(*state, "config.json"), NULL);
    assert_non_null(strstr(text, "\"eos_token_id\": 50256"));
    free(text);
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_is_written_verifies_and_reads_back),
        T(the_same_training_gives_the_same_bytes),
        T(every_changed_byte_of_the_texts_is_refused),
        T(changed_tensor_bytes_are_refused_by_a_deep_look),
        T(torn_and_missing_files_are_refused),
        T(the_vocabulary_is_part_of_it_when_there_is_one),
        T(the_vocabulary_says_how_texts_begin_and_end),
        T(older_hashes_of_tensors_still_count),
        T(tensors_must_fit_the_configuration),
        T(the_newest_sound_one_is_taken),
        T(a_run_directory_leads_to_its_checkpoint),
        T(a_step_can_be_written_again),
        T(prune_keeps_the_newest_the_best_and_the_last),
        T(the_configuration_is_what_transformers_reads),
    };

    cllm_log_init("test", CLLM_LOG_ERROR);
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
