/*
 * formats/config_json.c - see formats/config_json.h.
 */
#include "formats/config_json.h"

#include <inttypes.h>
#include <string.h>

#include "base/err.h"

#define GPT2_VOCAB       50257 /* of which the last is <|endoftext|> */
#define GPT2_PADDED      50304 /* the same, filled up to a multiple of 128 */
#define GPT2_ACTIVATION  "gelu_new"
#define LLAMA_ACTIVATION "silu"
#define CRYSTALLINE_BIAS "cllm_crystalline_bias" /* no other program knows it */

/* ---- writing ---- */

/* The end of text as far as a size tells it: GPT-2's vocabulary is known by it, any other
 * says it itself (formats/generation_config.h). */
static json_t *end_of_text(const struct cllm_model_config *model)
{
    return model->vocab >= GPT2_VOCAB && model->vocab <= GPT2_PADDED
               ? json_integer(GPT2_VOCAB - 1)
               : json_null();
}

static json_t *pack_gpt2(const struct cllm_model_config *model, double init_range)
{
    json_t *end = end_of_text(model);
    json_t *inner = model->hidden == 4 * (uint64_t)model->width
                        ? json_null()
                        : json_integer((json_int_t)model->hidden);

    return json_pack(
        "{s:s, s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:f, s:f, s:f, s:f, s:f, "
        "s:b, s:b, s:b, s:b, s:b, s:O, s:o, s:s}",
        "model_type", "gpt2", "architectures", "GPT2LMHeadModel", "activation_function",
        GPT2_ACTIVATION, "vocab_size", (json_int_t)model->vocab, "n_positions",
        (json_int_t)model->context, "n_ctx", (json_int_t)model->context, "n_embd",
        (json_int_t)model->width, "n_layer", (json_int_t)model->layers, "n_head",
        (json_int_t)model->heads, "n_inner", inner, "resid_pdrop", 0.0, "embd_pdrop", 0.0,
        "attn_pdrop", 0.0, "layer_norm_epsilon", model->norm_epsilon, "initializer_range",
        init_range, "scale_attn_weights", 1, "scale_attn_by_inverse_layer_idx", 0,
        "reorder_and_upcast_attn", 0, "use_cache", 1, "tie_word_embeddings",
        model->untied == 0, "bos_token_id", end, "eos_token_id", end, "torch_dtype",
        "float32");
}

/* The scaling of rotated positions without their base; an empty object when memory is
 * out is found by whoever packs it. */
static json_t *pack_scaling(const struct cllm_model_config *model)
{
    const char *name = cllm_rope_scaling_names[model->rope_scaling];

    switch ((enum cllm_rope_scaling)model->rope_scaling) {
    case CLLM_ROPE_LINEAR:
        return json_pack("{s:s, s:f}", "rope_type", name, "factor", model->rope_factor);
    case CLLM_ROPE_LLAMA3:
        return json_pack(
            "{s:s, s:f, s:f, s:f, s:I}", "rope_type", name, "factor", model->rope_factor,
            "low_freq_factor", model->rope_low, "high_freq_factor", model->rope_high,
            "original_max_position_embeddings", (json_int_t)model->rope_original);
    case CLLM_ROPE_YARN:
        return json_pack("{s:s, s:f, s:f, s:f, s:I}", "rope_type", name, "factor",
                         model->rope_factor, "beta_slow", model->rope_low, "beta_fast",
                         model->rope_high, "original_max_position_embeddings",
                         (json_int_t)model->rope_original);
    case CLLM_ROPE_NONE:
    case CLLM_N_ROPE_SCALINGS:
    default:
        return json_pack("{s:s}", "rope_type", "default");
    }
}

static json_t *pack_llama(const struct cllm_model_config *model, double init_range)
{
    json_t *parameters = pack_scaling(model);
    json_t *scaling =
        model->rope_scaling == CLLM_ROPE_NONE ? json_null() : pack_scaling(model);

    if (json_object_set_new(parameters, "rope_theta", json_real(model->rope_theta)) !=
        0) {
        json_decref(parameters);
        parameters = NULL; /* fails the packing */
    }
    return json_pack(
        "{s:s, s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:b, s:b, "
        "s:f, s:b, s:b, s:n, s:n, s:f, s:o, s:o, s:i, s:s}",
        "model_type", "llama", "architectures", "LlamaForCausalLM", "hidden_act",
        LLAMA_ACTIVATION, "vocab_size", (json_int_t)model->vocab,
        "max_position_embeddings", (json_int_t)model->context, "hidden_size",
        (json_int_t)model->width, "intermediate_size", (json_int_t)model->hidden,
        "num_hidden_layers", (json_int_t)model->layers, "num_attention_heads",
        (json_int_t)model->heads, "num_key_value_heads", (json_int_t)model->kv_heads,
        "head_dim", (json_int_t)model->head_size, "rms_norm_eps", model->norm_epsilon,
        "initializer_range", init_range, "attention_bias", 0, "mlp_bias", 0,
        "attention_dropout", 0.0, "use_cache", 1, "tie_word_embeddings",
        model->untied == 0, "bos_token_id", "eos_token_id", "rope_theta",
        model->rope_theta, "rope_scaling", scaling, "rope_parameters", parameters,
        "pretraining_tp", 1, "torch_dtype", "float32");
}

