/*
 * tests/crash/corrupt.c - bytes that rot: nothing is accepted silently.
 *
 * A small checkpoint, token shards and a control object are damaged in every way that is
 * short to say: every byte changed, every length cut, blocks zeroed, files swapped,
 * missing, or something else in their place. Each time the product must refuse what it
 * is given, with a reason; or it is shown that what was changed is nothing that it uses.
 */
#include "tests/crash/corrupt.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/random.h"
#include "formats/file.h"

void corrupt_open(struct corrupt_file *file, const char *path)
{
    char *text = NULL;
    size_t bytes = 0;

    CLLM_ASSERT(strlen(path) < sizeof file->path);
    memcpy(file->path, path, strlen(path) + 1);
    CLLM_ASSERT(cllm_file_read(path, 1u << 24, &text, &bytes) == 0);
    file->data = (uint8_t *)text;
    file->bytes = bytes;
    file->fd = open(path, O_RDWR | O_CLOEXEC);
    CLLM_ASSERT(file->fd >= 0);
}

void corrupt_close(struct corrupt_file *file)
{
    free(file->data);
    CLLM_ASSERT(close(file->fd) == 0);
}

void corrupt_put(const struct corrupt_file *file, uint64_t off, const void *data,
                 size_t bytes)
{
    CLLM_ASSERT(pwrite(file->fd, data, bytes, (off_t)off) == (ssize_t)bytes);
}

void corrupt_cut(const struct corrupt_file *file, uint64_t bytes)
{
    CLLM_ASSERT(ftruncate(file->fd, (off_t)bytes) == 0);
}

void corrupt_mend(const struct corrupt_file *file)
{
    corrupt_put(file, 0, file->data, file->bytes);
    corrupt_cut(file, file->bytes);
}

bool corrupt_value(const struct tally *tally, uint8_t was, uint64_t off, uint32_t i,
                   uint32_t n, uint8_t *value)
{
    /* Bits, then what texts are made of, then the rest in some order. */
    static const uint8_t first[] = {1,   2,   4,    8,    16,        32,        64,
                                    128, 255, 0x7f, 0x11, '0' ^ '1', ' ' ^ '\n'};
    uint32_t at = i;

    if (tally->quick) {
        if (i > 0)
            return false;
        at = (uint32_t)(cllm_random_u64(tally->seed, CLLM_RANDOM_TEST, off) % 255);
    } else if (i >= n) {
        return false;
    }
    *value = (uint8_t)(was ^ (at < CLLM_LEN(first) && !tally->quick && n < 255
                                  ? first[at]
                                  : (uint8_t)(at + 1)));
    return true;
}

int main(int argc, char **argv)
{
    struct tally tally;

    tally_begin(&tally, argc, argv,
                "Damaged checkpoints, token shards and control objects are refused.");
    cllm_log_init("corrupt", CLLM_LOG_WARN);
    corrupt_control(&tally);
    corrupt_shard(&tally);
    corrupt_checkpoint(&tally);
    tally_print_reasons();
    return tally_end(&tally);
}
