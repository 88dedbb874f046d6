/*
 * tests/test_llama2c.c - llama2.c's files: numbers that lie, layout, vocabularies.
 */
#include "tests/formats_temp.h"

#include <math.h>

#include "base/arena.h"
#include "compute/ops.h"
#include "formats/llama2c.h"
#include "formats/sha256.h"
#include "formats/source.h"
#include "formats/spm.h"
#include "model/decoder.h"
#include "tests/foreign.h"

/* width 8, hidden 12, 2 layers, 4 heads, 2 of keys, 20 tokens, 6 positions */
static const int32_t sound[7] = {8, 12, 2, 4, 2, 20, 6};
#define PARAMS \
    (20 * 8 + 2 * 8 + 2 * (8 * 8 + 4 * 8 + 4 * 8 + 8 * 8) + 2 * 8 + 2 * 3 * 12 * 8 + 8)
#define TABLES (6 * 2)
#define FLOATS (PARAMS + TABLES)
#define BYTES  (28 + 4 * (uint64_t)FLOATS)

static void sound_numbers_are_taken(void **state)
{
    struct cllm_llama2c file;
    int32_t head[7];

    (void)state;
    if (cllm_llama2c_parse(&file, sound, BYTES, "m.bin") != 0)
        fail_msg("%s", cllm_err_text());
    assert_int_equal(file.config.kv_heads, 2);
    assert_int_equal(file.config.head_size, 2);
    assert_false(file.config.untied);
    memcpy(head, sound, sizeof head);
    head[5] = -20;
    assert_int_equal(cllm_llama2c_parse(&file, head, BYTES + 4 * 160, "m.bin"), 0);
    assert_true(file.config.untied);
    assert_int_equal(file.config.vocab, 20);
}

static void numbers_that_cannot_be_are_refused(void **state)
{
    static const int32_t values[] = {0, -1, INT32_MIN, INT32_MAX, 3, 1 << 30};
    struct cllm_llama2c file;
    int32_t head[7];

    (void)state;
    for (uint32_t place = 0; place < 7; place++) {
        for (size_t i = 0; i < CLLM_LEN(values); i++) {
            memcpy(head, sound, sizeof head);
            head[place] = values[i];
            assert_int_equal(cllm_llama2c_parse(&file, head, BYTES, "m.bin"), CLLM_EDATA);
            assert_error_says("m.bin");
        }
    }
    for (uint64_t bytes = 0; bytes < BYTES + 40; bytes++)
        if (bytes != BYTES)
            assert_int_equal(cllm_llama2c_parse(&file, sound, bytes, "m.bin"),
                             CLLM_EDATA);
}

static void tensors_are_where_the_format_has_them(void **state)
{
    const char *path = in(*state, "m.bin");
    struct cllm_parameters parameters;
    struct cllm_llama2c file;
    float data[FLOATS], out[288], room[288];
    FILE *stream = fopen(path, "wb");

    for (uint32_t i = 0; i < FLOATS; i++)
        data[i] = (float)i;
    assert_non_null(stream);
    assert_int_equal(fwrite(sound, sizeof sound, 1, stream), 1);
    assert_int_equal(fwrite(data, sizeof data, 1, stream), 1);
    assert_int_equal(fclose(stream), 0);
    assert_int_equal(cllm_llama2c_open(&file, path), 0);
    assert_int_equal(cllm_parameters_init(&parameters, &file.config), 0);
    const struct {
        enum cllm_tensor_kind kind;
        uint32_t layer;
        uint32_t first;
    } places[] = {
        {CLLM_TENSOR_EMBEDDING, 0, 0},
        {CLLM_TENSOR_NORM1_W, 1, 160 + 8},
        {CLLM_TENSOR_V_W, 1, 176 + 128 + 64 + 32},
        {CLLM_TENSOR_ATTN_W, 0, 176 + 128 + 128},
        {CLLM_TENSOR_NORM2_W, 0, 560},
        {CLLM_TENSOR_GATE_W, 0, 576},
        {CLLM_TENSOR_PROJ_W, 1, 576 + 192 + 96},
        {CLLM_TENSOR_FC_W, 1, 576 + 384 + 96},
        {CLLM_TENSOR_NORM_W, 0, 1152},
    };
    for (size_t i = 0; i < CLLM_LEN(places); i++) {
        const struct cllm_tensor *tensor =
            cllm_parameters_at(&parameters, places[i].kind, places[i].layer);
        assert_int_equal(cllm_llama2c_read(&file, &parameters, tensor, out, room), 0);
        for (uint64_t k = 0; k < tensor->count; k++)
            assert_true(out[k] == (float)(places[i].first + k));
    }
    /* keys of layer 1: heads of 2 rows stay as they are, 2i and 2i + 1 are i and i + 1 */
    assert_int_equal(
        cllm_llama2c_read(&file, &parameters,
                          cllm_parameters_at(&parameters, CLLM_TENSOR_K_W, 1), out, room),
        0);
    assert_true(out[0] == (float)(176 + 128 + 32));
    cllm_parameters_fini(&parameters);
    cllm_llama2c_close(&file);
}

/* A vocabulary of @n tokens as llama2.c writes it. */
static size_t make_vocabulary(uint8_t *out, uint32_t n)
{
    size_t at = 4;
    char text[16];

    memcpy(out, &(const int32_t){6}, 4);
    for (uint32_t id = 0; id < n; id++) {
        float score = -(float)id;
        int32_t len;
        if (id < 3)
            len = snprintf(text, sizeof text, "<%u>", id);
        else if (id < 259)
            len = snprintf(text, sizeof text, "<0x%02X>", id - 3);
        else
            len = snprintf(text, sizeof text, " t%u", id);
        memcpy(out + at, &score, 4);
        memcpy(out + at + 4, &len, 4);
        memcpy(out + at + 8, text, (size_t)len);
        at += 8 + (size_t)len;
    }
    return at;
}

