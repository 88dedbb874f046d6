/*
 * formats/pattern.h - the regular expressions that cut text into pieces, through PCRE2.
 *
 * The only place that knows PCRE2. Expressions are written as tokenizers have them, for
 * Python's regex or Rust's: "\s" and "\S" mean the 25 characters with the property
 * White_Space, which PCRE2's own "\s" does not (it adds U+180E), so they are written out
 * before PCRE2 sees them.
 */
#ifndef CLLM_FORMATS_PATTERN_H
#define CLLM_FORMATS_PATTERN_H

#include "base/base.h"

struct cllm_pattern;       /* opaque, heap; does not change, threads may share it */
struct cllm_pattern_match; /* opaque, heap; one for each thread */

#define CLLM_PATTERN_MAX_BYTES 4096 /* of an expression */

enum cllm_pattern_kind {
    CLLM_PATTERN_NONE,   /* no pieces: the byte-level tokenizer */
    CLLM_PATTERN_GPT2,   /* GPT-2, r50k, p50k */
    CLLM_PATTERN_CL100K, /* GPT-4, Llama 3 */
    CLLM_PATTERN_QWEN2,  /* cl100k with single digits */
    CLLM_PATTERN_O200K,  /* GPT-4o */
    CLLM_PATTERN_CUSTOM, /* any other */
    CLLM_N_PATTERN_KINDS
};

/* "none", "gpt2", "cl100k", "qwen2", "o200k", "custom". */
const char *cllm_pattern_name(enum cllm_pattern_kind kind);

/* The kind of that name; CLLM_N_PATTERN_KINDS when there is none. */
enum cllm_pattern_kind cllm_pattern_find(const char *name);

/* The expression of a kind that has one of its own; NULL of none and custom. */
const char *cllm_pattern_expression(enum cllm_pattern_kind kind);

/* Compile @expression; its kind is found by comparison. Returns 0, -ENOMEM, or CLLM_EDATA
 * with a text that begins with @name and gives the offset. */
int cllm_pattern_new(struct cllm_pattern **out, const char *expression, const char *name);
void cllm_pattern_free(struct cllm_pattern **pattern);

enum cllm_pattern_kind cllm_pattern_kind(const struct cllm_pattern *pattern);
const char *cllm_pattern_text(const struct cllm_pattern *pattern); /* as given */

/* Returns 0 or -ENOMEM, without text. */
int cllm_pattern_match_new(struct cllm_pattern_match **out,
                           const struct cllm_pattern *pattern);
void cllm_pattern_match_free(struct cllm_pattern_match **match);

/*
 * The first match that is not empty in @text from @at on: [*from, *to). @text is valid
 * UTF-8, @at is the beginning of a character. Returns 1; 0 when there is none; CLLM_EDATA
 * without text when the expression needs too many steps.
 */
int cllm_pattern_next(const struct cllm_pattern *pattern,
                      struct cllm_pattern_match *match, const uint8_t *text, size_t bytes,
                      size_t at, size_t *from, size_t *to);

#endif /* CLLM_FORMATS_PATTERN_H */