json_t *cllm_config_json_pack(const struct cllm_model_config *model, double init_range)
{
    json_t *json = model->arch == CLLM_ARCH_LLAMA ? pack_llama(model, init_range)
                                                  : pack_gpt2(model, init_range);

    if (json == NULL || model->crystalline_bias == 0 ||
        json_object_set_new(json, CRYSTALLINE_BIAS, json_true()) == 0)
        return json;
    json_decref(json);
    return NULL;
}

/* ---- reading ---- */

/* Neither absent nor null. */
static bool has(const json_t *json, const char *key)
{
    const json_t *value = json_object_get(json, key);

    return value != NULL && !json_is_null(value);
}

/* A whole number between 1 and @max. */
static int get_size(const json_t *json, const char *where, const char *key, uint32_t max,
                    uint32_t *out)
{
    uint64_t value = 0;
    int rc = cllm_json_get_u64(json, where, key, &value);

    if (rc < 0)
        return rc;
    if (value < 1 || value > max)
        return cllm_err(CLLM_EDATA, "%s: \"%s\": expected 1 to %u, found %" PRIu64, where,
                        key, max, value);
    *out = (uint32_t)value;
    return 0;
}

/* A number above 0. */
static int get_positive(const json_t *json, const char *where, const char *key,
                        double *out)
{
    int rc = cllm_json_get_f64(json, where, key, out);

    if (rc == 0 && !(*out > 0))
        rc = cllm_err(CLLM_EDATA, "%s: \"%s\": expected a number above 0, found %g",
                      where, key, *out);
    return rc;
}

/* What would change the results, and is not computed here. */
static int expect_absent(const json_t *json, const char *where, const char *const *keys,
                         size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_object_get(json, keys[i]);

        if (has(json, keys[i]) && !json_is_false(value))
            return cllm_err(CLLM_EDATA, "%s: \"%s\" is not known here", where, keys[i]);
    }
    return 0;
}

/* Keys of sizes; those that may be missing are then 0, the usual value. */
struct size_key {
    const char *key;
    uint32_t *out;
    uint32_t max; /* as in base/options.def */
    bool optional;
};

static int get_sizes(const json_t *json, const char *where, const struct size_key *sizes,
                     size_t n)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < n; i++)
        if (!sizes[i].optional || has(json, sizes[i].key))
            rc = get_size(json, where, sizes[i].key, sizes[i].max, sizes[i].out);
    return rc;
}

static int get_untied(const json_t *json, const char *where, bool usual, uint32_t *untied)
{
    bool tied = usual;
    int rc = has(json, "tie_word_embeddings")
                 ? cllm_json_get_bool(json, where, "tie_word_embeddings", &tied)
                 : 0;

    *untied = !tied;
    return rc;
}

static int parse_gpt2(const json_t *json, const char *where,
                      struct cllm_model_config *model)
{
    static const char *const unknown[] = {"scale_attn_by_inverse_layer_idx"};
    const struct size_key sizes[] = {
        {"vocab_size", &model->vocab, 1048576, false},
        {"n_positions", &model->context, 65536, false},
        {"n_layer", &model->layers, 512, false},
        {"n_head", &model->heads, 1024, false},
        {"n_embd", &model->width, 65536, false},
        {"n_inner", &model->hidden, 262144, true},
    };
    int rc = cllm_json_expect_text(json, where, "activation_function", GPT2_ACTIVATION);

    if (rc == 0)
        rc = get_sizes(json, where, sizes, CLLM_LEN(sizes));
    if (rc == 0)
        rc = get_positive(json, where, "layer_norm_epsilon", &model->norm_epsilon);
    if (rc == 0)
        rc = expect_absent(json, where, unknown, CLLM_LEN(unknown));
    if (rc == 0)
        rc = get_untied(json, where, true, &model->untied);
    return rc;
}

/* The kind of scaling that @scaling names, in either of its two forms. */
static int parse_scaling_kind(const json_t *scaling, const char *where, uint32_t *kind)
{
    const char *key = has(scaling, "rope_type") ? "rope_type" : "type", *name = NULL;
    int rc = cllm_json_get_text(scaling, where, key, &name);

    if (rc < 0)
        return rc;
    *kind = CLLM_ROPE_NONE;
    if (strcmp(name, "default") == 0)
        return 0;
    for (uint32_t i = CLLM_ROPE_LINEAR; i < CLLM_N_ROPE_SCALINGS; i++)
        if (strcmp(name, cllm_rope_scaling_names[i]) == 0)
            *kind = i;
    if (*kind == CLLM_ROPE_NONE) {
        rc = cllm_err(CLLM_EDATA, "%s: \"%s\": \"%s\" is not known here", where, key,
                      name);
        cllm_err_hint("known are default, linear, llama3 and yarn");
    }
    return rc;
}