static void vocabularies_are_read_and_lies_refused(void **state)
{
    uint8_t bytes[8192];
    size_t n = make_vocabulary(bytes, 300);
    struct cllm_spm spm;

    (void)state;
    assert_int_equal(cllm_spm_parse(&spm, bytes, n, 300, "tok.bin"), 0);
    assert_int_equal(spm.n_tokens, 300);
    assert_memory_equal(spm.token[270].text, " t270", 5);
    assert_int_equal(spm.token[270].bytes, 5);
    assert_true(spm.token[270].score == -270);
    cllm_spm_close(&spm);
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *copy = malloc(cut + 1);
        assert_non_null(copy);
        memcpy(copy, bytes, cut);
        assert_int_equal(cllm_spm_parse(&spm, copy, cut, 300, "tok.bin"), CLLM_EDATA);
        free(copy);
    }
    assert_int_equal(cllm_spm_parse(&spm, bytes, n, 299, "tok.bin"), CLLM_EDATA);
    assert_error_says("bytes behind the last");
    assert_int_equal(cllm_spm_parse(&spm, bytes, n, UINT32_MAX, "tok.bin"), CLLM_EDATA);
    bytes[4 + 3 * 11 + 8] = 'x'; /* "<0x00>" */
    assert_int_equal(cllm_spm_parse(&spm, bytes, n, 300, "tok.bin"), CLLM_EDATA);
    assert_error_says("expected <0x00>");
    memset(bytes + 8, 0xff, 4); /* length of token 0 */
    assert_int_equal(cllm_spm_parse(&spm, bytes, n, 300, "tok.bin"), CLLM_EDATA);
    assert_error_says("length");
}

/* The files of docs/formats.md, outside the repository. */
static void the_published_model_is_read(void **state)
{
    const char *model = foreign("stories260K/stories260K.bin");
    const char *vocabulary = foreign("stories260K/tok512.bin");
    char hex[CLLM_SHA256_HEX_BYTES];
    struct cllm_llama2c file;
    struct cllm_spm spm;

    (void)state;
    if (model == NULL || vocabulary == NULL)
        skip();
    assert_int_equal(cllm_sha256_file(model, hex, NULL), 0);
    assert_string_equal(
        hex, "b0a507e7ad0f626624f17112325e66691f9076d622e1d3274d103d00299f2696");
    assert_int_equal(cllm_llama2c_open(&file, model), 0);
    assert_int_equal(file.config.width, 64);
    assert_int_equal(file.config.hidden, 172);
    assert_int_equal(file.config.kv_heads, 4);
    assert_int_equal(file.config.vocab, 512);
    assert_false(file.config.untied);
    cllm_llama2c_close(&file);
    assert_int_equal(cllm_spm_open(&spm, vocabulary, 512), 0);
    assert_int_equal(spm.token[403].bytes, 5);
    assert_memory_equal(spm.token[403].text, " Once", 5);
    cllm_spm_close(&spm);
}

/* Numbers of a forward pass in double precision over the same weights. */
static void the_published_model_says_what_is_known(void **state)
{
    const char *path = foreign("stories260K/stories260K.bin");
    static const uint32_t tokens[] = {1, 403, 407, 261, 378, 432};
    static const struct {
        uint32_t position, token;
        double logit;
    } known[] = {{0, 0, -6.2229},   {0, 1, 8.4043},    {0, 2, -6.2237},
                 {0, 3, -6.2225},   {0, 403, 17.0235}, {0, 385, 15.4062},
                 {0, 410, 13.1083}, {5, 383, 18.6051}, {5, 322, 15.6941},
                 {5, 261, 14.1401}};
    struct cllm_decoder decoder;
    struct cllm_source source;
    struct cllm_arena arena;
    float *w, *room; // vectors

    (void)state;
    if (path == NULL)
        skip();
    assert_int_equal(cllm_source_open(&source, path), 0);
    const struct cllm_parameters *plan = &source.parameters;
    assert_int_equal(cllm_arena_init(&arena, cllm_decoder_arena_bytes(plan) +
                                                 2 * plan->n_elements * sizeof *w + 256),
                     0);
    cllm_decoder_init(&decoder, plan, cllm_ops_select(), &arena);
    w = cllm_arena_take(&arena, plan->n_elements * sizeof *w);
    room = cllm_arena_take(&arena, plan->n_elements * sizeof *room);
    for (uint32_t i = 0; i < plan->n_tensors; i++)
        assert_int_equal(cllm_source_read(&source, i, w + plan->tensors[i].off, room), 0);
    for (uint32_t t = 0; t < CLLM_LEN(tokens); t++) {
        const float *logits = cllm_decoder_step(&decoder, w, tokens[t]);
        for (size_t i = 0; i < CLLM_LEN(known); i++)
            if (known[i].position == t)
                assert_true(fabs((double)logits[known[i].token] - known[i].logit) < 1e-4);
    }
    cllm_arena_fini(&arena);
    cllm_source_close(&source);
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(sound_numbers_are_taken),
        T(numbers_that_cannot_be_are_refused),
        T(tensors_are_where_the_format_has_them),
        T(vocabularies_are_read_and_lies_refused),
        T(the_published_model_is_read),
        T(the_published_model_says_what_is_known),
    };

    return cmocka_run_group_tests_name("llama2c", tests, NULL, NULL);
}
