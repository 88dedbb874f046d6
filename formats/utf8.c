/*
 * formats/utf8.c - UTF-8 by the table of RFC 3629, section 4; ASCII eight bytes at a
 * time.
 */
#include "formats/utf8.h"

#include <string.h>

/* Bytes of the character that @lead begins, and the range of its second byte. */
static size_t lead_bytes(uint8_t lead, uint8_t *low, uint8_t *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (lead < 0x80)
        return 1;
    if (lead < 0xC2 || lead > 0xF4)
        return 0;
    if (lead < 0xE0)
        return 2;
    if (lead == 0xE0)
        *low = 0xA0; /* shorter forms exist below */
    else if (lead == 0xED)
        *high = 0x9F; /* surrogates above */
    else if (lead == 0xF0)
        *low = 0x90;
    else if (lead == 0xF4)
        *high = 0x8F; /* beyond U+10FFFF above */
    return lead < 0xF0 ? 3 : 4;
}

/* How many bytes at @text agree with the character that the first one begins, and in
 * @*whole how many it has. */
static size_t agreeing(const uint8_t *text, size_t bytes, size_t *whole)
{
    uint8_t low, high;

    *whole = bytes > 0 ? lead_bytes(text[0], &low, &high) : 0;
    if (*whole == 0)
        return 0;
    for (size_t i = 1; i < *whole; i++) {
        if (i == bytes || text[i] < low || text[i] > high)
            return i;
        low = 0x80;
        high = 0xBF;
    }
    return *whole;
}

size_t cllm_utf8_char(const uint8_t *text, size_t bytes)
{
    size_t whole;

    return agreeing(text, bytes, &whole) == whole ? whole : 0;
}

size_t cllm_utf8_valid(const uint8_t *text, size_t bytes)
{
    size_t at = 0;
    uint64_t word;

    while (at < bytes) {
        if (bytes - at >= sizeof word) {
            memcpy(&word, text + at, sizeof word);
            if ((word & 0x8080808080808080u) == 0) {
                at += sizeof word;
                continue;
            }
        }
        size_t n = cllm_utf8_char(text + at, bytes - at);
        if (n == 0)
            break;
        at += n;
    }
    return at;
}

size_t cllm_utf8_open(const uint8_t *text, size_t bytes)
{
    for (size_t back = 1; back <= 3 && back <= bytes; back++) {
        const uint8_t *at = text + bytes - back;
        size_t whole;

        if (*at < 0x80)
            return 0;
        if (*at >= 0xC0)
            return agreeing(at, back, &whole) == back && back < whole ? back : 0;
    }
    return 0;
}

uint32_t cllm_utf8_get(const uint8_t *text, size_t bytes)
{
    static const uint8_t lead_mask[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};

    CLLM_ASSERT(bytes >= 1 && bytes <= 4);
    uint32_t code = text[0] & lead_mask[bytes];
    for (size_t i = 1; i < bytes; i++)
        code = code << 6 | (text[i] & 0x3Fu);
    return code;
}

size_t cllm_utf8_put(uint32_t code, uint8_t out[4])
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (uint8_t)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    out[0] = (uint8_t)((0xF0u << (4 - n)) | code);
    return n;
}

bool cllm_utf8_is_space(uint32_t code)
{
    return (code >= 9 && code <= 13) || code == 0x20 || code == 0x85 || code == 0xA0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
           code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}
