/*
 * coordinator/vocabulary.c - the tokenizer's files follow the run.
 */
#include "coordinator/vocabulary.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "coordinator/origin.h"
#include "coordinator/plan.h"
#include "formats/generation_config.h"
#include "formats/gguf_tokenizer.h"
#include "formats/output.h"
#include "formats/tokenizer.h"
#include "formats/tokenizer_config.h"
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

static bool is_gguf(const char *path)
{
    static const char magic[] = {'G', 'G', 'U', 'F'};
    char head[sizeof magic] = "";
    FILE *file = fopen(path, "re");
    bool is;

    if (file == NULL)
        return false;
    is = fread(head, 1, sizeof head, file) == sizeof head &&
         memcmp(head, magic, sizeof magic) == 0;
    (void)fclose(file); /* read only */
    return is;
}

/* Where the run's vocabulary lies: beside the data, else with the model that it begins
 * from, which may be a file of GGUF. False when there is none. */
static bool find_tokenizer(const struct cllm_config *config, const struct cllm_plan *plan,
                           char dir[CLLM_FILE_PATH_BYTES])
{
    if (data_directory(plan, dir) && cllm_tokenizer_is_in(dir))
        return true;
    if (!cllm_origin_is_set(config))
        return false;
    (void)snprintf(dir, CLLM_FILE_PATH_BYTES, "%s", config->train_from);
    if (cllm_tokenizer_is_in(dir) || is_gguf(dir))
        return true;
    return cllm_file_join(dir, config->train_from, "checkpoints/last") == 0 &&
           cllm_tokenizer_is_in(dir);
}

/*
 * What loads a model elsewhere wants to know more than the vocabulary. One that cannot be
 * read here, perhaps of another kind, goes along as it is.
 */
static int describe(const char *dir, uint32_t context)
{
    struct cllm_tokenizer *tokenizer = NULL;
    int rc = cllm_tokenizer_load(&tokenizer, dir);
    uint32_t end;

    if (rc == CLLM_EDATA) {
        cllm_warn("%s; it goes into checkpoints as it is", cllm_err_text());
        return 0;
    }
    if (rc != 0)
        return rc;
    end = cllm_tokenizer_eot(tokenizer);
    rc = cllm_tokenizer_config_put(tokenizer, context, dir);
    if (rc == 0)
        rc = cllm_generation_config_put(end, end, dir);
    cllm_tokenizer_free(&tokenizer);
    return rc;
}

/* The run has no vocabulary; an attempt that was given up may have had one. */
static int put_aside(const char *dir)
{
    char aside[CLLM_FILE_PATH_BYTES];
    int rc = cllm_file_set_aside(dir, aside);

    if (rc > 0)
        cllm_info("%s is of an earlier attempt and not of these data: now %s", dir,
                  aside);
    return rc < 0 ? rc : 0;
}

/* What is at @from into @dir, under the names that every program knows; bytes alone,
 * which need no files, only if they are @wanted. Returns 1; 0: they were not; a negative
 * code with text. */
static int save(const char *from, const char *dir, bool wanted)
{
    struct cllm_tokenizer *tokenizer = NULL;
    int rc = cllm_tokenizer_load(&tokenizer, from);
    bool is = rc == 0 && (wanted || cllm_tokenizer_merges(tokenizer) > 0);

    if (is)
        rc = cllm_tokenizer_save(tokenizer, dir);
    cllm_tokenizer_free(&tokenizer);
    return rc < 0 ? rc : is;
}

/* The files of @from into @dir as they are, unless they have other names (a rank file,
 * encoder.json). Returns 1; a negative code with text. */
static int take_directory(const char *from, const char *dir)
{
    int rc = cllm_tokenizer_files_copy(from, dir);

    if (rc < 0)
        return rc;
    return cllm_tokenizer_files_in(dir) ? 1 : save(from, dir, true);
}

/* What a file of GGUF has inside: always something, of a model of bytes too. Returns 1;
 * 0: nothing to be kept; a negative code with text. */
static int take_gguf(const char *from, const char *dir)
{
    struct cllm_gguf gguf;
    int rc = cllm_gguf_open(&gguf, from);

    if (rc < 0)
        return rc;
    rc = cllm_gguf_save_tokenizer(&gguf, dir);
    cllm_gguf_close(&gguf);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    return save(dir, dir, false);
}

/* All of it in @dir, which is empty. */
static int fill(const char *from, const char *dir, uint32_t context)
{
    int rc = is_gguf(from) ? take_gguf(from, dir) : take_directory(from, dir);

    cllm_fault(CLLM_FAULT_vocabulary_copied);
    if (rc > 0 && (rc = describe(dir, context)) == 0)
        rc = 1;
    cllm_fault(CLLM_FAULT_vocabulary_described);
    return rc;
}

int cllm_vocabulary_keep(const struct cllm_config *config, const struct cllm_plan *plan)
{
    char from[CLLM_FILE_PATH_BYTES], to[CLLM_FILE_PATH_BYTES];
    struct cllm_output output;
    int rc = cllm_file_join(to, plan->run_dir, CLLM_TOKENIZER_DIR);

    if (rc != 0)
        return rc;
    if (!find_tokenizer(config, plan, from))
        return put_aside(to);
    cllm_fault(CLLM_FAULT_vocabulary_found);
    rc = cllm_output_directory(&output, to, true);
    if (rc != 0)
        return rc;
    rc = fill(from, output.temp, plan->geometry.model.context);
    if (rc <= 0) {
        cllm_output_abort(&output);
        return rc < 0 ? rc : put_aside(to);
    }
    rc = cllm_output_finish(&output);
    cllm_fault(CLLM_FAULT_vocabulary_kept);
    return rc;
}
