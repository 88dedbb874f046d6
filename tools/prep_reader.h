/*
 * tools/prep_reader.h - the files of a corpus as pieces for threads to work on.
 *
 * A piece is about 256 KiB: several small documents, or a part of a large one, or whole
 * lines of JSON. A document is cut only where its tokens do not depend on what follows,
 * so the tokens of all pieces are those of the whole. Where pieces begin and end is a
 * function of the input alone: reading can begin again at the end of any piece, and goes
 * on as it would have. A packed file that is damaged is refused wherever reading begins,
 * but some of the sound text before the damage is never given out: how much depends on
 * where it began.
 */
#ifndef CLLM_TOOLS_PREP_READER_H
#define CLLM_TOOLS_PREP_READER_H

#include "formats/unpack.h"
#include "tools/prep_input.h"
#include "tools/prep_text.h"

#define CLLM_PREP_PIECE_BYTES ((size_t)256 << 10)
#define CLLM_PREP_CUT_MAX     ((size_t)1 << 20)
#define CLLM_PREP_LINE_MAX    ((size_t)32 << 20)

/* Where a piece ends. Zeros: before the first file. */
struct cllm_prep_place {
    uint64_t file; /* number of the file */
    uint64_t off;  /* bytes of it, unpacked, that are behind us */
    uint64_t line; /* lines of JSON that are */
    bool open;     /* a document is begun and goes on */
    bool in_line;  /* off is within a line */
};

/* Bytes of one file in a piece. */
struct cllm_prep_part {
    uint32_t file;
    bool jsonl;    /* whole lines, each a document; otherwise text of one document */
    bool begins;   /* text: a document begins here */
    uint64_t off;  /* of the first byte in the file, unpacked */
    uint64_t line; /* jsonl: number of the first line, from 1 */
    size_t at, n;  /* within the piece's text */
};

struct cllm_prep_piece {
    struct cllm_prep_bytes text;
    struct cllm_prep_part *part; /* [n_parts], room for capacity; heap */
    size_t n_parts, capacity;
    struct cllm_prep_place after;
    uint64_t done; /* bytes of all files, packed as they are, read so far */
};

void cllm_prep_piece_fini(struct cllm_prep_piece *piece);

/* The largest place <= @bytes where @text may be cut, 0 = none: see
 * cllm_tokenizer_cut(). */
typedef size_t (*cllm_prep_cut_fn)(const void *context, const void *text, size_t bytes);

struct cllm_prep_reader {
    const struct cllm_prep_input *input;
    const char
        *separator; /* a line that ends a document, without its newline; "" = none */
    cllm_prep_cut_fn cut;
    const void *context; /* of cut */
    /* The three above, unless a test wants others before the first piece. */
    size_t piece_bytes; /* of a piece, about */
    size_t cut_max;     /* so much without a place to cut is cut between characters */
    size_t line_max;    /* longer lines of JSON are refused */

    struct cllm_prep_place at;
    uint64_t behind; /* bytes of the files before this one */
    int fd;          /* -1 = no file is open */
    struct cllm_unpack unpack;
    struct cllm_prep_bytes window; /* read ahead */
    size_t begin;                  /* of it what is not taken yet: [begin, window.n) */
    bool ended;                    /* the file has nothing behind the window */
};

/* Begin at @place; all pointers must outlive the reader. */
void cllm_prep_reader_init(struct cllm_prep_reader *reader,
                           const struct cllm_prep_input *input, const char *separator,
                           cllm_prep_cut_fn cut, const void *context,
                           const struct cllm_prep_place *place);
void cllm_prep_reader_fini(struct cllm_prep_reader *reader);

/* The next piece, in place of what @piece holds. Returns 1; 0 at the end; CLLM_EDATA or a
 * negative errno with text. */
int cllm_prep_reader_next(struct cllm_prep_reader *reader, struct cllm_prep_piece *piece);

#endif /* CLLM_TOOLS_PREP_READER_H */
