/*
 * tests/test_source.c - models into every kind of files, and out of them again.
 */
#include "tests/formats_temp.h"

#include <errno.h>
#include <math.h>

#include "formats/checkpoint.h"
#include "formats/hf.h"
#include "formats/llmc.h"
#include "tests/model_files.h"

/* Kinds of files, what of them holds which dtype, and how exactly. */
static const struct {
    enum cllm_source_kind kind;
    enum cllm_sink_dtype dtype;
    double tolerance;
    bool gpt2_only;
} cases[] = {
    {CLLM_SOURCE_HF, CLLM_SINK_F32, 0, false},
    {CLLM_SOURCE_HF, CLLM_SINK_F16, 0x1p-10, false},
    {CLLM_SOURCE_HF, CLLM_SINK_BF16, 0x1p-8, false},
    {CLLM_SOURCE_CHECKPOINT, CLLM_SINK_F32, 0, false},
    {CLLM_SOURCE_GGUF, CLLM_SINK_F32, 0, false},
    {CLLM_SOURCE_GGUF, CLLM_SINK_F16, 0x1p-10, false},
    {CLLM_SOURCE_GGUF, CLLM_SINK_BF16, 0x1p-8, false},
    {CLLM_SOURCE_GGUF, CLLM_SINK_Q8_0, 0.15, false},
    {CLLM_SOURCE_LLMC, CLLM_SINK_F32, 0, true},
    {CLLM_SOURCE_LLMC, CLLM_SINK_BF16, 0x1p-8, true},
};

static void every_kind_of_files_gives_back_the_model(void **state)
{
    char name[64];

    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        for (uint32_t shape = 0; shape < 4; shape++) {
            enum cllm_arch arch = shape / 2 == 0 ? CLLM_ARCH_GPT2 : CLLM_ARCH_LLAMA;
            struct cllm_model_config config = model_files_config(arch, shape % 2);
            if (cases[i].gpt2_only && shape != 0)
                continue;
            (void)snprintf(name, sizeof name, "m%zu-%u", i, shape);
            model_files_write(in(*state, name), &config, cases[i].kind, cases[i].dtype);
            model_files_check(in(*state, name), &config, cases[i].kind,
                              cases[i].tolerance);
        }
    }
}

static void heads_of_another_size_and_scalings_travel(void **state)
{
    struct cllm_model_config config = model_files_config(CLLM_ARCH_LLAMA, true);

    config.head_size = 12;
    config.rope_theta = 500000;
    config.norm_epsilon = 1e-6;
    config.rope_scaling = CLLM_ROPE_LINEAR;
    config.rope_factor = 4;
    model_files_write(in(*state, "m.gguf"), &config, CLLM_SOURCE_GGUF, CLLM_SINK_F32);
    model_files_check(in(*state, "m.gguf"), &config, CLLM_SOURCE_GGUF, 0);
    model_files_write(in(*state, "hf"), &config, CLLM_SOURCE_HF, CLLM_SINK_F32);
    model_files_check(in(*state, "hf"), &config, CLLM_SOURCE_HF, 0);
}

