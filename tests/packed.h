/*
 * tests/packed.h - gzip and zstd streams around bytes, as their formats allow without
 * compressing: what tests unpack needs no library to be made.
 */
#ifndef CLLM_TESTS_PACKED_H
#define CLLM_TESTS_PACKED_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PACKED_ROOM 32 /* bytes that either format adds to at most 65535 bytes */

static inline size_t packed_le(uint8_t *to, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> (8 * i));
    return bytes;
}

/* CRC-32 as gzip has it (RFC 1952, 8). */
static inline uint32_t packed_crc(const uint8_t *bytes, size_t n)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0xedb88320) : 0);
    }
    return ~crc;
}

/* A gzip member with one stored block (RFC 1951, 3.2.4) of @n <= 65535 bytes; its
 * length. */
static inline size_t packed_gzip(uint8_t *to, const void *bytes, size_t n)
{
    static const uint8_t head[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1};
    size_t at = sizeof head;

    memcpy(to, head, sizeof head);
    at += packed_le(to + at, n, 2);
    at += packed_le(to + at, ~n & 0xffff, 2);
    memcpy(to + at, bytes, n);
    at += n;
    at += packed_le(to + at, packed_crc(bytes, n), 4);
    at += packed_le(to + at, n, 4);
    return at;
}

/* A zstd frame with one raw block (RFC 8878, 3.1.1) of @n <= 65535 bytes; its length. */
static inline size_t packed_zstd(uint8_t *to, const void *bytes, size_t n)
{
    static const uint8_t head[] = {0x28, 0xb5, 0x2f, 0xfd, 0xa0};
    size_t at = sizeof head;

    memcpy(to, head, sizeof head);
    at += packed_le(to + at, n, 4);
    at += packed_le(to + at, 1 | n << 3, 3);
    memcpy(to + at, bytes, n);
    return at + n;
}

#endif /* CLLM_TESTS_PACKED_H */
