/*
 * tests/test_adapter.c - adapters in files: their configuration both ways, the model
 * beneath them by its hash, a checkpoint of them, and what they make of that model.
 */
#include "formats/adapter.h"

#include "tests/formats_temp.h"

#include <fcntl.h>
#include <math.h>

#include "base/hash.h"
#include "base/random.h"
#include "formats/checkpoint.h"
#include "tests/model_files.h"

#define BIT(kind) (UINT32_C(1) << (CLLM_TENSOR_##kind))

/* ---- adapter_config.json ---- */

static void what_is_written_reads_back(void **state)
{
    static const struct {
        enum cllm_arch arch;
        struct cllm_lora lora;
    } cases[] = {
        {CLLM_ARCH_GPT2, {.rank = 4, .targets = BIT(QKV_W), .alpha = 16}},
        {CLLM_ARCH_GPT2, {.rank = 1, .targets = BIT(ATTN_W) | BIT(FC_W), .alpha = 0.3}},
        {CLLM_ARCH_GPT2, {.rank = 3, .targets = BIT(PROJ_W), .alpha = 1e6}},
        {CLLM_ARCH_LLAMA, {.rank = 2, .targets = BIT(Q_W) | BIT(V_W), .alpha = 1e-6}},
        {CLLM_ARCH_LLAMA, {.rank = 5, .targets = BIT(GATE_W) | BIT(PROJ_W), .alpha = 1}},
    };

    for (size_t i = 0; i < CLLM_LEN(cases); i++) {
        struct cllm_model_config model = model_files_config(cases[i].arch, false);
        struct cllm_lora found;

        assert_int_equal(cllm_adapter_write_config(*state, &cases[i].lora, &model), 0);
        assert_int_equal(cllm_adapter_read_config(*state, &model, &found), 0);
        assert_memory_equal(&found, &cases[i].lora, sizeof found);
    }
}

#define CONFIG(type, rank, alpha, targets, more)                     \
    "{\"peft_type\": \"" type "\", \"bias\": \"none\", \"r\": " rank \
    ", \"lora_alpha\": " alpha ", \"target_modules\": " targets more "}"

static int parse(const char *text, struct cllm_lora *lora)
{
    struct cllm_model_config model = model_files_config(CLLM_ARCH_GPT2, false);

    return cllm_adapter_parse_config(text, strlen(text), "adapter", &model, lora);
}

static void what_cllm_does_not_compute_is_refused(void **state)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {CONFIG("LOHA", "4", "16", "[\"c_attn\"]", ""), "peft_type"},
        {CONFIG("LORA", "0", "16", "[\"c_attn\"]", ""), "rank 0"},
        {CONFIG("LORA", "100000", "16", "[\"c_attn\"]", ""), "is more than"},
        {CONFIG("LORA", "99999999999999", "16", "[\"c_attn\"]", ""), "is more than"},
        {CONFIG("LORA", "-1", "16", "[\"c_attn\"]", ""), "\"r\""},
        {CONFIG("LORA", "4", "0", "[\"c_attn\"]", ""), "alpha 0"},
        {CONFIG("LORA", "4", "-16", "[\"c_attn\"]", ""), "alpha -16"},
        {CONFIG("LORA", "4", "1e300", "[\"c_attn\"]", ""), "lora_alpha"},
        {CONFIG("LORA", "4", "\"16\"", "[\"c_attn\"]", ""), "lora_alpha"},
        {CONFIG("LORA", "4", "16", "[]", ""), "matrices 0"},
        {CONFIG("LORA", "4", "16", "[\"q_proj\"]", ""), "'q_proj' names no matrix"},
        {CONFIG("LORA", "4", "16", "[7]", ""), "element 0 is not text"},
        {CONFIG("LORA", "4", "16", "\"c_attn\"", ""), "target_modules"},
        {CONFIG("LORA", "4", "16", "[\"c_attn\"]", ", \"use_dora\": true"), "use_dora"},
        {CONFIG("LORA", "4", "16", "[\"c_attn\"]", ", \"use_rslora\": true"),
         "use_rslora"},
        {CONFIG("LORA", "4", "16", "\".*attn.*\"", ""), "the pattern \".*attn.*\""},
        {CONFIG("LORA", "4", "16", "[\"c_attn\"]", ", \"lora_bias\": true"), "lora_bias"},
        {CONFIG("LORA", "4", "16", "[\"c_attn\"]", ", \"rank_pattern\": {\"h.0\": 2}"),
         "rank_pattern"},
        {CONFIG("LORA", "4", "16", "[\"c_attn\"]", ", \"layers_to_transform\": [0]"),
         "layers_to_transform"},
        {CONFIG("LORA", "4", "16", "[\"c_attn\"]", ", \"modules_to_save\": [\"wte\"]"),
         "modules_to_save"},
        {"{\"peft_type\": \"LORA\"}", "bias"},
        {"[]", "adapter"},
        {"", "adapter"},
    };
    struct cllm_lora lora;

    (void)state;
    assert_int_equal(parse(CONFIG("LORA", "4", "16", "[\"c_attn\"]", ""), &lora), 0);
    assert_int_equal(lora.targets, BIT(QKV_W));
    for (size_t i = 0; i < CLLM_LEN(bad); i++) {
        if (parse(bad[i].text, &lora) != CLLM_EDATA)
            fail_msg("accepted: %s", bad[i].text);
        assert_error_says(bad[i].says);
    }
}

