/*
 * formats/tokenizer.h - a vocabulary: what the ids of tokens mean, and how text is cut.
 *
 * Two kinds. "bytes": a token is a byte, 256 of them. "bpe": byte-level byte pair
 * encoding as GPT-2 has it (Sennrich et al. 2016; Radford et al. 2019): text is split
 * into pieces by a pattern, and in each piece neighbouring tokens are merged, the merge
 * of least rank first, the leftmost of equals first.
 *
 * A tokenizer does not change after it is loaded, so threads may share it. Encoding needs
 * a state for each thread: formats/encoder.h. Text from tokens as they come:
 * formats/token_stream.h. Training one: formats/bpe_train.h.
 *
 *     struct cllm_tokenizer *tokenizer;
 *     rc = cllm_tokenizer_load(&tokenizer, "models/gpt2");
 *     ...
 *     cllm_tokenizer_free(&tokenizer);
 */
#ifndef CLLM_FORMATS_TOKENIZER_H
#define CLLM_FORMATS_TOKENIZER_H

#include "base/base.h"

struct cllm_tokenizer; /* opaque, heap */

#define CLLM_TOKENIZER_BYTES "bytes"         /* the path of the byte-level one */
#define CLLM_TOKENIZER_EOT   "<|endoftext|>" /* GPT-2's end of text */
#define CLLM_TOKEN_NONE      UINT32_MAX      /* no such token */
#define CLLM_TOKEN_MAX_BYTES 1024            /* of one token, at most */
#define CLLM_TOKENIZER_MAX   (1u << 21)      /* ids, at most */

/* The names under which cllm_tokenizer_save() writes and _load() looks in a directory. */
#define CLLM_TOKENIZER_JSON   "tokenizer.json"
#define CLLM_TOKENIZER_VOCAB  "vocab.json"
#define CLLM_TOKENIZER_MERGES "merges.txt"

enum cllm_tokenizer_kind {
    CLLM_TOKENIZER_KIND_BYTES,
    CLLM_TOKENIZER_KIND_BPE,
    CLLM_N_TOKENIZER_KINDS
};

/* What a token is for; the values are GGUF's. */
enum cllm_token_type {
    CLLM_TOKEN_NORMAL = 1,
    CLLM_TOKEN_CONTROL = 3, /* special: never from ordinary text */
    CLLM_TOKEN_USER = 4,    /* added by its maker: taken whole wherever it stands */
    CLLM_TOKEN_UNUSED = 5   /* an id without a token */
};

/*
 * Load from @path, which is one of
 *     "bytes"                   the byte-level tokenizer, no file
 *     a directory               with tokenizer.json, or vocab.json + merges.txt, or
 *                               encoder.json + vocab.bpe, or one of the last alone, or
 *                               a rank file *.tiktoken
 *     tokenizer.json            Hugging Face, model "BPE" with ByteLevel
 *     vocab.json, encoder.json  merges.txt or vocab.bpe lies beside it
 *     merges.txt, vocab.bpe     ids as GPT-2 has them: bytes, merges, <|endoftext|>
 *     a tiktoken rank file      lines "base64 rank"; pattern and special tokens by the
 *                               number of ranks (docs/formats.md)
 * What a file is shows in its content; names count in a directory only. Every byte must
 * have a token. Returns 0, a negative errno, or CLLM_EDATA with text that names file,
 * line or member, what was expected and what was found. The caller frees.
 */
int cllm_tokenizer_load(struct cllm_tokenizer **out, const char *path);

/* Does the directory @dir hold one, by the names in it? */
bool cllm_tokenizer_is_in(const char *dir);

/* NULL in @*tokenizer is fine; NULL afterwards. */
void cllm_tokenizer_free(struct cllm_tokenizer **tokenizer);

enum cllm_tokenizer_kind cllm_tokenizer_kind(const struct cllm_tokenizer *tokenizer);

/* "bytes" or "bpe". */
const char *cllm_tokenizer_kind_name(const struct cllm_tokenizer *tokenizer);

/* "gpt2", "cl100k", "o200k", "custom" (a tokenizer.json brought its own), "none". */
const char *cllm_tokenizer_pattern_name(const struct cllm_tokenizer *tokenizer);

