/*
 * tests/test_llmc.c - headers of llm.c's model files that lie.
 */
#include "tests/formats_temp.h"

#include "formats/llmc.h"

/* Sound numbers, and how large their file is. */
static const int32_t sound[8] = {CLLM_LLMC_MAGIC, CLLM_LLMC_F32, 16, 100, 1, 2, 8, 128};
#define PARAMS \
    (128 * 8 + 16 * 8 + 2 * 8 * 2 + 24 * 8 + 24 + 64 + 8 + 32 * 8 + 32 + 32 * 8 + 8 + 16)
#define BYTES (1024 + 4 * (uint64_t)PARAMS)

static int parse(const int32_t head[8], uint64_t bytes, struct cllm_llmc *llmc)
{
    int32_t header[256] = {0};

    memcpy(header, head, 8 * sizeof *head);
    return cllm_llmc_parse(llmc, header, bytes, "model.bin");
}

static void sound_numbers_are_taken(void **state)
{
    struct cllm_llmc llmc;
    int32_t head[8];

    (void)state;
    if (parse(sound, BYTES, &llmc) != 0)
        fail_msg("%s", cllm_err_text());
    assert_int_equal(llmc.config.vocab, 100);
    assert_int_equal(llmc.config.context, 16);
    assert_int_equal(llmc.config.hidden, 32);
    assert_int_equal(llmc.padded_vocab, 128);
    memcpy(head, sound, sizeof head);
    head[1] = CLLM_LLMC_BF16;
    assert_int_equal(parse(head, 1024 + 2 * (uint64_t)PARAMS, &llmc), 0);
}

static void numbers_that_cannot_be_are_refused(void **state)
{
    static const struct {
        uint32_t place;
        int32_t value;
        const char *says;
    } bad[] = {
        {0, 20240520, "another magic number"},
        {1, 1, "version"},
        {2, 0, "maxT"},
        {3, -5, "V"},
        {4, INT32_MIN, "L"},
        {4, INT32_MAX, "layers"},
        {5, 3, "width 8 is not a multiple"},
        {6, INT32_MAX, "width"},
        {7, 99, "Vp"},
        {7, INT32_MAX, "Vp"},
        {3, 101, "its size"},
        {7, 256, "its size"},
        {1, 5, "its size"},
        {2, 17, "its size"},
    };
    struct cllm_llmc llmc;
    int32_t head[8];

    (void)state;
    for (size_t i = 0; i < CLLM_LEN(bad); i++) {
        memcpy(head, sound, sizeof head);
        head[bad[i].place] = bad[i].value;
        /* 101 tokens of 128 rows are as large as 100 of 128. */
        if (bad[i].place == 3 && bad[i].value == 101)
            head[7] = 129;
        assert_int_equal(parse(head, BYTES, &llmc), CLLM_EDATA);
        assert_error_says(bad[i].says);
        assert_error_says("model.bin");
    }
}

static void a_file_that_is_cut_or_longer_is_refused(void **state)
{
    struct cllm_llmc llmc;

    (void)state;
    for (uint64_t bytes = 0; bytes < BYTES + 40; bytes++) {
        if (bytes == BYTES)
            continue;
        assert_int_equal(parse(sound, bytes, &llmc), CLLM_EDATA);
    }
}

static void what_llmc_cannot_hold_is_named(void **state)
{
    struct cllm_model_config config = {.arch = CLLM_ARCH_GPT2,
                                       .vocab = 10,
                                       .context = 4,
                                       .layers = 1,
                                       .heads = 1,
                                       .width = 4};

    (void)state;
    cllm_model_config_complete(&config);
    assert_int_equal(cllm_llmc_check(&config), 0);
    config.untied = 1;
    assert_int_equal(cllm_llmc_check(&config), CLLM_EREFUSED);
    assert_error_says("output matrix");
    config.untied = 0;
    config.crystalline_bias = 1;
    assert_int_equal(cllm_llmc_check(&config), CLLM_EREFUSED);
    assert_error_says("crystalline bias");
    config.crystalline_bias = 0;
    config.hidden = 20;
    assert_int_equal(cllm_llmc_check(&config), CLLM_EREFUSED);
    assert_error_says("MLP");
    config.arch = CLLM_ARCH_LLAMA;
    assert_int_equal(cllm_llmc_check(&config), CLLM_EREFUSED);
    assert_error_says("GPT-2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_numbers_are_taken),
        cmocka_unit_test(numbers_that_cannot_be_are_refused),
        cmocka_unit_test(a_file_that_is_cut_or_longer_is_refused),
        cmocka_unit_test(what_llmc_cannot_hold_is_named),
    };

    return cmocka_run_group_tests_name("llmc", tests, NULL, NULL);
}