/* ---- the model beneath ---- */

/* Hash of the weights of the model files' tensors, in order. */
static uint64_t hash_of(const struct cllm_parameters *parameters)
{
    struct cllm_hasher *hasher = cllm_hasher_new();
    uint64_t hash;

    assert_non_null(hasher);
    cllm_hasher_begin(hasher, 0);
    for (uint32_t t = 0; t < parameters->n_tensors; t++)
        for (uint64_t i = 0; i < parameters->tensors[t].count; i++) {
            float value = model_files_value(t, i);

            cllm_hasher_add(hasher, &value, sizeof value);
        }
    hash = cllm_hasher_end(hasher);
    cllm_hasher_free(&hasher);
    return hash;
}

static void the_model_beneath_is_known_by_its_weights(void **state)
{
    struct cllm_model_config config = model_files_config(CLLM_ARCH_GPT2, false);
    struct cllm_model_config other = model_files_config(CLLM_ARCH_LLAMA, true);
    struct cllm_parameters parameters, others;
    const char *dir = in(*state, "base");
    uint64_t hash;
    float *w;
    int fd;

    assert_int_equal(cllm_parameters_init(&parameters, &config), 0);
    assert_int_equal(cllm_parameters_init(&others, &other), 0);
    hash = hash_of(&parameters);
    w = calloc(parameters.n_elements, sizeof *w);
    assert_non_null(w);
    assert_true(cllm_adapter_read_base(dir, &parameters, hash, w) < 0); /* none there */
    model_files_write(dir, &config, CLLM_SOURCE_HF, CLLM_SINK_F32);
    assert_int_equal(cllm_adapter_read_base(dir, &parameters, hash, NULL), 0);
    assert_int_equal(cllm_adapter_read_base(dir, &parameters, hash, w), 0);
    for (uint32_t t = 0; t < parameters.n_tensors; t++)
        for (uint64_t i = 0; i < parameters.tensors[t].count; i++)
            assert_true(w[parameters.tensors[t].off + i] == model_files_value(t, i));

    assert_int_equal(cllm_adapter_read_base(dir, &others, hash, NULL), CLLM_EDATA);
    assert_error_says("is not the model that the adapters are for");
    fd = open(in(dir, CLLM_HF_MODEL), O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "\1", 1, lseek(fd, 0, SEEK_END) - 3), 1);
    assert_int_equal(close(fd), 0);
    assert_int_equal(cllm_adapter_read_base(dir, &parameters, hash, w), CLLM_EDATA);
    assert_error_says("does not hold the weights that the adapters are for");
    free(w);
    cllm_parameters_fini(&parameters);
    cllm_parameters_fini(&others);
}

