/*
 * formats/alphabet.c - the alphabet computed; it is small enough to need no table.
 */
#include "formats/alphabet.h"

#include "formats/utf8.h"

#define N_PRINTABLE 188 /* 33-126, 161-172, 174-255 */

static bool is_printable(uint32_t byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
}

/* How many of the bytes below @byte cannot be printed. */
static uint32_t unprintable_below(uint32_t byte)
{
    if (byte <= 33)
        return byte;
    if (byte <= 127)
        return 33;
    if (byte <= 161)
        return byte - 127 + 33;
    return byte <= 173 ? 67 : 68;
}

uint8_t cllm_alphabet_byte(uint32_t place)
{
    CLLM_ASSERT(place < 256);
    if (place < 94)
        return (uint8_t)(33 + place);
    if (place < 106)
        return (uint8_t)(161 + place - 94);
    if (place < N_PRINTABLE)
        return (uint8_t)(174 + place - 106);
    place -= N_PRINTABLE;
    if (place < 33)
        return (uint8_t)place;
    return place < 67 ? (uint8_t)(127 + place - 33) : 173;
}

uint32_t cllm_alphabet_code(uint8_t byte)
{
    return is_printable(byte) ? byte : 256 + unprintable_below(byte);
}

size_t cllm_alphabet_spell(const uint8_t *data, size_t bytes, char *out)
{
    size_t used = 0;

    for (size_t i = 0; i < bytes; i++) {
        uint8_t code[4];
        size_t n = cllm_utf8_put(cllm_alphabet_code(data[i]), code);

        for (size_t k = 0; k < n; k++)
            out[used++] = (char)code[k];
    }
    out[used] = '\0';
    return used;
}

bool cllm_alphabet_read(const char *text, size_t bytes, uint8_t *out, size_t *n)
{
    const uint8_t *at = (const uint8_t *)text;
    size_t used = 0;

    while (bytes > 0) {
        size_t width = cllm_utf8_char(at, bytes);
        uint32_t code = width > 0 ? cllm_utf8_get(at, width) : UINT32_MAX;

        if (code < 256 && is_printable(code))
            out[used++] = (uint8_t)code;
        else if (code >= 256 && code < 256 + 256 - N_PRINTABLE)
            out[used++] = cllm_alphabet_byte(N_PRINTABLE + code - 256);
        else
            return false;
        at += width;
        bytes -= width;
    }
    *n = used;
    return true;
}
