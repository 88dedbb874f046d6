/*
 * formats/encoder.c - special tokens, valid stretches, pieces, and the cache of pieces.
 */
#include "formats/encoder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "formats/bpe.h"
#include "formats/pieces.h"
#include "formats/tokenizer_parts.h"
#include "formats/utf8.h"

#define CACHE_SLOTS (1u << 16)
#define CACHE_BYTES 30
#define CACHE_IDS   8

/* One cache line: a piece and its tokens. A newer piece takes the place of an older. */
struct slot {
    uint8_t n_bytes; /* 0: empty */
    uint8_t n_ids;
    uint8_t bytes[CACHE_BYTES];
    uint32_t ids[CACHE_IDS];
};
_Static_assert(sizeof(struct slot) == CLLM_CACHELINE, "a slot is a cache line");

struct cllm_encoder {
    const struct cllm_tokenizer *tokenizer;
    struct cllm_pieces pieces;
    struct cllm_bpe_scratch scratch;
    struct slot *cache;
    bool begins_added[256]; /* bytes with which special and added tokens begin */
    bool has_user;          /* some are taken from any text */
};

int cllm_encoder_new(struct cllm_encoder **out, const struct cllm_tokenizer *tokenizer)
{
    const struct cllm_vocab *vocab = &tokenizer->vocab;
    struct cllm_encoder *encoder = calloc(1, sizeof *encoder);
    int rc = encoder == NULL ? -ENOMEM : 0;

    if (rc == 0) {
        encoder->tokenizer = tokenizer;
        for (uint32_t i = 0; i < vocab->n_added; i++) {
            uint32_t id = vocab->added[i];
            encoder->begins_added[*cllm_vocab_bytes(vocab, id)] = true;
            encoder->has_user |= vocab->token[id].type == CLLM_TOKEN_USER;
        }
    }
    if (rc == 0 && tokenizer->pattern != NULL) {
        rc = cllm_pieces_init(&encoder->pieces, tokenizer->pattern);
        encoder->cache =
            aligned_alloc(CLLM_CACHELINE, CACHE_SLOTS * sizeof *encoder->cache);
        if (encoder->cache == NULL)
            rc = -ENOMEM;
        else
            memset(encoder->cache, 0, CACHE_SLOTS * sizeof *encoder->cache);
    }
    if (rc < 0) {
        cllm_encoder_free(&encoder);
        return cllm_err(rc, "cannot make an encoder");
    }
    *out = encoder;
    return 0;
}

void cllm_encoder_free(struct cllm_encoder **encoder)
{
    if (*encoder == NULL)
        return;
    cllm_pieces_fini(&(*encoder)->pieces);
    cllm_bpe_scratch_fini(&(*encoder)->scratch);
    free((*encoder)->cache);
    free(*encoder);
    *encoder = NULL;
}

/* The tokens of one piece, computed. */
static int merge_piece(struct cllm_encoder *encoder, const uint8_t *piece, size_t bytes,
                       uint32_t *ids, size_t *n)
{
    const struct cllm_vocab *vocab = &encoder->tokenizer->vocab;

    if (vocab->whole_first) {
        ids[0] = cllm_vocab_find(vocab, piece, bytes);
        *n = 1;
        if (ids[0] != CLLM_TOKEN_NONE)
            return 0;
    }
    return cllm_bpe_merge(vocab, &encoder->scratch, piece, bytes, UINT32_MAX, ids, n);
}

