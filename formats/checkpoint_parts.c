/*
 * formats/checkpoint_parts.c - the data sets of a mixture in run.json, both ways.
 */
#include "formats/checkpoint_parts.h"

#include <string.h>

#include "base/err.h"

bool cllm_checkpoint_put_parts(json_t *run, const struct cllm_checkpoint_info *info)
{
    json_t *parts = info->n_parts > 0 ? json_array() : NULL;

    for (uint32_t i = 0; i < info->n_parts; i++) {
        const struct cllm_checkpoint_part *part = &info->part[i];
        json_t *one = json_pack("{s:s, s:I, s:I}", "name", part->name, "windows",
                                (json_int_t)part->windows, "sequences",
                                (json_int_t)part->sequences);

        if (json_array_append_new(parts, one) != 0) {
            json_decref(parts);
            return false;
        }
    }
    return info->n_parts == 0 || json_object_set_new(run, "mixture", parts) == 0;
}

static int get_part(const json_t *json, const char *path,
                    struct cllm_checkpoint_part *part)
{
    const char *name = "";
    int rc = cllm_json_get_text(json, path, "name", &name);

    if (rc == 0 && (name[0] == '\0' || strlen(name) >= sizeof part->name))
        rc = cllm_err(CLLM_EDATA,
                      "%s: \"name\" of a data set: expected 1 to %zu bytes, found %zu",
                      path, sizeof part->name - 1, strlen(name));
    if (rc != 0)
        return rc;
    memcpy(part->name, name, strlen(name) + 1);
    rc = cllm_json_get_u64(json, path, "windows", &part->windows);
    return rc != 0 ? rc : cllm_json_get_u64(json, path, "sequences", &part->sequences);
}

int cllm_checkpoint_get_parts(const json_t *run, const char *path,
                              struct cllm_checkpoint_info *info)
{
    const json_t *parts = json_object_get(run, "mixture");
    size_t n = json_array_size(parts); /* 0 for what is no array */
    int rc = 0;

    info->n_parts = 0;
    if (parts == NULL)
        return 0;
    if (n == 0 || n > CLLM_MIX_MAX)
        return cllm_err(CLLM_EDATA,
                        "%s: \"mixture\": expected an array of 1 to %d data sets", path,
                        CLLM_MIX_MAX);
    for (uint32_t i = 0; rc == 0 && i < n; i++)
        rc = get_part(json_array_get(parts, i), path, &info->part[i]);
    info->n_parts = rc == 0 ? (uint32_t)n : 0;
    return rc;
}
