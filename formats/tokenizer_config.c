/*
 * formats/tokenizer_config.c - see formats/tokenizer_config.h.
 */
#include "formats/tokenizer_config.h"

#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "formats/json.h"

int cllm_tokenizer_config_put(const struct cllm_tokenizer *tokenizer, uint32_t context,
                              const char *dir)
{
    uint32_t end = cllm_tokenizer_eot(tokenizer);
    char *text = end == CLLM_TOKEN_NONE ? NULL : cllm_tokenizer_spell(tokenizer, end);
    json_t *token = text == NULL ? json_null() : json_string(text);
    int rc;

    free(text);
    if (end != CLLM_TOKEN_NONE && !json_is_string(token)) {
        json_decref(token);
        return cllm_err(-ENOMEM, "cannot describe the vocabulary in %s", dir);
    }
    rc = cllm_json_put_new(
        dir, "tokenizer_config.json",
        json_pack("{s:s, s:I, s:b, s:O, s:O, s:O}", "tokenizer_class", "GPT2Tokenizer",
                  "model_max_length", (json_int_t)context, "add_prefix_space", 0,
                  "bos_token", token, "eos_token", token, "unk_token", token));
    if (rc == 0)
        rc = cllm_json_put_new(dir, "special_tokens_map.json",
                               end == CLLM_TOKEN_NONE
                                   ? json_object()
                                   : json_pack("{s:O, s:O, s:O}", "bos_token", token,
                                               "eos_token", token, "unk_token", token));
    json_decref(token);
    return rc;
}
