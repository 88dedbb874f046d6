/*
 * tests/fuzz/fuzz_megatron.c - a Megatron index against the size of its .bin.
 *
 * Input: flags, bytes of the .bin (u16), then the index. FIX_HEAD writes magic number and
 * version; FIX_FILL makes the .bin as long as the sequences say.
 */
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/megatron.h"

enum { FIX_HEAD = 1, FIX_FILL = 2 };

#define MOST_BYTES 4096

/* What the lengths of an index of @bytes add up to, if its head is believed. */
static uint64_t sum_lengths(const uint8_t *index, size_t bytes)
{
    static const uint8_t width[] = {0, 1, 1, 2, 4, 8, 8, 4, 2};
    uint64_t n, sum = 0;

    if (bytes < 34 || index[17] >= sizeof width)
        return 0;
    memcpy(&n, index + 18, sizeof n);
    for (uint64_t i = 0; i < n && 34 + 4 * (i + 1) <= bytes; i++) {
        uint32_t length;

        memcpy(&length, index + 34 + 4 * i, sizeof length);
        sum += (uint64_t)length * width[index[17]];
    }
    return sum;
}

int fuzz_megatron(const uint8_t *data, size_t size)
{
    static const uint8_t head[] = "MMIDIDX\0\0\1\0\0\0\0\0\0";
    struct fuzz_reader in = {data, data + size};
    static uint8_t index[MOST_BYTES];
    uint8_t flags = fuzz_u8(&in);
    uint64_t bin_bytes = fuzz_u16(&in);
    size_t bytes = cllm_min_u64((uint64_t)(in.end - in.at), sizeof index);
    struct cllm_megatron out;
    int fd, rc;

    memcpy(index, in.at, bytes);
    if (flags & FIX_HEAD && bytes >= sizeof head)
        memcpy(index, head, sizeof head);
    if (flags & FIX_FILL)
        bin_bytes = sum_lengths(index, bytes);
    fd = open(fuzz_file(0, index, bytes, bytes), O_RDONLY | O_CLOEXEC);
    CLLM_ASSERT(fd >= 0);
    rc = cllm_megatron_check(&out, fd, bytes, bin_bytes, "fuzz.idx");
    (void)close(fd);
    CLLM_ASSERT(rc == 0 || cllm_err_text()[0] != '\0');
    if (rc == 0) {
        fuzz_n_accepted++;
        CLLM_ASSERT(out.n_tokens > 0 &&
                    out.n_tokens * cllm_token_bytes(out.kind) == bin_bytes);
    }
    return 0;
}
