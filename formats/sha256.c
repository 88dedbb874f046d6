/*
 * formats/sha256.c - SHA-256 through libcrypto's EVP interface.
 */
#include "formats/sha256.h"

#include <errno.h>

#include <openssl/evp.h>

#include "base/err.h"
#include "formats/file_scan.h"

int cllm_sha256_begin(struct cllm_sha256 *sha)
{
    if (sha->context == NULL)
        sha->context = EVP_MD_CTX_new();
    if (sha->context == NULL || EVP_DigestInit_ex(sha->context, EVP_sha256(), NULL) != 1)
        return cllm_err(-ENOMEM, "cannot begin a SHA-256");
    return 0;
}

void cllm_sha256_add(struct cllm_sha256 *sha, const void *data, size_t bytes)
{
    int ok = EVP_DigestUpdate(sha->context, data, bytes);

    CLLM_ASSERT(ok == 1);
}

void cllm_sha256_end(struct cllm_sha256 *sha, uint8_t digest[CLLM_SHA256_BYTES])
{
    int ok = EVP_DigestFinal_ex(sha->context, digest, NULL);

    CLLM_ASSERT(ok == 1);
}

void cllm_sha256_fini(struct cllm_sha256 *sha)
{
    EVP_MD_CTX_free(sha->context);
    sha->context = NULL;
}

void cllm_sha256_hex(char hex[CLLM_SHA256_HEX_BYTES],
                     const uint8_t digest[CLLM_SHA256_BYTES])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < CLLM_SHA256_BYTES; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[2 * CLLM_SHA256_BYTES] = '\0';
}

int cllm_sha256_text(const void *data, size_t bytes, char hex[CLLM_SHA256_HEX_BYTES])
{
    struct cllm_sha256 sha = {0};
    uint8_t digest[CLLM_SHA256_BYTES];
    int rc = cllm_sha256_begin(&sha);

    if (rc == 0) {
        cllm_sha256_add(&sha, data, bytes);
        cllm_sha256_end(&sha, digest);
        cllm_sha256_hex(hex, digest);
    }
    cllm_sha256_fini(&sha);
    return rc;
}

static void take(void *arg, const void *data, size_t bytes)
{
    cllm_sha256_add(arg, data, bytes);
}

int cllm_sha256_file(const char *path, char hex[CLLM_SHA256_HEX_BYTES], uint64_t *bytes)
{
    struct cllm_sha256 sha = {0};
    uint8_t digest[CLLM_SHA256_BYTES];
    int rc = cllm_sha256_begin(&sha);

    if (rc == 0)
        rc = cllm_file_scan(path, take, &sha, bytes);
    if (rc == 0) {
        cllm_sha256_end(&sha, digest);
        cllm_sha256_hex(hex, digest);
    }
    cllm_sha256_fini(&sha);
    return rc;
}
