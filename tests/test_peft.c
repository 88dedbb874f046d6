/*
 * tests/test_peft.c - an adapter as peft writes it: read exactly, merged, or refused with
 * what is wrong with it.
 */
#include "formats/peft.h"

#include "tests/formats_temp.h"

#include "base/random.h"
#include "formats/adapter.h"
#include "formats/checkpoint.h"
#include "tests/model_files.h"

#define BIT(kind) (UINT32_C(1) << (CLLM_TENSOR_##kind))

/* All that peft 0.17 says of an adapter. %s: the model beneath, the modules. */
static const char config[] =
    "{\"alpha_pattern\": {}, \"auto_mapping\": null, \"base_model_name_or_path\": \"%s\","
    " \"bias\": \"none\", \"corda_config\": null, \"eva_config\": null,"
    " \"exclude_modules\": null, \"fan_in_fan_out\": false, \"inference_mode\": true,"
    " \"init_lora_weights\": true, \"layer_replication\": null, \"layers_pattern\": null,"
    " \"layers_to_transform\": null, \"loftq_config\": {}, \"lora_alpha\": 6,"
    " \"lora_bias\": false, \"lora_dropout\": 0.05, \"megatron_config\": null,"
    " \"megatron_core\": \"megatron.core\", \"modules_to_save\": null,"
    " \"peft_type\": \"LORA\", \"qalora_group_size\": 16, \"r\": 3, \"rank_pattern\": {},"
    " \"revision\": null, \"target_modules\": [%s], \"target_parameters\": null,"
    " \"task_type\": \"CAUSAL_LM\", \"trainable_token_indices\": null,"
    " \"use_dora\": false, \"use_qalora\": false, \"use_rslora\": false}";

static const char *const modules[CLLM_N_ARCHS] = {
    [CLLM_ARCH_GPT2] = "\"c_attn\", \"mlp.c_proj\"",
    [CLLM_ARCH_LLAMA] = "\"up_proj\", \"k_proj\"",
};

static struct cllm_lora lora_of(enum cllm_arch arch)
{
    return (struct cllm_lora){.rank = 3,
                              .alpha = 6,
                              .targets = arch == CLLM_ARCH_GPT2 ? BIT(QKV_W) | BIT(PROJ_W)
                                                                : BIT(K_W) | BIT(FC_W)};
}

/* An adapter and the tables for it. */
struct setup {
    struct cllm_model_config model;
    struct cllm_parameters base, adapters;
    struct cllm_lora lora;
    float *w;
    char dir[CLLM_FILE_PATH_BYTES], beneath[CLLM_FILE_PATH_BYTES];
};

static void write_config(const struct setup *s, const char *base)
{
    char text[2048];
    int n = snprintf(text, sizeof text, config, base, modules[s->model.arch]);

    assert_true(n > 0 && (size_t)n < sizeof text);
    put_file(in(s->dir, CLLM_ADAPTER_CONFIG), text, (size_t)n);
}

/* The first @n tensors of @table in @dtype; what @w does not have is zero. */
static void write_tensors(const struct setup *s, const struct cllm_tensor *tensors,
                          uint32_t n)
{
    struct cllm_safetensors_plan plan;
    int fd;

    (void)unlink(in(s->dir, CLLM_ADAPTER_MODEL));
    assert_int_equal(cllm_safetensors_plan_init(&plan, "", tensors, n, NULL, 0), 0);
    fd = cllm_checkpoint_create(s->dir, CLLM_ADAPTER_MODEL, &plan);
    assert_true(fd >= 0);
    for (uint32_t t = 0; t < n && t < s->adapters.n_tensors; t++)
        assert_int_equal(cllm_file_pwrite_all(fd, s->w + s->adapters.tensors[t].off,
                                              tensors[t].count * sizeof *s->w,
                                              plan.data_off[t], "adapter"),
                         0);
    assert_int_equal(close(fd), 0);
    cllm_safetensors_plan_fini(&plan);
}

