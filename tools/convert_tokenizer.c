/*
 * tools/convert_tokenizer.c - find it, load it, write it again.
 */
#include "tools/convert_tokenizer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/log.h"
#include "formats/generation_config.h"
#include "formats/gguf_tokenizer.h"
#include "formats/output.h"
#include "formats/tokenizer_config.h"
#include "formats/tokenizer_files.h"

#define SPM_NAME "tokenizer.bin"
#define BYTES    256

static bool is_there(const char *dir, const char *name, char path[CLLM_FILE_PATH_BYTES])
{
    struct stat st;

    return cllm_file_join(path, dir, name) == 0 && stat(path, &st) == 0 &&
           S_ISREG(st.st_mode);
}

/* ---- finding ---- */

/* llama2.c's begins with a small number, no other file of a tokenizer does. */
static bool is_spm(const char *path)
{
    unsigned char head[4] = {0};
    struct stat st;
    FILE *file;
    bool yes;

    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return false;
    file = fopen(path, "re");
    yes = file != NULL && fread(head, 1, sizeof head, file) == sizeof head &&
          head[2] == 0 && head[3] == 0;
    if (file != NULL)
        (void)fclose(file); /* read only */
    return yes;
}

static int load(struct cllm_convert_tokenizer *found, const struct cllm_source *source,
                const char *path)
{
    uint32_t vocab = source->parameters.config.vocab;
    int rc;

    (void)snprintf(found->path, sizeof found->path, "%s", path);
    if (is_spm(path))
        return cllm_spm_open(&found->spm, path, vocab);
    rc = cllm_tokenizer_load(&found->tokenizer, path);
    if (rc == 0 && cllm_tokenizer_size(found->tokenizer) > vocab) {
        rc = cllm_err(CLLM_EREFUSED, "the tokenizer %s has %u tokens, the model %u", path,
                      cllm_tokenizer_size(found->tokenizer), vocab);
        cllm_err_hint("--tokenizer names the one that the model was trained with");
    }
    return rc;
}

/* A GGUF file has it inside: out of it into a directory, from there like any other. */
static int load_from_gguf(struct cllm_convert_tokenizer *found,
                          const struct cllm_source *source)
{
    const char *tmp = getenv("TMPDIR");
    char made[CLLM_FILE_PATH_BYTES];
    int rc;

    if (cllm_file_join(made, tmp != NULL && tmp[0] == '/' ? tmp : "/tmp",
                       "cllm-convert.XXXXXX") != 0 ||
        mkdtemp(made) == NULL)
        return cllm_err(-errno, "cannot make a directory for the vocabulary");
    (void)snprintf(found->made, sizeof found->made, "%s", made);
    rc = cllm_gguf_save_tokenizer(&source->gguf, made);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    rc = load(found, source, made);
    (void)snprintf(found->path, sizeof found->path, "%s", source->path);
    return rc;
}

static bool is_directory(const struct cllm_source *source)
{
    return source->kind == CLLM_SOURCE_HF || source->kind == CLLM_SOURCE_CHECKPOINT ||
           source->kind == CLLM_SOURCE_PEFT;
}

int cllm_convert_tokenizer_find(struct cllm_convert_tokenizer *found,
                                const struct cllm_source *source, const char *path)
{
    bool directory = is_directory(source);
    char spm[CLLM_FILE_PATH_BYTES];
    int rc = 0;

    *found = (struct cllm_convert_tokenizer){0};
    if (path != NULL)
        rc = load(found, source, path);
    else if (directory && cllm_tokenizer_is_in(source->path))
        rc = load(found, source, source->path);
    else if (directory && is_there(source->path, SPM_NAME, spm))
        rc = load(found, source, spm);
    else if (source->kind == CLLM_SOURCE_PEFT && cllm_tokenizer_is_in(source->hf.dir))
        rc = load(found, source, source->hf.dir);
    else if (source->kind == CLLM_SOURCE_GGUF)
        rc = load_from_gguf(found, source);
    else if (source->parameters.config.vocab == BYTES)
        rc = load(found, source, CLLM_TOKENIZER_BYTES);
    if (rc != 0)
        cllm_convert_tokenizer_fini(found);
    if (rc == CLLM_EDATA && path == NULL) {
        /* Nobody asked for it: the model goes without. */
        cllm_warn("%s; the model goes without", cllm_err_text());
        rc = 0;
    }
    return rc;
}

void cllm_convert_tokenizer_fini(struct cllm_convert_tokenizer *found)
{
    cllm_tokenizer_free(&found->tokenizer);
    cllm_spm_close(&found->spm);
    if (found->made[0] != '\0')
        (void)cllm_file_remove_tree(found->made); /* what stays lies in /tmp */
    *found = (struct cllm_convert_tokenizer){0};
}

void cllm_convert_tokenizer_describe(const struct cllm_convert_tokenizer *found,
                                     char *out, size_t bytes)
{
    if (found->spm.n_tokens > 0)
        (void)snprintf(out, bytes, "SentencePiece, %u tokens, from %s",
                       found->spm.n_tokens, found->path);
    else if (found->tokenizer != NULL)
        (void)snprintf(out, bytes, "%s, %u tokens, from %s",
                       cllm_tokenizer_kind_name(found->tokenizer),
                       cllm_tokenizer_size(found->tokenizer), found->path);
    else
        (void)snprintf(out, bytes, "none");
}

/* ---- writing ---- */

static int put_generation_config(const struct cllm_convert_tokenizer *found,
                                 const char *dir)
{
    uint32_t end;

    if (found->spm.n_tokens > 0)
        return cllm_generation_config_put(CLLM_SPM_BOS, CLLM_SPM_EOS, dir);
    end =
        found->tokenizer == NULL ? CLLM_TOKEN_NONE : cllm_tokenizer_eot(found->tokenizer);
    return cllm_generation_config_put(end, end, dir);
}

int cllm_convert_tokenizer_save(const struct cllm_convert_tokenizer *found,
                                const struct cllm_source *source, const char *dir)
{
    bool beside = is_directory(source);
    bool own = strcmp(found->path, source->path) == 0 || found->path[0] == '\0';
    char path[CLLM_FILE_PATH_BYTES];
    int rc = 0;

    if (beside && own)
        rc = cllm_tokenizer_files_copy(source->path, dir);
    if (rc >= 0)
        rc = 0;
    if (rc == 0 && found->spm.n_tokens > 0 && !is_there(dir, SPM_NAME, path))
        rc = cllm_output_copy(found->path, path);
    if (rc == 0 && found->tokenizer != NULL &&
        cllm_tokenizer_kind(found->tokenizer) == CLLM_TOKENIZER_KIND_BPE) {
        /* A vocabulary that lay there as it was stays as it was. */
        if (!cllm_tokenizer_files_in(dir))
            rc = cllm_tokenizer_save(found->tokenizer, dir);
        if (rc == 0)
            rc = cllm_tokenizer_config_put(found->tokenizer,
                                           source->parameters.config.context, dir);
    }
    return rc == 0 ? put_generation_config(found, dir) : rc;
}
