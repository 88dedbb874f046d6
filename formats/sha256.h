/*
 * formats/sha256.h - SHA-256: the identity of files and texts. The only place that uses
 * libcrypto.
 *
 *     struct cllm_sha256 sha = {0};
 *     rc = cllm_sha256_begin(&sha);         // allocates once; later begins reuse it
 *     cllm_sha256_add(&sha, data, bytes);   // as often as needed
 *     cllm_sha256_end(&sha, digest);        // begin may follow
 *     cllm_sha256_fini(&sha);
 */
#ifndef CLLM_FORMATS_SHA256_H
#define CLLM_FORMATS_SHA256_H

#include "base/base.h"

#define CLLM_SHA256_BYTES     32
#define CLLM_SHA256_HEX_BYTES 65 /* 64 lower-case digits and the NUL */

struct cllm_sha256 {
    void *context; /* libcrypto's; NULL in zeroed memory */
};

/* Start a digest. Returns 0, or -ENOMEM with text. */
int cllm_sha256_begin(struct cllm_sha256 *sha);
void cllm_sha256_add(struct cllm_sha256 *sha, const void *data, size_t bytes);
void cllm_sha256_end(struct cllm_sha256 *sha, uint8_t digest[CLLM_SHA256_BYTES]);
void cllm_sha256_fini(struct cllm_sha256 *sha);

void cllm_sha256_hex(char hex[CLLM_SHA256_HEX_BYTES],
                     const uint8_t digest[CLLM_SHA256_BYTES]);

/* Digest of memory, as hexadecimal text. Returns 0, or -ENOMEM with text. */
int cllm_sha256_text(const void *data, size_t bytes, char hex[CLLM_SHA256_HEX_BYTES]);

/* Digest of the file at @path from its first byte to its end; @bytes (may be NULL) is how
 * many there were. Returns 0 or a negative errno with text. */
int cllm_sha256_file(const char *path, char hex[CLLM_SHA256_HEX_BYTES], uint64_t *bytes);

#endif /* CLLM_FORMATS_SHA256_H */
