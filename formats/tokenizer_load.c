/*
 * formats/tokenizer_load.c - which files a path means, and what kind each one is.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/file.h"
#include "formats/tokenizer_parts.h"

#define RANKS ".tiktoken" /* how names of rank files end */

/* Vocabularies and the merges that lie beside them. */
static const struct {
    const char *vocab, *merges;
} pairs[] = {{CLLM_TOKENIZER_VOCAB, CLLM_TOKENIZER_MERGES},
             {"encoder.json", "vocab.bpe"}};

/* Whether @dir/@name, the path in @out, is there. */
static bool is_there(char out[CLLM_FILE_PATH_BYTES], const char *dir, const char *name)
{
    return cllm_file_join(out, dir, name) == 0 && access(out, F_OK) == 0;
}

static int load_bytes(struct cllm_tokenizer *tokenizer)
{
    int rc = 0;

    for (uint32_t id = 0; rc == 0 && id < 256; id++) {
        uint8_t byte = (uint8_t)id;
        rc = cllm_vocab_put(&tokenizer->vocab, id, &byte, 1, CLLM_TOKEN_NORMAL);
    }
    return rc < 0 ? rc : cllm_tokenizer_finish(tokenizer, CLLM_TOKENIZER_BYTES);
}

/* The directory that holds @path. */
static int parent_of(char out[CLLM_FILE_PATH_BYTES], const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL ? 1 : (size_t)(slash - path) + 1;

    if (len >= CLLM_FILE_PATH_BYTES)
        return cllm_err(-ENAMETOOLONG, "cannot use the path %.200s...", path);
    memcpy(out, slash == NULL ? "." : path, len);
    out[len] = '\0';
    return 0;
}

/* The vocabulary @vocab of file @path, with the merges that lie beside it. */
static int load_vocab(struct cllm_tokenizer *tokenizer, json_t *vocab, const char *path)
{
    char dir[CLLM_FILE_PATH_BYTES], file[CLLM_FILE_PATH_BYTES];
    char *merges = NULL;
    size_t bytes = 0;
    int rc = parent_of(dir, path);

    if (rc < 0)
        return rc;
    const char *base = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
    bool openai = strcmp(base, pairs[1].vocab) == 0;
    if (!is_there(file, dir, pairs[openai].merges) &&
        !is_there(file, dir, pairs[!openai].merges)) {
        rc = cllm_err(CLLM_EDATA, "%s: found a vocabulary, but not its merges", path);
        cllm_err_detail("expected %s or %s beside it", pairs[0].merges, pairs[1].merges);
        return rc;
    }
    rc = cllm_file_read(file, CLLM_TOKENIZER_FILE_CAP, &merges, &bytes);
    if (rc == 0)
        rc = cllm_tokenizer_from_vocab(tokenizer, vocab, path, merges, bytes, file);
    free(merges);
    return rc;
}

/* Whether the first line is "base64 rank" rather than two tokens. */
static bool looks_like_ranks(const char *text, size_t bytes)
{
    const char *feed = memchr(text, '\n', bytes);
    size_t len = feed != NULL ? (size_t)(feed - text) : bytes;
    const char *space = memchr(text, ' ', len);

    return space != NULL && (space - text) >= 4 && (space - text) % 4 == 0 &&
           (size_t)(space - text) + 1 < len && space[1] >= '0' && space[1] <= '9';
}

static int load_file(struct cllm_tokenizer *tokenizer, const char *path)
{
    char *text = NULL;
    size_t bytes = 0;
    json_t *root = NULL;
    int rc = cllm_file_read(path, CLLM_TOKENIZER_FILE_CAP, &text, &bytes);

    if (rc < 0)
        return rc;
    size_t begin = strspn(text, " \t\r\n");
    if (bytes == 0) {
        free(text);
        return cllm_err(CLLM_EDATA, "%s: expected a tokenizer, found an empty file",
                        path);
    }
    if (text[begin] == '{') {
        rc = cllm_json_parse(text, bytes, path, &root);
        if (rc == 0 && json_is_object(json_object_get(root, "model")))
            rc = cllm_tokenizer_from_json(tokenizer, root, path);
        else if (rc == 0)
            rc = load_vocab(tokenizer, root, path);
        json_decref(root);
    } else if (looks_like_ranks(text, bytes)) {
        rc = cllm_tokenizer_from_ranks(tokenizer, text, bytes, path);
    } else {
        rc = cllm_tokenizer_from_merges(tokenizer, text, bytes, path);
    }
    free(text);
    return rc;
}

/* The rank file in @dir, of several the first by name; the path in @out. */
static bool find_ranks(char out[CLLM_FILE_PATH_BYTES], const char *dir)
{
    struct dirent **names = NULL;
    bool found = false;
    int n = scandir(dir, &names, NULL, alphasort);

    for (int i = 0; i < n; i++) {
        size_t len = strlen(names[i]->d_name), end = strlen(RANKS);

        if (!found && len > end && strcmp(names[i]->d_name + len - end, RANKS) == 0)
            found = is_there(out, dir, names[i]->d_name);
        free(names[i]);
    }
    free(names);
    return found;
}

bool cllm_tokenizer_is_in(const char *dir)
{
    char file[CLLM_FILE_PATH_BYTES];

    if (is_there(file, dir, CLLM_TOKENIZER_JSON))
        return true;
    for (size_t i = 0; i < CLLM_LEN(pairs); i++)
        if (is_there(file, dir, pairs[i].vocab) || is_there(file, dir, pairs[i].merges))
            return true;
    return find_ranks(file, dir);
}

static int load_dir(struct cllm_tokenizer *tokenizer, const char *dir)
{
    char file[CLLM_FILE_PATH_BYTES];

    if (is_there(file, dir, CLLM_TOKENIZER_JSON))
        return load_file(tokenizer, file);
    for (size_t i = 0; i < CLLM_LEN(pairs); i++) {
        if (is_there(file, dir, pairs[i].vocab))
            return load_file(tokenizer, file);
    }
    for (size_t i = 0; i < CLLM_LEN(pairs); i++) {
        if (is_there(file, dir, pairs[i].merges))
            return load_file(tokenizer, file);
    }
    if (find_ranks(file, dir))
        return load_file(tokenizer, file);
    int rc = cllm_err(CLLM_EDATA, "%s holds no tokenizer", dir);
    cllm_err_detail("expected %s, %s with %s, %s with %s, or a rank file *" RANKS,
                    CLLM_TOKENIZER_JSON, pairs[0].vocab, pairs[0].merges, pairs[1].vocab,
                    pairs[1].merges);
    return rc;
}

int cllm_tokenizer_load(struct cllm_tokenizer **out, const char *path)
{
    bool is_bytes = strcmp(path, CLLM_TOKENIZER_BYTES) == 0;
    struct cllm_tokenizer *tokenizer = NULL;
    struct stat st;
    int rc = cllm_tokenizer_new(&tokenizer, is_bytes ? CLLM_TOKENIZER_KIND_BYTES
                                                     : CLLM_TOKENIZER_KIND_BPE);

    if (rc < 0)
        return rc;
    if (is_bytes)
        rc = load_bytes(tokenizer);
    else if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        rc = load_dir(tokenizer, path);
    else
        rc = load_file(tokenizer, path);
    if (rc < 0) {
        cllm_err_add("cannot load the tokenizer");
        cllm_tokenizer_free(&tokenizer);
    } else {
        *out = tokenizer;
    }
    return rc;
}
