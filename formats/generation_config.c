/*
 * formats/generation_config.c - see formats/generation_config.h.
 */
#include "formats/generation_config.h"

#include <errno.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/file.h"

#define FILE_CAP (1u << 20)

int cllm_generation_config_put(uint32_t bos, uint32_t eos, const char *dir)
{
    json_t *json =
        bos == CLLM_GENERATION_NONE
            ? json_pack("{s:b}", "_from_model_config", 1)
            : json_pack("{s:b, s:I, s:I}", "_from_model_config", 1, "bos_token_id",
                        (json_int_t)bos, "eos_token_id", (json_int_t)eos);

    return cllm_json_put_new(dir, CLLM_GENERATION_CONFIG, json);
}

/* ---- the way back ---- */

static bool is_token(const json_t *json, uint32_t vocab)
{
    return json_is_integer(json) && json_integer_value(json) >= 0 &&
           json_integer_value(json) < (json_int_t)vocab;
}

/* A token, or several of which each one ends a text. */
static bool is_end(const json_t *json, uint32_t vocab)
{
    size_t n = json_array_size(json);

    for (size_t i = 0; i < n; i++)
        if (!is_token(json_array_get(json, i), vocab))
            return false;
    return n > 0 || is_token(json, vocab);
}

int cllm_generation_config_apply(const char *dir, uint32_t vocab, json_t *config)
{
    static const char *const keys[] = {"bos_token_id", "eos_token_id"};
    char path[CLLM_FILE_PATH_BYTES];
    json_t *json = NULL;
    int rc = cllm_file_join(path, dir, CLLM_GENERATION_CONFIG);

    if (rc != 0 || access(path, F_OK) != 0)
        return rc;
    rc = cllm_json_load(path, FILE_CAP, &json);
    for (size_t i = 0; rc == 0 && i < CLLM_LEN(keys); i++) {
        json_t *value = json_object_get(json, keys[i]);

        if (json_object_set_new(config, keys[i],
                                is_end(value, vocab) ? json_incref(value)
                                                     : json_null()) != 0)
            rc = cllm_err(-ENOMEM, "cannot take %s over", path);
    }
    json_decref(json);
    return rc;
}
