/*
 * formats/utf8.h - UTF-8: what is valid, one character in and out, white space.
 *
 * Valid is what RFC 3629 says: shortest forms only, no surrogates, up to U+10FFFF.
 */
#ifndef CLLM_FORMATS_UTF8_H
#define CLLM_FORMATS_UTF8_H

#include "base/base.h"

/* Bytes of the valid character at the beginning of @text; 0 when there is none. */
size_t cllm_utf8_char(const uint8_t *text, size_t bytes);

/* Bytes of the longest valid beginning of @text. */
size_t cllm_utf8_valid(const uint8_t *text, size_t bytes);

/* Bytes at the end of @text that are the beginning of a character whose rest may still
 * come: 0 to 3. */
size_t cllm_utf8_open(const uint8_t *text, size_t bytes);

/* The code point of a valid character of @bytes bytes. */
uint32_t cllm_utf8_get(const uint8_t *text, size_t bytes);

/* @code as UTF-8; returns its bytes. */
size_t cllm_utf8_put(uint32_t code, uint8_t out[4]);

/* The 25 characters with the Unicode property White_Space. */
bool cllm_utf8_is_space(uint32_t code);

#endif /* CLLM_FORMATS_UTF8_H */
