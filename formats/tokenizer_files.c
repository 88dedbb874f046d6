/*
 * formats/tokenizer_files.c - see formats/tokenizer_files.h.
 */
#include "formats/tokenizer_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include "formats/file.h"
#include "formats/output.h"

const char *const cllm_tokenizer_files[CLLM_N_TOKENIZER_FILES] = {
    "added_tokens.json",       "generation_config.json", "merges.txt",
    "special_tokens_map.json", "tokenizer.bin",          "tokenizer.json",
    "tokenizer.model",         "tokenizer_config.json",  "vocab.json",
};

static bool is_file(const char *dir, const char *name, char path[CLLM_FILE_PATH_BYTES])
{
    struct stat st;

    return cllm_file_join(path, dir, name) == 0 && stat(path, &st) == 0 &&
           S_ISREG(st.st_mode);
}

bool cllm_tokenizer_files_in(const char *dir)
{
    static const char *const vocabularies[] = {"tokenizer.json", "vocab.json",
                                               "merges.txt"};
    char path[CLLM_FILE_PATH_BYTES];

    for (size_t i = 0; i < CLLM_LEN(vocabularies); i++)
        if (is_file(dir, vocabularies[i], path))
            return true;
    return false;
}

int cllm_tokenizer_files_copy(const char *from, const char *to)
{
    char source[CLLM_FILE_PATH_BYTES], target[CLLM_FILE_PATH_BYTES];
    int copied = 0;

    for (size_t i = 0; i < CLLM_N_TOKENIZER_FILES; i++) {
        const char *name = cllm_tokenizer_files[i];
        int rc;

        if (!is_file(from, name, source) || is_file(to, name, target))
            continue;
        rc = cllm_output_copy(source, target);
        if (rc != 0)
            return rc;
        copied++;
    }
    return copied;
}