/* ---- a checkpoint of adapters ---- */

static void write_tensors(const char *dir, const char *name,
                          struct cllm_safetensors_plan *plan, const float *w,
                          const struct cllm_parameters *adapters)
{
    int fd = cllm_checkpoint_create(dir, name, plan);

    assert_true(fd >= 0);
    for (uint32_t t = 0; w != NULL && t < adapters->n_tensors; t++)
        assert_int_equal(cllm_file_pwrite_all(fd, w + adapters->tensors[t].off,
                                              adapters->tensors[t].count * sizeof *w,
                                              plan->data_off[t], name),
                         0);
    assert_int_equal(close(fd), 0);
    cllm_safetensors_plan_fini(plan);
}

/* A run in @dir: base/, and one checkpoint of random adapters for it, into @w. */
static void write_run(const char *dir, struct cllm_checkpoint_info *info,
                      struct cllm_parameters *adapters, float **w)
{
    char checkpoints[CLLM_FILE_PATH_BYTES], temp[CLLM_FILE_PATH_BYTES];
    struct cllm_safetensors_plan plan;
    struct cllm_parameters parameters;

    assert_int_equal(cllm_file_join(checkpoints, dir, "checkpoints"), 0);
    model_files_write(in(dir, "base"), &info->model, CLLM_SOURCE_HF, CLLM_SINK_F32);
    assert_int_equal(cllm_parameters_init(&parameters, &info->model), 0);
    info->base = hash_of(&parameters);
    cllm_parameters_fini(&parameters);
    assert_int_equal(cllm_lora_trained(adapters, &info->model, &info->lora), 0);
    *w = calloc(adapters->n_elements, sizeof **w);
    assert_non_null(*w);
    for (uint64_t i = 0; i < adapters->n_elements; i++)
        (*w)[i] = cllm_random_f32(3, CLLM_RANDOM_TEST, i) - 0.5f;
    assert_int_equal(cllm_checkpoint_begin(checkpoints, info->step, temp), 0);
    assert_int_equal(cllm_safetensors_plan_init(&plan, "", adapters->tensors,
                                                adapters->n_tensors, NULL, 0),
                     0);
    write_tensors(temp, CLLM_ADAPTER_MODEL, &plan, *w, adapters);
    assert_int_equal(
        cllm_safetensors_plan_moments(&plan, adapters->tensors, adapters->n_tensors), 0);
    write_tensors(temp, CLLM_CHECKPOINT_OPTIMIZER, &plan, NULL, adapters);
    assert_int_equal(cllm_checkpoint_describe(temp, info, NULL, 0), 0);
    assert_int_equal(cllm_checkpoint_commit(checkpoints, info->step), 0);
    assert_int_equal(cllm_checkpoint_link(checkpoints, "last", info->step), 0);
}

static struct cllm_checkpoint_info info_of(enum cllm_arch arch)
{
    return (struct cllm_checkpoint_info){
        .step = 7,
        .fingerprint = "0f",
        .root = "1f",
        .data = "2f",
        .train_loss = (double)NAN,
        .valid_loss = (double)NAN,
        .best_loss = (double)NAN,
        .model = model_files_config(arch, false),
        .init_range = 0.02,
        .lora = {.rank = 3,
                 .alpha = 6,
                 .targets = arch == CLLM_ARCH_GPT2 ? BIT(QKV_W) | BIT(PROJ_W)
                                                   : BIT(K_W) | BIT(FC_W)}};
}

