/*
 * formats/tokenizer_parts.h - what a tokenizer is made of, for those who make one (files,
 * training) and for the encoder. Others use formats/tokenizer.h.
 *
 *     new -> tables filled -> finish -> nothing changes any more
 */
#ifndef CLLM_FORMATS_TOKENIZER_PARTS_H
#define CLLM_FORMATS_TOKENIZER_PARTS_H

#include "formats/json.h"
#include "formats/pattern.h"
#include "formats/sha256.h"
#include "formats/vocab.h"

#define CLLM_TOKENIZER_FILE_CAP    ((size_t)128 << 20)
#define CLLM_TOKENIZER_WHERE_BYTES 4200 /* a path and a place in the file */

struct cllm_tokenizer {
    enum cllm_tokenizer_kind kind;
    struct cllm_vocab vocab;
    struct cllm_pattern *pattern; /* NULL of "bytes" */
    uint32_t eot;
    bool parts_at_cuts; /* no added token joins white space and other characters */
    char hash[CLLM_SHA256_HEX_BYTES];
};

/* An empty one. Returns 0, or -ENOMEM with text. */
int cllm_tokenizer_new(struct cllm_tokenizer **out, enum cllm_tokenizer_kind kind);

/* Give it the expression of @kind, which has one. */
int cllm_tokenizer_set_pattern(struct cllm_tokenizer *tokenizer,
                               enum cllm_pattern_kind kind);

/* Check that all is there, find the end-of-text token, compute the hash. @name is for
 * messages. Returns 0, CLLM_EDATA or -ENOMEM with text. */
int cllm_tokenizer_finish(struct cllm_tokenizer *tokenizer, const char *name);

/*
 * Fill an empty tokenizer of kind BPE with what files say, and finish it. Texts end with
 * a NUL that @bytes does not count; names are for messages. Return 0, or CLLM_EDATA or
 * -ENOMEM with text.
 */

/* tokenizer.json. */
int cllm_tokenizer_from_json(struct cllm_tokenizer *tokenizer, json_t *root,
                             const char *name);

/* vocab.json with merges.txt. */
int cllm_tokenizer_from_vocab(struct cllm_tokenizer *tokenizer, json_t *vocab,
                              const char *vocab_name, const char *merges, size_t bytes,
                              const char *merges_name);

/* merges.txt alone. */
int cllm_tokenizer_from_merges(struct cllm_tokenizer *tokenizer, const char *merges,
                               size_t bytes, const char *name);

/* A tiktoken rank file. */
int cllm_tokenizer_from_ranks(struct cllm_tokenizer *tokenizer, const char *text,
                              size_t bytes, const char *name);

/* ---- shared by the readers ---- */

/*
 * Tokens of @vocab, a JSON object of spellings and ids. Keys of @added (an object too;
 * may be NULL) are special or added tokens: they are there already and passed over, but
 * must have the same id. @where is for messages.
 */
int cllm_tokenizer_read_vocab(struct cllm_tokenizer *tokenizer, json_t *vocab,
                              const json_t *added, const char *where);

/* The merge of the spellings @left and @right, which @vocab has, as has their
 * concatenation. @where says which merge it is, for messages. */
int cllm_tokenizer_read_merge(struct cllm_tokenizer *tokenizer, const json_t *vocab,
                              const char *left, const char *right, const char *where);

#endif /* CLLM_FORMATS_TOKENIZER_PARTS_H */