/* The file's own bytes: element (out, in) of a matrix that Hugging Face has (in, out). */
static void gguf_and_llmc_turn_the_matrices_of_gpt2(void **state)
{
    struct cllm_model_config config = model_files_config(CLLM_ARCH_GPT2, false);
    const char *path = in(*state, "m.gguf"), *llmc = in(*state, "m.bin");
    const uint32_t C = config.width;
    const struct cllm_gguf_tensor *tensor;
    struct cllm_parameters parameters;
    struct cllm_gguf gguf;
    float *found = malloc(3 * C * C * sizeof *found); // (3C,C)
    uint64_t off;
    FILE *file;

    assert_non_null(found);
    assert_int_equal(cllm_parameters_init(&parameters, &config), 0);
    model_files_write(path, &config, CLLM_SOURCE_GGUF, CLLM_SINK_F32);
    assert_int_equal(cllm_gguf_open(&gguf, path), 0);
    tensor = cllm_gguf_tensor(&gguf, "blk.1.attn_qkv.weight");
    assert_non_null(tensor);
    assert_int_equal(tensor->ne[0], C);
    assert_int_equal(tensor->ne[1], 3 * C);
    assert_int_equal(cllm_gguf_read(&gguf, tensor, 0, 3 * C * C, found), 0);
    uint32_t index = (uint32_t)(cllm_parameters_at(&parameters, CLLM_TENSOR_QKV_W, 1) -
                                parameters.tensors);
    for (uint64_t o = 0; o < 3 * C; o++)
        for (uint64_t i = 0; i < C; i++)
            assert_true(found[o * C + i] == model_files_value(index, i * 3 * C + o));
    cllm_gguf_close(&gguf);

    /* wte (Vp,C), wpe (T,C), ln_1 of both layers, then qkv of layer 0 and 1 */
    model_files_write(llmc, &config, CLLM_SOURCE_LLMC, CLLM_SINK_F32);
    off = 1024 + sizeof(float) * (384 * C + 24 * C + 2 * C + 2 * C + 3 * C * C);
    file = fopen(llmc, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)off, SEEK_SET), 0);
    assert_int_equal(fread(found, sizeof *found, 3 * C * C, file), 3 * C * C);
    for (uint64_t o = 0; o < 3 * C; o++)
        for (uint64_t i = 0; i < C; i++)
            assert_true(found[o * C + i] == model_files_value(index, i * 3 * C + o));
    /* the rows beyond the vocabulary are zeros */
    assert_int_equal(fseek(file, (long)(1024 + sizeof(float) * 261 * C), SEEK_SET), 0);
    assert_int_equal(fread(found, sizeof *found, C, file), C);
    for (uint32_t i = 0; i < C; i++)
        assert_true(found[i] == 0);
    (void)fclose(file);
    free(found);
    cllm_parameters_fini(&parameters);
}

/* w.reshape(H, 2, D/2, C).swapaxes(1, 2).reshape(H D, C), element by element. */
static void gguf_interleaves_queries_and_keys_of_llama(void **state)
{
    struct cllm_model_config config = model_files_config(CLLM_ARCH_LLAMA, false);
    const char *path = in(*state, "m.gguf");
    const uint32_t C = config.width, D = config.head_size;
    struct cllm_parameters parameters;
    struct cllm_gguf gguf;
    float *found = malloc(C * C * sizeof *found); // (KV D,C)
    uint32_t index;

    assert_non_null(found);
    assert_int_equal(cllm_parameters_init(&parameters, &config), 0);
    model_files_write(path, &config, CLLM_SOURCE_GGUF, CLLM_SINK_F32);
    assert_int_equal(cllm_gguf_open(&gguf, path), 0);
    assert_int_equal(cllm_gguf_read(&gguf, cllm_gguf_tensor(&gguf, "blk.0.attn_k.weight"),
                                    0, config.kv_heads * D * C, found),
                     0);
    index = (uint32_t)(cllm_parameters_at(&parameters, CLLM_TENSOR_K_W, 0) -
                       parameters.tensors);
    for (uint64_t h = 0; h < config.kv_heads; h++)
        for (uint64_t pair = 0; pair < D / 2; pair++)
            for (uint64_t half = 0; half < 2; half++)
                for (uint64_t c = 0; c < C; c++)
                    assert_true(found[(h * D + 2 * pair + half) * C + c] ==
                                model_files_value(
                                    index, (h * D + half * (D / 2) + pair) * C + c));
    cllm_gguf_close(&gguf);
    free(found);
    cllm_parameters_fini(&parameters);
}

static void a_checkpoint_that_is_made_verifies(void **state)
{
    struct cllm_model_config config = model_files_config(CLLM_ARCH_LLAMA, true);
    struct cllm_checkpoint_info info;

    model_files_write(in(*state, "made"), &config, CLLM_SOURCE_CHECKPOINT, CLLM_SINK_F32);
    if (cllm_checkpoint_verify(in(*state, "made"), true, &info) != 0)
        fail_msg("%s", cllm_err_text());
    assert_int_equal(info.step, 0);
    assert_true(isnan(info.train_loss));
}

