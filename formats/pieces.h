/*
 * formats/pieces.h - text cut into pieces by a pattern; merges never cross their ends.
 *
 * Plain ASCII is cut by hand-written scanners for the known patterns, ten times as fast;
 * wherever a character beyond ASCII could matter, the expression itself decides. That
 * both agree is tested over all characters (tests/test_pieces.c).
 */
#ifndef CLLM_FORMATS_PIECES_H
#define CLLM_FORMATS_PIECES_H

#include "formats/pattern.h"

/* The state of one thread. */
struct cllm_pieces {
    const struct cllm_pattern *pattern;
    struct cllm_pattern_match *match;
    size_t (*scan)(const uint8_t *text, size_t bytes, size_t at); /* NULL: none */
};

/* @pattern must outlive it. Returns 0 or -ENOMEM, without text. */
int cllm_pieces_init(struct cllm_pieces *pieces, const struct cllm_pattern *pattern);
void cllm_pieces_fini(struct cllm_pieces *pieces);

/*
 * The piece that begins at @at, below @bytes, ends at *end. @text is valid UTF-8 and @at
 * the beginning of a character. What no match of a custom expression covers is a piece as
 * well. Returns 0, or CLLM_EDATA without text (cllm_pattern_next()).
 */
int cllm_pieces_next(struct cllm_pieces *pieces, const uint8_t *text, size_t bytes,
                     size_t at, size_t *end);

/* The same by the expression alone: what the scanners are tested against. */
int cllm_pieces_next_slow(struct cllm_pieces *pieces, const uint8_t *text, size_t bytes,
                          size_t at, size_t *end);

/* Where text may be cut: see cllm_tokenizer_cut(). */
size_t cllm_pieces_cut(enum cllm_pattern_kind kind, const uint8_t *text, size_t bytes);

#endif /* CLLM_FORMATS_PIECES_H */
