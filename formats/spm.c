/*
 * formats/spm.c - see formats/spm.h.
 */
#include "formats/spm.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "formats/file.h"

#define FILE_CAP   (64u << 20)
#define TOKEN_LAST 1024 /* bytes of a token, at most */

static int bad(const struct cllm_spm *spm, uint32_t token, const char *what, uint64_t off,
               uint64_t expected, uint64_t found)
{
    int rc = cllm_err(CLLM_EDATA, "%s: not a sound tokenizer of llama2.c: token %u: %s",
                      spm->path, token, what);

    cllm_err_detail("offset %" PRIu64 ": expected %" PRIu64 ", found %" PRIu64, off,
                    expected, found);
    return rc;
}

/* Token @i at *@at. */
static int take(struct cllm_spm *spm, uint32_t i, const uint8_t *data, size_t bytes,
                size_t *at)
{
    struct cllm_spm_token *token = &spm->token[i];
    uint32_t length;

    if (bytes - *at < 8)
        return bad(spm, i, "the file ends too soon", *at, 8, bytes - *at);
    memcpy(&token->score, data + *at, 4);
    memcpy(&length, data + *at + 4, 4);
    if (length < 1 || length > TOKEN_LAST)
        return bad(spm, i, "its length cannot be", *at + 4, TOKEN_LAST, length);
    if (!isfinite(token->score))
        return bad(spm, i, "its score is no number", *at, 0, 0);
    *at += 8;
    if (bytes - *at < length)
        return bad(spm, i, "the file ends too soon", *at, length, bytes - *at);
    token->text = (const char *)data + *at;
    token->bytes = length;
    *at += length;
    return 0;
}

/* Bytes have tokens of their own, spelled as they must be. */
static int check_bytes(const struct cllm_spm *spm)
{
    char expected[8];

    for (uint32_t i = 0; i < 256 && CLLM_SPM_FIRST_BYTE + i < spm->n_tokens; i++) {
        const struct cllm_spm_token *token = &spm->token[CLLM_SPM_FIRST_BYTE + i];
        (void)snprintf(expected, sizeof expected, "<0x%02X>", i);
        if (token->bytes != 6 || memcmp(token->text, expected, 6) != 0)
            return cllm_err(CLLM_EDATA, "%s: token %u: expected %s, found \"%.*s\"",
                            spm->path, CLLM_SPM_FIRST_BYTE + i, expected,
                            (int)token->bytes, token->text);
    }
    return 0;
}

int cllm_spm_parse(struct cllm_spm *spm, const void *data, size_t bytes, uint32_t vocab,
                   const char *name)
{
    size_t at = 4;
    int rc = 0;

    *spm = (struct cllm_spm){.path = strdup(name)};
    if (spm->path == NULL)
        return cllm_err(-ENOMEM, "cannot read %s", name);
    if (bytes < 4 || (bytes - 4) / 9 < vocab)
        rc = bad(spm, 0, "the file is too short for so many tokens", 0,
                 4 + 9 * (uint64_t)vocab, bytes);
    if (rc == 0) {
        spm->token = calloc(vocab + (size_t)1, sizeof *spm->token);
        if (spm->token == NULL)
            rc = cllm_err(-ENOMEM, "cannot read %s", name);
    }
    for (; rc == 0 && spm->n_tokens < vocab; spm->n_tokens++)
        rc = take(spm, spm->n_tokens, data, bytes, &at);
    if (rc == 0 && at != bytes)
        rc = bad(spm, vocab, "there are bytes behind the last", at, at, bytes);
    if (rc == 0)
        rc = check_bytes(spm);
    if (rc != 0)
        cllm_spm_close(spm);
    return rc;
}

int cllm_spm_open(struct cllm_spm *spm, const char *path, uint32_t vocab)
{
    char *data = NULL;
    size_t bytes = 0;
    int rc = cllm_file_read(path, FILE_CAP, &data, &bytes);

    *spm = (struct cllm_spm){0};
    if (rc != 0)
        return rc;
    rc = cllm_spm_parse(spm, data, bytes, vocab, path);
    if (rc != 0)
        free(data);
    else
        spm->bytes = (uint8_t *)data;
    return rc;
}

void cllm_spm_close(struct cllm_spm *spm)
{
    free(spm->path);
    free(spm->bytes);
    free(spm->token);
    *spm = (struct cllm_spm){0};
}
