/*
 * coordinator/vocabulary.c - the tokenizer's files follow the run.
 */
#include "coordinator/vocabulary.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/origin.h"
#include "coordinator/plan.h"
#include "formats/output.h"
#include "formats/tokenizer_files.h"

/* Directory of the first shard to train on. False when there is none. */
static bool data_directory(const struct cllm_plan *plan, char dir[CLLM_FILE_PATH_BYTES])
{
    const char *at = plan->manifest_text;
    const char *slash = NULL;
    size_t len;

    while (*at == '[') { /* headings */
        at += strcspn(at, "\n");
        at += *at == '\n';
    }
    len = strcspn(at, "\t\n");
    for (size_t i = 0; i < len; i++)
        slash = at[i] == '/' ? at + i : slash;
    if (slash == NULL || (size_t)(slash - at) >= CLLM_FILE_PATH_BYTES)
        return false;
    (void)snprintf(dir, CLLM_FILE_PATH_BYTES, "%.*s", (int)(slash - at), at);
    return true;
}

/* Where the run's vocabulary lies: beside the data, else with the model that it begins
 * from. False when there is none. */
static bool find_tokenizer(const struct cllm_config *config, const struct cllm_plan *plan,
                           char dir[CLLM_FILE_PATH_BYTES])
{
    if (data_directory(plan, dir) && cllm_tokenizer_files_in(dir))
        return true;
    if (!cllm_origin_is_set(config))
        return false;
    (void)snprintf(dir, CLLM_FILE_PATH_BYTES, "%s", config->train_from);
    if (cllm_tokenizer_files_in(dir))
        return true;
    return cllm_file_join(dir, config->train_from, "checkpoints/last") == 0 &&
           cllm_tokenizer_files_in(dir);
}

int cllm_vocabulary_keep(const struct cllm_config *config, const struct cllm_plan *plan)
{
    char from[CLLM_FILE_PATH_BYTES], to[CLLM_FILE_PATH_BYTES];
    struct cllm_output output;
    int rc = cllm_file_join(to, plan->run_dir, CLLM_TOKENIZER_DIR);

    if (rc != 0 || access(to, F_OK) == 0 || !find_tokenizer(config, plan, from))
        return rc;
    rc = cllm_output_directory(&output, to, false);
    if (rc != 0)
        return rc;
    rc = cllm_tokenizer_files_copy(from, output.temp);
    if (rc < 0) {
        cllm_output_abort(&output);
        return rc;
    }
    return cllm_output_finish(&output);
}
