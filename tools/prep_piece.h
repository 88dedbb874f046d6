/*
 * tools/prep_piece.h - the documents of a piece: what threads do with one, each for
 * itself.
 *
 * cllm_prep_piece_texts() takes JSON apart and mends UTF-8; the two things done with
 * texts are counting their pieces for a vocabulary (formats/bpe_counts.h), and
 * cllm_prep_encode(), which gives tokens and the places where documents begin among them.
 */
#ifndef CLLM_TOOLS_PREP_PIECE_H
#define CLLM_TOOLS_PREP_PIECE_H

#include "formats/encoder.h"
#include "tools/prep_reader.h"

/* How texts are read; the same for all threads. */
struct cllm_prep_rules {
    const struct cllm_prep_input *input;
    const char *text_key;
    enum cllm_prep_invalid invalid; /* not AUTO */
    bool skip_bad;                  /* bad lines of JSON are counted, not refused */
};

/* What was met on the way. */
struct cllm_prep_tally {
    uint64_t mistakes; /* in UTF-8 */
    uint64_t empty; /* documents without a byte; of JSON lines and between separators */
    uint64_t bad;   /* lines of JSON */
    char first_bad[512];
};

/* @text, @n > 0, is a document or a part of one; @begins: it begins there. Returns 0 or a
 * negative code with text. */
typedef int (*cllm_prep_text_fn)(void *context, const struct cllm_prep_part *part,
                                 bool begins, const uint8_t *text, size_t n);

/* All texts of @piece, in order; @scratch holds mended ones meanwhile. Returns 0 or a
 * negative code with text, its own or that of @fn. */
int cllm_prep_piece_texts(const struct cllm_prep_rules *rules,
                          const struct cllm_prep_piece *piece,
                          struct cllm_prep_bytes *scratch, struct cllm_prep_tally *tally,
                          cllm_prep_text_fn fn, void *context);

/* A text among tokens. */
struct cllm_prep_mark {
    uint32_t source; /* argument that it comes from */
    bool begins;     /* a document begins here */
    uint64_t bytes;  /* of text up to the next mark */
    size_t n_tokens; /* likewise */
};

struct cllm_prep_tokens {
    uint32_t *id; /* [n], room for capacity; heap */
    size_t n, capacity;
    struct cllm_prep_mark *mark; /* [n_marks]; heap */
    size_t n_marks, marks_capacity;
    struct cllm_prep_tally tally;
};

void cllm_prep_tokens_fini(struct cllm_prep_tokens *tokens);

/* The state of an encoding thread. */
struct cllm_prep_encoder {
    const struct cllm_prep_rules *rules;
    const struct cllm_tokenizer *tokenizer;
    unsigned flags;               /* CLLM_ENCODE_ */
    struct cllm_encoder *encoder; /* heap */
    struct cllm_prep_bytes scratch;
    struct cllm_prep_tokens *out; /* while a piece is encoded */
};

/* Returns 0, or -ENOMEM with text; fini in any case. */
int cllm_prep_encoder_init(struct cllm_prep_encoder *encoder,
                           const struct cllm_prep_rules *rules,
                           const struct cllm_tokenizer *tokenizer, unsigned flags);
void cllm_prep_encoder_fini(struct cllm_prep_encoder *encoder);

/* The tokens of @piece, in place of what @tokens holds. Returns 0 or a negative code with
 * text. */
int cllm_prep_encode(struct cllm_prep_encoder *encoder,
                     const struct cllm_prep_piece *piece,
                     struct cllm_prep_tokens *tokens);

/* A cllm_prep_cut_fn; @tokenizer is a struct cllm_tokenizer. For "bytes" it cuts between
 * characters. */
size_t cllm_prep_cut(const void *tokenizer, const void *text, size_t bytes);

#endif /* CLLM_TOOLS_PREP_PIECE_H */
