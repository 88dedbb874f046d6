/*
 * tests/model_files.c - see tests/model_files.h.
 */
#include "tests/model_files.h"

#include "tests/formats_temp.h"

#include <math.h>

#include "base/random.h"

struct cllm_model_config model_files_config(enum cllm_arch arch, bool untied)
{
    struct cllm_model_config config = {.arch = arch,
                                       .vocab = 261,
                                       .context = 24,
                                       .layers = 2,
                                       .heads = 4,
                                       .width = 32,
                                       .untied = untied};

    if (arch == CLLM_ARCH_LLAMA) {
        config.kv_heads = 2;
        config.hidden = 44;
    }
    cllm_model_config_complete(&config);
    return config;
}

float model_files_value(uint32_t tensor, uint64_t i)
{
    return cllm_random_f32(tensor + 1, CLLM_RANDOM_TEST, i) - 0.5f;
}

static void fill(float *data, uint32_t tensor, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        data[i] = model_files_value(tensor, i);
}

void model_files_write(const char *path, const struct cllm_model_config *config,
                       enum cllm_source_kind kind, enum cllm_sink_dtype dtype)
{
    const struct cllm_sink_plan plan = {
        .kind = kind, .dtype = dtype, .path = path, .name = "test", .init_range = 0.02};
    struct cllm_parameters parameters;
    struct cllm_sink sink;
    float *data, *room;

    assert_int_equal(cllm_parameters_init(&parameters, config), 0);
    data = malloc(parameters.n_elements * sizeof *data);
    room = malloc(parameters.n_elements * sizeof *room);
    assert_non_null(data);
    assert_non_null(room);
    if (cllm_sink_begin(&sink, &plan, &parameters) != 0)
        fail_msg("%s", cllm_err_text());
    for (uint32_t i = 0; i < parameters.n_tensors; i++) {
        fill(data, i, parameters.tensors[i].count);
        if (cllm_sink_put(&sink, i, data, room) != 0)
            fail_msg("%s", cllm_err_text());
    }
    if (cllm_sink_finish(&sink) != 0)
        fail_msg("%s", cllm_err_text());
    free(data);
    free(room);
    cllm_parameters_fini(&parameters);
}

static void check_config(const struct cllm_model_config *found,
                         const struct cllm_model_config *config)
{
    assert_int_equal(found->arch, config->arch);
    assert_int_equal(found->vocab, config->vocab);
    assert_int_equal(found->context, config->context);
    assert_int_equal(found->layers, config->layers);
    assert_int_equal(found->heads, config->heads);
    assert_int_equal(found->kv_heads, config->kv_heads);
    assert_int_equal(found->width, config->width);
    assert_int_equal(found->head_size, config->head_size);
    assert_int_equal(found->hidden, config->hidden);
    assert_int_equal(found->untied, config->untied);
    assert_int_equal(found->rope_scaling, config->rope_scaling);
    assert_true(found->norm_epsilon == config->norm_epsilon);
    assert_true(fabs(found->rope_theta - config->rope_theta) < 1e-3);
}

void model_files_check(const char *path, const struct cllm_model_config *config,
                       enum cllm_source_kind kind, double tolerance)
{
    struct cllm_source source;
    float *data, *room;

    if (cllm_source_open(&source, path) != 0)
        fail_msg("%s", cllm_err_text());
    assert_int_equal(source.kind, kind);
    check_config(&source.parameters.config, config);
    data = malloc(cllm_source_room(&source) * sizeof *data);
    room = malloc(cllm_source_room(&source) * sizeof *room);
    assert_non_null(data);
    assert_non_null(room);
    for (uint32_t t = 0; t < source.parameters.n_tensors; t++) {
        const struct cllm_tensor *tensor = &source.parameters.tensors[t];
        if (cllm_source_read(&source, t, data, room) != 0)
            fail_msg("%s", cllm_err_text());
        for (uint64_t i = 0; i < tensor->count; i++) {
            double want = (double)model_files_value(t, i);
            if (fabs((double)data[i] - want) > tolerance * (1.0 / 64 + fabs(want)))
                fail_msg("%s, element %llu: expected %a, found %a", tensor->name,
                         (unsigned long long)i, want, (double)data[i]);
        }
    }
    free(data);
    free(room);
    cllm_source_close(&source);
}
