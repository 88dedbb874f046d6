/*
 * formats/alphabet.h - GPT-2's alphabet: every byte as a character that can be printed.
 *
 * Printable Latin-1 bytes stand for themselves; the 68 others, in order, for U+0100 and
 * on, so that the space is U+0120. Files of tokens are written in it.
 */
#ifndef CLLM_FORMATS_ALPHABET_H
#define CLLM_FORMATS_ALPHABET_H

#include "base/base.h"

/* The byte that has place @place (0 to 255) in the order of GPT-2's vocabulary: the
 * printable ones first. */
uint8_t cllm_alphabet_byte(uint32_t place);

/* The code point that stands for @byte. */
uint32_t cllm_alphabet_code(uint8_t byte);

/* @bytes bytes of @data spelled into @out, which has room for 2 * @bytes + 1; ends with a
 * NUL; returns the length without it. */
size_t cllm_alphabet_spell(const uint8_t *data, size_t bytes, char *out);

/* The way back: the bytes that @text spells, into @out, which has room for @bytes. False
 * when a character is not of the alphabet. */
bool cllm_alphabet_read(const char *text, size_t bytes, uint8_t *out, size_t *n);

#endif /* CLLM_FORMATS_ALPHABET_H */
