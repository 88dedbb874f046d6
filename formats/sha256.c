/*
 * formats/sha256.c - SHA-256 through libcrypto's EVP interface.
 */
#include "formats/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "base/err.h"
#include "base/pulse.h"

#define FILE_BLOCK_BYTES (256u << 10)

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

/* Feed all of @fd from offset 0. */
static int add_file(struct cllm_sha256 *sha, int fd, const char *path, uint8_t *block,
                    uint64_t *bytes)
{
    *bytes = 0;
    for (;;) {
        ssize_t n = pread(fd, block, FILE_BLOCK_BYTES, (off_t)*bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int rc = cllm_err(-errno, "cannot read %s", path);
            cllm_err_detail("at offset %llu", (unsigned long long)*bytes);
            return rc;
        }
        if (n == 0)
            return 0;
        cllm_sha256_add(sha, block, (size_t)n);
        cllm_pulse();
        if (cllm_pulse_stopped())
            return cllm_err(CLLM_ESTOPPED, "stopped while %s was read", path);
        *bytes += (uint64_t)n;
    }
}

int cllm_sha256_fd(int fd, const char *path, char hex[CLLM_SHA256_HEX_BYTES],
                   uint64_t *bytes)
{
    struct cllm_sha256 sha = {0};
    uint8_t digest[CLLM_SHA256_BYTES];
    uint64_t total = 0;
    uint8_t *block = malloc(FILE_BLOCK_BYTES);
    int rc = block == NULL ? cllm_err(-ENOMEM, "cannot read %s", path)
                           : cllm_sha256_begin(&sha);

    if (rc == 0)
        rc = add_file(&sha, fd, path, block, &total);
    if (rc == 0) {
        cllm_sha256_end(&sha, digest);
        cllm_sha256_hex(hex, digest);
        if (bytes != NULL)
            *bytes = total;
    }
    cllm_sha256_fini(&sha);
    free(block);
    return rc;
}

int cllm_sha256_file(const char *path, char hex[CLLM_SHA256_HEX_BYTES], uint64_t *bytes)
{
    struct stat st;
    int rc;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return cllm_err(-errno, "cannot open %s", path);
    if (fstat(fd, &st) != 0)
        rc = cllm_err(-errno, "cannot read %s", path);
    else if (!S_ISREG(st.st_mode))
        rc = cllm_err(-EINVAL, "cannot read %s, it is not a regular file", path);
    else
        rc = cllm_sha256_fd(fd, path, hex, bytes);
    (void)close(fd);
    return rc;
}
