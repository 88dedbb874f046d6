/*
 * base/model_config.c - defaults that depend on other numbers, and what cannot be.
 */
#include "base/model_config.h"

#include "base/config.h"
#include "base/err.h"

#define HIDDEN_UNIT 32 /* llama's hidden elements, when nobody says how many */

const char *const cllm_arch_names[CLLM_N_ARCHS] = {"gpt2", "llama"};

const char *const cllm_rope_scaling_names[CLLM_N_ROPE_SCALINGS] = {"none", "linear",
                                                                   "llama3", "yarn"};

struct cllm_model_config cllm_model_config_from(const struct cllm_config *options)
{
    enum { TIED_AUTO = 0, TIED_YES, TIED_NO };
    uint32_t arch = options->model_arch, tied = options->model_tied;
    bool llama = arch == CLLM_ARCH_LLAMA;

    return (struct cllm_model_config){
        .arch = arch,
        .vocab = (uint32_t)options->model_vocab,
        .context = (uint32_t)options->model_context,
        .layers = (uint32_t)options->model_layers,
        .heads = (uint32_t)options->model_heads,
        .width = (uint32_t)options->model_width,
        .kv_heads = (uint32_t)options->model_kv_heads,
        .head_size = (uint32_t)options->model_head_size,
        .hidden = (uint32_t)options->model_hidden,
        .untied = tied == TIED_NO || (tied == TIED_AUTO && llama),
        .norm_epsilon = options->model_norm_epsilon,
        .rope_scaling = options->model_rope_scaling,
        .rope_original = (uint32_t)options->model_rope_original,
        .crystalline_bias = options->model_crystalline_bias,
        .rope_theta = llama ? options->model_rope_theta : 0,
        .rope_factor = options->model_rope_factor,
        .rope_low = options->model_rope_low,
        .rope_high = options->model_rope_high};
}

static void set_default(double *value, double usual)
{
    if (*value <= 0)
        *value = usual;
}

void cllm_model_config_complete(struct cllm_model_config *model)
{
    bool llama = model->arch == CLLM_ARCH_LLAMA, yarn;
    uint64_t hidden =
        llama ? cllm_align_up(cllm_div_up((uint64_t)model->width * 8, 3), HIDDEN_UNIT)
              : 4 * (uint64_t)model->width;

    if (model->kv_heads == 0)
        model->kv_heads = model->heads;
    if (model->head_size == 0 && model->heads > 0)
        model->head_size = model->width / model->heads;
    if (model->hidden == 0)
        model->hidden = (uint32_t)cllm_min_u64(hidden, UINT32_MAX);
    set_default(&model->norm_epsilon, CLLM_NORM_EPSILON);
    if (!llama)
        return;
    yarn = model->rope_scaling == CLLM_ROPE_YARN;
    set_default(&model->rope_theta, 10000);
    set_default(&model->rope_factor, 1);
    set_default(&model->rope_low, 1);
    set_default(&model->rope_high, yarn ? 32 : 4);
    if (model->rope_original == 0)
        model->rope_original = model->context;
}

/* ---- checks ---- */

static int check_limits(const struct cllm_model_config *model)
{
    const struct {
        const char *name;
        uint32_t value, min, max;
    } limits[] = {
        {"vocab", model->vocab, 2, 1048576},  {"context", model->context, 1, 65536},
        {"layers", model->layers, 1, 512},    {"heads", model->heads, 1, 1024},
        {"width", model->width, 1, 65536},    {"kv_heads", model->kv_heads, 1, 1024},
        {"hidden", model->hidden, 1, 262144},
    };

    for (size_t i = 0; i < CLLM_LEN(limits); i++)
        if (limits[i].value < limits[i].min || limits[i].value > limits[i].max)
            return cllm_err(
                CLLM_ECONFIG, "cannot plan the model: %s = %u is not in %u to %u",
                limits[i].name, limits[i].value, limits[i].min, limits[i].max);
    if (model->arch >= CLLM_N_ARCHS)
        return cllm_err(CLLM_ECONFIG, "cannot plan the model: arch %u is not known",
                        model->arch);
    return 0;
}

static int check_crystalline(const struct cllm_model_config *model)
{
    int rc;

    if (model->crystalline_bias == 0 || model->context <= CLLM_CRYSTALLINE_CONTEXT)
        return 0;
    rc = cllm_err(CLLM_ECONFIG,
                  "cannot plan the model: crystalline_bias with context = %u, at most %d",
                  model->context, CLLM_CRYSTALLINE_CONTEXT);
    cllm_err_hint("it keeps a number for each pair of tokens of a sequence: set context "
                  "to %d or less, or crystalline_bias to no",
                  CLLM_CRYSTALLINE_CONTEXT);
    return rc;
}