/* Write the model in several files, at most @max bytes each. */
static void write_sharded(const char *path, const struct cllm_model_config *config,
                          uint64_t max)
{
    const struct cllm_sink_plan plan = {
        .kind = CLLM_SOURCE_HF, .path = path, .init_range = 0.02, .max_shard = max};
    struct cllm_parameters parameters;
    struct cllm_sink sink;
    float *data;

    assert_int_equal(cllm_parameters_init(&parameters, config), 0);
    data = malloc(parameters.n_elements * sizeof *data);
    assert_non_null(data);
    assert_int_equal(cllm_sink_begin(&sink, &plan, &parameters), 0);
    for (uint32_t t = 0; t < parameters.n_tensors; t++) {
        for (uint64_t i = 0; i < parameters.tensors[t].count; i++)
            data[i] = model_files_value(t, i);
        assert_int_equal(cllm_sink_put(&sink, t, data, data), 0);
    }
    assert_int_equal(cllm_sink_finish(&sink), 0);
    free(data);
    cllm_parameters_fini(&parameters);
}

static void a_model_in_several_files_is_read(void **state)
{
    struct cllm_model_config config = model_files_config(CLLM_ARCH_GPT2, false);
    const char *dir = in(*state, "sharded");
    char path[CLLM_FILE_PATH_BYTES];

    write_sharded(dir, &config, 40000);
    (void)snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    assert_int_equal(access(path, F_OK), 0);
    model_files_check(dir, &config, CLLM_SOURCE_HF, 0);
    (void)snprintf(path, sizeof path, "%s/model-00002-of-00004.safetensors", dir);
    assert_int_equal(unlink(path), 0);
    struct cllm_source source;
    assert_int_not_equal(cllm_source_open(&source, dir), 0);
    assert_error_says("model-00002-of-00004.safetensors");
}

/* @dir/@name with every @from replaced by @to of the same length. */
static void patch(const char *dir, const char *name, const char *from, const char *to)
{
    char path[CLLM_FILE_PATH_BYTES];
    size_t n = 0, len = strlen(from), hits = 0;
    char *bytes;

    assert_int_equal(strlen(to), len);
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    bytes = get_file(path, &n);
    for (char *at = bytes; at + len <= bytes + n; at++) {
        if (memcmp(at, from, len) != 0)
            continue;
        memcpy(at, to, len);
        hits++;
    }
    assert_true(hits > 0);
    put_file(path, bytes, n);
    free(bytes);
}

static void names_without_their_prefix_are_known(void **state)
{
    struct cllm_model_config config = model_files_config(CLLM_ARCH_GPT2, false);
    const char *dir = in(*state, "base");
    char path[CLLM_FILE_PATH_BYTES];
    char *bytes, *at;
    size_t n = 0;

    model_files_write(dir, &config, CLLM_SOURCE_HF, CLLM_SINK_F32);
    (void)snprintf(path, sizeof path, "%s/model.safetensors", dir);
    bytes = get_file(path, &n);
    assert_int_equal((unsigned char)bytes[1], 0x0f); /* a header of one page */
    /* "transformer.h.0.x" becomes "h.0.x", and the JSON is as long as it was. */
    while ((at = memmem(bytes, n, "\"transformer.", 13)) != NULL) {
        memmove(at + 1, at + 13, (size_t)(bytes + 4096 - (at + 13)));
        memset(bytes + 4096 - 12, ' ', 12);
    }
    put_file(path, bytes, n);
    free(bytes);
    model_files_check(dir, &config, CLLM_SOURCE_HF, 0);
}

