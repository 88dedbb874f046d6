/*
 * formats/file_scan.h - a whole file once, from its first byte to its last; its hash.
 */
#ifndef CLLM_FORMATS_FILE_SCAN_H
#define CLLM_FORMATS_FILE_SCAN_H

#include "base/base.h"
#include "base/hash.h"

/* Give @take the whole regular file @path in order, in blocks; @bytes (may be NULL) is
 * how many there were. Returns 0, CLLM_ESTOPPED or a negative errno with text. */
typedef void (*cllm_file_take_fn)(void *arg, const void *data, size_t bytes);
int cllm_file_scan(const char *path, cllm_file_take_fn take, void *arg, uint64_t *bytes);

/* The hash of the whole regular file @path, as base/hash.h has it. The same. */
int cllm_file_hash128(const char *path, char hex[CLLM_HASH128_HEX_BYTES],
                      uint64_t *bytes);

#endif /* CLLM_FORMATS_FILE_SCAN_H */
