/*
 * coordinator/kept.h - what a run's directory keeps of what the run was begun from: a
 * JSON file with its path as it was given ("from"), the hash of its contents ("hash"),
 * and what else the run took from it.
 */
#ifndef CLLM_COORDINATOR_KEPT_H
#define CLLM_COORDINATOR_KEPT_H

#include "formats/file.h"
#include "formats/json.h"

struct cllm_kept {
    char path[CLLM_FILE_PATH_BYTES]; /* of the file */
    json_t *json;                    /* its contents; NULL: there is none */
    uint64_t hash;
    bool same; /* it tells of what @from names, and not of something else */
};

/* Read @file in @run_dir, if there is one. Returns 0 or a negative code with text;
 * cllm_kept_fini() in any case. */
int cllm_kept_load(struct cllm_kept *kept, const char *run_dir, const char *file,
                   const char *from);
void cllm_kept_fini(struct cllm_kept *kept);

#endif /* CLLM_COORDINATOR_KEPT_H */