static void what_a_directory_lacks_or_has_too_much_is_named(void **state)
{
    struct cllm_model_config config = model_files_config(CLLM_ARCH_LLAMA, false);
    const struct {
        const char *file, *from, *to, *says;
    } bad[] = {
        {"model.safetensors", "layers.1.mlp.up_proj", "layers.1.mlp.xp_proj",
         "layers.1.mlp.xp_proj.weight\" is none of"},
        {"model.safetensors", "model.norm.weight", "model.norm.xeight",
         "model.norm.xeight"},
        {"config.json", "\"llama\"", "\"klama\"", "klama"},
        {"config.json", "\"intermediate_size\": 44", "\"intermediate_size\": 48",
         "its shape is not that of config.json"},
        {"config.json", "\"attention_bias\": false", "\"attention_bias\":  true",
         "attention_bias"},
        {"config.json", "\"silu\"", "\"gelu\"", "silu"},
        {"config.json", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\":false",
         "no tensor \"lm_head.weight\""},
    };
    struct cllm_source source;
    char name[32];

    for (size_t i = 0; i < CLLM_LEN(bad); i++) {
        (void)snprintf(name, sizeof name, "m%zu", i);
        model_files_write(in(*state, name), &config, CLLM_SOURCE_HF, CLLM_SINK_F32);
        patch(in(*state, name), bad[i].file, bad[i].from, bad[i].to);
        assert_int_equal(cllm_source_open(&source, in(*state, name)), CLLM_EDATA);
        assert_error_says(bad[i].says);
    }
}

static void files_of_other_kinds_are_told_apart(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *says;
    } others[] = {
        {"PK\3\4 and so on", 14, "cannot be read"},
        {"\x40\0\0\0\0\0\0\0{\"a\":{}}", 16, "cannot be read"},
        {"", 0, "llama2.c"},
        {"once upon a time there was a model", 34, "llama2.c"},
    };
    struct cllm_source source;
    const char *path = in(*state, "file");

    for (size_t i = 0; i < CLLM_LEN(others); i++) {
        put_file(path, others[i].bytes, others[i].n);
        assert_int_equal(cllm_source_open(&source, path), CLLM_EDATA);
        assert_error_says(others[i].says);
    }
    assert_int_equal(cllm_source_open(&source, *state), CLLM_EDATA);
    assert_error_says("holds no model");
    assert_int_equal(cllm_source_open(&source, in(*state, "none")), -ENOENT);
}

static void a_sink_that_is_dropped_leaves_nothing(void **state)
{
    struct cllm_model_config config = model_files_config(CLLM_ARCH_GPT2, false);
    static const enum cllm_source_kind kinds[] = {CLLM_SOURCE_HF, CLLM_SOURCE_GGUF,
                                                  CLLM_SOURCE_LLMC};
    struct cllm_parameters parameters;
    struct cllm_sink sink;

    assert_int_equal(cllm_parameters_init(&parameters, &config), 0);
    for (size_t i = 0; i < CLLM_LEN(kinds); i++) {
        const struct cllm_sink_plan plan = {
            .kind = kinds[i], .path = in(*state, "m"), .name = "m", .init_range = 0.02};
        assert_int_equal(cllm_sink_begin(&sink, &plan, &parameters), 0);
        assert_int_equal(access(in(*state, "m.tmp"), F_OK), 0);
        cllm_sink_abort(&sink);
        assert_int_not_equal(access(in(*state, "m.tmp"), F_OK), 0);
        assert_int_not_equal(access(in(*state, "m"), F_OK), 0);
    }
    cllm_parameters_fini(&parameters);
}

#define T(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(every_kind_of_files_gives_back_the_model),
        T(heads_of_another_size_and_scalings_travel),
        T(gguf_and_llmc_turn_the_matrices_of_gpt2),
        T(gguf_interleaves_queries_and_keys_of_llama),
        T(a_checkpoint_that_is_made_verifies),
        T(a_model_in_several_files_is_read),
        T(names_without_their_prefix_are_known),
        T(what_a_directory_lacks_or_has_too_much_is_named),
        T(files_of_other_kinds_are_told_apart),
        T(a_sink_that_is_dropped_leaves_nothing),
    };

    return cmocka_run_group_tests_name("source", tests, NULL, NULL);
}