static void setup_init(struct setup *s, const char *where, enum cllm_arch arch)
{
    *s = (struct setup){.model = model_files_config(arch, false), .lora = lora_of(arch)};
    (void)snprintf(s->dir, sizeof s->dir, "%s", in(where, cllm_arch_names[arch]));
    (void)snprintf(s->beneath, sizeof s->beneath, "%s", in(s->dir, "beneath"));
    assert_int_equal(cllm_file_mkdirs(s->dir), 0);
    model_files_write(s->beneath, &s->model, CLLM_SOURCE_HF, CLLM_SINK_F32);
    assert_int_equal(cllm_parameters_init(&s->base, &s->model), 0);
    assert_int_equal(cllm_lora_parameters(&s->adapters, &s->base, &s->lora), 0);
    s->w = calloc(s->adapters.n_elements, sizeof *s->w);
    assert_non_null(s->w);
    for (uint32_t t = 0; t < s->adapters.n_tensors; t++)
        for (uint64_t i = 0; i < s->adapters.tensors[t].count; i++)
            s->w[s->adapters.tensors[t].off + i] =
                cllm_random_f32(t, CLLM_RANDOM_TEST, i) - 0.5f;
    write_config(s, "beneath");
    write_tensors(s, s->adapters.tensors, s->adapters.n_tensors);
}

static void setup_fini(struct setup *s)
{
    cllm_parameters_fini(&s->base);
    cllm_parameters_fini(&s->adapters);
    free(s->w);
}

static int read_it(const struct setup *s)
{
    struct cllm_parameters tensors;
    struct cllm_lora lora;
    float *w;
    int rc = cllm_peft_read(s->dir, &s->base, &lora, &tensors, &w);

    if (rc == 0) {
        free(w);
        cllm_parameters_fini(&tensors);
    }
    return rc;
}

static void what_peft_writes_is_read(void **state)
{
    for (uint32_t arch = 0; arch < CLLM_N_ARCHS; arch++) {
        struct cllm_parameters tensors;
        struct cllm_lora lora;
        struct setup s;
        float *w;

        setup_init(&s, *state, (enum cllm_arch)arch);
        assert_true(cllm_peft_is(s.dir));
        assert_false(cllm_peft_is(s.beneath));
        if (cllm_peft_read(s.dir, &s.base, &lora, &tensors, &w) != 0)
            fail_msg("%s", cllm_err_text());
        assert_memory_equal(&lora, &s.lora, sizeof lora);
        assert_int_equal(tensors.n_elements, s.adapters.n_elements);
        assert_memory_equal(w, s.w, tensors.n_elements * sizeof *w);
        free(w);
        cllm_parameters_fini(&tensors);
        setup_fini(&s);
    }
}

static void an_adapter_is_the_merged_model(void **state)
{
    for (uint32_t arch = 0; arch < CLLM_N_ARCHS; arch++) {
        struct cllm_source source;
        float *out, *want;
        struct setup s;
        uint64_t most;

        setup_init(&s, *state, (enum cllm_arch)arch);
        if (cllm_source_open(&source, s.dir) != 0)
            fail_msg("%s", cllm_err_text());
        assert_int_equal(source.kind, CLLM_SOURCE_PEFT);
        assert_string_equal(source.path, s.dir);
        most = cllm_source_room(&source);
        out = calloc(2 * most, sizeof *out);
        want = calloc(most, sizeof *want);
        assert_true(out != NULL && want != NULL);
        for (uint32_t t = 0; t < source.parameters.n_tensors; t++) {
            const struct cllm_tensor *tensor = &source.parameters.tensors[t];

            for (uint64_t i = 0; i < tensor->count; i++)
                want[i] = model_files_value(t, i);
            cllm_lora_merge(want, tensor, &s.adapters, s.w, &s.lora);
            assert_int_equal(cllm_source_read(&source, t, out, out + most), 0);
            assert_memory_equal(out, want, tensor->count * sizeof *out);
        }
        cllm_source_close(&source);
        free(out);
        free(want);
        setup_fini(&s);
    }
}