static void a_checkpoint_of_adapters_is_the_merged_model(void **state)
{
    for (uint32_t arch = 0; arch < CLLM_N_ARCHS; arch++) {
        struct cllm_checkpoint_info info = info_of((enum cllm_arch)arch), found;
        const char *run = in(*state, cllm_arch_names[arch]);
        struct cllm_parameters adapters;
        struct cllm_source source;
        float *w, *out, *want;
        uint64_t most, differ = 0;

        write_run(run, &info, &adapters, &w);
        assert_int_equal(
            cllm_checkpoint_verify(in(run, "checkpoints/step-0000000007"), true, &found),
            0);
        assert_memory_equal(&found.lora, &info.lora, sizeof found.lora);
        assert_int_equal(found.base, info.base);
        assert_int_equal(cllm_source_open(&source, run), 0);
        most = cllm_source_room(&source);
        out = calloc(2 * most, sizeof *out);
        want = calloc(most, sizeof *want);
        assert_true(out != NULL && want != NULL);
        for (uint32_t t = 0; t < source.parameters.n_tensors; t++) {
            const struct cllm_tensor *tensor = &source.parameters.tensors[t];

            for (uint64_t i = 0; i < tensor->count; i++)
                want[i] = model_files_value(t, i);
            cllm_lora_merge(want, tensor, &adapters, w, &info.lora);
            for (uint64_t i = 0; i < tensor->count; i++)
                differ += fabsf(want[i] - model_files_value(t, i)) > 1e-3f;
            assert_int_equal(cllm_source_read(&source, t, out, out + most), 0);
            assert_memory_equal(out, want, tensor->count * sizeof *out);
        }
        assert_true(differ > 100);
        cllm_source_close(&source);
        cllm_parameters_fini(&adapters);
        free(w);
        free(out);
        free(want);
    }
}

static void adapters_without_their_model_are_refused(void **state)
{
    struct cllm_checkpoint_info info = info_of(CLLM_ARCH_GPT2);
    const char *run = in(*state, "run");
    struct cllm_parameters adapters;
    struct cllm_source source;
    float *w;

    write_run(run, &info, &adapters, &w);
    assert_int_equal(cllm_file_rename(in(run, "base"), in(run, "elsewhere")), 0);
    assert_int_equal(cllm_source_open(&source, run), CLLM_EDATA);
    assert_error_says("holds adapters alone");
    info.model.layers++;
    model_files_write(in(run, "base"), &info.model, CLLM_SOURCE_HF, CLLM_SINK_F32);
    assert_int_equal(cllm_source_open(&source, run), CLLM_EDATA);
    assert_error_says("does not hold the weights that the adapters are for");
    cllm_parameters_fini(&adapters);
    free(w);
}

static void a_manifest_lists_weights_or_adapters_not_both(void **state)
{
    struct cllm_checkpoint_info info = info_of(CLLM_ARCH_GPT2);
    const char *run = in(*state, "run");
    const char *step = in(run, "checkpoints/step-0000000007");
    struct cllm_parameters adapters;
    float *w;

    write_run(run, &info, &adapters, &w);
    assert_int_equal(cllm_checkpoint_verify(step, true, NULL), 0);
    put_file(in(step, CLLM_CHECKPOINT_MODEL), "x", 1);
    assert_int_equal(cllm_checkpoint_write_manifest(step, NULL, 0), 0);
    assert_int_equal(cllm_checkpoint_verify(step, true, NULL), CLLM_EDATA);
    assert_error_says("more or less than a checkpoint's files");
    assert_int_equal(unlink(in(step, CLLM_CHECKPOINT_MODEL)), 0);
    assert_int_equal(unlink(in(step, CLLM_ADAPTER_CONFIG)), 0);
    assert_int_equal(cllm_checkpoint_write_manifest(step, NULL, 0), 0);
    assert_int_equal(cllm_checkpoint_verify(step, true, NULL), CLLM_EDATA);
    cllm_parameters_fini(&adapters);
    free(w);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_is_written_reads_back),
        TEST(what_cllm_does_not_compute_is_refused),
        TEST(the_model_beneath_is_known_by_its_weights),
        TEST(a_checkpoint_of_adapters_is_the_merged_model),
        TEST(adapters_without_their_model_are_refused),
        TEST(a_manifest_lists_weights_or_adapters_not_both),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
