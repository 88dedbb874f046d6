/*
 * tests/fuzz/fuzz_checkpoint.c - config.json, run.json and adapter_config.json of a
 * checkpoint.
 *
 * Each input is given to all parsers: a text that is good for one is a bad one for the
 * others.
 */
#include "tests/fuzz/fuzz.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "formats/adapter.h"
#include "formats/checkpoint_json.h"

static void check_hex(const char *text)
{
    size_t len = strnlen(text, CLLM_CHECKPOINT_HEX_BYTES);

    CLLM_ASSERT(len > 0 && len < CLLM_CHECKPOINT_HEX_BYTES);
    CLLM_ASSERT(strspn(text, "0123456789abcdef") == len);
}

int fuzz_checkpoint(const uint8_t *data, size_t size)
{
    static const struct cllm_model_config adapted = {
        .vocab = 256, .context = 32, .layers = 2, .heads = 2, .width = 32};
    struct cllm_checkpoint_info info = {0};
    struct cllm_lora lora;
    const char *text = (const char *)data;
    int config = cllm_checkpoint_parse_config(text, size, "config.json", &info);

    CLLM_ASSERT(config == 0 || cllm_err_text()[0] != '\0');
    if (config == 0) {
        CLLM_ASSERT(cllm_model_config_check(&info.model) == 0);
        CLLM_ASSERT(info.model.norm_epsilon > 0 && info.init_range > 0);
    }
    int run = cllm_checkpoint_parse_run(text, size, "run.json", &info);
    CLLM_ASSERT(run == 0 || cllm_err_text()[0] != '\0');
    if (run == 0) {
        check_hex(info.fingerprint);
        check_hex(info.root);
        check_hex(info.data);
        CLLM_ASSERT(!isinf(info.train_loss) && !isinf(info.best_loss));
        CLLM_ASSERT(info.step <= CLLM_CHECKPOINT_STEP_MAX);
    }
    int adapters = cllm_adapter_parse_config(text, size, "a.json", &adapted, &lora);
    CLLM_ASSERT(adapters == 0 || cllm_err_text()[0] != '\0');
    if (adapters == 0) {
        CLLM_ASSERT(lora.rank >= 1 && lora.rank <= adapted.width);
        CLLM_ASSERT(lora.targets != 0 && lora.alpha > 0 && !isinf(lora.alpha));
    }
    fuzz_n_accepted += config == 0 || run == 0 || adapters == 0;
    return 0;
}