/* The width in heads. Only a head of a size of its own need not divide it. */
static int check_heads(const struct cllm_model_config *model)
{
    uint32_t head = model->width / model->heads + 1;
    int rc;

    if (model->head_size * (uint64_t)model->heads == model->width)
        return 0;
    if (model->head_size == model->width / model->heads) {
        rc = cllm_err(CLLM_ECONFIG,
                      "cannot plan the model: width %u is not a multiple of heads %u",
                      model->width, model->heads);
        cllm_err_hint("every head gets width / heads elements: set width to %u, or heads "
                      "to a divisor of %u",
                      head * model->heads, model->width);
        return rc;
    }
    if (model->arch == CLLM_ARCH_LLAMA && model->head_size <= 65536)
        return 0;
    rc = cllm_err(CLLM_ECONFIG,
                  "cannot plan the model: head_size = %u, but width / heads = %u",
                  model->head_size, model->width / model->heads);
    cllm_err_hint("only llama's heads may have another size than width / heads");
    return rc;
}

static int check_gpt2(const struct cllm_model_config *model)
{
    int rc;

    if (model->kv_heads != model->heads) {
        rc = cllm_err(CLLM_ECONFIG,
                      "cannot plan the model: kv_heads = %u and heads = %u of gpt2",
                      model->kv_heads, model->heads);
        cllm_err_hint("grouped queries are llama's: leave kv_heads at auto, or set "
                      "[model] arch = llama");
        return rc;
    }
    if (model->rope_scaling != CLLM_ROPE_NONE) {
        rc = cllm_err(CLLM_ECONFIG, "cannot plan the model: gpt2 has no rotated "
                                    "positions to be scaled");
        cllm_err_hint("set rope_scaling to none, or [model] arch = llama");
        return rc;
    }
    return 0;
}

static int check_rope(const struct cllm_model_config *model)
{
    int rc = 0;

    if (model->rope_scaling >= CLLM_N_ROPE_SCALINGS)
        return cllm_err(CLLM_ECONFIG,
                        "cannot plan the model: rope_scaling %u is not known",
                        model->rope_scaling);
    if (model->rope_scaling != CLLM_ROPE_NONE && model->rope_factor < 1) {
        rc = cllm_err(CLLM_ECONFIG,
                      "cannot plan the model: rope_factor = %g is less than 1",
                      model->rope_factor);
        cllm_err_hint("it says how many times longer the context has become");
    } else if (model->rope_scaling == CLLM_ROPE_NONE && model->rope_factor > 1) {
        rc = cllm_err(CLLM_ECONFIG,
                      "cannot plan the model: rope_factor = %g without rope_scaling",
                      model->rope_factor);
        cllm_err_hint("set rope_scaling to linear, llama3 or yarn");
    } else if (model->rope_scaling >= CLLM_ROPE_LLAMA3 &&
               model->rope_low >= model->rope_high) {
        rc = cllm_err(CLLM_ECONFIG,
                      "cannot plan the model: rope_low = %g is not below rope_high = %g",
                      model->rope_low, model->rope_high);
        cllm_err_hint("usual are 1 and 4 for llama3, 1 and 32 for yarn");
    } else if (model->rope_theta < 1.5) {
        rc = cllm_err(CLLM_ECONFIG, "cannot plan the model: rope_theta = %g is too small",
                      model->rope_theta);
        cllm_err_hint("usual are 10000 and 500000");
    }
    return rc;
}

static int check_llama(const struct cllm_model_config *model)
{
    int rc;

    if (model->heads % model->kv_heads != 0) {
        rc = cllm_err(CLLM_ECONFIG,
                      "cannot plan the model: heads %u is not a multiple of kv_heads %u",
                      model->heads, model->kv_heads);
        cllm_err_hint("heads / kv_heads queries share a key: set kv_heads to a divisor "
                      "of %u",
                      model->heads);
        return rc;
    }
    if (model->head_size % 2 != 0) {
        rc = cllm_err(CLLM_ECONFIG,
                      "cannot plan the model: a head of %u elements cannot be rotated in "
                      "pairs",
                      model->head_size);
        cllm_err_hint("width / heads must be even");
        return rc;
    }
    return check_rope(model);
}

int cllm_model_config_check(const struct cllm_model_config *model)
{
    int rc = check_limits(model);

    if (rc == 0)
        rc = check_heads(model);
    if (rc == 0)
        rc = check_crystalline(model);
    if (rc == 0)
        rc = model->arch == CLLM_ARCH_LLAMA ? check_llama(model) : check_gpt2(model);
    return rc;
}
