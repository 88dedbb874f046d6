/*
 * coordinator/kept.c - see coordinator/kept.h.
 */
#include "coordinator/kept.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_CAP (1u << 20)

int cllm_kept_load(struct cllm_kept *kept, const char *run_dir, const char *file,
                   const char *from)
{
    const char *of = NULL, *hex = NULL;
    int rc;

    *kept = (struct cllm_kept){0};
    rc = cllm_file_join(kept->path, run_dir, file);
    if (rc != 0 || access(kept->path, F_OK) != 0)
        return rc;
    rc = cllm_json_load(kept->path, FILE_CAP, &kept->json);
    if (rc == 0)
        rc = cllm_json_get_text(kept->json, kept->path, "from", &of);
    if (rc == 0)
        rc = cllm_json_get_text(kept->json, kept->path, "hash", &hex);
    if (rc != 0)
        return rc;
    kept->hash = strtoull(hex, NULL, 16);
    kept->same = strcmp(of, from) == 0;
    return 0;
}

void cllm_kept_fini(struct cllm_kept *kept)
{
    json_decref(kept->json);
    *kept = (struct cllm_kept){0};
}
