/*
 * tests/fuzz/fuzz.h - the fuzz targets, one for each parser, and what they share.
 *
 * A target is a function that takes any bytes and returns 0; what must never happen is an
 * assert in it or a finding of a sanitizer. tests/fuzz/entry.c makes a libFuzzer program
 * of each, tests/test_fuzz_corpus.c runs the kept inputs in every build.
 */
#ifndef CLLM_TESTS_FUZZ_FUZZ_H
#define CLLM_TESTS_FUZZ_FUZZ_H

#include <stdio.h>

#include "base/base.h"
#include "shm/layout.h"

/* int fuzz_<target>(const uint8_t *data, size_t size) for each target */
#define FUZZ_TARGET(name) int fuzz_##name(const uint8_t *data, size_t size);
#include "tests/fuzz/targets.def"
#undef FUZZ_TARGET

/* Inputs that the parser took for good since the start; a corpus without one proves
 * little. */
extern uint64_t fuzz_n_accepted;

/* A stream that swallows everything. */
FILE *fuzz_sink(void);

/* A nameless file in memory whose content each call replaces: @bytes bytes of @data, then
 * zeros up to @file_bytes. Returns its path in /proc. @which of FUZZ_FILES files, each of
 * one use. */
#define FUZZ_FILES 4
const char *fuzz_file(uint32_t which, const void *data, size_t bytes,
                      uint64_t file_bytes);

/* ---- inputs that are taken apart ---- */

struct fuzz_reader {
    const uint8_t *at, *end;
};

/* The next number of the input, little-endian; 0 when it is used up. */
uint8_t fuzz_u8(struct fuzz_reader *in);
uint16_t fuzz_u16(struct fuzz_reader *in);

/*
 * One change to @image: u16 offset (modulo @bytes), u8 n, n bytes, cut at the end of
 * either. An image is most often a page that was valid, so that a short input says what
 * is wrong with it. Returns n; *@off (may be NULL) gets the offset.
 */
size_t fuzz_patch(struct fuzz_reader *in, void *image, size_t bytes, size_t *off);

/* A crash record of worker 0 as its handler writes it; its sum is not set. */
void fuzz_sound_crash(struct cllm_crash_record *out);

#endif /* CLLM_TESTS_FUZZ_FUZZ_H */
