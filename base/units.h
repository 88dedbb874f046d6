/*
 * base/units.h - sizes, counts and times as people read them: 12.0 MiB, 41.2k, 1m12s.
 *
 * Four significant characters at most before the unit; a table of such texts lines up.
 * Numbers for programs are printed as they are and never go through here.
 */
#ifndef CLLM_BASE_UNITS_H
#define CLLM_BASE_UNITS_H

#include "base/base.h"

#define CLLM_UNITS_BYTES 16 /* room for every text below, with its NUL */

/* Each writes to @out and returns it, so that it can stand in an argument list. */

/* Bytes in powers of 1024: "512 B", "1.5 KiB", "12.0 MiB", "498 GiB". */
const char *cllm_format_bytes(char out[CLLM_UNITS_BYTES], uint64_t bytes);

/* A count in powers of 1000: "999", "41.2k", "124M", "1.3T". */
const char *cllm_format_count(char out[CLLM_UNITS_BYTES], uint64_t n);

/* A time: "0s", "85us", "3.2ms", "850ms", "7.4s", "59.9s", "1m12s", "3h04m", "2d05h". */
const char *cllm_format_duration(char out[CLLM_UNITS_BYTES], uint64_t ns);

/* What a noun has behind its number: "" for one, "s" for any other. And for a noun like
 * "batch": "" or "es". */
const char *cllm_plural(uint64_t n);
const char *cllm_plural_es(uint64_t n);

#endif /* CLLM_BASE_UNITS_H */
