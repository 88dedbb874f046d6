/*
 * tests/fuzz/fuzz_manifest.c - manifest.json of a checkpoint.
 *
 * The parser refuses a text that is not in the one form in which it would be written.
 * That stops most mutations at the door, so every other input (its first byte says which)
 * is brought into that form first, if it is JSON at all.
 */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "formats/checkpoint_json.h"
#include "formats/json.h"

static void parse(const char *text, size_t bytes)
{
    struct cllm_checkpoint_file file[CLLM_CHECKPOINT_FILES];
    int rc = cllm_checkpoint_parse_manifest(text, bytes, "manifest.json", file);

    CLLM_ASSERT(rc == 0 || cllm_err_text()[0] != '\0');
    if (rc != 0)
        return;
    fuzz_n_accepted++;
    for (int i = 0; i < CLLM_CHECKPOINT_FILES; i++) {
        CLLM_ASSERT(file[i].listed || i == 1 || i > 3);
        if (!file[i].listed)
            continue;
        CLLM_ASSERT(file[i].bytes <= INT64_MAX);
        size_t digits = strnlen(file[i].hash, sizeof file[i].hash);
        CLLM_ASSERT(digits == CLLM_SHA256_HEX_BYTES - 1 ||
                    digits == CLLM_HASH128_HEX_BYTES - 1);
    }
}

int fuzz_manifest(const uint8_t *data, size_t size)
{
    struct fuzz_reader in = {data, data + size};
    bool form = fuzz_u8(&in) & 1;
    const char *text = (const char *)in.at;
    size_t bytes = (size_t)(in.end - in.at);
    json_t *json = NULL;

    if (!form || cllm_json_parse(text, bytes, "manifest.json", &json) != 0) {
        parse(text, bytes);
        return 0;
    }
    char *formed = cllm_json_dump(json, &bytes);
    json_decref(json);
    if (formed)
        parse(formed, bytes);
    free(formed);
    return 0;
}
