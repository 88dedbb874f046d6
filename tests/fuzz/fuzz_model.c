/*
 * tests/fuzz/fuzz_model.c - model files of llm.c and of llama2.c, a vocabulary of the
 * latter, an index of Hugging Face: all that is small and has no target of its own.
 *
 * Input: which of them, then its bytes. The size of a model file is what its numbers ask
 * for when FIX_SIZE is set; nothing is read beyond the header, so it costs nothing.
 */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "formats/hf.h"
#include "formats/llama2c.h"
#include "formats/llmc.h"
#include "formats/spm.h"

enum { LLMC, LLAMA2C, SPM, INDEX, N_KINDS };
enum { FIX_SIZE = 4 };

#define HEAD 1024

/* A sound file of these numbers would have so many bytes; 0: there is none. */
static uint64_t wanted(uint32_t which, const uint8_t *head)
{
    uint64_t bytes = 0;

    if (which == LLMC) {
        struct cllm_llmc file;
        struct cllm_parameters parameters;
        if (cllm_llmc_parse(&file, head, UINT64_C(1) << 60, "fuzz") != 0 &&
            cllm_parameters_init(&parameters, &file.config) == 0) {
            bytes = HEAD + (parameters.n_params +
                            (uint64_t)(file.padded_vocab - file.config.vocab) *
                                file.config.width) *
                               (file.version == CLLM_LLMC_F32 ? 4 : 2);
            cllm_parameters_fini(&parameters);
        }
        return bytes;
    }
    struct cllm_llama2c file;
    struct cllm_parameters parameters;
    if (cllm_llama2c_parse(&file, head, UINT64_C(1) << 60, "fuzz") != 0 &&
        cllm_parameters_init(&parameters, &file.config) == 0) {
        bytes = CLLM_LLAMA2C_HEADER_BYTES +
                4 * (parameters.n_params +
                     (uint64_t)file.config.context * file.config.head_size);
        cllm_parameters_fini(&parameters);
    }
    return bytes;
}

static int try_model(uint32_t which, const uint8_t *head, uint64_t bytes)
{
    struct cllm_llmc llmc;
    struct cllm_llama2c llama2c;

    return which == LLMC ? cllm_llmc_parse(&llmc, head, bytes, "fuzz")
                         : cllm_llama2c_parse(&llama2c, head, bytes, "fuzz");
}

static int try_spm(const uint8_t *data, size_t size)
{
    uint32_t vocab = size >= 2 ? data[0] | (uint32_t)data[1] << 8 : 0;
    struct cllm_spm spm;
    int rc;

    if (size < 2)
        return 1;
    rc = cllm_spm_parse(&spm, data + 2, size - 2, vocab, "fuzz");
    if (rc == 0) {
        CLLM_ASSERT(spm.n_tokens == vocab);
        for (uint32_t i = 0; i < vocab; i++)
            CLLM_ASSERT(spm.token[i].bytes > 0 && spm.token[i].text != NULL);
        cllm_spm_close(&spm);
    }
    return rc;
}

static int try_index(const uint8_t *data, size_t size)
{
    char **files;
    uint32_t n;
    int rc = cllm_hf_parse_index((const char *)data, size, "fuzz", &files, &n);

    if (rc == 0) {
        CLLM_ASSERT(n > 0 && n <= CLLM_HF_FILES_MAX);
        for (uint32_t i = 0; i < n; i++) {
            CLLM_ASSERT(files[i][0] != '\0' && strchr(files[i], '/') == NULL);
            free(files[i]);
        }
        free(files);
    }
    return rc;
}

int fuzz_model(const uint8_t *data, size_t size)
{
    struct fuzz_reader in = {data, data + size};
    uint8_t flags = fuzz_u8(&in);
    uint32_t which = flags % N_KINDS;
    size_t n = (size_t)(in.end - in.at);
    uint8_t head[HEAD] = {0};
    uint64_t bytes = n;
    int rc;

    if (which == LLMC || which == LLAMA2C) {
        memcpy(head, in.at, n < HEAD ? n : HEAD);
        if (flags & FIX_SIZE)
            bytes = wanted(which, head);
        rc = try_model(which, head, bytes);
    } else {
        rc = which == SPM ? try_spm(in.at, n) : try_index(in.at, n);
    }
    if (rc == 0)
        fuzz_n_accepted++;
    else
        CLLM_ASSERT(rc > 0 || cllm_err_text()[0] != '\0');
    return 0;
}
