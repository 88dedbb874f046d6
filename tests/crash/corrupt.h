/*
 * tests/crash/corrupt.h - the parts of corrupt.c: what rots, and what is done about it.
 */
#ifndef CLLM_TESTS_CRASH_CORRUPT_H
#define CLLM_TESTS_CRASH_CORRUPT_H

#include "tests/crash/tally.h"

/* The whole of a small file, and the same bytes open for damage. */
struct corrupt_file {
    char path[4096];
    uint8_t *data; /* (bytes) as it should be; heap */
    uint64_t bytes;
    int fd;
};

void corrupt_open(struct corrupt_file *file, const char *path);
void corrupt_close(struct corrupt_file *file);

/* Put @bytes at @off, cut the file to @bytes, or make it what it should be again. */
void corrupt_put(const struct corrupt_file *file, uint64_t off, const void *data,
                 size_t bytes);
void corrupt_cut(const struct corrupt_file *file, uint64_t bytes);
void corrupt_mend(const struct corrupt_file *file);

/*
 * What a byte of value @was is changed into: number @i of a list without @was in it.
 * False at its end. Quick: one value, which @seed and @off choose; else @n of the 255.
 */
bool corrupt_value(const struct tally *tally, uint8_t was, uint64_t off, uint32_t i,
                   uint32_t n, uint8_t *value);

/* The campaigns; each prints a line of its counts. */
void corrupt_checkpoint(struct tally *tally);
void corrupt_shard(struct tally *tally);
void corrupt_control(struct tally *tally);

#endif /* CLLM_TESTS_CRASH_CORRUPT_H */