/* SHA-256 over kind, pattern, tokens, their types and the merges, 64 digits: the same for
 * the same tokenizer, whatever files it came from. A rank file differs from merges, as
 * its rule does. */
const char *cllm_tokenizer_hash(const struct cllm_tokenizer *tokenizer);

/* Ids are below this. */
uint32_t cllm_tokenizer_size(const struct cllm_tokenizer *tokenizer);

/* The bytes that token @id stands for; @*bytes is how many, 0 of an unused id. They
 * belong to the tokenizer. @id is below the size. */
const uint8_t *cllm_tokenizer_token(const struct cllm_tokenizer *tokenizer, uint32_t id,
                                    size_t *bytes);
enum cllm_token_type cllm_tokenizer_type(const struct cllm_tokenizer *tokenizer,
                                         uint32_t id);

/* The normal token of exactly these bytes, or CLLM_TOKEN_NONE. */
uint32_t cllm_tokenizer_find(const struct cllm_tokenizer *tokenizer, const void *token,
                             size_t bytes);

/* The special or added token with the text @name, or CLLM_TOKEN_NONE. */
uint32_t cllm_tokenizer_special(const struct cllm_tokenizer *tokenizer, const char *name);

/* The end-of-text token, which separates documents: <|endoftext|>, or where there is none
 * <|end_of_text|>, </s>, <|im_end|>. CLLM_TOKEN_NONE where none is (as in "bytes"). */
uint32_t cllm_tokenizer_eot(const struct cllm_tokenizer *tokenizer);

/* ---- as other programs write it ---- */

/* Token @id as files spell it, with a NUL: a normal token in GPT-2's alphabet of bytes
 * (" the" is "\u0120the"), any other as it is; "[unused7]" for an unused id 7. Heap, the
 * caller frees; NULL when memory is out. */
char *cllm_tokenizer_spell(const struct cllm_tokenizer *tokenizer, uint32_t id);

/* Merges by rank: tokens @left and @right become one. 0 of "bytes". */
uint32_t cllm_tokenizer_merges(const struct cllm_tokenizer *tokenizer);
void cllm_tokenizer_merge(const struct cllm_tokenizer *tokenizer, uint32_t rank,
                          uint32_t *left, uint32_t *right);

/* Write vocab.json, merges.txt and tokenizer.json (Hugging Face) into directory @dir,
 * each replaced durably. "bytes" is -ENOTSUP. Returns 0 or a negative errno with text. */
int cllm_tokenizer_save(const struct cllm_tokenizer *tokenizer, const char *dir);

/* ---- other ids for the same tokens ---- */

/* Places by frequency: @place[id] is 0 for the token with the greatest @count[id], then 1
 * and so on; of equals the lower id is first; CLLM_TOKEN_NONE of unused ids. Both have
 * the tokenizer's size. Returns 0, or -ENOMEM with text. */
int cllm_tokenizer_places(const struct cllm_tokenizer *tokenizer, const uint64_t *count,
                          uint32_t *place);

/*
 * A tokenizer that cuts text into the same tokens and calls token id @place[id] of
 * @from: numbers from 0 on, each once; of unused ids they are not looked at. A "bytes"
 * becomes a "bpe" without merges, because that can be saved. Returns 0 and *@out, which
 * the caller frees; -ENOMEM with text.
 */
int cllm_tokenizer_renumber(struct cllm_tokenizer **out,
                            const struct cllm_tokenizer *from, const uint32_t *place);

/* ---- text in parts ---- */

/*
 * Where text may be cut: the largest n <= @bytes such that encoding the first n bytes and
 * then the rest gives what encoding all gives; 0 where no place is known (then take more,
 * or go to the document's end). Whether the document goes on behind @bytes does not
 * matter. Holds for ordinary text; with special tokens allowed only if none of them holds
 * white space.
 */
size_t cllm_tokenizer_cut(const struct cllm_tokenizer *tokenizer, const void *text,
                          size_t bytes);

#endif /* CLLM_FORMATS_TOKENIZER_H */