static void the_model_beneath_is_where_it_is_said(void **state)
{
    char base[CLLM_FILE_PATH_BYTES];
    struct cllm_source source;
    struct setup s;

    setup_init(&s, *state, CLLM_ARCH_LLAMA);
    assert_int_equal(cllm_peft_base(s.dir, base), 0);
    assert_string_equal(base, s.beneath);
    write_config(&s, s.beneath);
    assert_int_equal(cllm_peft_base(s.dir, base), 0);
    assert_string_equal(base, s.beneath);

    write_config(&s, "somebody/llama-of-theirs");
    assert_int_equal(cllm_source_open(&source, s.dir), CLLM_EDATA);
    assert_error_says("the model beneath the adapter");
    assert_error_says(CLLM_ADAPTER_CONFIG);
    assert_int_equal(cllm_source_open_over(&source, s.dir, s.beneath), 0);
    cllm_source_close(&source);
    /* Only an adapter has one; and that is no adapter. */
    assert_int_equal(cllm_source_open_over(&source, s.beneath, s.beneath), CLLM_ECONFIG);
    assert_true(cllm_source_open_over(&source, s.dir, s.dir) < 0);
    assert_error_says("the model beneath the adapter");
    setup_fini(&s);
}

/* ---- refused ---- */

static void a_model_of_other_shapes_is_refused(void **state)
{
    struct cllm_source source;
    struct setup s;

    setup_init(&s, *state, CLLM_ARCH_GPT2);
    assert_int_equal(cllm_file_remove_tree(s.beneath), 0);
    s.model.width *= 2;
    s.model.head_size *= 2;
    model_files_write(s.beneath, &s.model, CLLM_SOURCE_HF, CLLM_SINK_F32);
    assert_int_equal(cllm_source_open(&source, s.dir), CLLM_EDATA);
    assert_error_says(CLLM_ADAPTER_MODEL);
    assert_error_says("expected 3 x ");
    setup_fini(&s);
}

static void tensors_that_are_missing_strange_or_too_many_are_refused(void **state)
{
    struct cllm_tensor *tensors;
    struct setup s;
    uint32_t n;

    setup_init(&s, *state, CLLM_ARCH_LLAMA);
    n = s.adapters.n_tensors;
    tensors = calloc(n + 1, sizeof *tensors);
    assert_non_null(tensors);
    memcpy(tensors, s.adapters.tensors, n * sizeof *tensors);

    write_tensors(&s, tensors, n - 1);
    assert_int_equal(read_it(&s), CLLM_EDATA);
    assert_error_says(tensors[n - 1].name);
    assert_error_says("is missing");

    tensors[n] = tensors[0];
    (void)snprintf(tensors[n].name, sizeof tensors[n].name,
                   "base_model.model.lm_head.weight");
    write_tensors(&s, tensors, n + 1);
    assert_int_equal(read_it(&s), CLLM_EDATA);
    assert_error_says("lm_head.weight at offset");

    tensors[1].shape[0] /= 2;
    tensors[1].count /= 2;
    write_tensors(&s, tensors, n);
    assert_int_equal(read_it(&s), CLLM_EDATA);
    assert_error_says(tensors[1].name);
    assert_error_says("expected");
    free(tensors);
    setup_fini(&s);
}

static void files_that_are_damaged_are_refused(void **state)
{
    struct setup s;
    size_t n;
    char *bytes;

    setup_init(&s, *state, CLLM_ARCH_GPT2);
    bytes = get_file(in(s.dir, CLLM_ADAPTER_MODEL), &n);
    for (size_t keep = 0; keep < n; keep += 1 + n / 7) {
        put_file(in(s.dir, CLLM_ADAPTER_MODEL), bytes, keep);
        assert_int_equal(read_it(&s), CLLM_EDATA);
        assert_error_says(CLLM_ADAPTER_MODEL);
    }
    assert_int_equal(unlink(in(s.dir, CLLM_ADAPTER_MODEL)), 0);
    assert_true(read_it(&s) < 0);
    assert_error_says(CLLM_ADAPTER_MODEL);
    free(bytes);
    setup_fini(&s);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_peft_writes_is_read),
        TEST(an_adapter_is_the_merged_model),
        TEST(the_model_beneath_is_where_it_is_said),
        TEST(a_model_of_other_shapes_is_refused),
        TEST(tensors_that_are_missing_strange_or_too_many_are_refused),
        TEST(files_that_are_damaged_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
