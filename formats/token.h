/*
 * formats/token.h - how a token stands in a file: width and sign, and the way to uint32.
 *
 * Files are little-endian and arrays in them may begin anywhere, so nothing here asks for
 * alignment. A number that no token can be (below zero, or beyond 32 bits) becomes
 * UINT32_MAX, which no vocabulary reaches: whoever compares with a vocabulary finds it.
 */
#ifndef CLLM_FORMATS_TOKEN_H
#define CLLM_FORMATS_TOKEN_H

#include "base/base.h"

enum cllm_token_kind {
    CLLM_TOKEN_U16 = 0,
    CLLM_TOKEN_U8,
    CLLM_TOKEN_U32,
    CLLM_TOKEN_I8,
    CLLM_TOKEN_I16,
    CLLM_TOKEN_I32,
    CLLM_TOKEN_I64,
    CLLM_N_TOKEN_KINDS
};

/* 1, 2, 4 or 8. */
uint32_t cllm_token_bytes(enum cllm_token_kind kind);

bool cllm_token_signed(enum cllm_token_kind kind);

/* "u16", "i32" ... */
const char *cllm_token_name(enum cllm_token_kind kind);

/* The @n tokens at @raw, unaligned, to @out. Returns the largest, 0 for none. */
uint32_t cllm_token_widen(uint32_t *out, const void *raw, enum cllm_token_kind kind,
                          uint64_t n);

#endif /* CLLM_FORMATS_TOKEN_H */