/* The same, from the cache if it is there. */
static int encode_piece(struct cllm_encoder *encoder, const uint8_t *piece, size_t bytes,
                        uint32_t *ids, size_t *n)
{
    if (bytes == 1) {
        ids[0] = encoder->tokenizer->vocab.byte_id[piece[0]];
        *n = 1;
        return 0;
    }
    if (bytes > CACHE_BYTES)
        return merge_piece(encoder, piece, bytes, ids, n);
    struct slot *slot = &encoder->cache[cllm_hash(piece, bytes, 0) & (CACHE_SLOTS - 1)];
    if (slot->n_bytes == bytes && memcmp(slot->bytes, piece, bytes) == 0) {
        *n = slot->n_ids;
        for (size_t i = 0; i < slot->n_ids; i++)
            ids[i] = slot->ids[i];
        return 0;
    }
    int rc = merge_piece(encoder, piece, bytes, ids, n);
    if (rc == 0 && *n <= CACHE_IDS) {
        slot->n_bytes = (uint8_t)bytes;
        slot->n_ids = (uint8_t)*n;
        memcpy(slot->bytes, piece, bytes);
        memcpy(slot->ids, ids, *n * sizeof *ids);
    }
    return rc;
}

/* Text without special or added tokens. */
static int encode_plain(struct cllm_encoder *encoder, const uint8_t *text, size_t bytes,
                        uint32_t *ids, size_t *n_ids)
{
    size_t used = 0, n = 0;
    int rc = 0;

    while (bytes > 0) {
        size_t valid = cllm_utf8_valid(text, bytes);

        for (size_t at = 0, end; at < valid; at = end) {
            rc = cllm_pieces_next(&encoder->pieces, text, valid, at, &end);
            if (rc == 0)
                rc = encode_piece(encoder, text + at, end - at, ids + used, &n);
            if (rc < 0)
                return rc;
            used += n;
        }
        text += valid;
        bytes -= valid;
        if (bytes > 0) {
            ids[used++] = encoder->tokenizer->vocab.byte_id[*text++];
            bytes--;
        }
    }
    *n_ids = used;
    return 0;
}

/* The special or added token at @text, the longest; CLLM_TOKEN_NONE if none. */
static uint32_t added_at(const struct cllm_encoder *encoder, const uint8_t *text,
                         size_t bytes, unsigned flags)
{
    const struct cllm_vocab *vocab = &encoder->tokenizer->vocab;

    for (uint32_t i = 0; i < vocab->n_added; i++) {
        uint32_t id = vocab->added[i];
        const struct cllm_vocab_token *token = &vocab->token[id];

        if (token->type == CLLM_TOKEN_CONTROL && (flags & CLLM_ENCODE_SPECIAL) == 0)
            continue;
        if (token->bytes <= bytes &&
            memcmp(cllm_vocab_bytes(vocab, id), text, token->bytes) == 0)
            return id;
    }
    return CLLM_TOKEN_NONE;
}

/* The next special or added token from @at on: its place, or @bytes. */
static size_t next_added(const struct cllm_encoder *encoder, const uint8_t *text,
                         size_t bytes, size_t at, unsigned flags, uint32_t *id)
{
    for (; at < bytes; at++) {
        if (!encoder->begins_added[text[at]])
            continue;
        *id = added_at(encoder, text + at, bytes - at, flags);
        if (*id != CLLM_TOKEN_NONE)
            break;
    }
    return at;
}

int cllm_encoder_encode(struct cllm_encoder *encoder, const void *text, size_t bytes,
                        unsigned flags, uint32_t *ids, size_t *n_ids)
{
    const struct cllm_vocab *vocab = &encoder->tokenizer->vocab;
    const uint8_t *from = text;
    size_t used = 0, at = 0;

    *n_ids = 0;
    if (encoder->tokenizer->pattern == NULL) {
        for (size_t i = 0; i < bytes; i++)
            ids[i] = from[i];
        *n_ids = bytes;
        return 0;
    }
    if (!encoder->has_user && (flags & CLLM_ENCODE_SPECIAL) == 0)
        return encode_plain(encoder, from, bytes, ids, n_ids);
    while (at < bytes) {
        uint32_t id = CLLM_TOKEN_NONE;
        size_t next = next_added(encoder, from, bytes, at, flags, &id);
        size_t n = 0;
        int rc = encode_plain(encoder, from + at, next - at, ids + used, &n);

        if (rc < 0)
            return rc;
        used += n;
        at = next;
        if (at < bytes) {
            ids[used++] = id;
            at += vocab->token[id].bytes;
        }
    }
    *n_ids = used;
    return 0;
}