static int parse_scaling(const json_t *scaling, const char *where,
                         struct cllm_model_config *model)
{
    static const char *const unknown[] = {"attention_factor", "mscale", "mscale_all_dim",
                                          "short_factor", "long_factor"};
    const char *low = "low_freq_factor", *high = "high_freq_factor";
    const struct size_key original = {"original_max_position_embeddings",
                                      &model->rope_original, 65536, true};
    int rc = parse_scaling_kind(scaling, where, &model->rope_scaling);

    if (rc < 0 || model->rope_scaling == CLLM_ROPE_NONE)
        return rc;
    rc = get_positive(scaling, where, "factor", &model->rope_factor);
    if (rc == 0)
        rc = expect_absent(scaling, where, unknown, CLLM_LEN(unknown));
    if (rc < 0 || model->rope_scaling == CLLM_ROPE_LINEAR)
        return rc;
    if (model->rope_scaling == CLLM_ROPE_YARN) {
        low = "beta_slow";
        high = "beta_fast";
    }
    if (has(scaling, low))
        rc = get_positive(scaling, where, low, &model->rope_low);
    if (rc == 0 && has(scaling, high))
        rc = get_positive(scaling, where, high, &model->rope_high);
    return rc < 0 ? rc : get_sizes(scaling, where, &original, 1);
}

/* rope_theta and rope_scaling (up to 4.x), or rope_parameters with both. */
static int parse_rope(const json_t *json, const char *where,
                      struct cllm_model_config *model)
{
    const json_t *parameters = json_object_get(json, "rope_parameters");
    const json_t *scaling = json_object_get(json, "rope_scaling");
    int rc = 0;

    if (has(json, "rope_theta"))
        rc = get_positive(json, where, "rope_theta", &model->rope_theta);
    else if (has(parameters, "rope_theta"))
        rc = get_positive(parameters, where, "rope_theta", &model->rope_theta);
    if (rc == 0 && json_is_object(scaling))
        rc = parse_scaling(scaling, where, model);
    else if (rc == 0 && json_is_object(parameters))
        rc = parse_scaling(parameters, where, model);
    return rc;
}

static int parse_llama(const json_t *json, const char *where,
                       struct cllm_model_config *model)
{
    static const char *const unknown[] = {"attention_bias", "mlp_bias"};
    const struct size_key sizes[] = {
        {"vocab_size", &model->vocab, 1048576, false},
        {"max_position_embeddings", &model->context, 65536, false},
        {"num_hidden_layers", &model->layers, 512, false},
        {"num_attention_heads", &model->heads, 1024, false},
        {"hidden_size", &model->width, 65536, false},
        {"intermediate_size", &model->hidden, 262144, false},
        {"num_key_value_heads", &model->kv_heads, 1024, true},
        {"head_dim", &model->head_size, 65536, true},
    };
    int rc = cllm_json_expect_text(json, where, "hidden_act", LLAMA_ACTIVATION);

    if (rc == 0)
        rc = get_sizes(json, where, sizes, CLLM_LEN(sizes));
    if (rc == 0)
        rc = get_positive(json, where, "rms_norm_eps", &model->norm_epsilon);
    if (rc == 0)
        rc = expect_absent(json, where, unknown, CLLM_LEN(unknown));
    if (rc == 0)
        rc = parse_rope(json, where, model);
    if (rc == 0)
        rc = get_untied(json, where, false, &model->untied);
    return rc;
}

static int parse_crystalline(const json_t *json, const char *where,
                             struct cllm_model_config *model)
{
    bool bias = false;
    int rc = has(json, CRYSTALLINE_BIAS)
                 ? cllm_json_get_bool(json, where, CRYSTALLINE_BIAS, &bias)
                 : 0;

    model->crystalline_bias = bias;
    return rc;
}

int cllm_config_json_parse(const json_t *json, const char *where,
                           struct cllm_model_config *model, double *init_range)
{
    const char *type = NULL;
    int rc = cllm_json_get_text(json, where, "model_type", &type);

    if (rc < 0)
        return rc;
    *model = (struct cllm_model_config){0};
    *init_range = 0.02;
    if (strcmp(type, "gpt2") == 0) {
        model->arch = CLLM_ARCH_GPT2;
        rc = parse_gpt2(json, where, model);
    } else if (strcmp(type, "llama") == 0) {
        model->arch = CLLM_ARCH_LLAMA;
        rc = parse_llama(json, where, model);
    } else {
        rc = cllm_err(CLLM_EDATA,
                      "%s: \"model_type\": expected \"gpt2\" or \"llama\", found \"%s\"",
                      where, type);
    }
    if (rc == 0)
        rc = parse_crystalline(json, where, model);
    if (rc == 0 && has(json, "initializer_range"))
        rc = get_positive(json, where, "initializer_range", init_range);
    if (rc < 0)
        return rc;
    cllm_model_config_complete(model);
    if (cllm_model_config_check(model) == 0)
        return 0;
    cllm_err_add("%s", where);
    return CLLM_EDATA;
}
